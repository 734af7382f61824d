package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/bench"
)

// awaSystem is awa by bare calls of its functions, or through the Go worker.
type awaSystem struct{ worker bool }

func (s awaSystem) name() string {
	if s.worker {
		return "awa, Go worker"
	}
	return "awa"
}

func (s awaSystem) settings() string {
	if s.worker {
		return "gowrap/worker with 1,000 handlers, otherwise as it comes; claims commit asynchronously, finishes durably"
	}
	return fmt.Sprintf("drain: 2 connections, one claims %d jobs at a time, the other completes what is claimed by then; "+
		"else 2 pairs that claim %d and complete them in one call each; claims commit asynchronously, finishes durably", drainBatch, batch)
}

func (awaSystem) fresh(ctx context.Context, server *bench.Server) (*bench.Database, error) {
	return server.NewDatabase(ctx)
}

func (s awaSystem) open(ctx context.Context, db *bench.Database) (session, error) {
	pool, err := db.Pool(ctx, 16)
	return &awaSession{db: db, pool: pool, worker: s.worker}, err
}

type awaSession struct {
	db     *bench.Database
	pool   *pgxpool.Pool
	worker bool
}

func (s *awaSession) close() error {
	s.pool.Close()
	return nil
}

// bulk sends up to 20 MB or 100,000 jobs in one call.
func (s *awaSession) bulk(ctx context.Context, n, size int) (took time.Duration, err error) {
	docs := bench.Payload(n, size)
	err = s.db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		start := time.Now()
		for from := 0; from < n; {
			to := min(n, from+min(100_000, 20_000_000/size+1))
			_, err := bench.Queue.EnqueueMany(ctx, conn, awa.EnqueueManyParams{Kind: "bench", Queue: queueName, Args: docs[from:to]})
			if err != nil {
				return err
			}
			from = to
		}
		took = time.Since(start)
		return nil
	})
	return took, err
}

// drainBatch is how many jobs a claim of drain takes.
const drainBatch = 500

func (s *awaSession) drain(ctx context.Context, n int) (took time.Duration, err error) {
	if !s.worker {
		took, err = s.db.DrainAhead(ctx, queueName, 1, drainBatch)
	} else {
		took, err = s.drainByWorker(ctx, n)
	}
	return took, errors.Join(err, s.db.MustHaveCompleted(ctx, queueName, n))
}

