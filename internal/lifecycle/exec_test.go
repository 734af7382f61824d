package lifecycle_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
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
