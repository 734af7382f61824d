package worker_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// A handler completes its job in a transaction and goes on for long before it commits. That
// holds up the other finishes of its batch in the server, and nothing else: neither those that
// were written with them, nor later ones.
func TestLongTransactionAfterCompleteTx(t *testing.T) {
	t.Run("the client gives up", func(t *testing.T) { longTransaction(t, 2*time.Second, "0") })
	t.Run("the server gives up", func(t *testing.T) { longTransaction(t, time.Minute, "1s") })
}

func longTransaction(t *testing.T, patience time.Duration, lockTimeout string) {
	pool := newPool(t, pgtest.URL(t), func(cfg *pgxpool.Config) {
		cfg.ConnConfig.RuntimeParams["lock_timeout"] = lockTimeout
	})
	const many = 20
	slow := enqueue(t, pool, awa.EnqueueParams{})
	enqueueMany(t, pool, "default", many)
	enqueueMany(t, pool, "other", many)
	completed, release := make(chan struct{}), make(chan struct{})
	c := begin(t, worker.Config{Pool: pool, CompleteDelay: 500 * time.Millisecond,
		Queues: map[string]worker.QueueConfig{"default": {MaxWorkers: 2 * many}, "other": {MaxWorkers: many}}},
		patience,
		tasks(func(ctx context.Context, job *worker.Job[task]) error {
			if job.ID != slow {
				<-completed
				return nil
			}
			tx, err := pool.Begin(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
			if err := job.CompleteTx(ctx, tx); err != nil {
				return err
			}
			close(completed)
			select {
			case <-release:
			case <-ctx.Done():
			}
			return tx.Commit(ctx)
		}))
	others := func(want int64) {
		t.Helper()
		eventually(t, func() bool { return counts(t, pool, "other").Completed == want },
			func() any { return counts(t, pool, "other") })
	}
	others(many)
	for n := range int64(3) {
		enqueueMany(t, pool, "other", many)
		others((n + 2) * many)
	}
	if n := counts(t, pool, "default"); n.Completed != 0 {
		t.Errorf("nothing is held up: %+v", n)
	}
	close(release)
	eventually(t, func() bool { return counts(t, pool, "default").Completed == many+1 },
		func() any { return counts(t, pool, "default") })
	stop(t, c)
	requireHealthy(t, pool)
}

// A handler returns before it commits the transaction of its CompleteTx. Whether that one committed
// shows when it ends; jobs that fail meanwhile are written before, also those that were to be
// written together with this.
func TestTransactionThatOutlivesItsHandler(t *testing.T) {
	const many = 20
	pool := newPool(t, pgtest.URL(t), nil)
	slow := enqueue(t, pool, awa.EnqueueParams{})
	enqueueMany(t, pool, "other", many)
	left := make(chan pgx.Tx, 1)
	c := begin(t, worker.Config{Pool: pool, CompleteDelay: 500 * time.Millisecond,
		Queues: map[string]worker.QueueConfig{"default": {MaxWorkers: 1}, "other": {MaxWorkers: many}}},
		2*time.Second,
		tasks(func(ctx context.Context, job *worker.Job[task]) error {
			if job.ID != slow {
				return worker.Terminal(errBroken)
			}
			tx, err := pool.Begin(context.WithoutCancel(ctx))
			if err != nil {
				return err
			}
			left <- tx
			return job.CompleteTx(ctx, tx)
		}))
	tx := receive(t, left)
	defer func() { _ = tx.Rollback(context.Background()) }()
	eventually(t, func() bool { return counts(t, pool, "other").Failed == many }, func() any { return counts(t, pool, "other") })
	if n := counts(t, pool, "default"); n.Running != 1 {
		t.Errorf("nothing is held up: %+v", n)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	reach(t, pool, slow, awa.StateCompleted)
	stop(t, c)
	requireHealthy(t, pool)
}

// Somebody holds up some batches, more than a write has callers, of which each has jobs that were
// cancelled, and one that has jobs which failed. What was to be written together with these goes on.
func TestCallsBesideThoseHeldUp(t *testing.T) {
	const batches = 8
	url := pgtest.URL(t)
	pool := newPool(t, url, nil)
	type queues = map[string]worker.QueueConfig
	open, begun, finish := make(chan awa.Receipt, 2*batches+2), make(chan struct{}, 3*batches), make(chan struct{})
	mixed, failed := make(chan struct{}, 2), make(chan struct{})
	c := begin(t, worker.Config{Pool: pool, CompleteDelay: time.Second, HeartbeatInterval: 50 * time.Millisecond,
		Queues: queues{"held": {MaxWorkers: 2 * batches}, "free": {MaxWorkers: batches}, "mixed": {MaxWorkers: 2},
			"failed": {MaxWorkers: 2}, "snoozed": {MaxWorkers: 1}}},
		2*time.Second,
		tasks(func(_ context.Context, job *worker.Job[task]) error {
			if job.Queue == "held" || job.Queue == "failed" {
				open <- job.Receipt
			} else {
				begun <- struct{}{}
			}
			<-finish
			switch job.Queue {
			case "mixed":
				defer func() { mixed <- struct{}{} }()
				if job.Args.N == 0 {
					return worker.Terminal(errBroken)
				}
				return worker.Snooze(time.Hour)
			case "failed":
				<-failed
				return worker.Terminal(errBroken)
			case "snoozed":
				<-failed
				return worker.Snooze(time.Hour)
			}
			return worker.Cancel("no")
		}))
	held := map[int64]awa.Receipt{}
	for range batches {
		enqueueMany(t, pool, "held", 2)
		for range 2 {
			r := receive(t, open)
			held[r.BatchID] = r
		}
		enqueue(t, pool, awa.EnqueueParams{Queue: "free"})
		receive(t, begun)
	}
	enqueueMany(t, pool, "failed", 2)
	for range 2 {
		r := receive(t, open)
		held[r.BatchID] = r
	}
	enqueueMany(t, pool, "mixed", 2)
	enqueue(t, pool, awa.EnqueueParams{Queue: "snoozed"})
	for range 3 {
		receive(t, begun)
	}
	tx, err := pgtest.Conn(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if stale, err := awa.New().CompleteMany(t.Context(), tx, slices.Collect(maps.Values(held))); err != nil || len(stale) > 0 {
		t.Fatal(stale, err)
	}
	close(finish)
	receive(t, mixed)
	receive(t, mixed)
	close(failed)
	eventually(t, func() bool {
		return counts(t, pool, "free").Cancelled == batches && counts(t, pool, "mixed").Failed == 1 &&
			counts(t, pool, "mixed").Scheduled == 1 && counts(t, pool, "snoozed").Scheduled == 1
	}, func() any {
		return []awa.QueueCounts{counts(t, pool, "free"), counts(t, pool, "mixed"), counts(t, pool, "snoozed")}
	})
	if n := counts(t, pool, "held"); n.Cancelled != 0 {
		t.Errorf("nothing is held up: %+v", n)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		return counts(t, pool, "held").Cancelled == 2*batches && counts(t, pool, "failed").Failed == 2
	},
		func() any { return []awa.QueueCounts{counts(t, pool, "held"), counts(t, pool, "failed")} })
	stop(t, c)
	requireHealthy(t, pool)
}

// Somebody holds up many batches. What is written of them takes a few connections, however many
// they are.
func TestManyBatchesHeldUp(t *testing.T) {
	const batches, some = 8, 2
	sent := &calls{function: "complete_many"}
	url := pgtest.URL(t)
	pool := newPool(t, url, func(cfg *pgxpool.Config) { cfg.ConnConfig.Tracer = sent })
	begun, finish := make(chan awa.Receipt, batches*some), make(chan struct{})
	c := begin(t, worker.Config{Pool: pool, HeartbeatInterval: 50 * time.Millisecond,
		Queues: map[string]worker.QueueConfig{"default": {MaxWorkers: 2 * batches * some}, "other": {MaxWorkers: 1}}},
		500*time.Millisecond,
		tasks(func(_ context.Context, job *worker.Job[task]) error {
			if job.Queue == "default" {
				begun <- job.Receipt
				<-finish
			}
			return nil
		}))
	// One attempt of each batch is in the hands of a transaction that stays open.
	first := map[int64]awa.Receipt{}
	for range batches {
		enqueueMany(t, pool, "default", some)
		for range some {
			r := <-begun
			first[r.BatchID] = r
		}
	}
	tx, err := pgtest.Conn(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if stale, err := awa.New().CompleteMany(t.Context(), tx, slices.Collect(maps.Values(first))); err != nil || len(stale) > 0 {
		t.Fatal(stale, err)
	}
	close(finish)
	eventually(t, func() bool { return sent.n.Load() > 2*batches }, func() any { return sent.n.Load() })
	// Two writes that began, and as many that were held up.
	if top := sent.top.Load(); top > 4 {
		t.Errorf("%d connections write what %d batches hold up", top, len(first))
	}
	enqueueMany(t, pool, "other", some)
	eventually(t, func() bool { return counts(t, pool, "other").Completed == some }, func() any { return counts(t, pool, "other") })
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return counts(t, pool, "default").Completed == batches*some },
		func() any { return counts(t, pool, "default") })
	stop(t, c)
	requireHealthy(t, pool)
}
