package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/bench"
)

// enqueue measures producers: one call with 100,000 jobs, and one call a job.
func (r *run) enqueue(ctx context.Context) error {
	const bulk = 100_000
	docs := bench.Payload(bulk, 100)
	var inside, sent, single, durable []float64
	for range r.runs {
		err := r.server.WithDatabase(ctx, func(db *bench.Database) error {
			if err := db.Preload(ctx, lane, 1000); err != nil {
				return err
			}
			took, err := bulkInside(ctx, db, bulk)
			if err != nil {
				return err
			}
			inside = append(inside, bench.Rate(bulk, took))
			if took, err = bulkSent(ctx, db, awa.EnqueueManyParams{Kind: "bench", Queue: lane, Args: docs}); err != nil {
				return err
			}
			sent = append(sent, bench.Rate(bulk, took))
			if err := db.Settle(ctx); err != nil {
				return err
			}
			perSecond, err := r.producers(ctx, db, 1, bench.Asynchronous)
			if err != nil {
				return err
			}
			single = append(single, perSecond)
			perSecond, err = r.producers(ctx, db, 8, bench.Durable)
			durable = append(durable, perSecond)
			return err
		})
		if err != nil {
			return err
		}
	}
	r.report.Add("enqueue_many of 100,000, made in the server", "jobs/s", inside, bench.AtLeast(100_000))
	r.report.Add("enqueue_many of 100,000, sent by the client", "jobs/s", sent, nil)
	r.report.Add("enqueue, 1 connection, asynchronous", "jobs/s", single, bench.AtLeast(8_000))
	r.report.Add("enqueue, 8 connections, durable", "jobs/s", durable, nil)
	return nil
}

// bulkInside times one call on arguments that the server has at hand.
func bulkInside(ctx context.Context, db *bench.Database, n int) (took time.Duration, err error) {
	err = db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `
			create temporary table docs as
			select array_agg(jsonb_build_object('i', i, 'pad', repeat('x', 80))) as args
			from generate_series(1, $1::integer) as i`, n)
		if err != nil {
			return err
		}
		start := time.Now()
		_, err = conn.Exec(ctx, `
			select cardinality(awa.enqueue_many(kind => 'bench', queue => $1, args => d.args)) from docs as d`, lane)
		took = time.Since(start)
		return err
	})
	return took, err
}

// bulkSent times one call whose arguments come over the connection.
func bulkSent(ctx context.Context, db *bench.Database, p awa.EnqueueManyParams) (took time.Duration, err error) {
	err = db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		start := time.Now()
		_, err := queue.EnqueueMany(ctx, conn, p)
		took = time.Since(start)
		return err
	})
	return took, err
}

// producers measures n connections that enqueue one job a transaction.
func (r *run) producers(ctx context.Context, db *bench.Database, n int, d bench.Durability) (float64, error) {
	conns := make([]*pgx.Conn, n)
	for i := range conns {
		conn, err := db.Connect(ctx, d)
		if err != nil {
			return 0, err
		}
		defer conn.Close(ctx)
		conns[i] = conn
	}
	args := bench.Payload(1, 100)[0]
	errs := make([]error, n)
	var wg sync.WaitGroup
	var count atomic.Int64
	start := time.Now()
	for i, conn := range conns {
		wg.Go(func() {
			for time.Since(start) < r.seconds && errs[i] == nil {
				_, errs[i] = queue.Enqueue(ctx, conn, awa.EnqueueParams{Kind: "bench", Queue: lane, Args: args})
				count.Add(1)
			}
		})
	}
	wg.Wait()
	return bench.Rate(int(count.Load()), time.Since(start)), errors.Join(errs...)
}
