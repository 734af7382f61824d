package awa_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestClaimOfNothing(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		if jobs := claim(t, pool, "nobody", 5); jobs != nil {
			t.Errorf("claimed %v", jobs)
		}
	})
}

func TestClaimTakesOneUnlessToldMore(t *testing.T) {
	pool := pgtest.Pool(t)
	for range 5 {
		enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q"})
	}
	if jobs := claim(t, pool, "q", 0); len(jobs) != 1 {
		t.Errorf("claimed %d jobs", len(jobs))
	}
	if jobs := claim(t, pool, "q", 3); len(jobs) != 3 {
		t.Errorf("claimed %d jobs", len(jobs))
	}
}

// What a handler does to the JSON of its job stays with that job.
func TestClaimedJobsShareNothing(t *testing.T) {
	pool := pgtest.Pool(t)
	for range 2 {
		enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q"})
	}
	jobs := claim(t, pool, "q", 2)
	if err := json.Unmarshal([]byte(`42`), &jobs[0].Metadata); err != nil {
		t.Fatal(err)
	}
	clear(jobs[0].Args)
	if string(jobs[1].Metadata) != "{}" || string(jobs[1].Args) != "{}" {
		t.Errorf("metadata %s, args %q", jobs[1].Metadata, jobs[1].Args)
	}
}

func TestClaimRefusesBadArguments(t *testing.T) {
	pool := pgtest.Pool(t)
	for _, p := range []awa.ClaimParams{
		{Queue: "q", MaxJobs: -1},
		{Queue: "q", Lease: -time.Second},
	} {
		if _, err := queue.Claim(t.Context(), pool, p); !errors.Is(err, awa.ErrInvalidArgument) {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

func TestClaimSendsWorkerAndLease(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: t.Name()})
		jobs := must[[]awa.Job](t)(queue.Claim(t.Context(), pool, awa.ClaimParams{
			Queue: t.Name(), Worker: "o'brien", Lease: time.Hour,
		}))
		if len(jobs) != 1 {
			t.Fatalf("claimed %d jobs", len(jobs))
		}
		if d := time.Until(jobs[0].LeaseExpiresAt); d < 59*time.Minute || d > 61*time.Minute {
			t.Errorf("lease ends in %v", d)
		}
	})
}

func TestComplete(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: t.Name()})
		r := claim(t, pool, t.Name(), 1)[0].Receipt
		for i, want := range []bool{true, false} {
			if got := must[bool](t)(queue.Complete(t.Context(), pool, r)); got != want {
				t.Errorf("completion %d: %v", i+1, got)
			}
		}
		if got := must[bool](t)(queue.Complete(t.Context(), pool, awa.Receipt{ReadySlot: 3, BatchID: 1, JobID: 2, RunLease: 1})); got {
			t.Error("a receipt that nobody issued was accepted")
		}
		if c := counts(t, pool, t.Name()); c.Completed != 1 || c.Terminal != 1 || c.Running != 0 {
			t.Errorf("%+v", c)
		}
	})
}

func TestCompleteManyReturnsTheStaleOnes(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		var receipts []awa.Receipt
		for range 10 {
			enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: t.Name()})
		}
		for _, n := range []int{4, 6} {
			for _, j := range claim(t, pool, t.Name(), n) {
				receipts = append(receipts, j.Receipt)
			}
		}
		if stale := must[[]awa.Receipt](t)(queue.CompleteMany(t.Context(), pool, receipts[2:5])); len(stale) != 0 {
			t.Errorf("stale: %v", stale)
		}
		foreign := awa.Receipt{ReadySlot: 7, BatchID: -1, JobID: 1 << 60, RunLease: 9}
		stale := must[[]awa.Receipt](t)(queue.CompleteMany(t.Context(), pool, append(slices.Clone(receipts), foreign)))
		want := append(slices.Clone(receipts[2:5]), foreign)
		for _, r := range want {
			if !slices.Contains(stale, r) {
				t.Errorf("%v is not among the stale ones", r)
			}
		}
		if len(stale) != len(want) {
			t.Errorf("stale: %v", stale)
		}
		if stale := must[[]awa.Receipt](t)(queue.CompleteMany(t.Context(), pool, nil)); len(stale) != 0 {
			t.Errorf("stale of none: %v", stale)
		}
		if c := counts(t, pool, t.Name()); c.Completed != 10 || c.Running != 0 {
			t.Errorf("%+v", c)
		}
	})
}

