package awa_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestGetJob(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		name, key := t.Name(), []byte(t.Name())
		at := time.Now().Add(time.Hour).Truncate(time.Microsecond)
		id := enqueue(t, pool, awa.EnqueueParams{
			Kind: "k", Queue: name, Args: []int{1}, Priority: 3, RunAt: at, MaxAttempts: 7, Tags: []string{"x"},
			Metadata: map[string]int{"m": 1}, UniqueKey: key, UniqueStates: awa.InStates(awa.StateScheduled, awa.StateWaitingExternal),
		})
		j := must[awa.JobInfo](t)(queue.GetJob(t.Context(), pool, id))
		if j.CreatedAt.IsZero() || !j.RunAt.Equal(at) || !bytes.Equal(j.UniqueKey, key) {
			t.Errorf("%+v", j)
		}
		if len(j.Errors) != 0 || len(j.Progress) != 0 {
			t.Errorf("errors %s, progress %s", j.Errors, j.Progress)
		}
		j.CreatedAt, j.RunAt, j.UniqueKey, j.Errors, j.Progress = time.Time{}, time.Time{}, nil, nil, nil
		want := awa.JobInfo{
			ID: id, Kind: "k", Queue: name, Args: []byte("[1]"), State: awa.StateScheduled, Priority: 3, MaxAttempts: 7,
			Tags: []string{"x"}, Metadata: []byte(`{"m": 1}`), UniqueStates: awa.InStates(awa.StateScheduled, awa.StateWaitingExternal),
		}
		if !reflect.DeepEqual(j, want) {
			t.Errorf("%+v, want %+v", j, want)
		}
		if _, err := queue.GetJob(t.Context(), pool, -1); !errors.Is(err, awa.ErrNotFound) {
			t.Error(err)
		}
	})
}

// Any timestamp may be a run_at; one that Go cannot express must not hide the jobs beside it.
func TestJobsDueForEver(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		name := t.Name()
		for _, at := range []string{"-infinity", "4714-11-24 BC", "infinity"} {
			if _, err := pool.Exec(t.Context(), "select awa.enqueue('k', queue => $1::text, run_at => $2::text::timestamptz)", name, at); err != nil {
				t.Fatal(err)
			}
		}
		jobs := must[[]awa.JobInfo](t)(queue.ListJobs(t.Context(), pool, awa.ListJobsParams{Queue: name}))
		if len(jobs) != 3 || !jobs[0].RunAt.IsZero() || jobs[1].RunAt.Year() != -4713 || !jobs[2].RunAt.IsZero() {
			t.Fatalf("%+v", jobs)
		}
		if j := must[awa.JobInfo](t)(queue.GetJob(t.Context(), pool, jobs[2].ID)); j.State != awa.StateAvailable || !j.RunAt.IsZero() {
			t.Errorf("%+v", j)
		}
	})
}

func TestListJobs(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		name := t.Name()
		failed := fail(t, pool, awa.EnqueueParams{Kind: "a", Queue: name})
		waiting := enqueue(t, pool, awa.EnqueueParams{Kind: "a", Queue: name})
		other := enqueue(t, pool, awa.EnqueueParams{Kind: "b", Queue: name})
		for _, c := range []struct {
			p    awa.ListJobsParams
			want []int64
		}{
			{awa.ListJobsParams{Queue: name}, []int64{other, waiting, failed}},
			{awa.ListJobsParams{Limit: 2}, []int64{other, waiting}},
			{awa.ListJobsParams{Queue: name, Before: waiting}, []int64{failed}},
			{awa.ListJobsParams{Queue: name, Kind: "a", State: awa.StateAvailable}, []int64{waiting}},
			{awa.ListJobsParams{Queue: name, State: awa.StateRunning}, nil},
			{awa.ListJobsParams{Queue: "nobody"}, nil},
		} {
			var got []int64
			for _, j := range must[[]awa.JobInfo](t)(queue.ListJobs(t.Context(), pool, c.p)) {
				got = append(got, j.ID)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v: %v, want %v", c.p, got, c.want)
			}
		}
	})
}

func TestListJobsOfAnUnknownState(t *testing.T) {
	_, err := queue.ListJobs(t.Context(), pgtest.Pool(t), awa.ListJobsParams{State: "unknown"})
	if !errors.Is(err, awa.ErrInvalidArgument) {
		t.Error(err)
	}
}
