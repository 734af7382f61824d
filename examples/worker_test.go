package examples_test

import (
	"bytes"
	"os/exec"
	"syscall"
	"testing"

	awa "github.com/awaqueue/awa/gowrap"
)

func TestWorker(t *testing.T) {
	db := open(t)
	workUntilStopped(t, db, db.env, "-enqueue", "13")
}

// workUntilStopped runs the worker with 13 jobs a queue, one of them a report of a
// thirteenth month, and stops it when they are through.
func workUntilStopped(t *testing.T, db database, env []string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), build(t, "worker"), args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Logf("the worker wrote\n%s", &out)
		}
	}()
	requireCounts(t, db, "mail", func(c awa.QueueCounts) bool { return c.Completed == 13 })
	requireCounts(t, db, "reports", func(c awa.QueueCounts) bool { return c.Completed == 12 && c.Failed == 1 })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	ended = true
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	requireLines(t, out.String(), "mail to customer0@example.com", "report of month 12")
	requireHealthy(t, db)
}
