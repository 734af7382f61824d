package awatest

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// outcomes names the attempts in order.
func outcomes(attempts []Drained) (all []string) {
	for _, a := range attempts {
		all = append(all, a.Job.Queue+" "+string(a.Outcome))
	}
	return all
}

func requireOutcomes(t *testing.T, attempts []Drained, want ...string) {
	t.Helper()
	if got := outcomes(attempts); strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("outcomes %v, want %v", got, want)
	}
}

func TestDrainInATransactionThatIsRolledBack(t *testing.T) {
	pool := pgtest.Pool(t)
	t.Run("test", func(t *testing.T) {
		tx := Tx(t, pool)
		add(t, tx, "Ada", awa.EnqueueParams{})
		add(t, tx, "Grace", awa.EnqueueParams{Queue: "other"})
		requireOutcomes(t, Drain(t, tx, greeting(polite), DrainParams{}), "default completed", "other completed")
		RequireEnqueuedMany[greet](t, tx, 2, InState(awa.StateCompleted))
		requireOutcomes(t, Drain(t, tx, greeting(polite), DrainParams{}))
	})
	RequireNotEnqueued[greet](t, pool)
	violations, err := queue.Check(t.Context(), pool)
	if err != nil || len(violations) != 0 {
		t.Errorf("%+v, %v", violations, err)
	}
}

func TestDrainOfOneQueueLeavesTheOthers(t *testing.T) {
	pool := pgtest.Pool(t)
	add(t, pool, "Ada", awa.EnqueueParams{Queue: "a"})
	add(t, pool, "Grace", awa.EnqueueParams{Queue: "b"})
	requireOutcomes(t, Drain(t, pool, greeting(polite), DrainParams{Queues: []string{"b"}}), "b completed")
	RequireEnqueued[greet](t, pool, InQueue("a"), InState(awa.StateAvailable))
}

func TestDrainTellsHowEachAttemptEnded(t *testing.T) {
	pool := pgtest.Pool(t)
	for _, how := range []string{"complete", "fail", "snooze", "cancel", "terminal", "panic"} {
		add(t, pool, how, awa.EnqueueParams{Queue: how})
	}
	mux := greeting(func(job *worker.Job[greet]) error {
		switch job.Args.Name {
		case "fail":
			return errRude
		case "snooze":
			return worker.Snooze(time.Hour)
		case "cancel":
			return worker.Cancel("no")
		case "terminal":
			return worker.Terminal(errRude)
		case "panic":
			panic(errRude)
		}
		return nil
	})
	attempts := Drain(t, pool, mux, DrainParams{})
	requireOutcomes(t, attempts, "cancel cancelled", "complete completed", "fail failed",
		"panic failed", "snooze snoozed", "terminal failed")
	for _, a := range attempts {
		rude := errors.Is(a.Err, errRude)
		if want := a.Job.Queue == "fail" || a.Job.Queue == "panic" || a.Job.Queue == "terminal"; rude != want {
			t.Errorf("%s: %v", a.Job.Queue, a.Err)
		}
	}
	RequireEnqueued[greet](t, pool, InQueue("terminal"), InState(awa.StateFailed))
	RequireEnqueued[greet](t, pool, InQueue("fail"), InState(awa.StateRetryable))
}

func TestDrainWorksWhatHandlersEnqueue(t *testing.T) {
	pool := pgtest.Pool(t)
	tx := Tx(t, pool)
	mux := greeting(func(job *worker.Job[greet]) error {
		_, err := worker.EnqueueTyped(t.Context(), queue, tx, part{}, awa.EnqueueParams{Queue: "made on the way"})
		return err
	})
	worker.Register(mux, func(context.Context, *worker.Job[part]) error { return nil })
	add(t, tx, "Ada", awa.EnqueueParams{})
	requireOutcomes(t, Drain(t, tx, mux, DrainParams{}), "default completed", "made on the way completed")
}

func TestDrainWithTheClockSetWorksWhatIsDueByThen(t *testing.T) {
	pool := pgtest.Pool(t)
	tx := Tx(t, pool)
	now := time.Now()
	add(t, tx, "soon", awa.EnqueueParams{Queue: "soon", RunAt: now.Add(time.Hour)})
	add(t, tx, "late", awa.EnqueueParams{Queue: "late", RunAt: now.Add(2 * month)})

	requireOutcomes(t, Drain(t, tx, greeting(polite), DrainParams{}))
	requireOutcomes(t, Drain(t, tx, greeting(polite), DrainParams{Until: now.Add(month)}), "soon completed")
	// The clock went on: what is scheduled from now on waits.
	add(t, tx, "soon", awa.EnqueueParams{Queue: "again", RunAt: now.Add(time.Hour)})
	RequireEnqueued[greet](t, tx, InQueue("again"), InState(awa.StateScheduled))
	requireOutcomes(t, Drain(t, tx, greeting(polite), DrainParams{Until: now.Add(3 * month)}),
		"again completed", "late completed")
}

