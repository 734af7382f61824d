package awatest

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestRequireEnqueuedReturnsTheJob(t *testing.T) {
	tx := Tx(t, pgtest.Pool(t))
	id := add(t, tx, "Ada", awa.EnqueueParams{Queue: "mail", Priority: 1, Tags: []string{"vip"}})
	add(t, tx, "Grace", awa.EnqueueParams{Queue: "mail", RunAt: time.Now().Add(time.Hour)})
	for name, filters := range map[string][]Filter{
		"tag":   {Tagged("vip")},
		"state": {InQueue("mail"), InState(awa.StateAvailable)},
		"id":    {WithID(id)},
		"where": {Where(func(j awa.JobInfo) bool { return j.Priority == 1 })},
		"args":  {WhereArgs(func(g greet) bool { return strings.HasPrefix(g.Name, "A") })},
	} {
		job := RequireEnqueued[greet](t, tx, filters...)
		if job.ID != id || job.Args.Name != "Ada" {
			t.Errorf("%s: %+v", name, job)
		}
	}
	RequireNotEnqueued[part](t, tx)
	RequireNotEnqueued[greet](t, tx, InQueue("default"))
	jobs := RequireEnqueuedMany[greet](t, tx, 2)
	if jobs[0].ID != id || jobs[1].Args.Name != "Grace" {
		t.Errorf("%+v", jobs)
	}
}

func TestFailuresListWhatIsThere(t *testing.T) {
	tx := Tx(t, pgtest.Pool(t))
	if _, problem := require[greet](t.Context(), tx, 1, nil); problem != "0 jobs of kind greet, want 1\nthere are no jobs at all" {
		t.Error(problem)
	}
	add(t, tx, "Ada", awa.EnqueueParams{Queue: "mail", Tags: []string{"vip"}})
	_, problem := require[greet](t.Context(), tx, 1, []Filter{InQueue("default"), InState(awa.StateFailed)})
	want := "0 jobs of kind greet, in queue default, in state [failed], want 1\nthere are:\n  job "
	if !strings.HasPrefix(problem, want) ||
		!strings.HasSuffix(problem, `, greet, available in queue mail, priority 2, tags [vip], args {"name": "Ada"}`) {
		t.Error(problem)
	}
	_, problem = require[greet](t.Context(), tx, 0, nil)
	if !strings.HasPrefix(problem, "1 job of kind greet, want 0\nthere are:\n  job ") {
		t.Error(problem)
	}
}

// Lists are complete beyond one page, and a failure shows the newest.
func TestManyJobs(t *testing.T) {
	tx := Tx(t, pgtest.Pool(t))
	const n = 1001
	args := make([]json.RawMessage, n)
	for i := range args {
		args[i] = json.RawMessage(`{}`)
	}
	if _, err := queue.EnqueueMany(t.Context(), tx, awa.EnqueueManyParams{Kind: "greet", Args: args}); err != nil {
		t.Fatal(err)
	}
	RequireEnqueuedMany[greet](t, tx, n)
	_, problem := require[greet](t.Context(), tx, 1, nil)
	if !strings.Contains(problem, "… 981 older ones") || strings.Count(problem, "\n") != 22 {
		t.Error(problem)
	}
}

// counting counts the queries that are made of a transaction.
type counting struct {
	awa.DBTX
	queries int
}

func (c *counting) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	c.queries++
	return c.DBTX.Query(ctx, sql, args...)
}

// Jobs of other kinds are not read: a database that many tests share is full of them.
func TestOtherKindsAreNotRead(t *testing.T) {
	tx := Tx(t, pgtest.Pool(t))
	args := make([]json.RawMessage, 2001)
	for i := range args {
		args[i] = json.RawMessage(`{}`)
	}
	if _, err := queue.EnqueueMany(t.Context(), tx, awa.EnqueueManyParams{Kind: "part", Args: args}); err != nil {
		t.Fatal(err)
	}
	add(t, tx, "Ada", awa.EnqueueParams{})
	db := &counting{DBTX: tx}
	RequireEnqueued[greet](t, db)
	if db.queries != 1 {
		t.Errorf("%d queries", db.queries)
	}
}

func TestArgumentsThatDoNotDecode(t *testing.T) {
	tx := Tx(t, pgtest.Pool(t))
	if _, err := queue.Enqueue(t.Context(), tx, awa.EnqueueParams{Kind: "greet", Args: []int{1}}); err != nil {
		t.Fatal(err)
	}
	_, problem := require[greet](t.Context(), tx, 1, nil)
	if !strings.Contains(problem, "do not decode") || !strings.Contains(problem, "[1]") {
		t.Error(problem)
	}
}
