package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/bench"
)

// attempts measures what becomes of attempts that do not succeed: how much faster
// a queue drains when nobody fails, how fast the attempts of a dead worker come
// back, and how fast they are promoted.
func (r *run) attempts(ctx context.Context) error {
	// The last retries wait for their second while nothing is left to do. Where
	// that second is most of a run, it is what the ratio measures.
	n := 5 * r.jobs
	var plain, failing, ratio, rescue, promote []float64
	for range r.runs {
		drained, err := r.drainFailing(ctx, n, 0)
		if err != nil {
			return err
		}
		retried, err := r.drainFailing(ctx, n, 5)
		if err != nil {
			return err
		}
		plain = append(plain, drained)
		failing = append(failing, retried)
		ratio = append(ratio, retried/drained)
		rescued, promoted, err := r.loseWorker(ctx, r.jobs/2)
		if err != nil {
			return err
		}
		rescue = append(rescue, rescued.Seconds())
		promote = append(promote, promoted.Seconds())
	}
	r.report.Add("completions, 2 connections, claims of 200, none fails", "jobs/s", plain, nil)
	r.report.Add("completions, one in five fails once for 1 s", "jobs/s", failing, nil)
	r.report.Add("the second as a part of the first", "", ratio, bench.AtLeast(0.7))
	scale := float64(r.jobs/2) / 100_000
	r.report.Add(fmt.Sprintf("rescue of %d attempts", r.jobs/2), "s", rescue, bench.AtMost(10*scale))
	r.report.Add(fmt.Sprintf("promotion of %d jobs", r.jobs/2), "s", promote, bench.AtMost(5*scale))
	return nil
}

// drainFailing completes n preloaded jobs with two workers and returns the
// completions per second. Every nth job fails the first time; zero: none does.
func (r *run) drainFailing(ctx context.Context, n int, nth int64) (perSecond float64, err error) {
	err = r.server.WithDatabase(ctx, func(db *bench.Database) error {
		if err := db.Preload(ctx, lane, n); err != nil {
			return err
		}
		stop := r.maintainBeside(ctx, db)
		took, err := bench.Crew(ctx, db, 2, func(_ int, w *bench.Worker) error { return drainFailing(ctx, w, nth) })
		if stopped := stop(); err == nil {
			err = stopped
		}
		if err != nil {
			return err
		}
		perSecond = bench.Rate(n, took)
		return db.MustHaveCompleted(ctx, lane, n)
	})
	return perSecond, err
}

// drainFailing works until the queue holds nothing that waits or will come back.
func drainFailing(ctx context.Context, w *bench.Worker, nth int64) error {
	for {
		jobs, err := queue.Claim(ctx, w.Claims, awa.ClaimParams{Queue: lane, MaxJobs: 200})
		if err != nil {
			return err
		}
		if len(jobs) == 0 {
			n, err := queue.Counts(ctx, w.Finishes, lane)
			if err != nil || n.Available+n.Retryable+n.Running == 0 {
				return err
			}
			continue
		}
		done, failed := failEveryNth(jobs, nth)
		// What became of a claim is one transaction, and one wait for the disk.
		err = pgx.BeginFunc(ctx, w.Finishes, func(tx pgx.Tx) error {
			if _, err := queue.CompleteMany(ctx, tx, done); err != nil || len(failed) == 0 {
				return err
			}
			_, err := queue.FailMany(ctx, tx, awa.FailManyParams{Receipts: failed, RetryAfter: time.Second})
			return err
		})
		if err != nil {
			return err
		}
	}
}

// failEveryNth divides receipts into those to complete and those to fail: every
// nth job, the first time.
func failEveryNth(jobs []awa.Job, nth int64) (done, failed []awa.Receipt) {
	for i := range jobs {
		if nth > 0 && jobs[i].Attempt == 1 && jobs[i].ID%nth == 0 {
			failed = append(failed, jobs[i].Receipt)
		} else {
			done = append(done, jobs[i].Receipt)
		}
	}
	return done, failed
}

// maintainBeside calls maintain every 25 ms, and at once while there was a full
// bite to promote, until the function it returns is called, which waits for the
// last call.
func (r *run) maintainBeside(ctx context.Context, db *bench.Database) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		done <- db.With(ctx, bench.Durable, func(conn *pgx.Conn) error {
			tick := time.NewTicker(25 * time.Millisecond)
			defer tick.Stop()
			for more := false; ctx.Err() == nil; {
				if !more {
					select {
					case <-ctx.Done():
					case <-tick.C:
					}
				}
				// A call that is cut off by stop is no failure.
				tasks, err := queue.Maintain(ctx, conn)
				if err != nil && ctx.Err() == nil {
					return err
				}
				more = slices.ContainsFunc(tasks, func(t awa.TaskReport) bool {
					return t.Task == "promote" && t.Affected >= 1000
				})
			}
			return nil
		})
	}()
	return func() error {
		cancel()
		return <-done
	}
}

// loseWorker claims n jobs for a worker that is never heard of again, and returns
// how long it takes to rescue its attempts and to promote the jobs. The clock of
// the storage stands for the time that passes.
func (r *run) loseWorker(ctx context.Context, n int) (rescue, promote time.Duration, err error) {
	err = r.server.WithDatabase(ctx, func(db *bench.Database) error {
		if err := db.Preload(ctx, lane, n); err != nil {
			return err
		}
		return db.With(ctx, bench.Asynchronous, func(conn *pgx.Conn) error {
			if err := queue.RegisterWorker(ctx, conn, "lost", nil); err != nil {
				return err
			}
			for {
				jobs, err := queue.Claim(ctx, conn, awa.ClaimParams{Queue: lane, MaxJobs: 200, Worker: "lost"})
				if err != nil {
					return err
				}
				if len(jobs) == 0 {
					break
				}
			}
			if err := db.Settle(ctx); err != nil {
				return err
			}
			var err error
			if rescue, err = r.maintainUntil(ctx, conn, "2100-01-01", func(c awa.QueueCounts) bool { return c.Retryable == int64(n) }); err != nil {
				return err
			}
			promote, err = r.maintainUntil(ctx, conn, "2101-01-01", func(c awa.QueueCounts) bool { return c.Available == int64(n) })
			return err
		})
	})
	return rescue, promote, err
}

// maintainUntil sets the storage's clock, maintains until the counts are right and
// returns how long that took.
func (r *run) maintainUntil(ctx context.Context, conn *pgx.Conn, now string, done func(awa.QueueCounts) bool) (time.Duration, error) {
	if _, err := conn.Exec(ctx, "select set_config('awa.now', $1, false)", now); err != nil {
		return 0, err
	}
	start := time.Now()
	for {
		if _, err := queue.Maintain(ctx, conn); err != nil {
			return 0, err
		}
		n, err := queue.Counts(ctx, conn, lane)
		if err != nil || done(n) {
			return time.Since(start), err
		}
	}
}
