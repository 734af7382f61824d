package examples_test

import (
	"fmt"
	"os/exec"
	"testing"

	awa "github.com/awaqueue/awa/gowrap"
)

func TestPython(t *testing.T) {
	python := findPython(t)
	want := []string{"Welcome, Ada!", "Welcome, Grace!", "welcome failed: nobody to welcome; it is retryable",
		"completed: 2, to be retried: 1"}
	done := func(c awa.QueueCounts) bool { return c.Completed == 2 && c.Retryable == 1 }

	t.Run("by session", func(t *testing.T) {
		db := open(t)
		out := run(t, db.env, python, "python/client.py")
		requireLines(t, out, append(want, "woken for mail")...)
		requireCounts(t, db, "mail", done)
		requireHealthy(t, db)
	})
	t.Run("pooled", func(t *testing.T) {
		program := findPgBouncer(t)
		db := open(t)
		port := startPgBouncer(t, program, db)
		env := append(db.env, "PGHOST=127.0.0.1", fmt.Sprintf("PGPORT=%d", port), "PGDATABASE=app")
		requireLines(t, run(t, env, python, "python/client.py", "--pooled"), want...)
		requireCounts(t, db, "mail", done)
		requireHealthy(t, db)
	})
}

// findPython returns an interpreter that has the driver.
func findPython(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), program, "-c", "import psycopg").Run() == nil {
			return program
		}
	}
	t.Skip("no python3 with psycopg 3")
	return ""
}
