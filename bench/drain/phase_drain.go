package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/bench"
)

// drain measures how fast a preloaded queue empties, and beside it how fast this
// machine inserts the same rows into a plain table with the same indexes: the
// ratio of the two means something on any machine.
func (r *run) drain(ctx context.Context) error {
	type drain = func(ctx context.Context, queue string, n, batch int) (time.Duration, error)
	inTurn := func(d *bench.Database) drain { return d.Drain }
	ahead := func(d *bench.Database) drain { return d.DrainAhead }
	configs := []struct {
		name        string
		drain       func(*bench.Database) drain
		workers     int
		batch       int
		rate, ratio *bench.Goal
	}{
		{"1 connection at a time, claims of 200", inTurn, 1, 200, bench.AtLeast(45_000), nil},
		{"2 connections at a time, claims of 200", inTurn, 2, 200, bench.AtLeast(80_000), nil},
		{"2 connections, one claims ahead, claims of 200", ahead, 1, 200, bench.AtLeast(80_000), bench.AtLeast(0.6)},
		{"2 connections at a time, claims of 500", inTurn, 2, 500, nil, nil},
		{"2 connections, one claims ahead, claims of 500", ahead, 1, 500, nil, nil},
	}
	drained := make([][]float64, len(configs))
	ratios := make([][]float64, len(configs))
	var bare []float64
	for range r.runs {
		for i, c := range configs {
			err := r.server.WithDatabase(ctx, func(db *bench.Database) error {
				if err := db.Preload(ctx, lane, r.jobs); err != nil {
					return err
				}
				took, err := c.drain(db)(ctx, lane, c.workers, c.batch)
				if err != nil {
					return err
				}
				if err := db.MustHaveCompleted(ctx, lane, r.jobs); err != nil {
					return err
				}
				plain, err := r.bareInsert(ctx, db)
				if err != nil {
					return err
				}
				drained[i] = append(drained[i], bench.Rate(r.jobs, took))
				bare = append(bare, bench.Rate(r.jobs, plain))
				ratios[i] = append(ratios[i], plain.Seconds()/took.Seconds())
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	for i, c := range configs {
		r.report.Add("drain, "+c.name, "jobs/s", drained[i], c.rate)
	}
	r.report.Add("bare insert of the same rows", "rows/s", bare, nil)
	for i, c := range configs {
		r.report.Add("drain / bare, "+c.name, "", ratios[i], c.ratio)
	}
	return nil
}

// bareInsert times a plain insert of the preloaded rows.
func (r *run) bareInsert(ctx context.Context, db *bench.Database) (took time.Duration, err error) {
	err = db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		var segment string
		err := conn.QueryRow(ctx, `
			select tableoid::regclass::text
			from awa.ready_entries
			group by 1 order by count(*) desc limit 1`).Scan(&segment)
		if err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "create table bare (like "+segment+" including indexes)"); err != nil {
			return err
		}
		if err := db.Settle(ctx); err != nil {
			return err
		}
		start := time.Now()
		tag, err := conn.Exec(ctx, "insert into bare select * from "+segment)
		took = time.Since(start)
		if err == nil && tag.RowsAffected() != int64(r.jobs) {
			err = fmt.Errorf("segment %s holds %d rows of %d", segment, tag.RowsAffected(), r.jobs)
		}
		return err
	})
	return took, err
}
