package worker_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// calls counts the statements that call a function, and how many of them are under way at once.
type calls struct {
	function       string
	n, atOnce, top atomic.Int64
}

func (c *calls) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if !strings.Contains(q.SQL, "."+c.function+"(") {
		return ctx
	}
	c.n.Add(1)
	now := c.atOnce.Add(1)
	for top := c.top.Load(); now > top && !c.top.CompareAndSwap(top, now); top = c.top.Load() {
	}
	return context.WithValue(ctx, c, true)
}

func (c *calls) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if ctx.Value(c) != nil {
		c.atOnce.Add(-1)
	}
}

// finishTogether works many jobs of one claim, whose finishes wait for each other, until all are
// in a state. result is what the handler of the nth returns; sent are the calls of function.
func finishTogether(t *testing.T, function string, many int, state awa.JobState, result func(n int) error) (sent *calls, jobs []awa.JobInfo) {
	t.Helper()
	sent = &calls{function: function}
	pool := newPool(t, pgtest.URL(t), func(cfg *pgxpool.Config) { cfg.ConnConfig.Tracer = sent })
	ids := make([]int64, many)
	for n := range ids {
		ids[n] = enqueue(t, pool, awa.EnqueueParams{Args: task{n}})
	}
	start(t, worker.Config{Pool: pool, CompleteDelay: time.Hour, CompleteBatch: many,
		Queues: map[string]worker.QueueConfig{"default": {MaxWorkers: many}}},
		tasks(func(_ context.Context, job *worker.Job[task]) error { return result(job.Args.N) }))
	for _, id := range ids {
		jobs = append(jobs, reach(t, pool, id, state))
	}
	return sent, jobs
}

// Jobs that handlers put off until one instant are written by one statement, although each
// handler returned another delay, and none comes back before its own.
func TestDelaysThatHardlyDiffer(t *testing.T) {
	const many = 40
	delay := func(n int) time.Duration { return 10*time.Hour + time.Millisecond + time.Duration(n)*time.Microsecond }
	for _, c := range []struct {
		function string
		result   func(time.Duration) error
		state    awa.JobState
	}{
		{"snooze_many", worker.Snooze, awa.StateScheduled},
		{"fail_many", func(d time.Duration) error { return worker.RetryAfter(d, errBroken) }, awa.StateRetryable},
	} {
		t.Run(c.function, func(t *testing.T) {
			sent, jobs := finishTogether(t, c.function, many, c.state, func(n int) error { return c.result(delay(n)) })
			for n, j := range jobs {
				if j.RunAt.Sub(j.CreatedAt) < delay(n) {
					t.Errorf("job %d comes back after %s, not %s", n, j.RunAt.Sub(j.CreatedAt), delay(n))
				}
			}
			if got := sent.n.Load(); got != 1 {
				t.Errorf("%d statements for %d jobs", got, many)
			}
		})
	}
}

// Finishes of one batch that take a statement each do not get into each other's way.
func TestFinishesOfOneBatchTakeTurns(t *testing.T) {
	const many = 40
	for _, c := range []struct {
		function string
		result   func(n int) error
		state    awa.JobState
	}{
		{"cancel_attempt", func(int) error { return worker.Cancel("no") }, awa.StateCancelled},
		{"snooze_many", func(n int) error { return worker.Snooze(time.Duration(n+1) * time.Hour) }, awa.StateScheduled},
		{"fail_many", func(n int) error { return worker.RetryAfter(time.Duration(n+1)*time.Hour, errBroken) }, awa.StateRetryable},
	} {
		t.Run(c.function, func(t *testing.T) {
			sent, _ := finishTogether(t, c.function, many, c.state, c.result)
			if n, top := sent.n.Load(), sent.top.Load(); n != many || top != 1 {
				t.Errorf("%d statements, up to %d at once", n, top)
			}
		})
	}
}

// What is held up is cut between batches: one that waits keeps only its own.
func TestCut(t *testing.T) {
	for _, c := range []struct {
		batches        []int64
		from, to, want int
	}{
		{[]int64{1, 1, 1, 1, 2}, 0, 5, 4},
		{[]int64{1, 2, 2, 2, 2, 2}, 0, 6, 1},
		{[]int64{1, 2, 2, 3, 3, 3}, 1, 6, 3},
		{[]int64{1, 2, 2, 2}, 1, 4, 0},
		{[]int64{1}, 0, 1, 0},
	} {
		receipts := make([]awa.Receipt, len(c.batches))
		for i, b := range c.batches {
			receipts[i].BatchID = b
		}
		if got, ok := worker.Cut(receipts, c.from, c.to); got != c.want || ok != (c.want > 0) {
			t.Errorf("%v from %d to %d: cut at %d, %v, want %d", c.batches, c.from, c.to, got, ok, c.want)
		}
	}
}

func TestDelayIsRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{
		0:                                0,
		time.Microsecond:                 time.Microsecond,
		99*time.Millisecond + 1:          99*time.Millisecond + 1,
		100*time.Millisecond + 1:         101 * time.Millisecond,
		time.Second:                      time.Second,
		9*time.Second + time.Millisecond: 9*time.Second + 10*time.Millisecond,
		time.Hour + 1:                    time.Hour + time.Second,
		worker.Longest:                   worker.Longest,
	} {
		if got := worker.Together(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}
