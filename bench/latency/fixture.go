package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/bench"
)

var queue = awa.New()

// withDatabase runs f on a fresh database with a pool on it.
func (r *run) withDatabase(ctx context.Context, f func(*bench.Database, *pgxpool.Pool) error) error {
	db, err := r.server.NewDatabase(ctx)
	if err != nil {
		return err
	}
	pool, err := db.Pool(ctx, 16)
	if err != nil {
		return errors.Join(err, db.Drop(ctx))
	}
	err = f(db, pool)
	pool.Close()
	return errors.Join(err, db.Drop(ctx))
}

// withWorker runs f beside a worker of a queue.
func withWorker(ctx context.Context, pool *pgxpool.Pool, name string, workers int, h worker.Handler, f func() error) error {
	mux := worker.NewMux()
	mux.Handle("bench", h)
	client, err := worker.New(worker.Config{
		Pool:   pool,
		Queues: map[string]worker.QueueConfig{name: {MaxWorkers: workers}},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}, mux)
	if err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	err = f()
	return errors.Join(err, client.Stop(context.WithoutCancel(ctx)))
}

// waiting returns when a session waits for jobs.
func waiting(ctx context.Context, pool *pgxpool.Pool) error {
	for {
		var waits bool
		err := pool.QueryRow(ctx, `select exists (select from pg_locks as l
			where l.locktype = 'advisory' and l.mode = 'ShareLock'
			  and l.database = (select oid from pg_database where datname = current_database()))`).Scan(&waits)
		if err != nil || waits {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// crew runs n workers that claim and complete by bare calls, as bench/drain does,
// until the queue is empty.
func crew(ctx context.Context, db *bench.Database, n, batch int) (time.Duration, error) {
	type pair struct{ claims, finishes *pgx.Conn }
	pairs := make([]pair, n)
	for i := range pairs {
		claims, err := db.Connect(ctx, bench.Asynchronous)
		if err != nil {
			return 0, err
		}
		defer claims.Close(context.WithoutCancel(ctx))
		finishes, err := db.Connect(ctx, bench.Durable)
		if err != nil {
			return 0, err
		}
		defer finishes.Close(context.WithoutCancel(ctx))
		pairs[i] = pair{claims, finishes}
	}
	errs := make([]error, n)
	var all sync.WaitGroup
	start := time.Now()
	for i, p := range pairs {
		all.Go(func() {
			for {
				jobs, err := queue.Claim(ctx, p.claims, awa.ClaimParams{Queue: lane, MaxJobs: batch})
				if err != nil || len(jobs) == 0 {
					errs[i] = err
					return
				}
				receipts := make([]awa.Receipt, len(jobs))
				for k := range jobs {
					receipts[k] = jobs[k].Receipt
				}
				if _, errs[i] = queue.CompleteMany(ctx, p.finishes, receipts); errs[i] != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return time.Since(start), errors.Join(errs...)
}
