package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/bench"
)

// latency measures a claim of 200 where a million jobs wait and the planner knows
// it, and a claim that finds nothing.
func (r *run) latency(ctx context.Context) error {
	err := r.server.WithDatabase(ctx, func(db *bench.Database) error {
		if err := db.Preload(ctx, lane, r.large); err != nil {
			return err
		}
		return db.With(ctx, bench.Asynchronous, func(conn *pgx.Conn) error {
			claims, err := bench.Timed(min(500, r.large/200), bench.Milliseconds, func() error {
				return claimExactly(ctx, conn, lane, 200)
			})
			if err != nil {
				return err
			}
			r.report.Add(fmt.Sprintf("claim of 200, %d ready", r.large), "ms", claims, bench.AtMost(5))
			// A claimer that is new pays for its first plan.
			r.report.Add("the first of them", "ms", claims[:1], nil)
			return nil
		})
	})
	if err != nil {
		return err
	}
	return r.server.WithDatabase(ctx, func(db *bench.Database) error {
		if err := db.Preload(ctx, lane, 1000); err != nil {
			return err
		}
		if _, err := db.Drain(ctx, lane, 1, 200); err != nil {
			return err
		}
		return db.With(ctx, bench.Asynchronous, func(conn *pgx.Conn) error {
			for _, c := range []struct{ title, queue string }{
				{"empty claim", lane}, {"claim of an unknown queue", "nobody"},
			} {
				times, wal, err := emptyClaims(ctx, db, conn, c.queue)
				if err != nil {
					return err
				}
				r.report.Add(c.title, "ms", times, bench.AtMost(0.5))
				r.report.Add("WAL of 1,000 of them", "bytes", []float64{wal}, bench.AtMost(0))
			}
			return nil
		})
	})
}

// emptyClaims times claims that find nothing, and returns the WAL that 1,000 of
// them wrote: the least of three tries, as the server writes some of its own now
// and then.
func emptyClaims(ctx context.Context, db *bench.Database, conn *pgx.Conn, name string) (times []float64, wal float64, err error) {
	for try := range 3 {
		if err := claimExactly(ctx, conn, name, 0); err != nil {
			return nil, 0, err
		}
		written, err := db.WALOf(ctx, func() (err error) {
			times, err = bench.Timed(1000, bench.Milliseconds, func() error { return claimExactly(ctx, conn, name, 0) })
			return err
		})
		if err != nil {
			return nil, 0, err
		}
		if try == 0 || written < wal {
			wal = written
		}
	}
	return times, wal, nil
}

// claimExactly claims up to 200 jobs and fails unless it gets n.
func claimExactly(ctx context.Context, conn *pgx.Conn, name string, n int) error {
	jobs, err := queue.Claim(ctx, conn, awa.ClaimParams{Queue: name, MaxJobs: 200})
	if err == nil && len(jobs) != n {
		err = fmt.Errorf("claimed %d jobs, expected %d", len(jobs), n)
	}
	return err
}
