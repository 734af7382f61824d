package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

var errBroken = errors.New("broken")

// textError has a text unless it is nil.
type textError struct{ text string }

func (e *textError) Error() string { return e.text }

// waitsForNobody names the outcome of Waiting without a callback.
const waitsForNobody = "waits for nobody"

// outcomes are what handlers do, and what becomes of their jobs.
var outcomes = []struct {
	name    string
	handle  func() error
	state   awa.JobState
	attempt int16  // counted
	text    string // of the last error
}{
	{"nil", func() error { return nil }, awa.StateCompleted, 1, ""},
	{"error", func() error { return errBroken }, awa.StateRetryable, 1, "broken"},
	{"snooze", func() error { return worker.Snooze(time.Hour) }, awa.StateScheduled, 0, ""},
	{"wrapped snooze", func() error { return fmt.Errorf("not yet: %w", worker.Snooze(time.Hour)) }, awa.StateScheduled, 0, ""},
	{"retry after", func() error { return worker.RetryAfter(time.Hour, errBroken) }, awa.StateRetryable, 1, "broken"},
	{"far snooze", func() error { return worker.Snooze(1<<63 - 1) }, awa.StateScheduled, 0, ""},
	{"far retry", func() error { return worker.RetryAfter(1<<63-1, errBroken) }, awa.StateRetryable, 1, "broken"},
	{"cancel", func() error { return worker.Cancel("not needed") }, awa.StateCancelled, 1, "not needed"},
	{"terminal", func() error { return worker.Terminal(errBroken) }, awa.StateFailed, 1, "broken"},
	{waitsForNobody, func() error { return worker.Waiting }, awa.StateRetryable, 1, "no callback"},
	{"joined", func() error { return errors.Join(worker.Snooze(0), worker.Terminal(errBroken)) }, awa.StateFailed, 1, "broken"},
	{"panic", func() error { panic("oh no") }, awa.StateRetryable, 1, "oh no"},
	{"nil in an error", func() error { var err *textError; return err }, awa.StateRetryable, 1, "nil pointer"},
	{"goexit", func() error { runtime.Goexit(); return nil }, awa.StateRetryable, 1, "Goexit"},
	{"no text", func() error { return errors.New("bad \x00 \xff text") }, awa.StateRetryable, 1, "text"},
	{"long text", func() error { return errors.New(strings.Repeat("é", 100_000)) }, awa.StateRetryable, 1, "é"},
}

func TestResults(t *testing.T) {
	url := pgtest.URL(t)
	leakless(t)
	pool := newPool(t, url, nil)
	mux := tasks(func(_ context.Context, job *worker.Job[task]) error { return outcomes[job.Args.N].handle() })
	ids := make([]int64, len(outcomes))
	for i := range outcomes {
		ids[i] = enqueue(t, pool, awa.EnqueueParams{Args: task{i}})
	}
	start(t, worker.Config{Pool: pool, DisableMaintain: true}, mux)
	for i, o := range outcomes {
		t.Run(o.name, func(t *testing.T) { expectOutcome(t, pool, ids[i], o.state, o.attempt, o.text) })
	}
	requireHealthy(t, pool)
}

// Work does the same with one job that was claimed by other means, in a
// transaction if need be.
func TestWork(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	mux := tasks(func(_ context.Context, job *worker.Job[task]) error { return outcomes[job.Args.N].handle() })
	for i, o := range outcomes {
		if o.name == "goexit" {
			continue // it would end this goroutine
		}
		t.Run(o.name, func(t *testing.T) {
			tx, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback(context.Background())
			id := enqueue(t, tx, awa.EnqueueParams{Args: task{i}})
			jobs, err := queue.Claim(t.Context(), tx, awa.ClaimParams{Queue: "default"})
			if err != nil || len(jobs) != 1 {
				t.Fatal(jobs, err)
			}
			res, err := mux.Work(t.Context(), queue, tx, &jobs[0])
			if err != nil {
				t.Fatal(err)
			}
			expectOutcome(t, tx, id, o.state, o.attempt, o.text)
			if (res.Outcome == worker.Completed) != (o.state == awa.StateCompleted) {
				t.Errorf("the outcome is %s", res.Outcome)
			}
			if res, err = mux.Work(t.Context(), queue, tx, &jobs[0]); err != nil || res.Outcome != worker.Stale {
				t.Errorf("a second time: %+v, %v", res, err)
			}
		})
	}
}

func expectOutcome(t *testing.T, db awa.DBTX, id int64, state awa.JobState, attempt int16, text string) {
	t.Helper()
	j := reach(t, db, id, state)
	if j.Attempt != attempt {
		t.Errorf("%d attempts count, want %d", j.Attempt, attempt)
	}
	last := ""
	if n := len(j.Errors); n > 0 {
		last = string(j.Errors[n-1])
	}
	if (last == "") != (text == "") || !strings.Contains(last, text) {
		t.Errorf("the last error is %.300q, want %q", last, text)
	}
}

