package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/bench"
)

// pinned runs steady traffic while another session does not end its transaction,
// and compares the last quarter of that time with the first. A statement of fixed
// work runs in between: what it loses, the machine lost, and the comparison leaves
// it out.
func (r *run) pinned(ctx context.Context) error {
	for _, c := range []struct {
		title string
		open  func(context.Context, pgx.Tx) error
		nth   int64
	}{
		{"nothing else", nil, 0},
		{"a snapshot", holdSnapshot, 0},
		{"an uncommitted enqueue", holdEnqueue, 0},
		{"nothing else, one in five fails once", nil, 5},
		{"a snapshot, one in five fails once", holdSnapshot, 5},
		{"an uncommitted enqueue, one in five fails once", holdEnqueue, 5},
	} {
		err := r.server.WithDatabase(ctx, func(db *bench.Database) error {
			return r.beside(ctx, db, c.title, c.open, c.nth)
		})
		if err != nil {
			return fmt.Errorf("beside %s: %w", c.title, err)
		}
	}
	return nil
}

func holdSnapshot(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "select count(*) from awa.ready_entries")
	return err
}

func holdEnqueue(ctx context.Context, tx pgx.Tx) error {
	_, err := queue.Enqueue(ctx, tx, awa.EnqueueParams{Kind: "held", Queue: lane})
	return err
}

// beside measures traffic while another session holds what open did. Every nth
// job fails the first time; zero: none does.
func (r *run) beside(
	ctx context.Context, db *bench.Database, title string, open func(context.Context, pgx.Tx) error, nth int64,
) error {
	if err := db.Preload(ctx, lane, 10_000); err != nil {
		return err
	}
	return db.With(ctx, bench.Durable, func(holder *pgx.Conn) error {
		if open != nil {
			tx, err := holder.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
			if err != nil {
				return err
			}
			defer tx.Rollback(context.WithoutCancel(ctx))
			if err := open(ctx, tx); err != nil {
				return err
			}
		}
		first, last, err := r.traffic(ctx, db, nth)
		if err != nil {
			return err
		}
		r.report.Add("beside "+title+": jobs, first quarter", "jobs/s", []float64{first.rate()}, nil)
		r.report.Add("beside "+title+": jobs, last / first", "", []float64{last.rate() / first.rate()}, nil)
		machine := bench.Summarize(first.yardstick).Median / bench.Summarize(last.yardstick).Median
		r.report.Add("beside "+title+": fixed work, last / first", "", []float64{machine}, nil)
		r.report.Add("beside "+title+": the one by the other", "", []float64{last.rate() / first.rate() / machine}, bench.AtLeast(0.9))
		r.report.Add("beside "+title+": claim of 100, first", "ms", first.claims, nil)
		r.report.Add("beside "+title+": claim of 100, last", "ms", last.claims, nil)
		r.report.Add("beside "+title+": counts, first", "µs", first.counts, nil)
		r.report.Add("beside "+title+": counts, last", "µs", last.counts, nil)
		return nil
	})
}

// quarter is what happened in one quarter of the time.
type quarter struct {
	jobs                      int
	took                      time.Duration
	claims, counts, yardstick []float64
}

func (q *quarter) rate() float64 { return bench.Rate(q.jobs, q.took) }

// traffic enqueues, claims and completes 100 jobs a round, counts the queue every
// 20 rounds and maintains the storage every second, every 50 ms if jobs fail, and
// returns the first and the last quarter.
func (r *run) traffic(ctx context.Context, db *bench.Database, nth int64) (first, last *quarter, err error) {
	const batch = 100
	docs := bench.Payload(batch, 100)
	quarters := [4]quarter{}
	interval := time.Second
	if nth > 0 {
		interval = 50 * time.Millisecond
	}
	_, err = bench.Crew(ctx, db, 1, func(_ int, w *bench.Worker) error {
		maintained := time.Now()
		for i := range quarters {
			q := &quarters[i]
			start := time.Now()
			for round := 0; time.Since(start) < r.pin/4; round++ {
				if _, err := queue.EnqueueMany(ctx, w.Claims, awa.EnqueueManyParams{Kind: "bench", Queue: lane, Args: docs}); err != nil {
					return err
				}
				completed, err := q.claimAndFinish(ctx, w, batch, nth)
				if err != nil {
					return err
				}
				q.jobs += completed
				if round%20 == 0 {
					counted := time.Now()
					if _, err := queue.Counts(ctx, w.Finishes, lane); err != nil {
						return err
					}
					q.counts = append(q.counts, bench.Microseconds(time.Since(counted)))
					fixed := time.Now()
					if _, err := w.Finishes.Exec(ctx, "select count(*) from generate_series(1, 5000) as i where i % 7 = 0"); err != nil {
						return err
					}
					q.yardstick = append(q.yardstick, bench.Microseconds(time.Since(fixed)))
				}
				if time.Since(maintained) >= interval {
					if _, err := queue.Maintain(ctx, w.Finishes); err != nil {
						return err
					}
					maintained = time.Now()
				}
			}
			q.took = time.Since(start)
		}
		return nil
	})
	return &quarters[0], &quarters[3], err
}

// claimAndFinish returns how many jobs it completed.
func (q *quarter) claimAndFinish(ctx context.Context, w *bench.Worker, batch int, nth int64) (int, error) {
	start := time.Now()
	jobs, err := queue.Claim(ctx, w.Claims, awa.ClaimParams{Queue: lane, MaxJobs: batch})
	if err != nil {
		return 0, err
	}
	q.claims = append(q.claims, bench.Milliseconds(time.Since(start)))
	done, failed := failEveryNth(jobs, nth)
	stale, err := queue.CompleteMany(ctx, w.Finishes, done)
	if err == nil && len(stale) > 0 {
		err = errors.New("a receipt is stale")
	}
	if err == nil && len(failed) > 0 {
		_, err = queue.FailMany(ctx, w.Finishes, awa.FailManyParams{Receipts: failed, RetryAfter: time.Second})
	}
	return len(done), err
}
