package lifecycle_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/awaqueue/awa/internal/pgtest"
)

// execOn returns what runs a statement on a connection and ends the test if it fails.
func execOn(t *testing.T, conn *pgx.Conn) func(sql string, args ...any) {
	return func(sql string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
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
