package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/bench"
)

const lane = "bench"

// pickup enqueues a job every 20 ms, as a transaction of its own, and measures from
// the return of the commit to the start of the handler. A handler that starts
// before the producer has learned of its commit counts as 0.
func (r *run) pickup(ctx context.Context) error {
	var p50, p99 []float64
	for range r.runs {
		err := r.withDatabase(ctx, func(db *bench.Database, pool *pgxpool.Pool) error {
			samples, err := r.pickups(ctx, pool)
			if err != nil {
				return err
			}
			p50 = append(p50, quantile(samples, 0.50))
			p99 = append(p99, quantile(samples, 0.99))
			return nil
		})
		if err != nil {
			return err
		}
	}
	r.report.Add("p50", "ms", p50, bench.AtMost(1.5))
	r.report.Add("p99", "ms", p99, bench.AtMost(5))
	return nil
}

func (r *run) pickups(ctx context.Context, pool *pgxpool.Pool) ([]float64, error) {
	var mu sync.Mutex
	started := map[int64]time.Time{}
	handle := func(_ context.Context, a *worker.Attempt) error {
		now := time.Now()
		mu.Lock()
		defer mu.Unlock()
		started[a.ID] = now
		return nil
	}
	committed := map[int64]time.Time{}
	err := withWorker(ctx, pool, lane, 10, handle, func() error {
		if err := waiting(ctx, pool); err != nil {
			return err
		}
		conn, err := pool.Acquire(ctx) // its first calls, which plan, are not counted
		if err != nil {
			return err
		}
		defer conn.Release()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		n := int(r.seconds/(20*time.Millisecond)) + warmUp
		for i := range n {
			<-tick.C
			id, err := queue.Enqueue(ctx, conn, awa.EnqueueParams{Kind: "bench", Queue: lane})
			if err != nil {
				return err
			}
			if i >= warmUp {
				committed[id] = time.Now()
			}
		}
		deadline := time.Now().Add(10 * time.Second)
		for {
			mu.Lock()
			got := len(started)
			mu.Unlock()
			switch {
			case got >= n:
				return nil
			case time.Now().After(deadline):
				return fmt.Errorf("%d jobs of %d were started", got, n)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	var samples []float64
	for id, at := range committed {
		samples = append(samples, max(0, float64(started[id].Sub(at))/float64(time.Millisecond)))
	}
	return samples, err
}

// warmUp is how many jobs go ahead: plans and caches are made once per connection.
const warmUp = 100

func quantile(samples []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(samples))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}
