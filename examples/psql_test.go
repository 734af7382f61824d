package examples_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	awa "github.com/awaqueue/awa/gowrap"
)

func TestPsqlWorker(t *testing.T) {
	need(t, "psql", "bash")
	db := open(t)
	const name = `Ada "the	first" O'Hara \ Lovelace`
	for _, p := range []awa.EnqueueParams{
		{Kind: "greet", Args: map[string]string{"name": name}},
		{Kind: "greet", Args: map[string]string{"name": "Grace"}},
		{Kind: "unheard of"},
	} {
		p.Queue = "it's the queue"
		if _, err := queue.Enqueue(t.Context(), db, p); err != nil {
			t.Fatal(err)
		}
	}
	out := run(t, db.env, "psql/worker.sh", "it's the queue", "--drain")
	requireLines(t, out, "Hello, "+name+"!", "Hello, Grace!")
	requireCounts(t, db, "it's the queue", func(c awa.QueueCounts) bool { return c.Completed == 2 && c.Retryable == 1 })
	jobs, err := queue.ListJobs(t.Context(), db, awa.ListJobsParams{State: awa.StateRetryable})
	if err != nil || len(jobs) != 1 || !strings.Contains(string(jobs[0].Errors[0]), "no handler for kind unheard of") {
		t.Errorf("%+v, %v", jobs, err)
	}
	requireHealthy(t, db)
}

// A handler of somebody else's may read its standard input, as ssh does.
func TestPsqlWorkersHandlerReads(t *testing.T) {
	need(t, "psql", "bash")
	db := open(t)
	script, err := os.ReadFile("psql/worker.sh")
	if err != nil {
		t.Fatal(err)
	}
	const handler = "greet) "
	if !strings.Contains(string(script), handler) {
		t.Fatalf("worker.sh has no %q", handler)
	}
	file := filepath.Join(t.TempDir(), "worker.sh")
	if err := os.WriteFile(file, []byte(strings.Replace(string(script), handler, handler+"cat; ", 1)), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Ada", "Grace", "Mary"} {
		p := awa.EnqueueParams{Kind: "greet", Args: map[string]string{"name": name}, Queue: "reads"}
		if _, err := queue.Enqueue(t.Context(), db, p); err != nil {
			t.Fatal(err)
		}
	}
	run(t, db.env, file, "reads", "--drain")
	requireCounts(t, db, "reads", func(c awa.QueueCounts) bool { return c.Completed == 3 })
	requireHealthy(t, db)
}
