package worker_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

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
