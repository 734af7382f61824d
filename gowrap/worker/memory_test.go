package worker_test

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"
	"weak"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// A handler that runs for long keeps the memory of its own job, not that of the jobs that were
// claimed with it.
func TestMemoryBesideALongHandler(t *testing.T) {
	const many = 20
	url := pgtest.URL(t)
	leakless(t)
	pool := newPool(t, url, nil)
	for n := range many {
		enqueue(t, pool, awa.EnqueueParams{Args: task{n}, Metadata: map[string]string{"x": strings.Repeat("x", 10_000)}})
	}
	var mu sync.Mutex
	var kept []weak.Pointer[byte]
	began, release := make(chan struct{}, 1), make(chan struct{})
	c := start(t, worker.Config{Pool: pool, Queues: map[string]worker.QueueConfig{"default": {MaxWorkers: many}}},
		tasks(func(_ context.Context, job *worker.Job[task]) error {
			if job.Args.N == 0 {
				began <- struct{}{}
				<-release
				if len(job.Metadata) < 10_000 {
					t.Error("a job is let go of while its handler runs")
				}
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			kept = append(kept, weak.Make(&job.Metadata[0]))
			return nil
		}))
	receive(t, began)
	eventually(t, func() bool { return counts(t, pool, "default").Completed == many-1 },
		func() any { return counts(t, pool, "default") })
	left := func() (n int) {
		runtime.GC()
		mu.Lock()
		defer mu.Unlock()
		for _, p := range kept {
			if p.Value() != nil {
				n++
			}
		}
		return n
	}
	eventually(t, func() bool { return left() == 0 }, func() any { return left() })
	close(release)
	stop(t, c)
}
