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

// nothing is what idle panics with.
type nothing struct{}

// idle ends an action that has nothing to act on. T.Skip will not do: rapid takes
// skipped steps back, and ends a run in which they outnumber the others, as they do
// while a model is young.
func idle(r *rapid.T, why string) {
	r.Helper()
	r.Log("nothing happens: " + why)
	panic(nothing{})
}

// repeat takes steps, each of them one action and then a look at what it made.
func repeat(r *rapid.T, act, look func(*rapid.T)) {
	r.Repeat(map[string]func(*rapid.T){
		"": look,
		"act": func(r *rapid.T) {
			defer func() {
				if stop := recover(); stop != nil && stop != any(nothing{}) {
					panic(stop)
				}
			}()
			act(r)
		},
	})
}
