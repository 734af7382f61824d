package awa_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestEnqueueSendsEveryField(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		name := t.Name() // with a quote and a backslash
		name += `'"\`
		runAt := time.Now().Add(-time.Hour).Truncate(time.Microsecond)
		before := time.Now()
		id := enqueue(t, pool, awa.EnqueueParams{
			Kind: "send '\\ \"mail", Args: map[string]any{"to": "a'b\\c"}, Queue: name, Priority: 1,
			RunAt: runAt, MaxAttempts: 3, Tags: []string{"a", `b"{},'\`}, Metadata: json.RawMessage(`{"m":[1]}`),
			OrderingKey: "o", Deadline: 90*time.Second + time.Microsecond,
		})
		jobs := claim(t, pool, name, 10)
		if len(jobs) != 1 {
			t.Fatalf("claimed %d jobs", len(jobs))
		}
		j := jobs[0]
		if j.ID != id || j.Receipt.JobID != id || j.Kind != "send '\\ \"mail" || j.Queue != name || j.Priority != 1 ||
			j.Attempt != 1 || j.MaxAttempts != 3 || !j.RunAt.Equal(runAt) ||
			!reflect.DeepEqual(j.Tags, []string{"a", `b"{},'\`}) || string(j.Metadata) != `{"m": [1]}` ||
			j.Progress != nil || j.Errors != nil {
			t.Errorf("%+v", j)
		}
		var args struct{ To string }
		if err := j.Bind(&args); err != nil || args.To != "a'b\\c" {
			t.Errorf("args %s: %v", j.Args, err)
		}
		if j.CreatedAt.Before(before.Add(-time.Minute)) || j.CreatedAt.After(time.Now().Add(time.Minute)) {
			t.Errorf("created at %v", j.CreatedAt)
		}
		if d := time.Until(j.DeadlineAt); d < time.Minute || d > 2*time.Minute {
			t.Errorf("deadline in %v", d)
		}
		if d := time.Until(j.LeaseExpiresAt); d < 4*time.Minute || d > 6*time.Minute {
			t.Errorf("lease ends in %v", d)
		}
	})
}

func TestEnqueueLeavesDefaultsToTheServer(t *testing.T) {
	pool := pgtest.Pool(t)
	enqueue(t, pool, awa.EnqueueParams{Kind: "k"})
	j := claim(t, pool, "default", 1)[0]
	if string(j.Args) != "{}" || string(j.Metadata) != "{}" || j.Priority != 2 || j.MaxAttempts != 25 ||
		j.Tags != nil || !j.DeadlineAt.IsZero() {
		t.Errorf("%+v", j)
	}
}

func TestEnqueueInTheFuture(t *testing.T) {
	pool := pgtest.Pool(t)
	enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q", RunAt: time.Now().Add(time.Hour)})
	if jobs := claim(t, pool, "q", 1); len(jobs) != 0 {
		t.Errorf("claimed %v", jobs)
	}
	if c := counts(t, pool, "q"); c.Scheduled != 1 {
		t.Errorf("%+v", c)
	}
}

func TestEnqueueRefusesWhatIsOutsideItsLimits(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		for _, p := range []awa.EnqueueParams{
			{},
			{Kind: "k", Priority: 5},
			{Kind: "k", Priority: -1},
			{Kind: "k", Priority: math.MaxInt},
			{Kind: "k", MaxAttempts: 1001},
			{Kind: "k", MaxAttempts: math.MinInt},
			{Kind: "k", Tags: make([]string, 21)},
			{Kind: "k", Queue: fmt.Sprintf("%0201d", 0)},
			{Kind: "a\x00b"},
			{Kind: "k", Args: json.RawMessage(`{`)},
			{Kind: "k", Args: "a\x00b"},
			{Kind: "k", Args: func() {}},
			{Kind: "k", Metadata: math.NaN()},
			{Kind: "k", FollowUps: &awa.FollowUps{Completed: []awa.FollowUp{{Kind: "f", Args: func() {}}}}},
			{Kind: "k", FollowUps: &awa.FollowUps{Completed: []awa.FollowUp{{Kind: "f", Delay: -1}}}},
			{Kind: "k", Deadline: -999},
			{Kind: "k", RunAt: time.Date(300_000, 1, 1, 0, 0, 0, 0, time.UTC)},
		} {
			id, err := queue.Enqueue(t.Context(), pool, p)
			if !errors.Is(err, awa.ErrInvalidArgument) || id != 0 {
				t.Errorf("%+v: %d, %v", p, id, err)
			}
		}
		if c := counts(t, pool, "default"); c.Available != 0 {
			t.Errorf("%+v", c)
		}
	})
}

func TestEnqueueManyKeepsTheOrder(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		type item struct {
			I int    `json:"i"`
			S string `json:"s"`
		}
		items := make([]item, 1000)
		for i := range items {
			items[i] = item{i, `'"\{},` + "\n"}
		}
		args := must[[]json.RawMessage](t)(awa.ArgsOf(items))
		ids := must[[]int64](t)(queue.EnqueueMany(t.Context(), pool, awa.EnqueueManyParams{
			Kind: "k", Args: args, Queue: t.Name(), Priority: 3, MaxAttempts: 7,
			Tags: []string{"t"}, Metadata: map[string]int{"m": 1}, OrderingKey: "o", Deadline: time.Hour,
		}))
		jobs := claim(t, pool, t.Name(), len(items)+1)
		if len(jobs) != len(items) || len(ids) != len(items) {
			t.Fatalf("%d ids, %d jobs", len(ids), len(jobs))
		}
		for i, j := range jobs {
			var got item
			if err := j.Bind(&got); err != nil || got != items[i] || j.ID != ids[i] {
				t.Fatalf("job %d of id %d is %+v: %v", i, ids[i], j, err)
			}
		}
		if j := jobs[0]; j.Priority != 3 || j.MaxAttempts != 7 || !reflect.DeepEqual(j.Tags, []string{"t"}) ||
			string(j.Metadata) != `{"m": 1}` || j.DeadlineAt.IsZero() {
			t.Errorf("%+v", j)
		}
	})
}

