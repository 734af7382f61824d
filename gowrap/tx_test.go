package awa_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

var errRollback = errors.New("roll back")

func TestRolledBackEnqueueLeavesNothing(t *testing.T) {
	pool := pgtest.Pool(t)
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		enqueue(t, tx, awa.EnqueueParams{Kind: "k", Queue: "q"})
		if jobs := claim(t, pool, "q", 1); len(jobs) != 0 {
			t.Errorf("another session claimed %v", jobs)
		}
		return errRollback
	})
	if !errors.Is(err, errRollback) {
		t.Fatal(err)
	}
	if jobs := claim(t, pool, "q", 1); len(jobs) != 0 {
		t.Errorf("claimed %v", jobs)
	}
}

func TestRolledBackClaimWasNeverMade(t *testing.T) {
	pool := pgtest.Pool(t)
	id := enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q"})
	var lost awa.Receipt
	_ = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		lost = claim(t, tx, "q", 1)[0].Receipt
		return errRollback
	})
	if accepted := must[bool](t)(queue.Complete(t.Context(), pool, lost)); accepted {
		t.Error("the receipt of a claim rolled back was accepted")
	}
	if jobs := claim(t, pool, "q", 1); len(jobs) != 1 || jobs[0].ID != id {
		t.Errorf("claimed %v", jobs)
	}
}

func TestRolledBackCompleteLeavesTheJobRunning(t *testing.T) {
	pool := pgtest.Pool(t)
	enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q"})
	r := claim(t, pool, "q", 1)[0].Receipt
	_ = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if !must[bool](t)(queue.Complete(t.Context(), tx, r)) {
			t.Error("not accepted")
		}
		return errRollback
	})
	if c := counts(t, pool, "q"); c.Running != 1 || c.Completed != 0 {
		t.Errorf("%+v", c)
	}
	if !must[bool](t)(queue.Complete(t.Context(), pool, r)) {
		t.Error("not accepted")
	}
}

func TestOneTransactionRunsAWholeLife(t *testing.T) {
	pool := pgtest.Pool(t)
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		id := enqueue(t, tx, awa.EnqueueParams{Kind: "k", Queue: "q"})
		jobs := claim(t, tx, "q", 1)
		if len(jobs) != 1 || jobs[0].ID != id {
			t.Fatalf("claimed %v", jobs)
		}
		if !must[bool](t)(queue.Complete(t.Context(), tx, jobs[0].Receipt)) {
			t.Error("not accepted")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := counts(t, pool, "q"); c.Completed != 1 || c.Available != 0 || c.Running != 0 {
		t.Errorf("%+v", c)
	}
}

func TestEveryDBTX(t *testing.T) {
	pool := pgtest.Pool(t)
	acquired, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer acquired.Release()
	for _, db := range []awa.DBTX{pool, acquired, acquired.Conn()} {
		enqueue(t, db, awa.EnqueueParams{Kind: "k", Queue: "q"})
		if jobs := claim(t, db, "q", 1); len(jobs) != 1 {
			t.Errorf("%T claimed %v", db, jobs)
		}
	}
}

// A database may make every transaction SERIALIZABLE unless told otherwise.
func TestHousekeepingIsReadCommitted(t *testing.T) {
	url := pgtest.URL(t)
	admin := pgtest.Conn(t, url)
	if _, err := admin.Exec(t.Context(), `do $$ begin
		execute format('alter role current_user in database %I set default_transaction_isolation = serializable', current_database());
	end $$`); err != nil {
		t.Fatal(err)
	}
	pool := must[*pgxpool.Pool](t)(pgxpool.New(t.Context(), url))
	t.Cleanup(pool.Close)
	acquired := must[*pgxpool.Conn](t)(pool.Acquire(t.Context()))
	defer acquired.Release()
	std := stdlib.OpenDBFromPool(pool)
	defer func() { _ = std.Close() }()
	for _, db := range []awa.DBTX{pool, acquired, acquired.Conn(), awa.StdDB(std)} {
		must[[]awa.TaskReport](t)(queue.Maintain(t.Context(), db))
		must[string](t)(queue.Rotate(t.Context(), db))
		must[string](t)(queue.Prune(t.Context(), db))
		must[int64](t)(queue.CheckpointTerminalCounters(t.Context(), db))
		must[[]awa.RebuiltCounter](t)(queue.RebuildTerminalCounters(t.Context(), db))
		must[int64](t)(queue.Rebase(t.Context(), db))
		must[bool](t)(queue.RemoveQueue(t.Context(), db, "nowhere"))
	}
}

// traced notes what is sent.
type traced []string

func (s *traced) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	*s = append(*s, q.SQL)
	return ctx
}

