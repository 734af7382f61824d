package worker_test

import (
	"context"
	"testing"
	"time"

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
