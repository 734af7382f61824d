package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/awaqueue/awa/internal/bench"
)

// oneJob measures workers that claim one job at a time and complete it in a
// transaction of its own, on one queue and on a queue each.
func (r *run) oneJob(ctx context.Context) error {
	workers := []int{1, 4, 16, 64}
	one := make([][]float64, len(workers))
	many := make([][]float64, len(workers))
	var ratios []float64
	for range r.runs {
		for i, n := range workers {
			a, err := r.oneJobRate(ctx, n, 1)
			if err != nil {
				return err
			}
			one[i] = append(one[i], a)
			if n == 1 {
				continue
			}
			b, err := r.oneJobRate(ctx, n, n)
			if err != nil {
				return err
			}
			many[i] = append(many[i], b)
			if n == 16 {
				ratios = append(ratios, a/b)
			}
		}
	}
	for i, n := range workers {
		r.report.Add(fmt.Sprintf("%d connections, one queue", n), "jobs/s", one[i], nil)
		if n == 1 {
			continue
		}
		r.report.Add(fmt.Sprintf("%d connections, %d queues", n, n), "jobs/s", many[i], nil)
	}
	r.report.Add("one queue / many queues at 16", "", ratios, bench.AtLeast(0.85))
	return nil
}

func (r *run) oneJobRate(ctx context.Context, workers, queues int) (perSecond float64, err error) {
	err = r.server.WithDatabase(ctx, func(db *bench.Database) error {
		// More than any machine finishes in the time.
		jobs := int(r.seconds.Seconds()*20_000)/queues + 1
		for q := range queues {
			if err := db.Fill(ctx, fmt.Sprint(lane, q), jobs); err != nil {
				return err
			}
		}
		if err := db.Settle(ctx); err != nil {
			return err
		}
		var done atomic.Int64
		end := time.Now().Add(r.seconds)
		took, err := bench.Crew(ctx, db, workers, func(i int, w *bench.Worker) error {
			for time.Now().Before(end) {
				n, err := w.Step(ctx, fmt.Sprint(lane, i%queues), 1)
				if err != nil {
					return err
				}
				if n == 0 {
					return nil
				}
				done.Add(1)
			}
			return nil
		})
		perSecond = bench.Rate(int(done.Load()), took)
		return err
	})
	return perSecond, err
}
