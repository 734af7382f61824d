package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/bench"
)

var queue = awa.New()

// lane is the queue that most phases use.
const lane = "bench"

// withDatabase runs f on a fresh database.
func (r *run) withDatabase(ctx context.Context, f func(*bench.Database) error) error {
	db, err := r.server.NewDatabase(ctx)
	if err != nil {
		return err
	}
	return errors.Join(f(db), db.Drop(ctx))
}

// with runs f on one connection.
func with(ctx context.Context, db *bench.Database, d bench.Durability, f func(*pgx.Conn) error) error {
	conn, err := db.Connect(ctx, d)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(conn)
}

// preload enqueues n jobs and settles the database.
func preload(ctx context.Context, db *bench.Database, name string, n int) error {
	if err := fill(ctx, db, name, n); err != nil {
		return err
	}
	return db.Settle(ctx)
}

// fill enqueues n jobs with 100 bytes of arguments from inside the server, in
// calls of at most 200,000.
func fill(ctx context.Context, db *bench.Database, name string, n int) error {
	err := with(ctx, db, bench.Asynchronous, func(conn *pgx.Conn) error {
		for from := 1; from <= n; from += 200_000 {
			_, err := conn.Exec(ctx, `
				select cardinality(awa.enqueue_many(kind => 'bench', queue => $1, args => array(
				  select jsonb_build_object('i', i, 'pad', repeat('x', 80))
				  from generate_series($2::integer, $3::integer) as i)))`,
				name, from, min(from+199_999, n))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return nil
}

// payload returns n arguments of 100 bytes, as preload makes them.
func payload(n int) []json.RawMessage {
	pad := strings.Repeat("x", 80)
	docs := make([]json.RawMessage, n)
	for i := range docs {
		docs[i] = fmt.Appendf(nil, `{"i":%d,"pad":"%s"}`, i+1, pad)
	}
	return docs
}

// worker claims on a connection whose commits are asynchronous and completes on
// one whose commits are durable.
type worker struct {
	claims, finishes *pgx.Conn
	receipts         []awa.Receipt
}

func newWorker(ctx context.Context, db *bench.Database) (*worker, error) {
	claims, err := db.Connect(ctx, bench.Asynchronous)
	if err != nil {
		return nil, err
	}
	finishes, err := db.Connect(ctx, bench.Durable)
	if err != nil {
		return nil, errors.Join(err, claims.Close(ctx))
	}
	return &worker{claims: claims, finishes: finishes}, nil
}

func (w *worker) close() {
	ctx := context.Background()
	w.claims.Close(ctx)
	w.finishes.Close(ctx)
}

// step claims up to n jobs and completes each through its receipt. It returns how
// many; a stale receipt is an error.
func (w *worker) step(ctx context.Context, name string, n int) (int, error) {
	jobs, err := queue.Claim(ctx, w.claims, awa.ClaimParams{Queue: name, MaxJobs: n})
	if err != nil || len(jobs) == 0 {
		return 0, err
	}
	if n == 1 {
		accepted, err := queue.Complete(ctx, w.finishes, jobs[0].Receipt)
		if err == nil && !accepted {
			err = fmt.Errorf("receipt %v is stale", jobs[0].Receipt)
		}
		return 1, err
	}
	w.receipts = w.receipts[:0]
	for i := range jobs {
		w.receipts = append(w.receipts, jobs[i].Receipt)
	}
	stale, err := queue.CompleteMany(ctx, w.finishes, w.receipts)
	if err == nil && len(stale) > 0 {
		err = fmt.Errorf("%d of %d receipts are stale", len(stale), len(jobs))
	}
	return len(jobs), err
}

// crew runs n workers side by side until each is done, and returns the time from
// their common start to the last one's end. Connecting is not part of it.
func crew(ctx context.Context, db *bench.Database, n int, work func(i int, w *worker) error) (time.Duration, error) {
	workers := make([]*worker, n)
	for i := range workers {
		w, err := newWorker(ctx, db)
		if err != nil {
			return 0, err
		}
		defer w.close()
		workers[i] = w
	}
	errs := make([]error, n)
	var wg sync.WaitGroup
	start := time.Now()
	for i, w := range workers {
		wg.Go(func() { errs[i] = work(i, w) })
	}
	wg.Wait()
	return time.Since(start), errors.Join(errs...)
}

// drainAll completes every job of a queue with n workers.
func drainAll(ctx context.Context, db *bench.Database, name string, n, batch int) (time.Duration, error) {
	return crew(ctx, db, n, func(_ int, w *worker) error {
		for {
			done, err := w.step(ctx, name, batch)
			if err != nil || done == 0 {
				return err
			}
		}
	})
}

// mustHaveCompleted fails unless the queue counts n completed jobs and none in
// any other state.
func mustHaveCompleted(ctx context.Context, db *bench.Database, name string, n int) error {
	return with(ctx, db, bench.Durable, func(conn *pgx.Conn) error {
		c, err := queue.Counts(ctx, conn, name)
		if err == nil && (c.Completed != int64(n) || c.Terminal != int64(n) || c.Available+c.Running != 0) {
			err = fmt.Errorf("%d jobs went in, counts are %+v", n, c)
		}
		return err
	})
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func rate(n int, d time.Duration) float64  { return float64(n) / d.Seconds() }
