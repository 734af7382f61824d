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

// cpu measures the CPU time of the server that one-job calls take. Claims and
// finishes go through connections of their own, so that the times of the two
// backends are those of the two calls. Beside them: a claim from a queue that had
// jobs of every priority before the last rotation and has those of one since, and
// what this machine takes for a statement that does nothing, and for a row into a
// plain table. Commits are asynchronous.
func (r *run) cpu(ctx context.Context) error {
	const calls = 20_000
	var claims, finishes, enqueues, nothing, rows, priorities []float64
	for range r.runs {
		err := r.server.WithDatabase(ctx, func(db *bench.Database) error {
			if err := db.With(ctx, bench.Asynchronous, func(conn *pgx.Conn) error { return idlePriorities(ctx, conn) }); err != nil {
				return err
			}
			if err := db.Fill(ctx, "priorities", calls+1000); err != nil {
				return err
			}
			if err := db.Preload(ctx, lane, calls+1000); err != nil {
				return err
			}
			var conns [6]*pgx.Conn
			for i := range conns {
				conn, err := db.Connect(ctx, bench.Asynchronous)
				if err != nil {
					return err
				}
				defer conn.Close(ctx)
				conns[i] = conn
			}
			if _, err := conns[0].Exec(ctx, "create table bare (id bigint primary key, args jsonb)"); err != nil {
				return err
			}
			step := func() error {
				jobs, err := queue.Claim(ctx, conns[0], awa.ClaimParams{Queue: lane})
				if err != nil || len(jobs) != 1 {
					return errors.Join(err, fmt.Errorf("claimed %d jobs", len(jobs)))
				}
				if _, err = queue.Complete(ctx, conns[1], jobs[0].Receipt); err != nil {
					return err
				}
				_, err = queue.Enqueue(ctx, conns[2], awa.EnqueueParams{Kind: "bench", Queue: "other", Args: jobs[0].Args})
				if err != nil {
					return err
				}
				if _, err = conns[3].Exec(ctx, "select $1::bigint", jobs[0].ID); err != nil {
					return err
				}
				if _, err = conns[4].Exec(ctx, "insert into bare values ($1, $2)", jobs[0].ID, jobs[0].Args); err != nil {
					return err
				}
				jobs, err = queue.Claim(ctx, conns[5], awa.ClaimParams{Queue: "priorities"})
				if err != nil || len(jobs) != 1 {
					return errors.Join(err, fmt.Errorf("claimed %d jobs of one priority", len(jobs)))
				}
				return nil
			}
			for range 1000 { // plans and caches are warm after that
				if err := step(); err != nil {
					return err
				}
			}
			var before [6]time.Duration
			for i, conn := range conns {
				used, ok := bench.ProcessCPU(conn.PgConn().PID())
				if !ok {
					return errUnknownCPU
				}
				before[i] = used
			}
			for range calls {
				if err := step(); err != nil {
					return err
				}
			}
			for i, samples := range []*[]float64{&claims, &finishes, &enqueues, &nothing, &rows, &priorities} {
				used, _ := bench.ProcessCPU(conns[i].PgConn().PID())
				*samples = append(*samples, bench.Microseconds(used-before[i])/calls)
			}
			return nil
		})
		if errors.Is(err, errUnknownCPU) {
			fmt.Println("  skipped:", err)
			return nil
		}
		if err != nil {
			return err
		}
	}
	r.report.Add("claim of one job", "µs CPU", claims, bench.AtMost(200))
	r.report.Add("… three other priorities idle", "µs CPU", priorities, nil)
	r.report.Add("complete of one job", "µs CPU", finishes, bench.AtMost(150))
	r.report.Add("enqueue of one job", "µs CPU", enqueues, nil)
	r.report.Add("a statement that does nothing", "µs CPU", nothing, nil)
	r.report.Add("insert of one row into a plain table", "µs CPU", rows, nil)
	return nil
}

// idlePriorities makes a queue that had jobs of every priority, in a segment that is
// sealed.
func idlePriorities(ctx context.Context, conn *pgx.Conn) error {
	for _, sql := range []string{
		"select awa.enqueue('bench', queue => 'priorities', priority => i) from generate_series(1, 4) as i",
		"select awa.complete_many(array_agg(c.receipt)) from awa.claim('priorities', 4) as c",
		"select awa.rotate()",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

var errUnknownCPU = errors.New("the CPU time of a backend can be read on Linux, on the server's own machine")
