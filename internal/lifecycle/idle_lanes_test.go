package lifecycle_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/pgtest"
)

// A rotation leaves the cursors of idle lanes behind, and each claim would search those
// lanes anew. maintain moves them, once, and a claim touches as little as before.
func TestMaintainMovesIdleLanesOncePerRotation(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	exec := execOn(t, conn)
	exec(`select awa.enqueue('k', queue => 'many', priority => p) from generate_series(1, 4) as p`)
	exec(`select awa.enqueue('k', queue => 'one')`)
	touched := func() int64 {
		t.Helper()
		from := pagesTouched(t, conn)
		for range 5 {
			exec(`select from awa.claim('many', 10)`)
		}
		return pagesTouched(t, conn).since(from).sum()
	}
	cursors := func() (n int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), `select count(*) from awa.lane_cursors`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	exec(`select from awa.claim('one')`)
	for range 3 {
		touched()
	}
	before := touched()
	for range 2 {
		exec(`select awa.enqueue('k', queue => 'one')`)
		exec(`select awa.rotate()`)
		stale := touched()
		exec(`select awa.enqueue('k', queue => 'one')`)
		exec(`select from awa.claim('one', 10)`)
		awaitOlder(t, conn)
		rows := cursors()
		for range 5 {
			exec(`select awa.maintain()`)
		}
		if n := cursors(); n != rows+4 {
			t.Errorf("five calls of maintain wrote %d cursors for four idle lanes", n-rows)
		}
		if n := touched(); n > before+(stale-before)/4 || stale < before+40 {
			t.Errorf("five claims over four idle lanes touched %d pages, after a rotation %d, and once their cursors had moved %d", before, stale, n)
		}
	}
}

// awaitOlder returns once the transactions that run now have ended, those of other databases
// of the server included.
func awaitOlder(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	now := lines(t, conn, `select pg_current_xact_id()::text`)[0]
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if lines(t, conn, `select (pg_snapshot_xmin(pg_current_snapshot()) > $1::xid8)::text`, now)[0] == "true" {
			return
		}
	}
	t.Fatal("older transactions do not end")
}
