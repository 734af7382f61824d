package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/bench"
)

// drain measures bulk enqueue and drain, and what both leave behind.
func (r *run) drain(ctx context.Context) error {
	goals := map[string]*bench.Goal{
		"WAL a job, enqueue and work": bench.AtMost(450),
		"dead tuples a job":           bench.AtMost(0.005),
	}
	return r.compare(ctx, r.runs, goals, func(ctx context.Context, db *bench.Database, s session, f *figures) error {
		if err := db.Settle(ctx); err != nil {
			return err
		}
		var in, out time.Duration
		enqueued, err := db.WALOf(ctx, func() (err error) {
			in, err = s.bulk(ctx, r.jobs, 100)
			return err
		})
		if err != nil {
			return fmt.Errorf("bulk: %w", err)
		}
		if err := db.Settle(ctx); err != nil {
			return err
		}
		before, err := changedTuples(ctx, db)
		if err != nil {
			return err
		}
		worked, err := db.WALOf(ctx, func() (err error) {
			out, err = s.drain(ctx, r.jobs)
			return err
		})
		if err != nil {
			return fmt.Errorf("drain: %w", err)
		}
		if err := s.close(); err != nil { // a backend that ends reports what it did
			return err
		}
		after, err := changedTuples(ctx, db)
		if err != nil {
			return err
		}
		n := float64(r.jobs)
		f.add("drain", "jobs/s", bench.Rate(r.jobs, out))
		f.add("bulk enqueue, one connection", "jobs/s", bench.Rate(r.jobs, in))
		f.add("WAL a job, enqueue and work", "bytes", (enqueued+worked)/n)
		f.add("WAL a job, enqueue", "bytes", enqueued/n)
		f.add("WAL a job, work", "bytes", worked/n)
		f.add("dead tuples a job", "rows", (after-before)/n)
		return nil
	})
}

// changedTuples is how many rows were updated or deleted in the database: each
// leaves a dead tuple, whether or not a vacuum has found it yet. It waits until
// the statistics stand still.
func changedTuples(ctx context.Context, db *bench.Database) (changed float64, err error) {
	err = db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		last := -1.0
		for still := 0; still < 5; {
			err := conn.QueryRow(ctx, `
				select coalesce(sum(s.n_tup_upd + s.n_tup_del), 0)::double precision
				from pg_stat_user_tables as s`).Scan(&changed)
			if err != nil {
				return err
			}
			if still++; changed != last {
				last, still = changed, 0
			}
			time.Sleep(100 * time.Millisecond)
		}
		return nil
	})
	return changed, err
}

// payload is drain with few and large jobs.
func (r *run) payload(ctx context.Context) error {
	const size = 100_000
	n := max(100, r.jobs/100)
	return r.compare(ctx, r.runs, nil, func(ctx context.Context, db *bench.Database, s session, f *figures) error {
		in, err := s.bulk(ctx, n, size)
		if err != nil {
			return fmt.Errorf("bulk: %w", err)
		}
		if err := db.Settle(ctx); err != nil {
			return err
		}
		out, err := s.drain(ctx, n)
		if err != nil {
			return fmt.Errorf("drain: %w", err)
		}
		f.add("bulk enqueue of 100 kB jobs", "MB/s", bench.Rate(n*size/1_000_000, in))
		f.add("drain of 100 kB jobs", "jobs/s", bench.Rate(n, out))
		return nil
	})
}
