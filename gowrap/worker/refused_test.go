package worker_test

import (
	"context"
	"errors"
	"testing"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// A job of which the server refuses to write what became of it, for whatever reason,
// does not keep those that are written with it.
func TestRefusedJob(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	const many, bad = 20, 7
	for _, sql := range []string{
		`create function public.refuse () returns trigger language plpgsql as
		 $$ begin if new.args ->> 'n' = '7' then raise exception using errcode = '22000'; end if; return new; end $$`,
		`create trigger refuse before insert on awa.deferred_jobs for each row execute function public.refuse()`,
	} {
		exec(t, pool, sql)
	}
	var ids [many]int64
	for n := range ids {
		ids[n] = enqueue(t, pool, awa.EnqueueParams{Args: task{n}})
	}
	mux := tasks(func(context.Context, *worker.Job[task]) error { return errBroken })
	c, err := worker.New(worker.Config{Pool: pool, DisableMaintain: true,
		Queues: map[string]worker.QueueConfig{"default": {MaxWorkers: many}}}, mux)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n, id := range ids {
		if n != bad {
			reach(t, pool, id, awa.StateRetryable)
		}
	}
	reach(t, pool, ids[bad], awa.StateRunning)
	if err := c.Stop(context.Background()); !errors.Is(err, worker.ErrUnfinished) {
		t.Errorf("stop: %v", err)
	}
	requireHealthy(t, pool)
}
