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

// enqueuers are the two ways in that take a job's every field.
var enqueuers = map[string]func(*testing.T, awa.DBTX, awa.EnqueueParams) (int64, error){
	"one": func(t *testing.T, db awa.DBTX, p awa.EnqueueParams) (int64, error) {
		return queue.Enqueue(t.Context(), db, p)
	},
	"mixed": func(t *testing.T, db awa.DBTX, p awa.EnqueueParams) (int64, error) {
		ids, err := queue.EnqueueMixed(t.Context(), db, "", []awa.EnqueueParams{p})
		if err != nil {
			return 0, err
		}
		return ids[0], nil
	},
}

func TestConcurrencyKey(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		for name, add := range enqueuers {
			q := t.Name() + name
			if err := queue.ConfigureQueue(t.Context(), pool, q, map[string]int{"concurrency_limit": 1}); err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"it's one", "it's one", "another", ""} {
				must[int64](t)(add(t, pool, awa.EnqueueParams{Kind: "k", Queue: q, ConcurrencyKey: key}))
			}
			first := claim(t, pool, q, 10)
			if len(first) != 3 || len(claim(t, pool, q, 10)) != 0 {
				t.Fatalf("%s: claimed %+v", name, first)
			}
			must[bool](t)(queue.Complete(t.Context(), pool, first[0].Receipt))
			if second := claim(t, pool, q, 10); len(second) != 1 {
				t.Errorf("%s: then claimed %+v", name, second)
			}
		}
	})
}

func TestAfter(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		for name, add := range enqueuers {
			q := t.Name() + name
			a := enqueue(t, pool, awa.EnqueueParams{Kind: "a", Queue: q})
			b := enqueue(t, pool, awa.EnqueueParams{Kind: "b", Queue: q})
			c := must[int64](t)(add(t, pool, awa.EnqueueParams{Kind: "c", Queue: q, After: []int64{a, b}}))
			jobs := claim(t, pool, q, 10)
			if len(jobs) != 2 {
				t.Fatalf("%s: claimed %+v", name, jobs)
			}
			for i, want := range []awa.JobState{awa.StateScheduled, awa.StateAvailable} {
				must[bool](t)(queue.Complete(t.Context(), pool, jobs[i].Receipt))
				must[[]awa.TaskReport](t)(queue.Maintain(t.Context(), pool))
				if j := must[awa.JobInfo](t)(queue.GetJob(t.Context(), pool, c)); j.State != want {
					t.Errorf("%s: after %d of 2 it is %s", name, i+1, j.State)
				}
			}
		}
	})
}

