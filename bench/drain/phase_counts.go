package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/bench"
)

// counts measures queue_counts with 1,000 terminal jobs and with a million, after
// maintenance has had its turn.
func (r *run) counts(ctx context.Context) error {
	const short = 1000
	return r.server.WithDatabase(ctx, func(db *bench.Database) error {
		var medians []float64
		total := 0
		for _, history := range []int{short, r.large} {
			if err := db.Preload(ctx, lane, history-total); err != nil {
				return err
			}
			if _, err := db.Drain(ctx, lane, 1, 5000); err != nil {
				return err
			}
			total = history
			if err := db.MustHaveCompleted(ctx, lane, total); err != nil {
				return err
			}
			err := db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
				if err := settleCounters(ctx, conn); err != nil {
					return err
				}
				samples, err := bench.Timed(2000, bench.Microseconds, func() error {
					_, err := queue.Counts(ctx, conn, lane)
					return err
				})
				if err != nil {
					return err
				}
				res := r.report.Add(fmt.Sprintf("queue_counts, %d terminal jobs", history), "µs", samples, nil)
				medians = append(medians, res.Median)
				return nil
			})
			if err != nil {
				return err
			}
		}
		r.report.Add("the second as a multiple of the first", "", []float64{medians[1] / medians[0]}, bench.AtMost(1.5))
		return db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
			trips, err := bench.Timed(2000, bench.Microseconds, func() error {
				_, err := conn.Exec(ctx, "select 1")
				return err
			})
			if err == nil {
				r.report.Add("a round trip, part of both", "µs", trips, nil)
			}
			return err
		})
	})
}

// settleCounters lets maintenance do what it would do within a minute or so.
func settleCounters(ctx context.Context, conn *pgx.Conn) error {
	if _, err := queue.Maintain(ctx, conn); err != nil {
		return err
	}
	_, err := queue.CheckpointTerminalCounters(ctx, conn)
	return err
}