func TestEnqueueManyOfNothing(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		ids, err := queue.EnqueueMany(t.Context(), pool, awa.EnqueueManyParams{Kind: "k"})
		if err != nil || len(ids) != 0 {
			t.Errorf("many: %v, %v", ids, err)
		}
		ids, err = queue.EnqueueMixed(t.Context(), pool, "", nil)
		if err != nil || len(ids) != 0 {
			t.Errorf("mixed: %v, %v", ids, err)
		}
	})
}

func TestEnqueueMixed(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		a, b := t.Name()+" a", t.Name()+" b"
		ids := must[[]int64](t)(queue.EnqueueMixed(t.Context(), pool, a, []awa.EnqueueParams{
			{Kind: "one", Args: []int{1}, Deadline: time.Hour},
			{Kind: "two", Queue: b, Priority: 1, MaxAttempts: 2, Tags: []string{"x"}, Metadata: []byte(`{"m":1}`)},
			{Kind: "three", RunAt: time.Now().Add(time.Hour)},
		}))
		if len(ids) != 3 {
			t.Fatal(ids)
		}
		first, second := claim(t, pool, a, 10), claim(t, pool, b, 10)
		if len(first) != 1 || first[0].ID != ids[0] || string(first[0].Args) != "[1]" || first[0].DeadlineAt.IsZero() {
			t.Errorf("%+v", first)
		}
		if len(second) != 1 || second[0].ID != ids[1] || second[0].Priority != 1 || second[0].MaxAttempts != 2 ||
			!reflect.DeepEqual(second[0].Tags, []string{"x"}) || string(second[0].Metadata) != `{"m": 1}` {
			t.Errorf("%+v", second)
		}
		if c := counts(t, pool, a); c.Scheduled != 1 || c.Running != 1 {
			t.Errorf("%+v", c)
		}
	})
}

