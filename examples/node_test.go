package examples_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

func TestNode(t *testing.T) {
	need(t, "node", "npm")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("node")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // there may be no network
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--no-package-lock",
		"--prefer-offline", "--fetch-retries=0")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("the driver pg cannot be installed: %v\n%s", err, out)
	}
	db := open(t)
	out := run(t, db.env, "node", filepath.Join(dir, "client.mjs"))
	requireLines(t, out, "Welcome, Ada!", "Welcome, Grace!", "welcome failed: nobody to welcome; it is retryable",
		"completed: 2, to be retried: 1")
	requireCounts(t, db, "mail", func(c awa.QueueCounts) bool { return c.Completed == 2 && c.Retryable == 1 })
	requireHealthy(t, db)
}
