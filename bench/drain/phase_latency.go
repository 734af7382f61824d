package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/bench"
)

// latency measures a claim of 200 where a million jobs wait and the planner knows
// it, and a claim that finds nothing.
func (r *run) latency(ctx context.Context) error {
	err := r.withDatabase(ctx, func(db *bench.Database) error {
		if err := preload(ctx, db, lane, r.large); err != nil {
			return err
		}
		return with(ctx, db, bench.Asynchronous, func(conn *pgx.Conn) error {
			claims, err := timed(min(500, r.large/200), milliseconds, func() error {
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
	return r.withDatabase(ctx, func(db *bench.Database) error {
		if err := preload(ctx, db, lane, 1000); err != nil {
			return err
		}
		if _, err := drainAll(ctx, db, lane, 1, 200); err != nil {
			return err
		}
		return with(ctx, db, bench.Asynchronous, func(conn *pgx.Conn) error {
			for _, c := range []struct{ title, queue string }{
				{"empty claim", lane}, {"claim of an unknown queue", "nobody"},
			} {
				times, wal, err := emptyClaims(ctx, conn, c.queue)
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
func emptyClaims(ctx context.Context, conn *pgx.Conn, name string) (times []float64, wal float64, err error) {
	for try := range 3 {
		if err := claimExactly(ctx, conn, name, 0); err != nil {
			return nil, 0, err
		}
		written, err := walOf(ctx, conn, func() (err error) {
			times, err = timed(1000, milliseconds, func() error { return claimExactly(ctx, conn, name, 0) })
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

// timed calls f n times and returns how long each call took.
func timed(n int, unit func(time.Duration) float64, f func() error) ([]float64, error) {
	samples := make([]float64, n)
	for i := range samples {
		start := time.Now()
		if err := f(); err != nil {
			return nil, err
		}
		samples[i] = unit(time.Since(start))
	}
	return samples, nil
}

// walOf returns how many bytes of WAL the server wrote while f ran.
func walOf(ctx context.Context, conn *pgx.Conn, f func() error) (float64, error) {
	var before string
	if err := conn.QueryRow(ctx, "select pg_current_wal_insert_lsn()::text").Scan(&before); err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	var bytes float64
	err := conn.QueryRow(ctx,
		"select (pg_current_wal_insert_lsn() - $1::text::pg_lsn)::double precision", before).Scan(&bytes)
	return bytes, err
}
