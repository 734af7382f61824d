package lifecycle_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/awaqueue/awa/internal/pgtest"
)

func mustExec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// execOn is mustExec on one connection.
func execOn(t *testing.T, conn *pgx.Conn) func(sql string, args ...any) {
	return func(sql string, args ...any) {
		t.Helper()
		mustExec(t, conn, sql, args...)
	}
}

// sound demands that no invariant of the storage is violated.
func sound(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	if bad := lines(t, conn, `select * from awa.check()`); len(bad) > 0 {
		t.Errorf("check: %s", strings.Join(bad, "\n"))
	}
}

// explaining returns a connection whose server can explain what it runs, and hands what the
// server tells it to told.
func explaining(t *testing.T, told func(message string)) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { told(n.Message) }
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, err := conn.Exec(t.Context(), `load 'auto_explain'`); err != nil {
		t.Skip("the server has no auto_explain: ", err)
	}
	return conn
}
