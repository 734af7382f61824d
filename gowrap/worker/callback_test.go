package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// quick looks for answers more often than an application would.
const quick = 10 * time.Millisecond

// A handler that returns Waiting frees its place, and the job waits, whatever
// becomes of the client, until it is answered.
func TestWaiting(t *testing.T) {
	url := pgtest.URL(t)
	leakless(t)
	pool := newPool(t, url, nil)
	asked := make(chan awa.CallbackID, 3)
	one := map[string]worker.QueueConfig{"default": {MaxWorkers: 1}}
	c := start(t, worker.Config{Pool: pool, Queues: one, DisableMaintain: true}, tasks(
		func(ctx context.Context, job *worker.Job[task]) error {
			id, err := job.RegisterCallback(ctx, time.Hour)
			if err != nil {
				return err
			}
			asked <- id
			return worker.Waiting
		}))
	var ids []int64
	var callbacks []awa.CallbackID
	for n := range 3 {
		ids = append(ids, enqueue(t, pool, awa.EnqueueParams{Args: task{n}}))
		callbacks = append(callbacks, receive(t, asked)) // in the one place that there is
	}
	if n := counts(t, pool, "default"); n.WaitingExternal != 3 {
		t.Errorf("%+v", n)
	}
	stop(t, c)
	for i, answer := range []func(context.Context, awa.DBTX, awa.CallbackID) error{
		func(ctx context.Context, db awa.DBTX, id awa.CallbackID) error {
			return queue.CompleteCallback(ctx, db, id, json.RawMessage(`"paid"`))
		},
		func(ctx context.Context, db awa.DBTX, id awa.CallbackID) error {
			return queue.FailCallback(ctx, db, id, "refused")
		},
		queue.RetryCallback,
	} {
		if err := answer(t.Context(), pool, callbacks[i]); err != nil {
			t.Error(err)
		}
	}
	expectOutcome(t, pool, ids[0], awa.StateCompleted, 1, "")
	expectOutcome(t, pool, ids[1], awa.StateRetryable, 1, "refused")
	expectOutcome(t, pool, ids[2], awa.StateAvailable, 0, "")
	requireHealthy(t, pool)
}

// What a handler decides after it registered a callback counts, and the answer
// comes too late.
func TestResultAfterRegisterCallback(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	callbacks := make(chan awa.CallbackID, len(outcomes))
	mux := tasks(func(ctx context.Context, job *worker.Job[task]) error {
		id, err := job.RegisterCallback(ctx, time.Hour)
		if err != nil {
			return err
		}
		callbacks <- id
		return outcomes[job.Args.N].handle()
	})
	ids := map[int]int64{}
	for i, o := range outcomes {
		if o.name != waitsForNobody {
			ids[i] = enqueue(t, pool, awa.EnqueueParams{Args: task{i}})
		}
	}
	start(t, worker.Config{Pool: pool, DisableMaintain: true}, mux)
	for i, id := range ids {
		t.Run(outcomes[i].name, func(t *testing.T) {
			expectOutcome(t, pool, id, outcomes[i].state, outcomes[i].attempt, outcomes[i].text)
		})
	}
	for range ids {
		if err := queue.CompleteCallback(t.Context(), pool, receive(t, callbacks), nil); !errors.Is(err, awa.ErrNotFound) {
			t.Errorf("an answer that is too late: %v", err)
		}
	}
	requireHealthy(t, pool)
}

// A handler that stays reads one answer after the other.
func TestAwaitCallback(t *testing.T) {
	url := pgtest.URL(t)
	leakless(t)
	pool := newPool(t, url, nil)
	asked, answers := make(chan awa.CallbackID, 1), make(chan string, 2)
	start(t, worker.Config{Pool: pool, CallbackPollInterval: quick}, tasks(
		func(ctx context.Context, job *worker.Job[task]) error {
			if _, err := job.AwaitCallback(ctx); err == nil || errors.Is(err, awa.ErrStale) {
				t.Errorf("without a callback: %v", err)
			}
			for range 2 {
				id, err := job.RegisterCallback(ctx, time.Hour)
				if err != nil {
					return err
				}
				asked <- id
				answer, err := job.AwaitCallback(ctx)
				if err != nil {
					return err
				}
				answers <- string(answer)
			}
			return nil
		}))
	id := enqueue(t, pool, awa.EnqueueParams{})
	for _, want := range []string{`{"n": 1}`, ""} {
		callback := receive(t, asked)
		reach(t, pool, id, awa.StateWaitingExternal)
		var payload json.RawMessage
		if want != "" {
			payload = json.RawMessage(want)
		}
		if err := queue.ResumeCallback(t.Context(), pool, callback, payload); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, answers); got != want {
			t.Errorf("answer %s, want %s", got, want)
		}
	}
	reach(t, pool, id, awa.StateCompleted)
	requireHealthy(t, pool)
}