func TestEnqueueMixedAddsAllOrNothing(t *testing.T) {
	pool := pgtest.Pool(t)
	_, err := queue.EnqueueMixed(t.Context(), pool, "q", []awa.EnqueueParams{{Kind: "good"}, {Kind: "bad", Priority: 9}})
	if !errors.Is(err, awa.ErrInvalidArgument) {
		t.Error(err)
	}
	if c := counts(t, pool, "q"); c.Available != 0 {
		t.Errorf("%+v", c)
	}
}

// The server takes instants from 4714 BC to 294276, one microsecond after the other.
func TestEnqueueAtAnyInstant(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		for _, at := range []time.Time{
			time.Unix(1<<63-62135596801, 999999999), // the last one that Go knows
			time.Date(600000, 1, 1, 0, 0, 0, 0, time.UTC),
			time.Date(294277, 1, 1, 0, 0, 0, 0, time.UTC),
			time.Date(-600000, 1, 1, 0, 0, 0, 0, time.UTC),
		} {
			if id, err := queue.Enqueue(t.Context(), pool, awa.EnqueueParams{Kind: "k", Queue: t.Name(), RunAt: at}); err == nil {
				t.Errorf("%v: job %d", at, id)
			}
		}
		odd := time.Date(2999, 1, 1, 0, 0, 0, 123456999, time.FixedZone("", 3600+30*60+16)) // an offset with seconds
		want := odd.Truncate(time.Microsecond)
		ids := append(must[[]int64](t)(queue.EnqueueMixed(t.Context(), pool, t.Name(), []awa.EnqueueParams{{Kind: "k", RunAt: want}})),
			enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: t.Name(), RunAt: odd}))
		for _, id := range ids {
			if j := must[awa.JobInfo](t)(queue.GetJob(t.Context(), pool, id)); !j.RunAt.Equal(want) {
				t.Errorf("run at %v, want %v", j.RunAt, want)
			}
		}
		enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: t.Name(), RunAt: time.Date(2, 1, 1, 0, 0, 0, 0, time.UTC)})
		for _, q := range must[[]awa.QueueOverview](t)(queue.Overview(t.Context(), pool)) {
			if q.Queue == t.Name() && q.OldestWaiting < 280*365*24*time.Hour {
				t.Errorf("the first job waits for %v", q.OldestWaiting)
			}
		}
	})
}

func TestEnqueueMixedNamesTheJobThatCannotBeSent(t *testing.T) {
	pool := pgtest.Pool(t)
	for _, bad := range []awa.EnqueueParams{
		{Kind: "k", Args: func() {}},
		{Kind: "k", Args: json.RawMessage(`{`)},
		{Kind: "k", Args: json.RawMessage(``)},
		{Kind: "k", OrderingKey: "\xff"},
		{Kind: "k", Tags: []string{"a", "\xff"}},
		{Kind: "k", FollowUps: &awa.FollowUps{Failed: []awa.FollowUp{{Kind: "\xff"}}}},
	} {
		_, err := queue.EnqueueMixed(t.Context(), pool, "q", []awa.EnqueueParams{{Kind: "k"}, bad})
		if !errors.Is(err, awa.ErrInvalidArgument) || !strings.Contains(err.Error(), "job 1: ") {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if c := counts(t, pool, "q"); c.Available != 0 {
		t.Errorf("%+v", c)
	}
}

func TestNumbersThatAreNoIntegers(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		_, claimed := queue.Claim(t.Context(), pool, awa.ClaimParams{Queue: "q", MaxJobs: math.MaxInt})
		_, progress := queue.SetProgress(t.Context(), pool, awa.ProgressParams{Percent: math.MinInt})
		_, backoff := queue.Backoff(t.Context(), pool, math.MaxInt)
		for what, err := range map[string]error{"claim": claimed, "progress": progress, "backoff": backoff} {
			if !errors.Is(err, awa.ErrInvalidArgument) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}
