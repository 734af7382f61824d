package awa_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

func depth(t *testing.T, db awa.DBTX, name string) int64 {
	t.Helper()
	var n int64
	for _, d := range must[[]awa.DLQDepth](t)(queue.DLQDepth(t.Context(), db, name)) {
		n += d.Depth
	}
	return n
}

func TestDeadLetter(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		name := t.Name()
		id := fail(t, pool, awa.EnqueueParams{Kind: "k", Queue: name, Args: []int{1}, Tags: []string{"t"}})
		for _, want := range []bool{true, false} {
			if got := must[bool](t)(queue.MoveFailedToDLQ(t.Context(), pool, id, "look at it")); got != want {
				t.Errorf("moved: %v, want %v", got, want)
			}
		}
		if n := depth(t, pool, name); n != 1 {
			t.Errorf("depth %d", n)
		}
		letters := must[[]awa.DeadLetter](t)(queue.ListDeadLetters(t.Context(), pool,
			awa.ListDeadLettersParams{Queue: name, Kind: "k", Tag: "t", Before: id + 1}))
		if len(letters) != 1 {
			t.Fatalf("%+v", letters)
		}
		l := letters[0]
		if l.ID != id || string(l.Args) != "[1]" || l.State != awa.StateFailed || len(l.Errors) != 1 || l.Reason != "look at it" ||
			l.At.IsZero() || l.OriginalRunLease != 1 || !reflect.DeepEqual(l.Tags, []string{"t"}) {
			t.Errorf("%+v", l)
		}
		for _, want := range []bool{true, false} {
			p := awa.RetryParams{JobID: id, Queue: name + " b", Priority: 1, RunAt: time.Now()}
			if got := must[bool](t)(queue.RetryFromDLQ(t.Context(), pool, p)); got != want {
				t.Errorf("retried: %v, want %v", got, want)
			}
		}
		if n := depth(t, pool, name); n != 0 {
			t.Errorf("depth %d", n)
		}
	})
}

func TestBulkDeadLetters(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		name := t.Name()
		for _, kind := range []string{"a", "a", "a", "b", "b"} {
			fail(t, pool, awa.EnqueueParams{Kind: kind, Queue: name, Tags: []string{kind + name}})
		}
		move := func(p awa.BulkMoveFailedParams, want int64) {
			t.Helper()
			if n := must[int64](t)(queue.BulkMoveFailedToDLQ(t.Context(), pool, p)); n != want {
				t.Errorf("moved %d, want %d", n, want)
			}
		}
		move(awa.BulkMoveFailedParams{Queue: name, MaxJobs: 1}, 1)
		move(awa.BulkMoveFailedParams{Queue: name, Kind: "b", Reason: "r"}, 2)
		move(awa.BulkMoveFailedParams{}, 2)

		retry := func(f awa.DeadLetterFilter, want int64) {
			t.Helper()
			if n := must[int64](t)(queue.BulkRetryFromDLQ(t.Context(), pool, f)); n != want {
				t.Errorf("retried %d, want %d", n, want)
			}
		}
		retry(awa.DeadLetterFilter{Queue: "nobody"}, 0)
		retry(awa.DeadLetterFilter{Tag: "a" + name, MaxJobs: 1}, 1)
		retry(awa.DeadLetterFilter{Queue: name, Kind: "b"}, 2)

		purge := func(p awa.PurgeDLQParams, want int64) {
			t.Helper()
			if n := must[int64](t)(queue.PurgeDLQ(t.Context(), pool, p)); n != want {
				t.Errorf("purged %d, want %d", n, want)
			}
		}
		purge(awa.PurgeDLQParams{OlderThan: time.Hour}, 0)
		purge(awa.PurgeDLQParams{DeadLetterFilter: awa.DeadLetterFilter{Queue: name, MaxJobs: 1}}, 1)
		purge(awa.PurgeDLQParams{}, 1)
		if n := depth(t, pool, ""); n != 0 {
			t.Errorf("depth %d", n)
		}
		if c := counts(t, pool, name); c.Available+c.Retryable+c.Scheduled != 3 || c.Failed != 0 {
			t.Errorf("%+v", c)
		}
	})
}

func TestQueueThatKeepsItsDeadLetters(t *testing.T) {
	pool := pgtest.Pool(t)
	if err := queue.ConfigureQueue(t.Context(), pool, "q", map[string]any{"dlq_enabled": true}); err != nil {
		t.Fatal(err)
	}
	id := fail(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q"})
	if n := depth(t, pool, "q"); n != 1 {
		t.Errorf("depth %d", n)
	}
	if _, err := queue.GetJob(t.Context(), pool, id); !errors.Is(err, awa.ErrNotFound) {
		t.Error(err)
	}
	if c := counts(t, pool, "q"); c.DLQ != 1 || c.Failed != 0 {
		t.Errorf("%+v", c)
	}
	healthy(t, pool)
}