// A handler that stays learns that its attempt is over, however that came.
func TestAwaitCallbackOfAClosedAttempt(t *testing.T) {
	url := pgtest.URL(t)
	leakless(t)
	pool := newPool(t, url, nil)
	ends := map[string]struct {
		how     func(*testing.T, int64, awa.CallbackID)
		timeout time.Duration
		state   awa.JobState
	}{
		"completed": {func(t *testing.T, _ int64, id awa.CallbackID) {
			if err := queue.CompleteCallback(t.Context(), pool, id, nil); err != nil {
				t.Error(err)
			}
		}, time.Hour, awa.StateCompleted},
		"cancelled": {func(t *testing.T, job int64, _ awa.CallbackID) {
			if _, err := queue.Cancel(t.Context(), pool, job, "changed my mind"); err != nil {
				t.Error(err)
			}
		}, time.Hour, awa.StateCancelled},
		"timed out": {func(*testing.T, int64, awa.CallbackID) {}, time.Millisecond, awa.StateFailed},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			asked, causes := make(chan awa.CallbackID, 1), make(chan error, 2)
			c := start(t, worker.Config{Pool: pool, CallbackPollInterval: quick}, tasks(
				func(ctx context.Context, job *worker.Job[task]) error {
					id, err := job.RegisterCallback(ctx, end.timeout)
					if err != nil {
						return err
					}
					asked <- id
					_, err = job.AwaitCallback(context.WithoutCancel(ctx))
					<-job.Cancelled()
					<-ctx.Done()
					causes <- err
					causes <- context.Cause(ctx)
					return err
				}))
			job := enqueue(t, pool, awa.EnqueueParams{MaxAttempts: 1})
			end.how(t, job, receive(t, asked))
			if err := receive(t, causes); !errors.Is(err, awa.ErrStale) {
				t.Errorf("AwaitCallback returned %v", err)
			}
			if err := receive(t, causes); !errors.Is(err, worker.ErrLost) {
				t.Errorf("the cause is %v", err)
			}
			reach(t, pool, job, end.state)
			stop(t, c)
		})
	}
	requireHealthy(t, pool)
}

// A heartbeat's notice ends the wait as well, long before the next look; unless the
// first look came after the cancel.
func TestAwaitCallbackHearsOfACancel(t *testing.T) {
	url := pgtest.URL(t)
	leakless(t)
	pool := newPool(t, url, nil)
	asked, ended := make(chan awa.CallbackID, 1), make(chan error, 1)
	start(t, worker.Config{Pool: pool, CallbackPollInterval: time.Hour}, tasks(
		func(ctx context.Context, job *worker.Job[task]) error {
			id, err := job.RegisterCallback(ctx, time.Hour)
			if err != nil {
				return err
			}
			asked <- id
			_, err = job.AwaitCallback(ctx)
			ended <- err
			return err
		}))
	id := enqueue(t, pool, awa.EnqueueParams{})
	receive(t, asked)
	if _, err := queue.Cancel(t.Context(), pool, id, "changed my mind"); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, ended); !errors.Is(err, worker.ErrLost) && !errors.Is(err, awa.ErrStale) {
		t.Errorf("AwaitCallback returned %v", err)
	}
	reach(t, pool, id, awa.StateCancelled)
}

// A handler that is told to stop may leave its job waiting, or give it back.
func TestStopWhileAwaitingACallback(t *testing.T) {
	url := pgtest.URL(t)
	leakless(t)
	pool := newPool(t, url, nil)
	asked := make(chan awa.CallbackID, 2)
	c := start(t, worker.Config{Pool: pool, SoftStopTimeout: -1, CallbackPollInterval: quick}, tasks(
		func(ctx context.Context, job *worker.Job[task]) error {
			id, err := job.RegisterCallback(ctx, time.Hour)
			if err != nil {
				return err
			}
			asked <- id
			_, err = job.AwaitCallback(ctx)
			if errors.Is(err, worker.ErrStopping) && job.Args.N == 0 {
				return worker.Waiting
			}
			return err
		}))
	waits := enqueue(t, pool, awa.EnqueueParams{})
	back := enqueue(t, pool, awa.EnqueueParams{Args: task{1}})
	receive(t, asked)
	receive(t, asked)
	stop(t, c)
	expectOutcome(t, pool, waits, awa.StateWaitingExternal, 1, "")
	expectOutcome(t, pool, back, awa.StateAvailable, 0, "")
	requireHealthy(t, pool)
}

// Work parks a job as well.
func TestWorkOfAJobThatWaits(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	mux := tasks(func(ctx context.Context, job *worker.Job[task]) error {
		if _, err := job.RegisterCallback(ctx, time.Hour); err != nil {
			return err
		}
		return worker.Waiting
	})
	id := enqueue(t, pool, awa.EnqueueParams{})
	jobs, err := queue.Claim(t.Context(), pool, awa.ClaimParams{Queue: "default"})
	if err != nil {
		t.Fatal(err)
	}
	if res, err := mux.Work(t.Context(), queue, pool, &jobs[0]); err != nil || res.Outcome != worker.Parked {
		t.Errorf("%+v, %v", res, err)
	}
	reach(t, pool, id, awa.StateWaitingExternal)
}
