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

// pickup measures how long a job waits for an idle worker.
func (r *run) pickup(ctx context.Context) error {
	return r.latency(ctx, "pickup", 20*time.Millisecond, bench.AtMost(1.5), bench.AtMost(5))
}

// steady measures how long a job waits for a worker that is never idle for long.
func (r *run) steady(ctx context.Context) error {
	return r.latency(ctx, "latency at up to 500 jobs/s", 2*time.Millisecond, nil, nil)
}

func (r *run) latency(ctx context.Context, name string, every time.Duration, p50, p99 *bench.Goal) error {
	median, last := name+", median", name+", 99th percentile"
	goals := map[string]*bench.Goal{median: p50, last: p99}
	return r.compare(ctx, r.runs, goals, func(ctx context.Context, _ *bench.Database, s session, f *figures) error {
		samples, err := s.pickup(ctx, int(r.seconds/every), every)
		if err != nil {
			return err
		}
		slices.Sort(samples)
		f.add(median, "ms", samples[len(samples)/2])
		f.add(last, "ms", samples[min(len(samples)-1, len(samples)*99/100)])
		return nil
	})
}
