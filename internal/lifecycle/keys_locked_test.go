package lifecycle_test

import (
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

// TestWhoAsksForFreeKeysDoesNotWait asks for keys that nobody has in hand where SKIP LOCKED
// waits after all: for the newest version of a row that changed meanwhile, or, here, for the
// table. They are told as busy.
func TestWhoAsksForFreeKeysDoesNotWait(t *testing.T) {
	url := pgtest.URL(t)
	holder, asker := pgtest.Conn(t, url), pgtest.Conn(t, url)
	execOn(t, asker)(`select awa.enqueue('k', queue => 'q', unique_key => '\x01')`)
	busy := func() (n int) {
		t.Helper()
		err := asker.QueryRow(t.Context(),
			`select coalesce(cardinality(awa._lock_free_keys(array(select j.id from awa.jobs as j), 'retryable')), 0)`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	execOn(t, asker)(`set search_path = pg_catalog, awa`)

	tx, err := holder.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `lock table awa.job_unique_claims in exclusive mode`); err != nil {
		t.Fatal(err)
	}
	if n := busy(); n != 1 {
		t.Errorf("%d keys are busy while the table is locked", n)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := busy(); n != 0 {
		t.Errorf("%d keys are busy afterwards", n)
	}
}
