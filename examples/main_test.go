package examples_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var queue = awa.New()

// patience bounds every wait for a condition, and every program: a build may find nothing in
// its cache, on a machine that is busy with other things.
const patience = 5 * time.Minute

// database is a fresh one, and the variables by which a program connects to it.
type database struct {
	*pgxpool.Pool
	env []string
}

func open(t *testing.T) database {
	t.Helper()
	pool := pgtest.Pool(t)
	c := pool.Config().ConnConfig
	return database{pool, append(os.Environ(), "DATABASE_URL=", "PGHOST="+c.Host, fmt.Sprintf("PGPORT=%d", c.Port),
		"PGUSER="+c.User, "PGPASSWORD="+c.Password, "PGDATABASE="+c.Database)}
}

// run runs a program to its end and returns what it wrote.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// build returns a program built from an example.
func build(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	// A checkout may belong to another user, for whom alone git tells its revision.
	run(t, os.Environ(), "go", "build", "-buildvcs=false", "-o", program, "./"+name)
	return program
}

// need skips the test where a program is not installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

func requireLines(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, line := range want {
		if !strings.Contains("\n"+got, "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, got)
		}
	}
}

// requireCounts waits until a queue has come to these counts.
func requireCounts(t *testing.T, db awa.DBTX, name string, wanted func(awa.QueueCounts) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		counts, err := queue.Counts(ctx, db, name)
		if err != nil {
			t.Fatal(err)
		}
		if wanted(counts) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it stayed at %+v", counts)
		}
	}
}

func requireHealthy(t *testing.T, db awa.DBTX) {
	t.Helper()
	violations, err := queue.Check(t.Context(), db)
	if err != nil || len(violations) != 0 {
		t.Errorf("%+v, %v", violations, err)
	}
}
