package awa_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
)

// An asynchronous claim does not wait for the disk and leaves the session's
// setting alone. When a commit waits, its WAL has reached the disk as it returns.
func TestClaimAsync(t *testing.T) {
	inEveryMode(t, func(t *testing.T, pool *pgxpool.Pool) {
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
		flushed := func() bool {
			return must[bool](t)(scalar[bool](t, conn, "select pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn()"))
		}
		behind := 0
		for range 20 {
			enqueue(t, conn, awa.EnqueueParams{Kind: "k"})
			jobs, err := queue.Claim(t.Context(), conn, awa.ClaimParams{Queue: "default", Async: true})
			if err != nil || len(jobs) != 1 {
				t.Fatal(jobs, err)
			}
			if !flushed() {
				behind++
			}
			if setting := must[string](t)(scalar[string](t, conn, "select current_setting('synchronous_commit')")); setting != "on" {
				t.Fatalf("synchronous_commit is %s after the claim", setting)
			}
			if _, err := queue.Complete(t.Context(), conn, jobs[0].Receipt); err != nil {
				t.Fatal(err)
			}
		}
		if behind == 0 {
			t.Error("every claim waited for the disk")
		}
	})
}

func scalar[T any](t *testing.T, db awa.DBTX, sql string) (v T, err error) {
	t.Helper()
	rows, _ := db.Query(t.Context(), sql)
	return pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
}
