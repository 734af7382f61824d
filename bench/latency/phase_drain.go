package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/bench"
)

// drain compares the worker with bare calls of two connections that claim 200 at
// a time, in turns on fresh databases.
func (r *run) drain(ctx context.Context) error {
	configs := []int{200, 1000}
	var raw []float64
	drained, ratios := make([][]float64, len(configs)), make([][]float64, len(configs))
	for range r.runs {
		var bare time.Duration
		err := r.preloaded(ctx, func(db *bench.Database, _ *pgxpool.Pool) (err error) {
			bare, err = db.Drain(ctx, lane, 2, 200)
			return err
		})
		if err != nil {
			return err
		}
		raw = append(raw, float64(r.jobs)/bare.Seconds())
		for i, workers := range configs {
			var took time.Duration
			err := r.preloaded(ctx, func(_ *bench.Database, pool *pgxpool.Pool) (err error) {
				took, err = r.workerDrain(ctx, pool, workers)
				return err
			})
			if err != nil {
				return err
			}
			drained[i] = append(drained[i], float64(r.jobs)/took.Seconds())
			ratios[i] = append(ratios[i], bare.Seconds()/took.Seconds())
		}
	}
	r.report.Add("bare calls, 2 connections, claims of 200", "jobs/s", raw, nil)
	for i, workers := range configs {
		r.report.Add(fmt.Sprintf("worker, %d handlers", workers), "jobs/s", drained[i], nil)
		r.report.Add(fmt.Sprintf("worker / bare, %d handlers", workers), "", ratios[i], bench.AtLeast(0.8))
	}
	return nil
}

// preloaded is withDatabase with jobs in the queue.
func (r *run) preloaded(ctx context.Context, f func(*bench.Database, *pgxpool.Pool) error) error {
	return r.withDatabase(ctx, func(db *bench.Database, pool *pgxpool.Pool) error {
		if err := db.Preload(ctx, lane, r.jobs); err != nil {
			return err
		}
		return f(db, pool)
	})
}

// workerDrain measures from the start of a client until every job is completed,
// durably: until its stop has returned.
func (r *run) workerDrain(ctx context.Context, pool *pgxpool.Pool, workers int) (time.Duration, error) {
	var left atomic.Int64
	left.Store(int64(r.jobs))
	done := make(chan struct{})
	handle := func(context.Context, *worker.Attempt) error {
		if left.Add(-1) == 0 {
			close(done)
		}
		return nil
	}
	start := time.Now()
	err := withWorker(ctx, pool, lane, workers, handle, func() error {
		select {
		case <-done:
			return nil
		case <-time.After(5 * time.Minute):
			return fmt.Errorf("%d jobs are left", left.Load())
		}
	})
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	n, err := queue.Counts(ctx, pool, lane)
	if err == nil && n.Completed != int64(r.jobs) {
		err = fmt.Errorf("%d jobs went in, counts are %+v", r.jobs, n)
	}
	return took, err
}
