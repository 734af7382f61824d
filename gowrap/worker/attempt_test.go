package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// A handler learns that its job was cancelled, and what it returns then changes
// nothing.
func TestCancelWhileRunning(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	running, cause := make(chan int64, 1), make(chan error, 1)
	start(t, worker.Config{Pool: pool}, tasks(func(ctx context.Context, job *worker.Job[task]) error {
		running <- job.ID
		<-job.Cancelled()
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return errBroken
	}))
	id := enqueue(t, pool, awa.EnqueueParams{})
	receive(t, running)
	if ok, err := queue.Cancel(t.Context(), pool, id, "changed my mind"); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if err := receive(t, cause); !errors.Is(err, worker.ErrLost) || err.Error() != worker.ErrLost.Error()+": changed my mind" {
		t.Errorf("the cause is %v", err)
	}
	reach(t, pool, id, awa.StateCancelled)
	requireHealthy(t, pool)
}

func TestSetProgress(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	start(t, worker.Config{Pool: pool, DisableMaintain: true}, tasks(func(ctx context.Context, job *worker.Job[task]) error {
		if err := job.SetProgress(ctx, 40, "4 of 10"); err != nil {
			return err
		}
		return errBroken
	}))
	id := enqueue(t, pool, awa.EnqueueParams{})
	j := reach(t, pool, id, awa.StateRetryable)
	if got, want := string(j.Progress), `{"message": "4 of 10", "percent": 40}`; got != want {
		t.Errorf("progress is %s, want %s", got, want)
	}
}

// CompleteTx and the handler's own rows are committed together.
func TestCompleteTx(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	exec(t, pool, "create table paid (n int)")
	mux := tasks(func(ctx context.Context, job *worker.Job[task]) error {
		tx, err := pool.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(context.Background())
		if _, err := tx.Exec(ctx, "insert into paid values ($1)", job.Args.N); err != nil {
			return err
		}
		if err := job.CompleteTx(ctx, tx); err != nil {
			return err
		}
		switch job.Args.N {
		case 1:
			return errBroken // after CompleteTx: rolled back, so the attempt failed
		case 2:
			return nil // forgot to commit
		}
		return tx.Commit(ctx)
	})
	var ids []int64
	for n := range 3 {
		ids = append(ids, enqueue(t, pool, awa.EnqueueParams{Args: task{n}}))
	}
	start(t, worker.Config{Pool: pool, DisableMaintain: true}, mux)
	expectOutcome(t, pool, ids[0], awa.StateCompleted, 1, "")
	expectOutcome(t, pool, ids[1], awa.StateRetryable, 1, "broken")
	expectOutcome(t, pool, ids[2], awa.StateRetryable, 1, "did not commit")
	if got := rows[int](t, pool, "select n from paid"); len(got) != 1 || got[0] != 0 {
		t.Errorf("paid holds %v, want 0", got)
	}
	requireHealthy(t, pool)
}

// The transaction may be one of database/sql. What did not commit is named in the log.
func TestCompleteTxThroughDatabaseSQL(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	var log bytes.Buffer
	client := start(t, worker.Config{Pool: pool, DisableMaintain: true, Logger: slog.New(slog.NewTextHandler(&log, nil))},
		tasks(func(ctx context.Context, job *worker.Job[task]) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if err := job.CompleteTx(ctx, awa.StdDB(tx)); err != nil || job.Args.N == 1 {
				return err
			}
			return tx.Commit()
		}))
	committed := enqueue(t, pool, awa.EnqueueParams{Args: task{0}})
	forgotten := enqueue(t, pool, awa.EnqueueParams{Args: task{1}})
	expectOutcome(t, pool, committed, awa.StateCompleted, 1, "")
	expectOutcome(t, pool, forgotten, awa.StateRetryable, 1, "did not commit")
	stop(t, client)
	if got := log.String(); !strings.Contains(got, fmt.Sprintf("jobs=1 first=%d", forgotten)) {
		t.Error(got)
	}
}

// CompleteTx of an attempt that others closed says so, and then the attempt is no
// failure to the log, also when no heartbeat has told of it.
func TestCompleteTxStale(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	result := make(chan error, 1)
	var log bytes.Buffer
	client := start(t, worker.Config{Pool: pool, HeartbeatInterval: time.Hour, Logger: slog.New(slog.NewTextHandler(&log, nil))}, tasks(func(ctx context.Context, job *worker.Job[task]) error {
		if _, err := queue.Cancel(ctx, pool, job.ID, ""); err != nil {
			return err
		}
		err := pgx.BeginFunc(context.WithoutCancel(ctx), pool, func(tx pgx.Tx) error {
			return job.CompleteTx(context.WithoutCancel(ctx), tx)
		})
		result <- err
		return err
	}))
	id := enqueue(t, pool, awa.EnqueueParams{})
	if err := receive(t, result); !errors.Is(err, awa.ErrStale) {
		t.Errorf("CompleteTx returned %v", err)
	}
	reach(t, pool, id, awa.StateCancelled)
	stop(t, client)
	if got := log.String(); !strings.Contains(got, "outcome=stale") || strings.Contains(got, "level=WARN") {
		t.Error(got)
	}
}

func rows[T any](t testing.TB, db awa.DBTX, sql string) []T {
	t.Helper()
	r, _ := db.Query(context.Background(), sql)
	got, err := pgx.CollectRows(r, pgx.RowTo[T])
	if err != nil {
		t.Fatal(err)
	}
	return got
}
