package worker_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// A handler completes its job in a transaction and goes on for long before it commits. That
// holds up the other finishes of its batch in the server, and nothing else: neither those that
// were written with them, nor later ones.
func TestLongTransactionAfterCompleteTx(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	const many = 20
	slow := enqueue(t, pool, awa.EnqueueParams{})
	enqueueMany(t, pool, "default", many)
	enqueueMany(t, pool, "other", many)
	completed, release := make(chan struct{}), make(chan struct{})
	c := begin(t, worker.Config{Pool: pool, CompleteDelay: 500 * time.Millisecond,
		Queues: map[string]worker.QueueConfig{"default": {MaxWorkers: 2 * many}, "other": {MaxWorkers: many}}},
		2*time.Second,
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