func TestFail(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		fail := func(p awa.FailParams) awa.JobState {
			t.Helper()
			return must[awa.JobState](t)(queue.Fail(t.Context(), pool, p))
		}
		for range 3 {
			enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: t.Name()})
		}
		enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: t.Name(), MaxAttempts: 1})
		jobs := claim(t, pool, t.Name(), 4)
		for i, c := range []struct {
			params awa.FailParams
			want   awa.JobState
		}{
			{awa.FailParams{}, awa.StateRetryable},
			{awa.FailParams{Error: "it's \\ broken", RetryAfter: time.Hour}, awa.StateRetryable},
			{awa.FailParams{Error: "for good", Terminal: true}, awa.StateFailed},
			{awa.FailParams{Error: "attempts exhausted"}, awa.StateFailed},
		} {
			c.params.Receipt = jobs[i].Receipt
			if got := fail(c.params); got != c.want {
				t.Errorf("%+v: %q", c.params, got)
			}
			if got := fail(c.params); got != "" {
				t.Errorf("%+v, again: %q", c.params, got)
			}
		}
		if c := counts(t, pool, t.Name()); c.Failed != 2 || c.Retryable != 2 || c.Running != 0 {
			t.Errorf("%+v", c)
		}
	})
}

func TestFailManyReportsOnTheAccepted(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		for _, attempts := range []int{1, 2, 3} {
			enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: t.Name(), MaxAttempts: attempts})
		}
		jobs := claim(t, pool, t.Name(), 3)
		must[bool](t)(queue.Complete(t.Context(), pool, jobs[2].Receipt))
		want := map[awa.Receipt]awa.JobState{
			jobs[0].Receipt: awa.StateFailed, jobs[1].Receipt: awa.StateRetryable,
		}
		params := awa.FailManyParams{Errors: []string{"a", `b'"\`, ""}, RetryAfter: time.Hour}
		for _, j := range jobs {
			params.Receipts = append(params.Receipts, j.Receipt)
		}
		results := must[[]awa.FailManyResult](t)(queue.FailMany(t.Context(), pool, params))
		if len(results) != len(want) {
			t.Errorf("%v", results)
		}
		for _, r := range results {
			if state, ok := want[r.Receipt]; !ok || r.State != state {
				t.Errorf("%+v, want %q", r, state)
			}
		}
		params.Errors = []string{"too few"}
		if _, err := queue.FailMany(t.Context(), pool, params); !errors.Is(err, awa.ErrInvalidArgument) {
			t.Error(err)
		}
	})
}

func TestErrorsTravelWithTheJob(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: t.Name()})
		r := claim(t, pool, t.Name(), 1)[0].Receipt
		must[awa.JobState](t)(queue.Fail(t.Context(), pool,
			awa.FailParams{Receipt: r, Error: `broken "{}`, RetryAfter: time.Microsecond}))
		must[[]awa.TaskReport](t)(queue.Maintain(t.Context(), pool))
		jobs := claim(t, pool, t.Name(), 1)
		if len(jobs) != 1 || jobs[0].Attempt != 2 || len(jobs[0].Errors) != 1 || jobs[0].Receipt == r {
			t.Fatalf("%+v", jobs)
		}
		if stale := must[bool](t)(queue.Complete(t.Context(), pool, r)); stale {
			t.Error("the receipt of the first attempt was accepted")
		}
		if !must[bool](t)(queue.Complete(t.Context(), pool, jobs[0].Receipt)) {
			t.Error("the receipt of the second attempt was not accepted")
		}
	})
}

func TestBackoffGrows(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		first := must[time.Duration](t)(queue.Backoff(t.Context(), pool, 1))
		tenth := must[time.Duration](t)(queue.Backoff(t.Context(), pool, 10))
		last := must[time.Duration](t)(queue.Backoff(t.Context(), pool, 1000))
		if first <= 0 || first > 10*time.Second || tenth < 10*first || last < tenth || last > 48*time.Hour {
			t.Errorf("%v, %v, %v", first, tenth, last)
		}
	})
}
