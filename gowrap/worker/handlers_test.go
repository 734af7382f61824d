package worker_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// All jobs of a claim run at once: no handler waits for another, and one that ends
// its goroutine takes no job with it.
func TestHandlersRunAtOnce(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	const jobs = 1000
	running, finish := make(chan struct{}, jobs), make(chan struct{})
	enqueueMany(t, pool, "default", jobs)
	start(t, worker.Config{Pool: pool, DisableMaintain: true,
		Queues: map[string]worker.QueueConfig{"default": {MaxWorkers: jobs, MaxClaim: jobs}}},
		tasks(func(_ context.Context, job *worker.Job[task]) error {
			running <- struct{}{}
			if job.Args.N%100 == 0 {
				runtime.Goexit()
			}
			<-finish
			return nil
		}))
	for range jobs {
		receive(t, running)
	}
	close(finish)
	eventually(t, func() bool { n := counts(t, pool, "default"); return n.Completed == jobs-10 && n.Retryable == 10 },
		func() any { return counts(t, pool, "default") })
}
