package worker_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// A session whose times come as a text that the driver does not understand claims
// nothing: the jobs would be taken, and nobody would know of them.
func TestForeignDates(t *testing.T) {
	url := pgtest.URL(t)
	pool := newPool(t, url, nil)
	id := enqueue(t, pool, awa.EnqueueParams{})
	foreign := newPool(t, url, func(cfg *pgxpool.Config) {
		cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
		cfg.ConnConfig.RuntimeParams["datestyle"] = "German"
	})
	var log logbook
	client := start(t, worker.Config{Pool: foreign, DisableMaintain: true, Logger: log.logger()},
		tasks(func(context.Context, *worker.Job[task]) error { return nil }))
	eventually(t, func() bool {
		return strings.Contains(log.text(), "datestyle ISO") || counts(t, pool, "default").Available == 0
	},
		func() any { return log.text() })
	stop(t, client)
	if j, err := queue.GetJob(t.Context(), pool, id); err != nil || j.State != awa.StateAvailable || j.Attempt != 0 {
		t.Errorf("%+v %v", j, err)
	}
}
