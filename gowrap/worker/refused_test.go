package worker_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/awatest"
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

// The database may have an encoding that lacks what a handler's error says. The job is finished
// all the same, and its error tells as much as it can.
func TestErrorInForeignLetters(t *testing.T) {
	url := pgtest.Empty(t)
	admin := newPool(t, url, nil)
	name := rows[string](t, admin, `select current_database() || '_latin1'`)[0]
	exec(t, admin, `create database `+name+` encoding 'LATIN1' locale 'C' template template0`)
	t.Cleanup(func() { exec(t, admin, `drop database `+name+` with (force)`) })
	pool := newPool(t, url, func(cfg *pgxpool.Config) {
		cfg.ConnConfig.Database = name
		cfg.ConnConfig.RuntimeParams["client_encoding"] = "UTF8"
	})
	awatest.Migrate(t, pool)
	results := []error{errBroken, errors.New("é 日本 😀"), worker.Cancel("日本"), worker.Terminal(errors.New("日本"))}
	var ids []int64
	for n := range results {
		ids = append(ids, enqueue(t, pool, awa.EnqueueParams{Args: task{n}}))
	}
	c := start(t, worker.Config{Pool: pool, DisableMaintain: true},
		tasks(func(_ context.Context, job *worker.Job[task]) error { return results[job.Args.N] }))
	expectOutcome(t, pool, ids[0], awa.StateRetryable, 1, "broken")
	expectOutcome(t, pool, ids[1], awa.StateRetryable, 1, `\\u65e5\\u672c \\ud83d\\ude00`)
	expectOutcome(t, pool, ids[2], awa.StateCancelled, 1, `\\u65e5\\u672c`)
	expectOutcome(t, pool, ids[3], awa.StateFailed, 1, `\\u65e5\\u672c`)
	stop(t, c)
	requireHealthy(t, pool)
}
