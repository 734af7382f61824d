package cli_test

import (
	"errors"
	"testing"

	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/pgtest"
)

// Behind PgBouncer in transaction mode a command finds the session of the one before.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	server := pgtest.EmptyServer(t, localpg.Options{})
	bouncer, err := server.StartBouncer(t.Context(), 1)
	if errors.Is(err, localpg.ErrNoBouncer) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bouncer.Stop() })
	for range 2 {
		for _, args := range [][]string{
			{"migrate"}, {"migrate", "status"}, {"queue", "pause", "q"}, {"queue", "counts"}, {"job", "list"},
			{"maintain"}, {"storage", "status"}, {"storage", "check"},
		} {
			on(t, bouncer.DatabaseURL("postgres"), 0, args...)
		}
	}
}
