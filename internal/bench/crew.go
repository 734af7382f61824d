package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
)

// Worker claims on a connection whose commits are asynchronous and completes on
// one whose commits are durable. It serves one goroutine.
type Worker struct {
	Claims, Finishes *pgx.Conn
	receipts         []awa.Receipt
}

// NewWorker connects a worker.
func NewWorker(ctx context.Context, d *Database) (*Worker, error) {
	claims, err := d.Connect(ctx, Asynchronous)
	if err != nil {
		return nil, err
	}
	finishes, err := d.Connect(ctx, Durable)
	if err != nil {
		return nil, errors.Join(err, claims.Close(ctx))
	}
	return &Worker{Claims: claims, Finishes: finishes}, nil
}

// Close closes the worker's connections.
func (w *Worker) Close() {
	ctx := context.Background()
	w.Claims.Close(ctx)
	w.Finishes.Close(ctx)
}

// Step claims up to n jobs and completes each through its receipt. It returns how
// many; a stale receipt is an error.
func (w *Worker) Step(ctx context.Context, queue string, n int) (int, error) {
	jobs, err := Queue.Claim(ctx, w.Claims, awa.ClaimParams{Queue: queue, MaxJobs: n})
	if err != nil || len(jobs) == 0 {
		return 0, err
	}
	if n == 1 {
		accepted, err := Queue.Complete(ctx, w.Finishes, jobs[0].Receipt)
		if err == nil && !accepted {
			err = fmt.Errorf("receipt %v is stale", jobs[0].Receipt)
		}
		return 1, err
	}
	w.receipts = w.receipts[:0]
	for i := range jobs {
		w.receipts = append(w.receipts, jobs[i].Receipt)
	}
	stale, err := Queue.CompleteMany(ctx, w.Finishes, w.receipts)
	if err == nil && len(stale) > 0 {
		err = fmt.Errorf("%d of %d receipts are stale", len(stale), len(jobs))
	}
	return len(jobs), err
}

// Crew runs n workers side by side until each is done, and returns the time from
// their common start to the last one's end. Connecting is not part of it.
func Crew(ctx context.Context, d *Database, n int, work func(i int, w *Worker) error) (time.Duration, error) {
	return WarmCrew(ctx, d, n, func(int, *Worker) error { return nil }, work)
}

// WarmCrew is Crew for workers that have been at it: each calls warm first, which is not
// part of the time either. A new connection plans every statement that it comes to.
func WarmCrew(ctx context.Context, d *Database, n int, warm, work func(i int, w *Worker) error) (time.Duration, error) {
	workers := make([]*Worker, n)
	for i := range workers {
		w, err := NewWorker(ctx, d)
		if err != nil {
			return 0, err
		}
		defer w.Close()
		workers[i] = w
	}
	each := func(f func(i int, w *Worker) error) error {
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i, w := range workers {
			wg.Go(func() { errs[i] = f(i, w) })
		}
		wg.Wait()
		return errors.Join(errs...)
	}
	if err := each(warm); err != nil {
		return 0, err
	}
	start := time.Now()
	err := each(work)
	return time.Since(start), err
}

// Drain completes every job of a queue with n workers.
func (d *Database) Drain(ctx context.Context, queue string, n, batch int) (time.Duration, error) {
	return Crew(ctx, d, n, func(_ int, w *Worker) error {
		for {
			done, err := w.Step(ctx, queue, batch)
			if err != nil || done == 0 {
				return err
			}
		}
	})
}
