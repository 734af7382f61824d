package awa_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

// finish completes n new jobs of a queue.
func finish(t *testing.T, db awa.DBTX, name string, n int) {
	t.Helper()
	for range n {
		enqueue(t, db, awa.EnqueueParams{Kind: "k", Queue: name})
	}
	for _, j := range claim(t, db, name, n) {
		if !must[bool](t)(queue.Complete(t.Context(), db, j.Receipt)) {
			t.Fatalf("%v is stale", j.Receipt)
		}
	}
}

func healthy(t *testing.T, db awa.DBTX) {
	t.Helper()
	for _, v := range must[[]awa.Violation](t)(queue.Check(t.Context(), db)) {
		t.Errorf("%+v", v)
	}
}

func TestCountsOfAnUnknownQueue(t *testing.T) {
	pool := pgtest.Pool(t)
	if c := counts(t, pool, "nobody"); c != (awa.QueueCounts{Queue: "nobody"}) {
		t.Errorf("%+v", c)
	}
}

func TestStorageCalls(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		finish(t, pool, t.Name(), 5)
		for range 2 {
			for _, r := range must[[]awa.TaskReport](t)(queue.Maintain(t.Context(), pool)) {
				if r.Task == "" || r.Outcome == "" {
					t.Errorf("%+v", r)
				}
			}
		}
		if outcome := must[string](t)(queue.Rotate(t.Context(), pool)); outcome == "" {
			t.Error("rotate said nothing")
		}
		if outcome := must[string](t)(queue.Prune(t.Context(), pool)); outcome == "" {
			t.Error("prune said nothing")
		}
		must[int64](t)(queue.CheckpointTerminalCounters(t.Context(), pool))
		for _, c := range must[[]awa.RebuiltCounter](t)(queue.RebuildTerminalCounters(t.Context(), pool)) {
			t.Errorf("%+v", c)
		}
		slots := must[[]awa.SegmentStatus](t)(queue.StorageStatus(t.Context(), pool))
		current := 0
		for _, s := range slots {
			if s.Phase == "current" && s.Generation != nil && s.RotatedAt != nil {
				current++
			}
		}
		if len(slots) < 3 || current != 1 {
			t.Errorf("%+v", slots)
		}
		if c := counts(t, pool, t.Name()); c.Completed+c.PrunedTerminal != 5 || c.Completed != c.Terminal {
			t.Errorf("%+v", c)
		}
		healthy(t, pool)
	})
}

func TestReset(t *testing.T) {
	pool := pgtest.Pool(t)
	finish(t, pool, "q", 3)
	enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q"})
	if err := queue.Reset(t.Context(), pool, awa.ResetParams{}); err != nil {
		t.Fatal(err)
	}
	if c := counts(t, pool, "q"); c != (awa.QueueCounts{Queue: "q"}) {
		t.Errorf("%+v", c)
	}
	finish(t, pool, "q", 3)
	healthy(t, pool)
}

func TestResetKeepsConfigurationIfTold(t *testing.T) {
	pool := pgtest.Pool(t)
	for keep, claimed := range map[bool]int{true: 0, false: 1} {
		if err := queue.PauseQueue(t.Context(), pool, "q"); err != nil {
			t.Fatal(err)
		}
		if err := queue.Reset(t.Context(), pool, awa.ResetParams{KeepConfig: keep}); err != nil {
			t.Fatal(err)
		}
		enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q"})
		if jobs := claim(t, pool, "q", 1); len(jobs) != claimed {
			t.Errorf("keep %v: claimed %d jobs", keep, len(jobs))
		}
	}
}

func TestQueueSettings(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		name := t.Name()
		if err := queue.ConfigureQueue(t.Context(), pool, name, map[string]any{"enqueue_shards": 4}); err != nil {
			t.Fatal(err)
		}
		err := queue.ConfigureQueue(t.Context(), pool, name, map[string]any{"no_such_setting": 4})
		if !errors.Is(err, awa.ErrInvalidArgument) {
			t.Error(err)
		}
		for range 20 {
			enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: name})
		}
		if err := queue.PauseQueue(t.Context(), pool, name); err != nil {
			t.Fatal(err)
		}
		if jobs := claim(t, pool, name, 20); len(jobs) != 0 {
			t.Errorf("claimed %d jobs of a paused queue", len(jobs))
		}
		if err := queue.ResumeQueue(t.Context(), pool, name); err != nil {
			t.Fatal(err)
		}
		if jobs := claim(t, pool, name, 20); len(jobs) != 20 {
			t.Errorf("claimed %d jobs of four shards", len(jobs))
		}
	})
}

func TestRemoveQueue(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		name := t.Name()
		enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: name})
		if removed, err := queue.RemoveQueue(t.Context(), pool, name); removed || !errors.Is(err, awa.ErrWrongState) {
			t.Errorf("with a job: %v, %v", removed, err)
		}
		if err := queue.Reset(t.Context(), pool, awa.ResetParams{}); err != nil {
			t.Fatal(err)
		}
		if err := queue.PauseQueue(t.Context(), pool, name); err != nil {
			t.Fatal(err)
		}
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		enqueue(t, tx, awa.EnqueueParams{Kind: "k", Queue: "other"})
		if removed, err := queue.RemoveQueue(t.Context(), pool, name); removed || !errors.Is(err, awa.ErrBusy) {
			t.Errorf("beside an open transaction: %v, %v", removed, err)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, want := range []bool{true, false} {
			if removed, err := queue.RemoveQueue(t.Context(), pool, name); removed != want || err != nil {
				t.Errorf("empty: %v, %v, want %v", removed, err, want)
			}
		}
		healthy(t, pool)
	})
}

func TestRebase(t *testing.T) {
	pool := pgtest.Pool(t)
	finish(t, pool, "q", 3)
	enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q"})
	if n := must[int64](t)(queue.Rebase(t.Context(), pool)); n != 1 {
		t.Errorf("%d jobs wait", n)
	}
	if c := counts(t, pool, "q"); c.Available != 1 || c.Completed != 3 {
		t.Errorf("%+v", c)
	}
	if jobs := claim(t, pool, "q", 10); len(jobs) != 1 {
		t.Errorf("claimed %v", jobs)
	}
	healthy(t, pool)
}