func TestDrainOfAPoolWithTheClockSet(t *testing.T) {
	pool := pgtest.Pool(t)
	add(t, pool, "Ada", awa.EnqueueParams{RunAt: time.Now().Add(time.Hour)})
	attempts := Drain(t, pool, greeting(func(*worker.Job[greet]) error { return errRude }), DrainParams{Until: time.Now().Add(month)})
	requireOutcomes(t, attempts, "default failed")
	// No connection of the pool keeps the clock.
	for _, conn := range pool.AcquireAllIdle(t.Context()) {
		var clock string
		if err := conn.QueryRow(t.Context(), `select coalesce(current_setting('awa.now', true), '')`).Scan(&clock); err != nil || clock != "" {
			t.Errorf("clock %q, %v", clock, err)
		}
		conn.Release()
	}
}

func TestDrainGivesUpOnAJobThatComesBackForEver(t *testing.T) {
	pool := pgtest.Pool(t)
	id := add(t, pool, "Ada", awa.EnqueueParams{})
	_, err := drain(t.Context(), pool, greeting(func(*worker.Job[greet]) error { return worker.Snooze(0) }),
		DrainParams{Until: time.Now(), MaxAttempts: 3})
	if err == nil || !strings.Contains(err.Error(), "3 attempts and no end") {
		t.Fatal(err)
	}
	RequireEnqueued[greet](t, pool, WithID(id))
}

func TestDrainNamesTheJobWhoseTransactionBroke(t *testing.T) {
	pool := pgtest.Pool(t)
	tx := Tx(t, pool)
	add(t, tx, "Ada", awa.EnqueueParams{})
	_, err := drain(t.Context(), tx, greeting(func(*worker.Job[greet]) error {
		_, err := tx.Exec(t.Context(), "select 1/0")
		return err
	}), DrainParams{})
	if err == nil || !strings.Contains(err.Error(), "greet") || !strings.Contains(err.Error(), "division by zero") {
		t.Fatal(err)
	}
}

func TestDrainRefusesTheClockToOthersThanTheOwner(t *testing.T) {
	pool := pgtest.Pool(t)
	conn := Tx(t, pool)
	if _, err := conn.Exec(t.Context(), "create role awatest_guest; set session authorization awatest_guest"); err != nil {
		t.Fatal(err)
	}
	_, err := drain(t.Context(), conn, worker.NewMux(), DrainParams{Until: time.Now()})
	if err == nil || !strings.Contains(err.Error(), "owner") {
		t.Fatal(err)
	}
}

// A drain never takes what it cannot promote for nothing to do.
func TestDrainsInParallelTransactions(t *testing.T) {
	pool := pgtest.Pool(t)
	t.Run("all", func(t *testing.T) {
		for _, name := range []string{"a", "b", "c", "d"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				tx := Tx(t, pool)
				add(t, tx, name, awa.EnqueueParams{Queue: "one"})
				add(t, tx, name, awa.EnqueueParams{Queue: "two", RunAt: time.Now().Add(time.Hour)})
				requireOutcomes(t, Drain(t, tx, greeting(polite), DrainParams{Until: time.Now().Add(month)}),
					"one completed", "two completed")
			})
		}
	})
	RequireNotEnqueued[greet](t, pool)
}

func TestDrainThroughDatabaseSQL(t *testing.T) {
	db, err := sql.Open("pgx", pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	std := awa.StdDB(tx)
	add(t, std, "Ada", awa.EnqueueParams{RunAt: time.Now().Add(time.Hour)})
	requireOutcomes(t, Drain(t, std, greeting(polite), DrainParams{Until: time.Now().Add(month)}), "default completed")
	RequireEnqueued[greet](t, std, InState(awa.StateCompleted))
}

// A job that comes after others is worked once these are, in the same drain; one
// whose predecessor failed is cancelled, and so is what comes after that.
func TestDrainOfJobsThatComeAfterOthers(t *testing.T) {
	tx := Tx(t, pgtest.Pool(t))
	first := add(t, tx, "first", awa.EnqueueParams{Queue: "a"})
	add(t, tx, "second", awa.EnqueueParams{Queue: "b", After: []int64{first}})
	rude := add(t, tx, "rude", awa.EnqueueParams{Queue: "c", MaxAttempts: 1})
	last := rude
	for range 3 {
		last = add(t, tx, "never", awa.EnqueueParams{Queue: "d", After: []int64{last}})
	}
	mux := greeting(func(job *worker.Job[greet]) error {
		if job.Args.Name == "rude" {
			return errRude
		}
		return nil
	})
	requireOutcomes(t, Drain(t, tx, mux, DrainParams{Until: time.Now()}), "a completed", "c failed", "b completed")
	RequireEnqueuedMany[greet](t, tx, 3, InQueue("d"), InState(awa.StateCancelled))
}
