package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/bench"
)

var queue = bench.Queue

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
