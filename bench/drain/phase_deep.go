package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/bench"
)

// deep measures what a large backlog costs: claims at its start and near its end,
// and enqueues on top of it, beside the same on a short one.
func (r *run) deep(ctx context.Context) error {
	const short = 20_000
	for _, size := range []int{short, r.large} {
		err := r.server.WithDatabase(ctx, func(db *bench.Database) error {
			if err := db.Preload(ctx, lane, size); err != nil {
				return err
			}
			return db.With(ctx, bench.Asynchronous, func(conn *pgx.Conn) error {
				return r.deepOf(ctx, conn, size)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *run) deepOf(ctx context.Context, conn *pgx.Conn, size int) error {
	docs := bench.Payload(1, 100)
	adds, err := bench.Timed(500, bench.Milliseconds, func() error {
		_, err := queue.Enqueue(ctx, conn, awa.EnqueueParams{Kind: "bench", Queue: lane, Args: docs[0]})
		return err
	})
	if err != nil {
		return err
	}
	r.report.Add(fmt.Sprintf("enqueue, %d ready", size), "ms", adds, nil)
	claims, err := bench.Timed(25, bench.Milliseconds, func() error { return claimExactly(ctx, conn, lane, 200) })
	if err != nil {
		return err
	}
	r.report.Add(fmt.Sprintf("claim of 200, first of %d", size), "ms", claims, bench.AtMost(5))
	// Down to the last 10,000, by claims that nobody finishes.
	for left := size + 500 - 25*200; left > 10_000; {
		jobs, err := queue.Claim(ctx, conn, awa.ClaimParams{Queue: lane, MaxJobs: min(10_000, left-10_000)})
		if err != nil {
			return err
		}
		if len(jobs) == 0 {
			return fmt.Errorf("nothing to claim, but %d jobs are left", left)
		}
		left -= len(jobs)
	}
	if claims, err = bench.Timed(25, bench.Milliseconds, func() error { return claimExactly(ctx, conn, lane, 200) }); err != nil {
		return err
	}
	r.report.Add(fmt.Sprintf("claim of 200, last of %d", size), "ms", claims, bench.AtMost(5))
	return nil
}
