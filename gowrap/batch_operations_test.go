package awa_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestBatchOperation(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		name := t.Name()
		ids := []int64{
			enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: name, Tags: []string{"red"}}),
			enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: name}),
			enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: name, RunAt: time.Now().Add(time.Hour)}),
		}
		j := must[awa.JobInfo](t)(queue.GetJob(t.Context(), pool, ids[0]))
		for want, f := range map[int64][]awa.BatchFilter{
			0: {{Queue: "none"}, {Queue: name, CreatedBefore: j.CreatedAt}, {Queue: name, Kind: "other"}},
			1: {{Queue: name, Tag: "red"}, {Queue: name, States: []awa.JobState{awa.StateScheduled}}, {MinID: ids[1], MaxID: ids[1]}},
			2: {{Queue: name, States: []awa.JobState{awa.StateAvailable, awa.StateRunning}}, {IDs: []int64{ids[0], ids[2], -1}}},
			3: {{Queue: name}, {Queue: name, CreatedAfter: j.CreatedAt, MinID: ids[0]}},
		} {
			for _, f := range f {
				if got := must[int64](t)(queue.CountBatchJobs(t.Context(), pool, awa.BatchParams{Operation: awa.OperationCancel, Filter: f})); got != want {
					t.Errorf("%+v: %d, want %d", f, got, want)
				}
			}
		}
		id := must[int64](t)(queue.StartBatchOperation(t.Context(), pool, awa.BatchParams{
			Operation: awa.OperationCancel,
			Filter:    awa.BatchFilter{Queue: name, IDs: ids},
			Settings:  awa.BatchSettings{Reason: "enough"},
		}))
		before := must[awa.BatchOperation](t)(queue.GetBatchOperation(t.Context(), pool, id))
		if before.State != awa.BatchPending || before.Finished() || !before.StartedAt.IsZero() || before.LastError != "" {
			t.Errorf("%+v", before)
		}
		after := must[awa.BatchOperation](t)(queue.RunBatchOperation(t.Context(), pool, id, 0))
		if after.State != awa.BatchDone || !after.Finished() || after.Matched != 3 || after.Affected != 3 || after.Operation != awa.OperationCancel ||
			string(after.Settings) != `{"reason": "enough"}` || after.Cursor < ids[2] {
			t.Errorf("%+v", after)
		}
		if must[bool](t)(queue.CancelBatchOperation(t.Context(), pool, id)) {
			t.Error("a finished operation was cancelled")
		}
		if n := len(must[[]awa.BatchOperation](t)(queue.ListBatchOperations(t.Context(), pool, awa.BatchPending, 0))); n != 0 {
			t.Errorf("%d operations are pending", n)
		}
	})
}

func TestBatchOperationErrors(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	_, err := queue.StartBatchOperation(t.Context(), pool, awa.BatchParams{Operation: awa.OperationCancel})
	if !errors.Is(err, awa.ErrInvalidArgument) {
		t.Errorf("an empty filter: %v", err)
	}
	if _, err := queue.GetBatchOperation(t.Context(), pool, -1); !errors.Is(err, awa.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	if _, err := queue.RunBatchOperation(t.Context(), pool, -1, 0); !errors.Is(err, awa.ErrNotFound) {
		t.Errorf("run: %v", err)
	}
	if _, err := queue.ListBatchOperations(t.Context(), pool, "", -1); !errors.Is(err, awa.ErrInvalidArgument) {
		t.Errorf("list: %v", err)
	}
	if _, err := queue.CountBatchJobs(t.Context(), pool, awa.BatchParams{Operation: "explode"}); !errors.Is(err, awa.ErrInvalidArgument) {
		t.Errorf("count: %v", err)
	}
}
