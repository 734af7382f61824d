package worker_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// Of two clients one maintains; when it stops the other one takes over.
func TestOneMaintains(t *testing.T) {
	url := pgtest.URL(t)
	pool := newPool(t, url, nil)
	mux := tasks(func(context.Context, *worker.Job[task]) error { return nil })
	leaders := func() []string {
		return rows[string](t, pool, `select w.worker from awa.workers as w
			join pg_stat_activity as a on a.application_name = w.worker
			join pg_locks as l on l.pid = a.pid and l.locktype = 'advisory' and l.objsubid = 1
			group by 1`)
	}
	clients := map[string]*worker.Client{}
	for _, name := range []string{"a", "b"} {
		own := newPool(t, url, func(cfg *pgxpool.Config) { cfg.ConnConfig.RuntimeParams["application_name"] = name })
		clients[name] = start(t, worker.Config{Pool: own, Name: name}, mux)
	}
	eventually(t, func() bool { return len(leaders()) == 1 }, func() any { return leaders() })
	first := leaders()[0]
	stop(t, clients[first])
	eventually(t, func() bool { l := leaders(); return len(l) == 1 && l[0] != first }, func() any { return leaders() })
}

// A database may make every transaction SERIALIZABLE unless told otherwise. A job that
// comes due needs maintenance.
func TestSerializableByDefault(t *testing.T) {
	url := pgtest.URL(t)
	exec(t, pgtest.Conn(t, url), `do $$ begin
		execute format('alter role current_user in database %I set default_transaction_isolation = serializable', current_database());
	end $$`)
	pool := newPool(t, url, func(cfg *pgxpool.Config) {
		cfg.ConnConfig.RuntimeParams["default_transaction_isolation"] = "read committed"
	})
	mux := tasks(func(context.Context, *worker.Job[task]) error { return nil })
	for _, name := range []string{"a", "b"} {
		start(t, worker.Config{Pool: newPool(t, url, nil), Name: name}, mux)
	}
	enqueueMany(t, pool, "default", 200)
	enqueue(t, pool, awa.EnqueueParams{Args: task{}, RunAt: time.Now().Add(100 * time.Millisecond)})
	eventually(t, func() bool { return counts(t, pool, "default").Completed == 201 },
		func() any { return counts(t, pool, "default") })
}

// A task that fails is told, and the others are done all the same.
func TestATaskFails(t *testing.T) {
	url := pgtest.URL(t)
	conn := pgtest.Conn(t, url)
	exec(t, conn, `select awa.enqueue('k', queue => 'other')`)
	exec(t, conn, `select awa.complete(c.receipt) from awa.claim('other') as c`)
	exec(t, conn, `select awa.rotate()`)
	exec(t, conn, `update awa.segment_rotations set rotated_at = now() - interval '1 day' where generation = 0`)
	exec(t, conn, `update awa.segment_rotations set rotated_at = now() - interval '2 hours' where generation = 1`)
	exec(t, conn, `alter table awa.segment_prunes add constraint no_room check (false) not valid`)
	pool := newPool(t, url, nil)
	log := &logbook{}
	start(t, worker.Config{Pool: pool, Logger: log.logger()}, tasks(func(context.Context, *worker.Job[task]) error { return nil }))
	enqueue(t, pool, awa.EnqueueParams{Args: task{}, RunAt: time.Now().Add(100 * time.Millisecond)})
	eventually(t, func() bool {
		return counts(t, pool, "default").Completed == 1 && log.messages(t, slog.LevelWarn)["Maintenance failed; will try again"] > 0
	}, func() any { return log.messages(t, slog.LevelDebug) })
}

// More jobs may come back than one round brings, so the next round follows at once.
func TestParkedJobsKeepUpThePace(t *testing.T) {
	url := pgtest.URL(t)
	conn := pgtest.Conn(t, url)
	exec(t, conn, `select awa.configure_queue('api', '{"concurrency_limit": 1}')`)
	exec(t, conn, `select awa.enqueue('k', queue => 'api', concurrency_key => 'c') from generate_series(1, 2)`)
	exec(t, conn, `select from awa.claim('api', 2)`)
	// As if the claim had read the limit before, and parked after configure_queue removed it.
	exec(t, conn, `update awa.queue_meta set concurrency_limit = null where queue = 'api'`)
	client, err := worker.New(worker.Config{Pool: newPool(t, url, nil), Queues: map[string]worker.QueueConfig{"api": {}}},
		tasks(func(context.Context, *worker.Job[task]) error { return nil }))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		worked, err := client.MaintainRound(t.Context())
		if err != nil || worked != want {
			t.Errorf("round %d: worked is %t, want %t; %v", i, worked, want, err)
		}
	}
}
