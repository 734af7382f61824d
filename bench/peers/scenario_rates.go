package main

import (
	"context"
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
	l := load{producers: 1, rate: 50, chunk: 1, duration: r.seconds, every: r.seconds}
	goals := map[string]*bench.Goal{"pickup, median": bench.AtMost(1.5), "pickup, 99th percentile": bench.AtMost(5)}
	return r.compare(ctx, r.runs, goals, func(ctx context.Context, _ *bench.Database, s session, f *figures) error {
		c, err := s.flow(ctx, l)
		if err == nil {
			f.add("pickup, median", "ms", c.Median)
			f.add("pickup, 99th percentile", "ms", c.P99)
		}
		return err
	})
}

// flowing measures how long a job waits, and how many wait, while producers and
// workers are never idle for long.
func (r *run) flowing(ctx context.Context) error {
	r.takes = r.steady
	l := load{producers: 4, rate: 500, chunk: 1, duration: r.steady, every: 250 * time.Millisecond}
	return r.compare(ctx, r.runs, nil, func(ctx context.Context, _ *bench.Database, s session, f *figures) error {
		c, err := s.flow(ctx, l)
		if err != nil {
			return err
		}
		f.add("rate, of up to 500 jobs/s", "jobs/s", bench.Rate(c.begun(), time.Duration(l.intervals())*l.every))
		f.add("latency at up to 500 jobs/s, median", "ms", c.Median)
		f.add("latency at up to 500 jobs/s, 99th percentile", "ms", c.P99)
		f.add("deepest queue at up to 500 jobs/s", "jobs", float64(c.Deepest))
		f.draw("queue depth at up to 500 jobs/s", "seconds", "jobs that wait", c.curve(l, time.Second, func(i interval) float64 { return float64(i.Depth) }))
		f.draw("latency over time at up to 500 jobs/s, 99th percentile", "seconds", "ms", c.curve(l, time.Second, func(i interval) float64 { return i.P99 }))
		return nil
	})
}