// The stack of a panic is in the error, and middlewares see the panic as an
// error.
func TestPanicStack(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	mux := tasks(func(context.Context, *worker.Job[task]) error { return explode() })
	var seen atomic.Bool
	mux.Use(func(next worker.Handler) worker.Handler {
		return func(ctx context.Context, a *worker.Attempt) error {
			err := next(ctx, a)
			if _, ok := errors.AsType[*worker.PanicError](err); ok && errors.Is(err, errBroken) {
				seen.Store(true)
			}
			return err
		}
	})
	id := enqueue(t, pool, awa.EnqueueParams{MaxAttempts: 1})
	start(t, worker.Config{Pool: pool}, mux)
	j := reach(t, pool, id, awa.StateFailed)
	if !strings.Contains(string(j.Errors[0]), "explode") || !seen.Load() {
		t.Errorf("seen by the middleware: %v; error: %s", seen.Load(), j.Errors[0])
	}
}

func explode() error { panic(errBroken) }

// What a worker does not understand is retried: another one may.
func TestNotUnderstood(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	mux := tasks(func(context.Context, *worker.Job[task]) error { return nil })
	unknown := enqueue(t, pool, awa.EnqueueParams{Kind: "mystery"})
	garbled := enqueue(t, pool, awa.EnqueueParams{Args: map[string]any{"n": "many"}})
	start(t, worker.Config{Pool: pool, DisableMaintain: true}, mux)
	expectOutcome(t, pool, unknown, awa.StateRetryable, 1, `no handler for kind \"mystery\"`)
	expectOutcome(t, pool, garbled, awa.StateRetryable, 1, `arguments of kind \"task\" do not decode`)
}

// A retry comes back by the client's own maintenance and tells its number.
func TestRetryComesBack(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	attempts := make(chan int16, 3)
	start(t, worker.Config{Pool: pool}, tasks(func(_ context.Context, job *worker.Job[task]) error {
		attempts <- job.Attempt
		switch job.Attempt {
		case 1:
			return worker.RetryAfter(0, errBroken)
		case 2:
			return worker.RetryAfter(time.Millisecond, nil)
		}
		return nil
	}))
	id := enqueue(t, pool, awa.EnqueueParams{})
	for want := range int16(3) {
		if got := receive(t, attempts); got != want+1 {
			t.Errorf("attempt %d, want %d", got, want+1)
		}
	}
	reach(t, pool, id, awa.StateCompleted)
}

// A job's deadline is the context's.
func TestDeadline(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	start(t, worker.Config{Pool: pool}, tasks(func(ctx context.Context, job *worker.Job[task]) error {
		<-ctx.Done()
		return fmt.Errorf("gave up: %w", ctx.Err())
	}))
	id := enqueue(t, pool, awa.EnqueueParams{Deadline: 50 * time.Millisecond, MaxAttempts: 1})
	reach(t, pool, id, awa.StateFailed)
}

// Middlewares run from the first one in.
func TestMiddlewareOrder(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	order := make(chan string, 3)
	named := func(name string) worker.Middleware {
		return func(next worker.Handler) worker.Handler {
			return func(ctx context.Context, a *worker.Attempt) error {
				order <- name
				return next(ctx, a)
			}
		}
	}
	mux := worker.NewMux()
	mux.Use(named("first"), named("second"))
	mux.Use(named("third"))
	mux.Handle("task", func(context.Context, *worker.Attempt) error { return nil })
	start(t, worker.Config{Pool: pool}, mux)
	enqueue(t, pool, awa.EnqueueParams{})
	for _, want := range []string{"first", "second", "third"} {
		if got := receive(t, order); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// An error may carry a whole response. The log bears as much of it as the server keeps,
// and a handler of the log still finds the error.
func TestLongErrorInLog(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	var log logbook
	var found atomic.Bool
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if err, ok := a.Value.Any().(error); ok && errors.Is(err, errBroken) {
			found.Store(true)
		}
		return a
	}}))
	client := start(t, worker.Config{Pool: pool, DisableMaintain: true, Logger: logger}, tasks(
		func(context.Context, *worker.Job[task]) error {
			return fmt.Errorf("%w: %s", errBroken, strings.Repeat("é", 1_000_000))
		}))
	reach(t, pool, enqueue(t, pool, awa.EnqueueParams{}), awa.StateRetryable)
	stop(t, client)
	if n := log.messages(t, slog.LevelWarn)["Job did not complete"]; n != 1 || !found.Load() {
		t.Errorf("logged %d times, the error was found: %t", n, found.Load())
	}
	if n := log.buf.Len(); n > 50_000 {
		t.Errorf("%d bytes are logged", n)
	}
}
