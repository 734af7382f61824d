package awa_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

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
