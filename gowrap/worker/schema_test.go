package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/pgtest"
)

// The role awa_worker is all that a client needs, for whatever becomes of a job.
func TestWorkerRole(t *testing.T) {
	url := pgtest.URL(t)
	admin := newPool(t, url, nil)
	ids := make([]int64, len(outcomes))
	for i := range outcomes {
		ids[i] = enqueue(t, admin, awa.EnqueueParams{Args: task{i}})
	}
	own := newPool(t, url, func(cfg *pgxpool.Config) { cfg.ConnConfig.RuntimeParams["role"] = "awa_worker" })
	c := start(t, worker.Config{Pool: own}, tasks(func(ctx context.Context, job *worker.Job[task]) error {
		if err := job.SetProgress(ctx, 1, ""); err != nil {
			t.Error(err)
		}
		return outcomes[job.Args.N].handle()
	}))
	for i, o := range outcomes {
		// A retry may run meanwhile, and end as before.
		until(t, admin, ids[i], func(j awa.JobInfo) bool { return j.State == o.state || o.attempt > 0 && j.Attempt > 1 })
	}
	eventually(t, func() bool { return waits(t, admin) == 1 }, func() any { return waits(t, admin) })
	stop(t, c)
}

// A storage schema of another name works alike, notifications included.
func TestOtherSchema(t *testing.T) {
	url := pgtest.Empty(t)
	other := awa.WithSchema("other")
	if _, err := install.Migrate(t.Context(), pgtest.Conn(t, url), install.Options{Schema: "other"}); err != nil {
		t.Fatal(err)
	}
	pool := newPool(t, url, nil)
	ran := make(chan int64, 1)
	start(t, worker.Config{Pool: pool, Client: other, PollInterval: time.Hour}, tasks(
		func(_ context.Context, job *worker.Job[task]) error { ran <- job.ID; return nil }))
	eventually(t, func() bool { return waits(t, pool) == 1 }, func() any { return waits(t, pool) })
	id, err := worker.EnqueueTyped(t.Context(), other, pool, task{}, awa.EnqueueParams{})
	if err != nil {
		t.Fatal(err)
	}
	if got := receive(t, ran); got != id {
		t.Errorf("job %d ran, want %d", got, id)
	}
}
