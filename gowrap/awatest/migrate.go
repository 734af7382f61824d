package awatest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/awaqueue/awa/internal/install"
)

// Migrate installs awa into the schema "awa" of a test's database, or upgrades
// it. Where it is current nothing happens, so every test may call it, also in
// processes that run at once.
func Migrate(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	MigrateSchema(t, pool, install.DefaultSchema)
}

// MigrateSchema is Migrate for a schema of another name.
func MigrateSchema(t testing.TB, pool *pgxpool.Pool, schema string) {
	t.Helper()
	err := pool.AcquireFunc(t.Context(), func(conn *pgxpool.Conn) error {
		_, err := install.Migrate(t.Context(), conn.Conn(), install.Options{Schema: schema})
		return err
	})
	if err != nil {
		t.Fatalf("awatest: %v", err)
	}
}

// Tx begins a transaction that is rolled back when the test ends.
func Tx(t testing.TB, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatalf("awatest: begin: %v", err)
	}
	t.Cleanup(func() {
		// The test's own context is done by now. The test may have ended the
		// transaction, which is no error.
		_ = tx.Rollback(context.Background())
	})
	return tx
}
