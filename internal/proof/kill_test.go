package proof

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

// TestKilledBackends terminates sessions in the middle of whatever they do:
// AWA_KILLING says for how long at least, 2 s by default. What a session was told stays
// true, what it was not told happened as a whole or not at all.
func TestKilledBackends(t *testing.T) {
	length := pgtest.Length(t, "AWA_KILLING", 2*time.Second)
	w := &witness{t: t, url: pgtest.URL(t), queue: "kill", diary: newDiary()}
	conn := w.connect()
	defer conn.Close(context.Background())
	exec(t, conn, `update awa.storage_settings set segment_max_age = '100ms', history_retention = '300ms'`)
	exec(t, conn, `select awa.configure_queue('kill', '{"enqueue_shards": 2}')`)

	w.limit(new(2))

	as, err := pgx.ParseConfig(w.url)
	if err != nil {
		t.Fatal(err)
	}
	as.RuntimeParams["application_name"] = "victim"
	over, stop := context.WithTimeout(t.Context(), length+10*time.Minute)
	defer stop()
	var all sync.WaitGroup
	var told, lost atomic.Int64
	// victim repeats f, on a new connection after each time it was killed.
	victim := func(name string, f func(*pgx.Conn) error) {
		all.Go(func() {
			var conn *pgx.Conn
			for over.Err() == nil {
				if conn == nil {
					var err error
					if conn, err = pgx.ConnectConfig(context.Background(), as); err != nil {
						continue // killed at once
					}
				}
				switch err := f(conn); {
				case err == nil:
					told.Add(1)
				case conn.IsClosed():
					lost.Add(1)
					conn = nil
				default:
					t.Errorf("%s: %v", name, err)
					stop()
				}
			}
			if conn != nil {
				_ = conn.Close(context.Background())
			}
		})
	}
	for range 2 {
		victim("produce", w.produce)
		victim("work", func(conn *pgx.Conn) error {
			jobs, err := w.claim(conn)
			if err != nil || len(jobs) == 0 {
				return err
			}
			return w.finish(conn, jobs)
		})
	}
	ops := &operator{told: map[int64]bool{}}
	victim("operate", ops.operate)
	victim("operate", ops.operate)
	for _, call := range []string{"maintain", "prune", "rebuild_terminal_counters", "checkpoint_terminal_counters", "rotate"} {
		victim(call, func(conn *pgx.Conn) error {
			_, err := conn.Exec(context.Background(), `select awa.`+call+`()`)
			if sqlState(err) == "55P03" { // another is at it
				return nil
			}
			return err
		})
	}
	kills := 0
	enough := func() bool { return lost.Load() >= 10 && told.Load() >= 100 }
	for began := time.Now(); over.Err() == nil; {
		if time.Since(began) > length && enough() {
			stop()
		}
		kills += value[int](t, conn, `
select count(pg_terminate_backend(v.pid))
from (
  select a.pid from pg_stat_activity as a
  where a.datname = current_database() and a.application_name = 'victim' and a.state = 'active'
  order by random() limit 1
) as v`)
		pause(over, 20*time.Millisecond)
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	if forgotten := w.recover(); forgotten > 0 {
		t.Errorf("%d claims were forgotten", forgotten)
	}
	w.drain()
	ops.compare(t, conn)
	if !enough() {
		t.Errorf("too little happened: %d calls were cut off, %d were not", lost.Load(), told.Load())
	}
	t.Logf("%d kills, %d calls cut off, %d not; %d jobs", kills, lost.Load(), told.Load(), len(w.diary.enqueued))
}

// operator moves jobs of a queue of its own around; no call of it removes one.
type operator struct {
	mu     sync.Mutex
	told   map[int64]bool // enqueued
	unsure int            // enqueues that were not answered
}

func (o *operator) operate(conn *pgx.Conn) error {
	ctx := context.Background()
	call := operations[rand.IntN(len(operations))]
	if call != "" {
		_, err := conn.Exec(ctx, call)
		if sqlState(err) == "40001" { // the job moved on meanwhile
			return nil
		}
		return err
	}
	id, err := queue.Enqueue(ctx, conn, awa.EnqueueParams{Kind: "operate", Queue: "operate", MaxAttempts: 2})
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.unsure++
		return err
	}
	o.told[id] = true
	return nil
}

// one is a random job of the queue in a state.
func one(state awa.JobState) string {
	return fmt.Sprintf(`(
  select j.id from awa.jobs as j where j.queue = 'operate' and j.state = '%s'
  order by random() limit 1)`, state)
}

// operations are calls of operate; "" enqueues.
var operations = []string{
	"", "", "",
	`select awa.cancel(` + one(awa.StateAvailable) + `)`,
	`select awa.cancel(` + one(awa.StateRunning) + `)`,
	`select awa.cancel(` + one(awa.StateRetryable) + `)`,
	`select awa.retry(` + one(awa.StateCancelled) + `)`,
	`select awa.retry(` + one(awa.StateFailed) + `)`,
	`select awa.fail(c.receipt, 'killed', '1 microsecond') from awa.claim('operate', 3) as c`,
	`select awa.fail(c.receipt, terminal => true) from awa.claim('operate', 3) as c`,
	`select awa.complete_many(array(select c.receipt from awa.claim('operate', 2) as c))`,
	`select awa.move_failed_to_dlq(` + one(awa.StateFailed) + `)`,
	`select awa.bulk_move_failed_to_dlq('operate', max_jobs => 3)`,
	`select awa.bulk_retry_from_dlq('operate', max_jobs => 2)`,
}

// compare demands that every job is in one place: a queue, history, the dead
// letters or the totals of what was pruned.
func (o *operator) compare(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	if twice := value[int](t, conn, `
select count(*) from (
  select u.id from (select j.id from awa.jobs as j union all select e.id from awa.dlq_entries as e) as u
  group by u.id having count(*) > 1) as d`); twice > 0 {
		t.Errorf("%d jobs are in two places", twice)
	}
	n, err := queue.Counts(context.Background(), conn, "operate")
	if err != nil {
		t.Fatal(err)
	}
	all := int(n.Available + n.Scheduled + n.Retryable + n.Running + n.Terminal + n.DLQ + n.PrunedTerminal)
	if least := len(o.told); all < least || all > least+o.unsure {
		t.Errorf("%d jobs were enqueued, %d perhaps, %d are there: %+v", least, o.unsure, all, n)
	}
	requireHealthy(t, conn)
}
