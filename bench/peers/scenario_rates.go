package main

import (
	"context"
	"slices"
	"time"

	"github.com/awaqueue/awa/internal/bench"
)

// produce measures single enqueues.
func (r *run) produce(ctx context.Context) error {
	return r.compare(ctx, r.runs, nil, func(ctx context.Context, db *bench.Database, s session, f *figures) error {
		if err := db.Settle(ctx); err != nil {
			return err
		}
		rate, err := s.produce(ctx, 8, r.seconds)
		if err == nil {
			f.add("single enqueue, 8 connections", "jobs/s", rate)
		}
		return err
	})
}

// oneJob measures claims of one job, each finished on its own.
func (r *run) oneJob(ctx context.Context) error {
	return r.compare(ctx, r.runs, nil, func(ctx context.Context, db *bench.Database, s session, f *figures) error {
		if _, err := s.oneJob(ctx, 1, 0); err != nil { // one that has no equal need not be filled
			return err
		}
		if _, err := s.bulk(ctx, int(r.seconds.Seconds()*15_000), 100); err != nil {
			return err
		}
		if err := db.Settle(ctx); err != nil {
			return err
		}
		rate, err := s.oneJob(ctx, 16, r.seconds)
		if err == nil {
			f.add("one job a claim, 16 connections", "jobs/s", rate)
		}
		return err
	})
}

// Names of figures that have goals.
const (
	pickupP50 = "pickup, median"
	pickupP99 = "pickup, 99th percentile"
)

// pickup measures how long a job waits for an idle worker.
func (r *run) pickup(ctx context.Context) error {
	const every = 20 * time.Millisecond
	goals := map[string]*bench.Goal{pickupP50: bench.AtMost(1.5), pickupP99: bench.AtMost(5)}
	return r.compare(ctx, r.runs, goals, func(ctx context.Context, _ *bench.Database, s session, f *figures) error {
		samples, err := s.pickup(ctx, int(r.seconds/every), every)
		if err != nil {
			return err
		}
		slices.Sort(samples)
		f.add(pickupP50, "ms", samples[len(samples)/2])
		f.add(pickupP99, "ms", samples[min(len(samples)-1, len(samples)*99/100)])
		return nil
	})
}