// drainByWorker measures from the start of a client until its stop has returned:
// then every finish is durable.
func (s *awaSession) drainByWorker(ctx context.Context, n int) (time.Duration, error) {
	var left atomic.Int64
	left.Store(int64(n))
	done := make(chan struct{})
	start := time.Now()
	err := s.withWorker(ctx, 1000, func(*worker.Attempt) {
		if left.Add(-1) == 0 {
			close(done)
		}
	}, func() error {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return time.Since(start), err
}

// withWorker runs f beside a client that calls handle for each job.
func (s *awaSession) withWorker(ctx context.Context, handlers int, handle func(*worker.Attempt), f func() error) error {
	mux := worker.NewMux()
	mux.Handle("bench", func(_ context.Context, a *worker.Attempt) error {
		handle(a)
		return nil
	})
	client, err := worker.New(worker.Config{
		Pool:   s.pool,
		Queues: map[string]worker.QueueConfig{queueName: {MaxWorkers: handlers}},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}, mux)
	if err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	return errors.Join(f(), client.Stop(context.WithoutCancel(ctx)))
}

func (s *awaSession) produce(ctx context.Context, n int, d time.Duration) (float64, error) {
	if s.worker {
		return 0, errNone // the same call
	}
	conns, done, err := connections(ctx, s.db, n)
	if err != nil {
		return 0, err
	}
	defer done()
	args := bench.Payload(1, 100)[0]
	return sideBySide(n, d, func(i int) (bool, error) {
		_, err := bench.Queue.Enqueue(ctx, conns[i], awa.EnqueueParams{Kind: "bench", Queue: queueName, Args: args})
		return true, err
	})
}

func (s *awaSession) oneJob(ctx context.Context, n int, d time.Duration) (rate float64, err error) {
	if s.worker {
		return 0, errNone // it claims for all its handlers at once
	}
	workers := make([]*bench.Worker, n)
	for i := range workers {
		if workers[i], err = bench.NewWorker(ctx, s.db); err != nil {
			return 0, err
		}
		defer workers[i].Close()
	}
	return sideBySide(n, d, func(i int) (bool, error) {
		done, err := workers[i].Step(ctx, queueName, 1)
		return done > 0, err
	})
}

func (s *awaSession) traffic(ctx context.Context, d time.Duration) ([]float64, error) {
	if s.worker {
		return s.trafficByWorker(ctx, d)
	}
	m := newMeter(d)
	var fed, maintained error
	var beside sync.WaitGroup
	beside.Go(func() { fed = s.feed(ctx, m) })
	beside.Go(func() { maintained = s.maintain(ctx, m) })
	_, err := bench.Crew(ctx, s.db, 2, func(_ int, w *bench.Worker) error {
		for !m.over() {
			n, err := w.Step(ctx, queueName, batch)
			if err != nil {
				return err
			}
			if m.add(n); n == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		return nil
	})
	beside.Wait()
	return m.rates(), errors.Join(err, fed, maintained)
}

func (s *awaSession) trafficByWorker(ctx context.Context, d time.Duration) (rates []float64, err error) {
	m := newMeter(d)
	err = s.withWorker(ctx, 1000, func(*worker.Attempt) { m.add(1) }, func() error { return s.feed(ctx, m) })
	return m.rates(), err
}

func (s *awaSession) feed(ctx context.Context, m *meter) error {
	docs := bench.Payload(chunk, 100)
	return s.db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		return m.feed(func(n int) error {
			_, err := bench.Queue.EnqueueMany(ctx, conn, awa.EnqueueManyParams{Kind: "bench", Queue: queueName, Args: docs[:n]})
			return err
		})
	})
}

// maintain does every second what a worker would do.
func (s *awaSession) maintain(ctx context.Context, m *meter) error {
	return s.db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
		for !m.over() {
			if _, err := bench.Queue.Maintain(ctx, conn); err != nil {
				return err
			}
			time.Sleep(time.Second)
		}
		return nil
	})
}

func (s *awaSession) flow(ctx context.Context, l load) (c *course, err error) {
	if !s.worker {
		return nil, errNone // nobody waits in bare calls
	}
	conns, done, err := connections(ctx, s.db, l.producers)
	if err != nil {
		return nil, err
	}
	defer done()
	f, handlers := newFlow(l), 10
	if l.batched() {
		handlers = 1000
	}
	pad := bench.Payload(1, 100)[0]
	err = s.withWorker(ctx, handlers, func(a *worker.Attempt) { f.works(number(a.Args)) }, func() error {
		c, err = f.run(ctx, func(ctx context.Context, p int, from int64, n int) (err error) {
			if n == 1 {
				_, err = bench.Queue.Enqueue(ctx, conns[p], awa.EnqueueParams{Kind: "bench", Queue: queueName, Args: numbered(pad, from)})
				return err
			}
			docs := make([]json.RawMessage, n)
			for i := range docs {
				docs[i] = numbered(pad, from+int64(i))
			}
			_, err = bench.Queue.EnqueueMany(ctx, conns[p], awa.EnqueueManyParams{Kind: "bench", Queue: queueName, Args: docs})
			return err
		})
		return err
	})
	return c, err
}

// numbered gives a payload another number. number reads it.
func numbered(doc json.RawMessage, i int64) json.RawMessage {
	_, rest, _ := bytes.Cut(doc, []byte(","))
	return fmt.Appendf(nil, `{"i":%d,%s`, i, rest)
}

func number(doc json.RawMessage) int64 {
	var d struct{ I int64 }
	if json.Unmarshal(doc, &d) != nil {
		return 0
	}
	return d.I
}

func (s *awaSession) hold(ctx context.Context) (release func() error, err error) {
	return holdOpen(ctx, s.db, func(tx pgx.Tx) error {
		_, err := bench.Queue.Enqueue(ctx, tx, awa.EnqueueParams{Kind: "held", Queue: queueName})
		return err
	})
}
