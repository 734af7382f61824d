package awa_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

// fail enqueues a job, claims it and closes it as failed for good.
func fail(t *testing.T, db awa.DBTX, p awa.EnqueueParams) int64 {
	t.Helper()
	id := enqueue(t, db, p)
	for _, j := range claim(t, db, p.Queue, 100) {
		f := awa.FailParams{Receipt: j.Receipt, Error: "boom", Terminal: true}
		if state := must[awa.JobState](t)(queue.Fail(t.Context(), db, f)); state != awa.StateFailed {
			t.Fatalf("job %d is %q", j.ID, state)
		}
	}
	return id
}

func TestCancel(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		name := t.Name()
		deferred := enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: name, RunAt: time.Now().Add(time.Hour)})
		running := enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: name})
		job := claim(t, pool, name, 1)[0]
		waiting := enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: name})
		for _, id := range []int64{deferred, running, waiting} {
			for _, want := range []bool{true, false} {
				if got := must[bool](t)(queue.Cancel(t.Context(), pool, id, "changed my mind")); got != want {
					t.Errorf("job %d: %v, want %v", id, got, want)
				}
			}
			j := must[awa.JobInfo](t)(queue.GetJob(t.Context(), pool, id))
			if j.State != awa.StateCancelled || len(j.Errors) != 1 || j.FinalizedAt.IsZero() {
				t.Errorf("%+v", j)
			}
		}
		if must[bool](t)(queue.Complete(t.Context(), pool, job.Receipt)) {
			t.Error("the attempt of a cancelled job was completed")
		}
		if must[bool](t)(queue.Cancel(t.Context(), pool, -1, "")) {
			t.Error("cancelled nothing")
		}
	})
}

func TestSettingsAreRequired(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		for _, settings := range []any{nil, json.RawMessage(nil), []byte(nil), map[string]any(nil)} {
			if err := queue.ConfigureQueue(t.Context(), pool, t.Name(), settings); !errors.Is(err, awa.ErrInvalidArgument) {
				t.Errorf("queue, %#v: %v", settings, err)
			}
			if _, err := queue.ConfigureStorage(t.Context(), pool, settings); !errors.Is(err, awa.ErrInvalidArgument) {
				t.Errorf("storage, %#v: %v", settings, err)
			}
		}
	})
}

func TestCancelByUniqueKey(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		key := []byte(t.Name())
		enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: t.Name(), UniqueKey: key})
		for _, want := range []bool{true, false} {
			if got := must[bool](t)(queue.CancelByUniqueKey(t.Context(), pool, key)); got != want {
				t.Errorf("%v, want %v", got, want)
			}
		}
	})
}

func TestRetry(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		name := t.Name()
		id := fail(t, pool, awa.EnqueueParams{Kind: "k", Queue: name})
		for _, want := range []bool{true, false} {
			p := awa.RetryParams{JobID: id, Queue: name + " b", Priority: 1}
			if got := must[bool](t)(queue.Retry(t.Context(), pool, p)); got != want {
				t.Errorf("%v, want %v", got, want)
			}
		}
		jobs := claim(t, pool, name+" b", 1)
		if len(jobs) != 1 || jobs[0].ID != id || jobs[0].Attempt != 1 || jobs[0].Priority != 1 || len(jobs[0].Errors) != 1 {
			t.Errorf("%+v", jobs)
		}
	})
}

func TestRetryLater(t *testing.T) {
	pool := pgtest.Pool(t)
	id := fail(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q"})
	_, err := queue.Retry(t.Context(), pool, awa.RetryParams{JobID: id, Priority: 9})
	if !errors.Is(err, awa.ErrInvalidArgument) {
		t.Error(err)
	}
	must[bool](t)(queue.Retry(t.Context(), pool, awa.RetryParams{JobID: id, RunAt: time.Now().Add(time.Hour)}))
	if c := counts(t, pool, "q"); c.Scheduled != 1 || c.Failed != 0 {
		t.Errorf("%+v", c)
	}
	healthy(t, pool)
}

func TestRetryOfAJobWhoseKeyIsTaken(t *testing.T) {
	pool := pgtest.Pool(t)
	p := awa.EnqueueParams{Kind: "k", Queue: "q", UniqueKey: []byte("key")}
	id := fail(t, pool, p)
	if other := enqueue(t, pool, p); other == id {
		t.Fatal("a failed job holds its key")
	}
	if _, err := queue.Retry(t.Context(), pool, awa.RetryParams{JobID: id}); !errors.Is(err, awa.ErrDuplicate) {
		t.Error(err)
	}
	healthy(t, pool)
}

func TestDelete(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		p := awa.EnqueueParams{Kind: "k", Queue: t.Name()}
		dead := fail(t, pool, p)
		must[bool](t)(queue.MoveFailedToDLQ(t.Context(), pool, dead, ""))
		failed := fail(t, pool, p)
		waiting := enqueue(t, pool, p)
		for _, id := range []int64{dead, failed, waiting} {
			for _, want := range []bool{true, false} {
				if got := must[bool](t)(queue.Delete(t.Context(), pool, id)); got != want {
					t.Errorf("job %d: %v, want %v", id, got, want)
				}
			}
		}
		if c := counts(t, pool, t.Name()); c != (awa.QueueCounts{Queue: t.Name()}) {
			t.Errorf("%+v", c)
		}
		healthy(t, pool)
	})
}

func TestDiscardFailedByKind(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		a, b := t.Name()+" a", t.Name()+" b"
		for _, name := range []string{a, b} {
			fail(t, pool, awa.EnqueueParams{Kind: "bad", Queue: name})
			fail(t, pool, awa.EnqueueParams{Kind: "worse", Queue: name})
		}
		for _, name := range []string{a, ""} {
			if n := must[int64](t)(queue.DiscardFailedByKind(t.Context(), pool, "bad", name)); n != 1 {
				t.Errorf("queue %q: discarded %d", name, n)
			}
		}
		for _, name := range []string{a, b} {
			if c := counts(t, pool, name); c.Failed != 1 {
				t.Errorf("%+v", c)
			}
		}
	})
}
