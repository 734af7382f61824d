package worker

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
)

// A job that was given back before its handler began, because handlers left no processor to it,
// may run elsewhere by now. It does not begin any more.
func TestGivenBackBeforeItBegan(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), "postgres://127.0.0.1:1/none") // never used
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	begun := 0
	mux := NewMux()
	mux.Handle("task", func(context.Context, *Attempt) error { begun++; return nil })
	c, err := New(Config{Pool: pool, Queues: map[string]QueueConfig{"default": {}}}, mux)
	if err != nil {
		t.Fatal(err)
	}
	c.values = t.Context()
	const jobs = 3
	b := newBatch(c.queues[0], "w", slices.Repeat([]awa.Job{{Kind: "task"}}, jobs))
	c.live.add(b)
	c.handlers.Add(jobs)
	if late := c.releaseAll(); late != 0 {
		t.Errorf("%d handlers count as running", late)
	}
	c.handleNext(b)
	c.handlers.Wait()
	if begun > 0 {
		t.Errorf("%d began", begun)
	}
	if n := c.finisher.unwritten(); n != jobs {
		t.Errorf("%d of %d jobs go back", n, jobs)
	}
}
