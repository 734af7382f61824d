package awa_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

// claimOne enqueues a job and claims it.
func claimOne(t *testing.T, db awa.DBTX, p awa.ClaimParams) awa.Job {
	t.Helper()
	queue := awa.New()
	if _, err := queue.Enqueue(t.Context(), db, awa.EnqueueParams{Kind: "k", Queue: p.Queue, MaxAttempts: 3}); err != nil {
		t.Fatal(err)
	}
	jobs, err := queue.Claim(t.Context(), db, p)
	if err != nil || len(jobs) != 1 {
		t.Fatalf("claim: %d jobs, %v", len(jobs), err)
	}
	return jobs[0]
}

// What a worker does with an attempt is accepted once; afterwards its receipt is
// stale for every other call.
func TestAttemptCallsWithAStaleReceipt(t *testing.T) {
	pool := pgtest.Pool(t)
	queue := awa.New()
	job := claimOne(t, pool, awa.ClaimParams{Queue: "stale"})
	if ok, err := queue.CancelAttempt(t.Context(), pool, job.Receipt, "enough"); err != nil || !ok {
		t.Fatalf("cancel attempt: %t, %v", ok, err)
	}
	for name, call := range map[string]func(context.Context) (bool, error){
		"snooze":         func(ctx context.Context) (bool, error) { return queue.Snooze(ctx, pool, job.Receipt, time.Second) },
		"cancel attempt": func(ctx context.Context) (bool, error) { return queue.CancelAttempt(ctx, pool, job.Receipt, "") },
		"set progress": func(ctx context.Context) (bool, error) {
			return queue.SetProgress(ctx, pool, awa.ProgressParams{Receipt: job.Receipt, Percent: 1})
		},
		"extend lease": func(ctx context.Context) (bool, error) {
			stale, err := queue.ExtendLease(ctx, pool, []awa.Receipt{job.Receipt}, time.Minute)
			return len(stale) == 0, err
		},
	} {
		if accepted, err := call(t.Context()); err != nil || accepted {
			t.Errorf("%s with a stale receipt: %t, %v", name, accepted, err)
		}
	}
	got, err := queue.GetJob(t.Context(), pool, job.ID)
	if err != nil || got.State != awa.StateCancelled {
		t.Fatalf("state %s, %v", got.State, err)
	}
}

// Attempts given back without delay are available at once, without maintenance,
// and none of them counts.
func TestSnoozeMany(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		q := t.Name()
		for range 4 {
			enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: q})
		}
		jobs := claim(t, pool, q, 4)
		must[bool](t)(queue.Complete(t.Context(), pool, jobs[1].Receipt))
		snooze := func(delay time.Duration, of ...awa.Job) []awa.Receipt {
			t.Helper()
			var receipts []awa.Receipt
			for _, j := range of {
				receipts = append(receipts, j.Receipt)
			}
			return must[[]awa.Receipt](t)(queue.SnoozeMany(t.Context(), pool, receipts, delay))
		}
		if stale := snooze(0, jobs[:3]...); len(stale) != 1 || stale[0] != jobs[1].Receipt {
			t.Errorf("stale: %v, want %v", stale, jobs[1].Receipt)
		}
		if stale := snooze(time.Hour, jobs[3]); len(stale) != 0 {
			t.Errorf("stale: %v", stale)
		}
		if stale := snooze(time.Hour); len(stale) != 0 {
			t.Errorf("stale of none: %v", stale)
		}
		if c := counts(t, pool, q); c.Available != 2 || c.Scheduled != 1 {
			t.Errorf("%+v", c)
		}
		for _, j := range claim(t, pool, q, 4) {
			if j.Attempt != 1 {
				t.Errorf("attempt %d", j.Attempt)
			}
		}
	})
}

