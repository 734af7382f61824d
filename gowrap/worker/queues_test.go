package worker_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// drainEach enqueues n jobs, lets work start clients, and demands that each job
// ran once.
func drainEach(t *testing.T, pool *pgxpool.Pool, n int, work func(*worker.Mux)) {
	t.Helper()
	runs := make([]atomic.Int32, n)
	enqueueMany(t, pool, "default", n)
	work(tasks(func(_ context.Context, job *worker.Job[task]) error {
		runs[job.Args.N].Add(1)
		return nil
	}))
	eventually(t, func() bool { return counts(t, pool, "default").Completed == int64(n) },
		func() any { return counts(t, pool, "default") })
	for i := range runs {
		if got := runs[i].Load(); got != 1 {
			t.Errorf("job %d ran %d times", i, got)
		}
	}
	requireHealthy(t, pool)
}

// Two clients share a queue and each job runs once.
func TestTwoClients(t *testing.T) {
	url := pgtest.URL(t)
	leakless(t)
	pool := newPool(t, url, nil)
	drainEach(t, pool, 5000, func(mux *worker.Mux) {
		for range 2 {
			start(t, worker.Config{Pool: newPool(t, url, nil), MaxWorkers: 50}, mux)
		}
	})
}

// Every way in which pgx may talk to the server does.
func TestQueryModes(t *testing.T) {
	for name, mode := range map[string]pgx.QueryExecMode{
		"simple protocol": pgx.QueryExecModeSimpleProtocol,
		"exec":            pgx.QueryExecModeExec,
	} {
		t.Run(name, func(t *testing.T) {
			pool := newPool(t, pgtest.URL(t), func(cfg *pgxpool.Config) {
				cfg.ConnConfig.DefaultQueryExecMode = mode
			})
			drainEach(t, pool, 1000, func(mux *worker.Mux) { start(t, worker.Config{Pool: pool}, mux) })
		})
	}
}

// A worker that waits is woken, by a job that is enqueued and by one that becomes
// due. The poll would come much later.
func TestWakeUp(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	ran := make(chan int64, 1)
	start(t, worker.Config{Pool: pool, PollInterval: time.Hour}, tasks(
		func(_ context.Context, job *worker.Job[task]) error { ran <- job.ID; return nil }))
	for _, p := range []awa.EnqueueParams{{}, {}, {RunAt: time.Now().Add(50 * time.Millisecond)}, {}} {
		eventually(t, func() bool { return waits(t, pool) == 1 }, func() any { return waits(t, pool) })
		id := enqueue(t, pool, p)
		if got := receive(t, ran); got != id {
			t.Errorf("job %d ran, want %d", got, id)
		}
	}
}

// With PollOnly no session waits or listens.
func TestPollOnly(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	ran := make(chan int64, 1)
	start(t, worker.Config{Pool: pool, PollOnly: true, PollInterval: 5 * time.Millisecond}, tasks(
		func(_ context.Context, job *worker.Job[task]) error { ran <- job.ID; return nil }))
	for range 3 {
		id := enqueue(t, pool, awa.EnqueueParams{})
		if got := receive(t, ran); got != id {
			t.Errorf("job %d ran, want %d", got, id)
		}
		if n := waits(t, pool); n > 0 {
			t.Errorf("%d sessions wait", n)
		}
	}
}

// No more handlers run than MaxWorkers allow, of a queue and of all.
func TestMaxWorkers(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	var mu sync.Mutex
	now, most := map[string]int{}, map[string]int{}
	enter := func(name string, by int) {
		mu.Lock()
		defer mu.Unlock()
		for _, key := range []string{name, "all"} {
			now[key] += by
			most[key] = max(most[key], now[key])
		}
	}
	mux := tasks(func(_ context.Context, job *worker.Job[task]) error {
		enter(job.Queue, 1)
		defer enter(job.Queue, -1)
		time.Sleep(time.Millisecond)
		return nil
	})
	for _, name := range []string{"a", "b"} {
		enqueueMany(t, pool, name, 200)
	}
	start(t, worker.Config{Pool: pool, MaxWorkers: 6, Queues: map[string]worker.QueueConfig{
		"a": {MaxWorkers: 4}, "b": {MaxWorkers: 5}}}, mux)
	eventually(t, func() bool { return counts(t, pool, "a").Completed+counts(t, pool, "b").Completed == 400 },
		func() any { return []any{counts(t, pool, "a"), counts(t, pool, "b")} })
	mu.Lock()
	defer mu.Unlock()
	if most["a"] > 4 || most["b"] > 5 || most["all"] > 6 {
		t.Errorf("at most %v ran", most)
	}
}

// Queues that compete get places by their weights.
func TestWeights(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	var heavy, light atomic.Int64
	enough := make(chan struct{})
	mux := tasks(func(_ context.Context, job *worker.Job[task]) error {
		if job.Queue == "light" {
			light.Add(1)
		} else if heavy.Add(1) == 600 {
			close(enough)
		}
		time.Sleep(time.Millisecond)
		return nil
	})
	enqueueMany(t, pool, "heavy", 1000)
	enqueueMany(t, pool, "light", 1000)
	start(t, worker.Config{Pool: pool, MaxWorkers: 8, Queues: map[string]worker.QueueConfig{
		"heavy": {Weight: 3}, "light": {}}}, mux)
	receive(t, enough)
	if n := light.Load(); n == 0 || n >= 600 {
		t.Errorf("600 jobs of weight 3 ran beside %d of weight 1", n)
	}
}
