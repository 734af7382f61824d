// Package proof holds the tests that try to break the engine's promises under
// load: every committed job is handed out once per attempt and ends once, and
// the counters are exact at every commit.
package proof

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var queue = awa.New()

// newPool is a pool on the database of url with room for every goroutine of a
// test.
func newPool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConns = 32
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// shortRing is a database with awa in the shortest ring: every segment is pruned, and filled
// again, before long.
func shortRing(t testing.TB) (url string) {
	t.Helper()
	url = pgtest.Empty(t)
	if _, err := install.Migrate(t.Context(), pgtest.Conn(t, url), install.Options{Segments: 3}); err != nil {
		t.Fatal(err)
	}
	return url
}

// requireHealthy demands that check() has nothing to say.
func requireHealthy(t testing.TB, db awa.DBTX) {
	t.Helper()
	violations, err := queue.Check(context.Background(), db)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range describe(violations) {
		t.Error("check: " + v)
	}
	if len(violations) > 0 {
		t.FailNow()
	}
}

// exec runs SQL that must succeed.
func exec(t testing.TB, db awa.DBTX, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// value reads one value that must exist.
func value[T any](t testing.TB, db awa.DBTX, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := db.QueryRow(context.Background(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// describe spells violations out.
func describe(violations []awa.Violation) []string {
	var out []string
	for _, v := range violations {
		out = append(out, fmt.Sprintf("%s: %s: expected %s, actual %s", v.Invariant, v.Detail, number(v.Expected), number(v.Actual)))
	}
	return out
}
