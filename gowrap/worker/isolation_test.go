package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// At REPEATABLE READ, too, receipts whose claims are gone are stale, and others are written.
func TestClaimIsGoneAtRepeatableRead(t *testing.T) {
	url := pgtest.URL(t)
	admin := newPool(t, url, nil)
	pool := newPool(t, url, func(cfg *pgxpool.Config) {
		cfg.ConnConfig.RuntimeParams["default_transaction_isolation"] = "repeatable read"
	})
	began, release := make(chan struct{}, 2), make(chan struct{})
	c := start(t, worker.Config{Pool: pool, DisableMaintain: true, HeartbeatInterval: time.Hour}, tasks(func(_ context.Context, job *worker.Job[task]) error {
		began <- struct{}{}
		<-release
		return []error{nil, nil, errBroken, errBroken}[job.Args.N]
	}))
	var ids []int64
	for n := range 4 {
		ids = append(ids, enqueue(t, admin, awa.EnqueueParams{Args: task{n}}))
		receive(t, began) // a claim for each
	}
	for _, n := range []int{0, 2} {
		if deleted, err := queue.Delete(t.Context(), admin, ids[n]); err != nil || !deleted {
			t.Fatal(deleted, err)
		}
	}
	// What runs holds up no prune of so many that are done.
	enqueueMany(t, admin, "other", 500)
	exec(t, admin, `select awa.complete_many(array(select c.receipt from awa.claim('other', 500) as c))`)
	for _, want := range []string{awa.Rotated, awa.Pruned} {
		call := queue.Rotate
		if want == awa.Pruned {
			call = queue.Prune
		}
		if got, err := call(t.Context(), admin); err != nil || got != want {
			t.Fatal(got, err)
		}
	}
	if err := c.Recheck(t.Context()); err != nil {
		t.Error(err)
	}
	close(release)
	reach(t, admin, ids[1], awa.StateCompleted)
	reach(t, admin, ids[3], awa.StateRetryable)
	stop(t, c)
	requireHealthy(t, admin)
}