func TestAttemptCallsRefuseBadArguments(t *testing.T) {
	pool := pgtest.Pool(t)
	queue := awa.New()
	job := claimOne(t, pool, awa.ClaimParams{Queue: "bad"})
	for name, call := range map[string]func() error{
		"snooze":                            func() error { _, err := queue.Snooze(t.Context(), pool, job.Receipt, -time.Second); return err },
		"snooze by less than a microsecond": func() error { _, err := queue.Snooze(t.Context(), pool, job.Receipt, -1); return err },
		"fail": func() error {
			_, err := queue.Fail(t.Context(), pool, awa.FailParams{Receipt: job.Receipt, RetryAfter: -999})
			return err
		},
		"snooze many": func() error {
			_, err := queue.SnoozeMany(t.Context(), pool, []awa.Receipt{job.Receipt}, -time.Second)
			return err
		},
		"lease": func() error {
			_, err := queue.ExtendLease(t.Context(), pool, []awa.Receipt{job.Receipt}, -time.Second)
			return err
		},
		"progress": func() error {
			_, err := queue.SetProgress(t.Context(), pool, awa.ProgressParams{Receipt: job.Receipt, Metadata: []byte(`[1]`)})
			return err
		},
		"register":  func() error { return queue.RegisterWorker(t.Context(), pool, "", nil) },
		"heartbeat": func() error { _, err := queue.Heartbeat(t.Context(), pool, ""); return err },
	} {
		if err := call(); !errors.Is(err, awa.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if ok, err := queue.Complete(t.Context(), pool, job.Receipt); err != nil || !ok {
		t.Fatalf("complete: %t, %v", ok, err)
	}
}

// An extended lease keeps an attempt from being rescued when its own has run out.
func TestExtendLease(t *testing.T) {
	pool := pgtest.Pool(t)
	queue := awa.New()
	kept := claimOne(t, pool, awa.ClaimParams{Queue: "kept", Lease: time.Millisecond})
	lost := claimOne(t, pool, awa.ClaimParams{Queue: "lost", Lease: time.Millisecond})
	if stale, err := queue.ExtendLease(t.Context(), pool, []awa.Receipt{kept.Receipt}, time.Hour); err != nil || len(stale) != 0 {
		t.Fatalf("extend lease: %v, %v", stale, err)
	}
	if _, err := queue.Maintain(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[int64]awa.JobState{kept.ID: awa.StateRunning, lost.ID: awa.StateRetryable} {
		if got, err := queue.GetJob(t.Context(), pool, id); err != nil || got.State != want {
			t.Errorf("job %d is %s, want %s: %v", id, got.State, want, err)
		}
	}
}

// A waiting session is told of a job of its queue, and of no other.
func TestStartWaiting(t *testing.T) {
	url := pgtest.URL(t)
	queue := awa.New()
	listener, producer := pgtest.Conn(t, url), pgtest.Conn(t, url)
	if _, err := listener.Exec(t.Context(), "listen awa"); err != nil {
		t.Fatal(err)
	}
	waited := []string{"a queue that's \"odd\""}
	if err := queue.StartWaiting(t.Context(), listener, waited); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"another", waited[0]} {
		if _, err := queue.Enqueue(t.Context(), producer, awa.EnqueueParams{Kind: "k", Queue: name}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, err := listener.WaitForNotification(ctx)
	if err != nil || n.Payload != waited[0] {
		t.Fatalf("notification %+v, %v", n, err)
	}
	if err := queue.StopWaiting(t.Context(), listener, waited); err != nil {
		t.Fatal(err)
	}
}

// To stop waiting for a queue that the session does not wait for is nothing to be warned of.
func TestStopWaitingTwice(t *testing.T) {
	cfg, err := pgx.ParseConfig(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { t.Errorf("%s: %s", n.Severity, n.Message) }
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	queue := awa.New()
	if err := queue.StartWaiting(t.Context(), conn, []string{"q"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := queue.StopWaiting(t.Context(), conn, []string{"q", "another"}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUniqueKeyOf(t *testing.T) {
	pool := pgtest.Pool(t)
	queue := awa.New()
	key := func(kind, q, args string) string {
		t.Helper()
		k, err := queue.UniqueKeyOf(t.Context(), pool, kind, q, []byte(args))
		if err != nil {
			t.Fatal(err)
		}
		return string(k)
	}
	if key("k", "q", `{"a":1,"b":2}`) != key("k", "q", `{"b":2, "a":1}`) {
		t.Error("the order of keys matters")
	}
	if key("k", "q", `{"a":1}`) == key("k", "r", `{"a":1}`) || key("k", "q", `{"a":1}`) == key("k", "q", `{"a":2}`) {
		t.Error("different jobs have one key")
	}
	args := struct {
		A int `json:"a"`
	}{1}
	if k := must[[]byte](t)(queue.UniqueKeyOf(t.Context(), pool, "k", "q", args)); string(k) != key("k", "q", `{"a":1}`) {
		t.Error("a value has another key than its JSON")
	}
	if _, err := queue.UniqueKeyOf(t.Context(), pool, "k", "q", func() {}); !errors.Is(err, awa.ErrInvalidArgument) {
		t.Errorf("the key of a function: %v", err)
	}
}

func TestOverview(t *testing.T) {
	pool := pgtest.Pool(t)
	queue := awa.New()
	if _, err := queue.EnqueueMany(t.Context(), pool, awa.EnqueueManyParams{Kind: "k", Queue: "b", Args: []json.RawMessage{[]byte(`{}`), []byte(`{}`)}}); err != nil {
		t.Fatal(err)
	}
	if err := queue.PauseQueue(t.Context(), pool, "a"); err != nil {
		t.Fatal(err)
	}
	queues, err := queue.Overview(t.Context(), pool)
	if err != nil || len(queues) != 2 {
		t.Fatalf("%d queues, %v", len(queues), err)
	}
	a, b := queues[0], queues[1]
	if a.Queue != "a" || !a.Paused || a.OldestWaiting != 0 {
		t.Errorf("paused queue: %+v", a)
	}
	if b.Queue != "b" || b.Paused || b.Available != 2 || b.OldestWaiting <= 0 {
		t.Errorf("waiting queue: %+v", b)
	}
}
