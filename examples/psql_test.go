package examples_test

import (
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
