package worker_test

import (
	"context"
	"sync/atomic"
	"testing"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// What a queue with a limit holds back is claimed as soon as the limit allows, not
// once in each PollInterval: nobody notifies of it.
func TestQueuesWithLimits(t *testing.T) {
	const jobs = 120 // so many poll intervals would be too long for eventually
	for name, settings := range map[string]map[string]int{
		"rate":        {"rate_limit": 200, "rate_burst": 1},
		"concurrency": {"concurrency_limit": 1},
	} {
		t.Run(name, func(t *testing.T) {
			url := pgtest.URL(t)
			leakless(t)
			pool := newPool(t, url, nil)
			if err := queue.ConfigureQueue(t.Context(), pool, "default", settings); err != nil {
				t.Fatal(err)
			}
			batch := make([]awa.EnqueueParams, jobs)
			for i := range batch {
				batch[i] = awa.EnqueueParams{Kind: "task", ConcurrencyKey: "one"}
			}
			if _, err := queue.EnqueueMixed(t.Context(), pool, "", batch); err != nil {
				t.Fatal(err)
			}
			var running, most atomic.Int32
			start(t, worker.Config{Pool: pool}, tasks(func(context.Context, *worker.Job[task]) error {
				if n := running.Add(1); n > most.Load() {
					most.Store(n)
				}
				running.Add(-1)
				return nil
			}))
			eventually(t, func() bool { return counts(t, pool, "default").Completed == jobs },
				func() any { return counts(t, pool, "default") })
			if n := most.Load(); name == "concurrency" && n != 1 {
				t.Errorf("%d ran at once", n)
			}
			requireHealthy(t, pool)
		})
	}
}
