package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/bench"
)

// producers compares the rate of 8 producers without a worker, beside a worker that
// waits for another queue and so is idle throughout, and beside one that runs what
// they enqueue on the same CPUs.
func (r *run) producers(ctx context.Context) error {
	nothing := func(context.Context, *worker.Attempt) error { return nil }
	var none, idle, busy, idleRatio, busyRatio []float64
	measure := func(name string) (rate float64, err error) {
		err = r.withDatabase(ctx, func(_ *bench.Database, pool *pgxpool.Pool) error {
			if name == "" {
				rate, err = r.produce(ctx, pool)
				return err
			}
			return withWorker(ctx, pool, name, 100, nothing, func() error {
				if err := waiting(ctx, pool); err != nil {
					return err
				}
				rate, err = r.produce(ctx, pool)
				return err
			})
		})
		return rate, err
	}
	for range r.runs {
		without, err := measure("")
		if err != nil {
			return err
		}
		beside, err := measure("other")
		if err != nil {
			return err
		}
		same, err := measure(lane)
		if err != nil {
			return err
		}
		none, idle, busy = append(none, without), append(idle, beside), append(busy, same)
		idleRatio, busyRatio = append(idleRatio, beside/without), append(busyRatio, same/without)
	}
	r.report.Add("without a worker", "jobs/s", none, nil)
	r.report.Add("beside an idle worker", "jobs/s", idle, nil)
	r.report.Add("idle worker / none", "", idleRatio, bench.AtLeast(0.9))
	r.report.Add("beside a worker that runs the jobs", "jobs/s", busy, nil)
	r.report.Add("busy worker / none", "", busyRatio, nil)
	return nil
}

// produce returns the rate of 8 producers that enqueue one job per transaction.
func (r *run) produce(ctx context.Context, pool *pgxpool.Pool) (float64, error) {
	const producers = 8
	var total atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	start := time.Now()
	for range producers {
		all.Go(func() {
			conn, err := pool.Acquire(ctx)
			if err != nil {
				failed.Store(&err)
				return
			}
			defer conn.Release()
			for time.Since(start) < r.seconds {
				if _, err := queue.Enqueue(ctx, conn, awa.EnqueueParams{Kind: "bench", Queue: lane}); err != nil {
					failed.Store(&err)
					return
				}
				total.Add(1)
			}
		})
	}
	all.Wait()
	rate := float64(total.Load()) / time.Since(start).Seconds()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return rate, nil
}
