package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/bench"
)

// finish measures 16 connections that complete single jobs, claimed beforehand:
// all of one queue and shard, so of one counter, and each of a queue of its own.
func (r *run) finish(ctx context.Context) error {
	const workers = 16
	var one, many, ratios []float64
	for range r.runs {
		a, err := r.finishRate(ctx, workers, 1)
		if err != nil {
			return err
		}
		b, err := r.finishRate(ctx, workers, workers)
		if err != nil {
			return err
		}
		one, many, ratios = append(one, a), append(many, b), append(ratios, a/b)
	}
	r.report.Add("16 connections, one queue, one shard", "jobs/s", one, nil)
	r.report.Add("16 connections, 16 queues", "jobs/s", many, nil)
	r.report.Add("the one as a part of the other", "", ratios, bench.AtLeast(0.85))
	return nil
}

// finishRate measures completions of jobs that were claimed one by one.
func (r *run) finishRate(ctx context.Context, workers, queues int) (perSecond float64, err error) {
	err = r.server.WithDatabase(ctx, func(db *bench.Database) error {
		perWorker := int(r.seconds.Seconds()*15_000) / workers
		receipts := make([][]awa.Receipt, workers)
		for q := range queues {
			if err := db.Fill(ctx, fmt.Sprint(lane, q), perWorker*workers/queues); err != nil {
				return err
			}
		}
		for i := range receipts {
			var err error
			if receipts[i], err = claimOneByOne(ctx, db, fmt.Sprint(lane, i%queues), perWorker); err != nil {
				return err
			}
		}
		if err := db.Settle(ctx); err != nil {
			return err
		}
		var done atomic.Int64
		end := time.Now().Add(r.seconds)
		took, err := bench.Crew(ctx, db, workers, func(i int, w *bench.Worker) error {
			for _, receipt := range receipts[i] {
				if time.Now().After(end) {
					return nil
				}
				accepted, err := queue.Complete(ctx, w.Finishes, receipt)
				if err == nil && !accepted {
					err = fmt.Errorf("receipt %v is stale", receipt)
				}
				if err != nil {
					return err
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

// claimOneByOne claims n jobs, one a call, inside the server.
func claimOneByOne(ctx context.Context, db *bench.Database, name string, n int) (receipts []awa.Receipt, err error) {
	err = db.With(ctx, bench.Asynchronous, func(conn *pgx.Conn) error {
		rows, _ := conn.Query(ctx, `
			select (f.receipt).ready_slot, (f.receipt).batch_id, (f.receipt).job_id, (f.receipt).run_lease
			from generate_series(1, $1::integer) as i
			cross join lateral awa.claim($2, 1 + 0 * i) as f`, n, name) // CollectRows returns its error
		receipts, err = pgx.CollectRows(rows, pgx.RowToStructByPos[awa.Receipt])
		return err
	})
	if err == nil && len(receipts) != n {
		err = fmt.Errorf("claimed %d jobs of %d", len(receipts), n)
	}
	return receipts, err
}