func TestAfterWhatWillNotComplete(t *testing.T) {
	pool := pgtest.Pool(t)
	first := claimOne(t, pool, awa.ClaimParams{Queue: "q"})
	next := enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q", After: []int64{first.ID}})
	last := enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q", After: []int64{next}, RunAt: time.Now().Add(time.Hour)})
	must[awa.JobState](t)(queue.Fail(t.Context(), pool, awa.FailParams{Receipt: first.Receipt, Terminal: true}))
	for _, id := range []int64{next, last} {
		must[[]awa.TaskReport](t)(queue.Maintain(t.Context(), pool))
		if j := must[awa.JobInfo](t)(queue.GetJob(t.Context(), pool, id)); j.State != awa.StateCancelled {
			t.Errorf("job %d is %s", id, j.State)
		}
	}
	for want, after := range map[error]int64{awa.ErrWrongState: first.ID, awa.ErrNotFound: 1 << 40} {
		for name, add := range enqueuers {
			if _, err := add(t, pool, awa.EnqueueParams{Kind: "k", After: []int64{after}}); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
	}
}

func TestQueueFull(t *testing.T) {
	pool := pgtest.Pool(t)
	settings := func(onFull string) {
		t.Helper()
		err := queue.ConfigureQueue(t.Context(), pool, "q", map[string]any{"max_depth": 2, "on_full": onFull})
		if err != nil {
			t.Fatal(err)
		}
	}
	settings("reject")
	enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q"})
	two := awa.EnqueueManyParams{Kind: "k", Queue: "q", Args: must[[]json.RawMessage](t)(awa.ArgsOf([]int{1, 2}))}
	if _, err := queue.EnqueueMany(t.Context(), pool, two); !errors.Is(err, awa.ErrQueueFull) {
		t.Errorf("two more: %v", err)
	}
	enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q"})
	for name, add := range enqueuers {
		if _, err := add(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q"}); !errors.Is(err, awa.ErrQueueFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
	settings("warn")
	enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q"})
	if n := counts(t, pool, "q").Available; n != 3 {
		t.Errorf("%d jobs wait", n)
	}
}

func TestFollowUps(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		for name, add := range enqueuers {
			q := t.Name() + name
			after := &awa.FollowUps{
				Completed: []awa.FollowUp{{
					Kind: "it's done", Args: []int{1}, Queue: q + " next", Priority: 1, MaxAttempts: 3, Tags: []string{"t"},
					Metadata: json.RawMessage(`{"m":1}`), OrderingKey: "o", Deadline: time.Hour, ConcurrencyKey: "c",
				}, {
					Kind: "later", Delay: time.Hour, FollowUps: &awa.FollowUps{Completed: []awa.FollowUp{{Kind: "last"}}},
				}},
				Failed:    []awa.FollowUp{{Kind: "failed"}},
				Exhausted: []awa.FollowUp{{Kind: "exhausted"}},
			}
			first := must[int64](t)(add(t, pool, awa.EnqueueParams{Kind: "k", Queue: q, FollowUps: after}))
			must[bool](t)(queue.Complete(t.Context(), pool, claim(t, pool, q, 1)[0].Receipt))
			next := claim(t, pool, q+" next", 10)
			if len(next) != 1 {
				t.Fatalf("%s: %+v", name, next)
			}
			var metadata struct {
				M       int
				Follows int64 `json:"awa:follows"`
			}
			if err := json.Unmarshal(next[0].Metadata, &metadata); err != nil {
				t.Fatal(err)
			}
			if j := next[0]; j.Kind != "it's done" || string(j.Args) != "[1]" || j.Priority != 1 || j.MaxAttempts != 3 ||
				len(j.Tags) != 1 || j.DeadlineAt.IsZero() || metadata.M != 1 || metadata.Follows != first {
				t.Errorf("%s: %+v, metadata %s", name, j, j.Metadata)
			}
			if c := counts(t, pool, q); c.Scheduled != 1 || c.Available != 0 {
				t.Errorf("%s: %+v", name, c)
			}
			for want, p := range map[string]awa.EnqueueParams{
				"failed":    {Kind: "k", Queue: q + " f", FollowUps: after},
				"exhausted": {Kind: "k", Queue: q + " e", FollowUps: after, MaxAttempts: 1},
			} {
				must[int64](t)(add(t, pool, p))
				must[awa.JobState](t)(queue.Fail(t.Context(), pool,
					awa.FailParams{Receipt: claim(t, pool, p.Queue, 1)[0].Receipt, Terminal: want == "failed"}))
				if jobs := claim(t, pool, p.Queue, 10); len(jobs) != 1 || jobs[0].Kind != want {
					t.Errorf("%s: %s is followed by %+v", name, want, jobs)
				}
			}
		}
	})
}

func TestFollowUpsAreChecked(t *testing.T) {
	pool := pgtest.Pool(t)
	for name, add := range enqueuers {
		bad := &awa.FollowUps{Completed: []awa.FollowUp{{Kind: "k", FollowUps: &awa.FollowUps{Failed: []awa.FollowUp{{}}}}}}
		if _, err := add(t, pool, awa.EnqueueParams{Kind: "k", FollowUps: bad}); !errors.Is(err, awa.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := add(t, pool, awa.EnqueueParams{Kind: "k", FollowUps: &awa.FollowUps{
			Completed: []awa.FollowUp{{Kind: "k", Args: func() {}}}}}); err == nil {
			t.Errorf("%s: a function was encoded", name)
		}
	}
}