func (s *traced) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// Housekeeping is one statement, which commits by itself: a client that vanishes without a word
// does not leave a transaction with its locks in the server.
func TestHousekeepingIsOneStatement(t *testing.T) {
	cfg := must[*pgxpool.Config](t)(pgxpool.ParseConfig(pgtest.URL(t)))
	var sent traced
	cfg.ConnConfig.Tracer = &sent
	pool := must[*pgxpool.Pool](t)(pgxpool.NewWithConfig(t.Context(), cfg))
	defer pool.Close()
	must[[]awa.TaskReport](t)(queue.Maintain(t.Context(), pool))
	must[string](t)(queue.Rotate(t.Context(), pool))
	must[string](t)(queue.Prune(t.Context(), pool))
	if slices.Contains(sent, "commit") {
		t.Errorf("sent: %q", sent)
	}
}

// A transaction that a statement began is the caller's as much as a pgx.Tx.
func TestHousekeepingBelongsToTheTransaction(t *testing.T) {
	pool := pgtest.Pool(t)
	finish(t, pool, "q", 1)
	conn := must[*pgxpool.Conn](t)(pool.Acquire(t.Context()))
	defer conn.Release()
	for _, db := range []awa.DBTX{conn, conn.Conn()} {
		must[pgconn.CommandTag](t)(db.Exec(t.Context(), "begin"))
		if outcome := must[string](t)(queue.Rotate(t.Context(), db)); outcome != awa.Rotated {
			t.Fatal(outcome)
		}
		must[pgconn.CommandTag](t)(db.Exec(t.Context(), "rollback"))
		for _, s := range must[[]awa.SegmentStatus](t)(queue.StorageStatus(t.Context(), db)) {
			if s.Phase == "sealed" {
				t.Errorf("%T: the rotation outlived its transaction", db)
			}
		}
	}
}

// Two transactions that take unique keys in opposite orders: one of them is told to
// start anew.
func TestDeadlockIsRetried(t *testing.T) {
	pool := pgtest.Pool(t)
	var txs [2]pgx.Tx
	add := func(tx pgx.Tx, key byte) error {
		_, err := queue.Enqueue(t.Context(), tx, awa.EnqueueParams{Kind: "k", UniqueKey: []byte{key}})
		return err
	}
	for i := range txs {
		txs[i] = must[pgx.Tx](t)(pool.Begin(t.Context()))
		defer func() { _ = txs[i].Rollback(t.Context()) }()
		if err := add(txs[i], byte(i)); err != nil {
			t.Fatal(err)
		}
	}
	errs := make(chan error, 2)
	for i, tx := range txs {
		go func() {
			err := add(tx, byte(1-i))
			if err != nil {
				_ = tx.Rollback(t.Context()) // lets the other one go on
			}
			errs <- err
		}()
	}
	if err := errors.Join(<-errs, <-errs); !errors.Is(err, awa.ErrRetry) {
		t.Error(err)
	}
}

// A job that a prune took away since the transaction's snapshot is not reported as
// unknown: nobody can tell.
func TestGetJobUnderAnOldSnapshotIsRetried(t *testing.T) {
	pool := pgtest.Pool(t)
	id := enqueue(t, pool, awa.EnqueueParams{Kind: "k", Queue: "q"})
	must[bool](t)(queue.Complete(t.Context(), pool, claim(t, pool, "q", 1)[0].Receipt))
	tx := must[pgx.Tx](t)(pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead}))
	defer func() { _ = tx.Rollback(t.Context()) }()
	must[pgconn.CommandTag](t)(tx.Exec(t.Context(), "select 1"))
	must[string](t)(queue.Rotate(t.Context(), pool))
	if outcome := must[string](t)(queue.Prune(t.Context(), pool)); outcome != awa.Pruned {
		t.Fatal(outcome)
	}
	if _, err := queue.GetJob(t.Context(), tx, id); !errors.Is(err, awa.ErrRetry) {
		t.Error(err)
	}
}
