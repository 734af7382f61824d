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

// fanout measures the same jobs in one queue and in 10,000 queues: enqueue, claim
// and complete ten at a time, one claimer after the other on each queue, and what
// is read of all queues at once.
func (r *run) fanout(ctx context.Context) error {
	const many, perQueue = 10_000, 10
	var in, single, out [2][]float64
	calls := map[string][]float64{}
	for range r.runs {
		for i, queues := range []int{1, many} {
			err := r.server.WithDatabase(ctx, func(db *bench.Database) error {
				took, err := fillQueues(ctx, db, queues, many, perQueue)
				if err != nil {
					return err
				}
				in[i] = append(in[i], bench.Rate(many*perQueue, took))
				if took, err = mixed(ctx, db, queues, many); err != nil {
					return err
				}
				single[i] = append(single[i], bench.Rate(many, took))
				if err := db.Settle(ctx); err != nil {
					return err
				}
				var next atomic.Int64
				took, err = bench.Crew(ctx, db, 2, func(_ int, w *bench.Worker) error {
					for {
						n := int(next.Add(1) - 1)
						if n >= many {
							return nil
						}
						done, err := w.Step(ctx, fmt.Sprint(lane, n%queues), perQueue)
						if err == nil && done != perQueue {
							err = fmt.Errorf("claimed %d jobs of %d", done, perQueue)
						}
						if err != nil {
							return err
						}
					}
				})
				if err != nil {
					return err
				}
				out[i] = append(out[i], bench.Rate(many*perQueue, took))
				if queues == 1 {
					return nil
				}
				return db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
					for _, c := range wide {
						start := time.Now()
						if err := c.call(ctx, conn); err != nil {
							return err
						}
						calls[c.name] = append(calls[c.name], bench.Milliseconds(time.Since(start)))
					}
					return nil
				})
			})
			if err != nil {
				return err
			}
		}
	}
	r.report.Add("enqueue_many of 10 a call, one queue", "jobs/s", in[0], nil)
	r.report.Add("enqueue_many of 10 a call, 10,000 queues", "jobs/s", in[1], nil)
	r.report.Add("enqueue_many of 10,000 documents, one queue", "jobs/s", single[0], nil)
	r.report.Add("enqueue_many of 10,000 documents, 10,000 queues", "jobs/s", single[1], nil)
	r.report.Add("claim and complete 10 a call, one queue", "jobs/s", out[0], nil)
	r.report.Add("claim and complete 10 a call, 10,000 queues", "jobs/s", out[1], nil)
	for _, c := range wide {
		r.report.Add(c.name+", 10,000 queues", "ms", calls[c.name], nil)
	}
	return nil
}

// wide are the calls that look at every queue.
var wide = []struct {
	name string
	call func(context.Context, *pgx.Conn) error
}{
	{"maintain", maintain},
	{"maintain again", maintain},
	{"queue_overview", func(ctx context.Context, conn *pgx.Conn) error {
		_, err := queue.Overview(ctx, conn)
		return err
	}},
	{"check", func(ctx context.Context, conn *pgx.Conn) error {
		found, err := queue.Check(ctx, conn)
		if err == nil && len(found) > 0 {
			err = fmt.Errorf("check: %v", found)
		}
		return err
	}},
}

func maintain(ctx context.Context, conn *pgx.Conn) error {
	_, err := queue.Maintain(ctx, conn)
	return err
}

// fillQueues enqueues in calls of perCall jobs, each of which goes to the next queue.
func fillQueues(ctx context.Context, db *bench.Database, queues, calls, perCall int) (took time.Duration, err error) {
	err = db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		start := time.Now()
		_, err := conn.Exec(ctx, `
			select count(awa.enqueue_many('bench', d.args, queue => $1::text || i % $2::integer))
			from generate_series(0, $3::integer - 1) as i
			cross join (
			  select array_agg(jsonb_build_object('i', k, 'pad', repeat('x', 80))) as args
			  from generate_series(1, $4::integer) as k) as d`, lane, queues, calls, perCall)
		took = time.Since(start)
		return err
	})
	return took, err
}

// mixed enqueues n documents in one call, spread over queues.
func mixed(ctx context.Context, db *bench.Database, queues, n int) (took time.Duration, err error) {
	jobs := make([]awa.EnqueueParams, n)
	for i, doc := range bench.Payload(n, 100) {
		jobs[i] = awa.EnqueueParams{Kind: "bench", Queue: fmt.Sprint("mixed", i%queues), Args: doc}
	}
	err = db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		start := time.Now()
		_, err := queue.EnqueueMixed(ctx, conn, "", jobs)
		took = time.Since(start)
		return err
	})
	return took, err
}
