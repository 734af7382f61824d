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
	}{
		{"nothing else", nil},
		{"a snapshot", func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "select count(*) from awa.ready_entries")
			return err
		}},
		{"an uncommitted enqueue", func(ctx context.Context, tx pgx.Tx) error {
			_, err := queue.Enqueue(ctx, tx, awa.EnqueueParams{Kind: "held", Queue: lane})
			return err
		}},
	} {
		err := r.server.WithDatabase(ctx, func(db *bench.Database) error {
			return r.beside(ctx, db, c.title, c.open)
		})
		if err != nil {
			return fmt.Errorf("beside %s: %w", c.title, err)
		}
	}
	return nil
}

// beside measures traffic while another session holds what open did.
func (r *run) beside(ctx context.Context, db *bench.Database, title string, open func(context.Context, pgx.Tx) error) error {
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
		first, last, err := r.traffic(ctx, db)
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
// 20 rounds and maintains the storage every second, and returns the first and the
// last quarter.
func (r *run) traffic(ctx context.Context, db *bench.Database) (first, last *quarter, err error) {
	const batch = 100
	docs := bench.Payload(batch, 100)
	quarters := [4]quarter{}
	_, err = bench.Crew(ctx, db, 1, func(_ int, w *bench.Worker) error {
		maintained := time.Now()
		for i := range quarters {
			q := &quarters[i]
			start := time.Now()
			for round := 0; time.Since(start) < r.pin/4; round++ {
				if _, err := queue.EnqueueMany(ctx, w.Claims, awa.EnqueueManyParams{Kind: "bench", Queue: lane, Args: docs}); err != nil {
					return err
				}
				claimed, err := q.claimAndComplete(ctx, w, batch)
				if err != nil {
					return err
				}
				q.jobs += claimed
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
				if time.Since(maintained) >= time.Second {
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

func (q *quarter) claimAndComplete(ctx context.Context, w *bench.Worker, batch int) (int, error) {
	start := time.Now()
	jobs, err := queue.Claim(ctx, w.Claims, awa.ClaimParams{Queue: lane, MaxJobs: batch})
	if err != nil {
		return 0, err
	}
	q.claims = append(q.claims, bench.Milliseconds(time.Since(start)))
	receipts := make([]awa.Receipt, len(jobs))
	for i := range jobs {
		receipts[i] = jobs[i].Receipt
	}
	stale, err := queue.CompleteMany(ctx, w.Finishes, receipts)
	if err == nil && len(stale) > 0 {
		err = errors.New("a receipt is stale")
	}
	return len(jobs), err
}
