package proof

import (
	"context"
	"errors"
	"flag"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"
)

// given are the flags of the command line.
var given = sync.OnceValue(func() map[string]bool {
	names := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { names[f.Name] = true })
	return names
})

// shorten sets flags that were not given, for the length of a test.
func shorten(t *testing.T, settings map[string]string) {
	for name, setting := range settings {
		if given()[name] {
			continue
		}
		old := flag.Lookup(name).Value.String()
		if err := flag.Set(name, setting); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = flag.Set(name, old) })
	}
}

// must runs SQL that belongs to the test, not to what it tests.
func must(r *rapid.T, conn *pgx.Conn, sql string, args ...any) {
	r.Helper()
	if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
		r.Fatalf("%s: %v", sql, err)
	}
}

// sqlState is the code of a server's error, or empty.
func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}
