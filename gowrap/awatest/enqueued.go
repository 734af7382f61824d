package awatest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
)

// Enqueued is a job that was found, with its arguments decoded.
type Enqueued[T worker.Args] struct {
	awa.JobInfo
	Args T
}

// RequireEnqueued returns the one job of T's kind that passes every filter. None,
// or more than one, fails the test with a list of the jobs that are there. Jobs in
// every state count, see InState.
func RequireEnqueued[T worker.Args](t testing.TB, db awa.DBTX, filters ...Filter) Enqueued[T] {
	t.Helper()
	return RequireEnqueuedMany[T](t, db, 1, filters...)[0]
}

// RequireEnqueuedMany is RequireEnqueued for exactly n jobs. They come in the
// order in which they were enqueued, that of their ids.
func RequireEnqueuedMany[T worker.Args](t testing.TB, db awa.DBTX, n int, filters ...Filter) []Enqueued[T] {
	t.Helper()
	jobs, problem := require[T](t.Context(), db, n, filters)
	if problem != "" {
		t.Fatal("awatest: " + problem)
	}
	return jobs
}

// RequireNotEnqueued fails the test if there is a job of T's kind that passes every
// filter.
func RequireNotEnqueued[T worker.Args](t testing.TB, db awa.DBTX, filters ...Filter) {
	t.Helper()
	RequireEnqueuedMany[T](t, db, 0, filters...)
}

// require returns the jobs, or says why they are not as wanted.
func require[T worker.Args](ctx context.Context, db awa.DBTX, n int, filters []Filter) (found []Enqueued[T], problem string) {
	var zero T
	c := criteria{kind: zero.Kind()}
	for _, f := range filters {
		f(&c)
	}
	jobs, err := listJobs(ctx, db, c.client, awa.ListJobsParams{Kind: c.kind})
	if err != nil {
		return nil, err.Error()
	}
	for _, job := range jobs {
		if !c.match(job) {
			continue
		}
		e := Enqueued[T]{JobInfo: job}
		if err := json.Unmarshal(job.Args, &e.Args); err != nil {
			return nil, fmt.Sprintf("the arguments of job %d do not decode into %T: %v\n  %s", job.ID, e.Args, err, job.Args)
		}
		found = append(found, e)
	}
	if len(found) == n {
		return found, ""
	}
	// The rest is of interest only now: a shared database may hold very many jobs.
	all, err := listJobs(ctx, db, c.client, awa.ListJobsParams{})
	if err != nil {
		return nil, err.Error()
	}
	return nil, fmt.Sprintf("%d %s %s, want %d\n%s", len(found), plural(len(found)), c, n, describe(all))
}

func plural(n int) string {
	if n == 1 {
		return "job"
	}
	return "jobs"
}

// listJobs returns every job that page is about, oldest first.
func listJobs(ctx context.Context, db awa.DBTX, c awa.Client, page awa.ListJobsParams) (all []awa.JobInfo, err error) {
	page.Limit = 1000
	for {
		jobs, err := c.ListJobs(ctx, db, page)
		if err != nil {
			return nil, err
		}
		all = append(all, jobs...)
		if len(jobs) < page.Limit {
			slices.Reverse(all)
			return all, nil
		}
		page.Before = jobs[len(jobs)-1].ID
	}
}

// shown is how many jobs a failure lists.
const shown = 20

// describe lists the jobs that are there, the newest if they are many.
func describe(jobs []awa.JobInfo) string {
	if len(jobs) == 0 {
		return "there are no jobs at all"
	}
	var b strings.Builder
	b.WriteString("there are:")
	if more := len(jobs) - shown; more > 0 {
		fmt.Fprintf(&b, "\n  … %d older ones", more)
		jobs = jobs[more:]
	}
	for _, j := range jobs {
		fmt.Fprintf(&b, "\n  job %d, %s, %s in queue %s, priority %d", j.ID, j.Kind, j.State, j.Queue, j.Priority)
		if len(j.Tags) > 0 {
			fmt.Fprintf(&b, ", tags %v", j.Tags)
		}
		args := string(j.Args)
		if len(args) > 200 {
			args = args[:200] + "…"
		}
		b.WriteString(", args " + args)
	}
	return b.String()
}
