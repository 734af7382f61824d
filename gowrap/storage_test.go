package awa_test

import (
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
		if err := queue.CheckpointTerminalCounters(t.Context(), pool); err != nil {
			t.Error(err)
		}
		var total int64
		for _, c := range must[[]awa.RebuiltCounter](t)(queue.RebuildTerminalCounters(t.Context(), pool)) {
			if c.Drift() != 0 {
				t.Errorf("%+v", c)
			}
			if c.Queue == t.Name() {
				total += c.After
			}
		}
		if c := counts(t, pool, t.Name()); c.Completed != 5 || c.Terminal != total && c.PrunedTerminal == 0 {
			t.Errorf("%+v, rebuilt %d", c, total)
		}
		healthy(t, pool)
	})
}

func TestReset(t *testing.T) {
	pool := pgtest.Pool(t)
	finish(t, pool, "q", 3)
	enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q"})
	if err := queue.Reset(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	if c := counts(t, pool, "q"); c != (awa.QueueCounts{Queue: "q"}) {
		t.Errorf("%+v", c)
	}
	finish(t, pool, "q", 3)
	healthy(t, pool)
}
