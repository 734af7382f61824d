package examples_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
)

func TestTrigger(t *testing.T) {
	need(t, "psql")
	db := open(t)
	for range 2 {
		run(t, db.env, "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-f", "trigger/trigger.sql")
	}
	change := func(sql string) {
		t.Helper()
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	available := func(want int64) {
		t.Helper()
		counts, err := queue.Counts(t.Context(), db, "search")
		if err != nil || counts.Available != want {
			t.Fatalf("%d jobs, want %d, %v", counts.Available, want, err)
		}
	}

	change(`insert into documents (body) values ('first'), ('second')`)
	available(2)
	change(`update documents set body = body || '!'`) // their jobs wait still
	available(2)

	jobs, err := queue.Claim(t.Context(), db, awa.ClaimParams{Queue: "search"})
	if err != nil || len(jobs) != 1 || jobs[0].Kind != "index_document" {
		t.Fatalf("%+v, %v", jobs, err)
	}
	change(`update documents set body = body || '?'`) // one of them runs: it gets another
	available(2)

	errRollback := errors.New("roll back")
	err = pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `insert into documents (body) values ('never')`); err != nil {
			return err
		}
		return errRollback
	})
	if !errors.Is(err, errRollback) {
		t.Fatal(err)
	}
	available(2)
	change(`delete from documents`)
	available(2)
	requireHealthy(t, db)
}
