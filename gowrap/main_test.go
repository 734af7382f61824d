package awa_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var queue = awa.New()

// modes are the ways in which pgx runs a query. A connection pooler leaves some
// of them only.
var modes = map[string]pgx.QueryExecMode{
	"cache statement": pgx.QueryExecModeCacheStatement,
	"cache describe":  pgx.QueryExecModeCacheDescribe,
	"describe exec":   pgx.QueryExecModeDescribeExec,
	"exec":            pgx.QueryExecModeExec,
	"simple protocol": pgx.QueryExecModeSimpleProtocol,
}

// inEveryMode runs f on a pool of each mode, all on one fresh database.
func inEveryMode(t *testing.T, f func(t *testing.T, pool *pgxpool.Pool)) {
	t.Helper()
	url := pgtest.URL(t)
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			cfg, err := pgxpool.ParseConfig(url)
			if err != nil {
				t.Fatal(err)
			}
			cfg.ConnConfig.DefaultQueryExecMode = mode
			pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			f(t, pool)
		})
	}
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func enqueue(t *testing.T, db awa.DBTX, p awa.EnqueueParams) int64 {
	t.Helper()
	return must[int64](t)(queue.Enqueue(t.Context(), db, p))
}

func claim(t *testing.T, db awa.DBTX, name string, n int) []awa.Job {
	t.Helper()
	return must[[]awa.Job](t)(queue.Claim(t.Context(), db, awa.ClaimParams{Queue: name, MaxJobs: n}))
}

func counts(t *testing.T, db awa.DBTX, name string) awa.QueueCounts {
	t.Helper()
	return must[awa.QueueCounts](t)(queue.Counts(t.Context(), db, name))
}
