package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/bench"
)

// footprint measures what jobs leave behind: WAL by step, and dead tuples in the
// ring once everything has run.
func (r *run) footprint(ctx context.Context) error {
	const bulk, single = 100_000, 10_000
	var bulkWAL, singleWAL, batchWAL, oneWAL, dead, updated []float64
	for range r.runs {
		err := r.server.WithDatabase(ctx, func(db *bench.Database) error {
			err := db.With(ctx, bench.Asynchronous, func(conn *pgx.Conn) error {
				steps := []struct {
					samples *[]float64
					jobs    int
					do      func() error
				}{
					{&bulkWAL, bulk, func() error {
						_, err := queue.EnqueueMany(ctx, conn, awa.EnqueueManyParams{Kind: "bench", Queue: lane, Args: bench.Payload(bulk, 100)})
						return err
					}},
					{&batchWAL, bulk, func() error {
						_, err := db.Drain(ctx, lane, 2, 200)
						return err
					}},
					{&singleWAL, single, func() error {
						args := bench.Payload(1, 100)[0]
						for range single {
							_, err := queue.Enqueue(ctx, conn, awa.EnqueueParams{Kind: "bench", Queue: lane, Args: args})
							if err != nil {
								return err
							}
						}
						return nil
					}},
					{&oneWAL, single, func() error {
						_, err := db.Drain(ctx, lane, 4, 1)
						return err
					}},
				}
				for _, s := range steps {
					if err := db.Settle(ctx); err != nil {
						return err
					}
					wal, err := db.WALOf(ctx, s.do)
					if err != nil {
						return err
					}
					*s.samples = append(*s.samples, wal/float64(s.jobs))
				}
				return nil
			})
			if err != nil {
				return err
			}
			d, u, err := ringTuples(ctx, db, bulk+single)
			dead, updated = append(dead, d), append(updated, u)
			return err
		})
		if err != nil {
			return err
		}
	}
	r.report.Add("WAL a job, enqueue_many of 100,000", "bytes", bulkWAL, nil)
	r.report.Add("WAL a job, claim and complete 200 at a time", "bytes", batchWAL, nil)
	r.report.Add("WAL a job, enqueue one by one", "bytes", singleWAL, nil)
	r.report.Add("WAL a job, claim and complete one by one", "bytes", oneWAL, nil)
	r.report.Add("dead tuples in ring tables", "rows", dead, bench.AtMost(0))
	r.report.Add("rows updated or deleted in ring tables", "rows", updated, bench.AtMost(0))
	return nil
}

// ringTuples returns the dead tuples of every ring table, and the rows that were
// updated or deleted, once the statistics have seen the inserts of n jobs.
func ringTuples(ctx context.Context, db *bench.Database, n int) (dead, changed float64, err error) {
	err = db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		for range 100 {
			var inserted int64
			err := conn.QueryRow(ctx, `
				select coalesce(sum(s.n_dead_tup), 0)::double precision,
				  coalesce(sum(s.n_tup_upd + s.n_tup_del), 0)::double precision,
				  coalesce(sum(s.n_tup_ins) filter (where s.relname like 'ready\_entries%'), 0)::bigint
				from pg_stat_user_tables as s
				join pg_class as c on c.oid = s.relid and c.relispartition
				where s.schemaname = 'awa'`).Scan(&dead, &changed, &inserted)
			if err != nil || inserted >= int64(n) {
				return err
			}
			time.Sleep(100 * time.Millisecond)
		}
		return fmt.Errorf("the statistics never showed the inserts of %d jobs", n)
	})
	return dead, changed, err
}
