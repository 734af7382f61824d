package cli_test

import (
	"strconv"
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

// failed makes n failed jobs of a queue and kind and returns their ids.
func failed(t *testing.T, url, queue, kind string, n int) []string {
	t.Helper()
	rows, err := pgtest.Conn(t, url).Query(t.Context(), `select id from unnest(awa.enqueue_many($2, array(
		select '{}'::jsonb from generate_series(1, $3::integer)), queue => $1)) as id`, queue, kind, n)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, strconv.FormatInt(id, 10))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	exec(t, url, `select awa.fail(c.receipt, 'boom', terminal => true) from awa.claim('`+queue+`', 1000) as c`)
	return ids
}

// outcome is what a change of one job prints.
type outcome struct {
	JobID   int64 `json:"job_id"`
	Outcome string
	Reason  string
}

func (o outcome) is(t *testing.T, want, reason string) {
	t.Helper()
	if o.Outcome != want || o.Reason != reason || o.JobID == 0 {
		t.Errorf("%+v, want %s because %q", o, want, reason)
	}
}

func one(t *testing.T, url string, code int, args ...string) outcome {
	t.Helper()
	all := decode[[]outcome](t, on(t, url, code, append(args, "-o", "json")...))
	if len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	return all[0]
}

func TestJobGet(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	ids := failed(t, url, "q", "k", 2)
	on(t, url, 0, "job", "get", ids[0]).wants(t, "state                failed", "boom")
	on(t, url, 0, "dlq", "move", ids[1], "--reason", "odd")
	on(t, url, 0, "job", "get", ids[1]).wants(t, "dlq_reason           odd")
	on(t, url, 2, "job", "get", "999999999").wants(t, "no such job")
	on(t, url, 1, "job", "get", "x").wants(t, "invalid input syntax")
	on(t, url, 1, "job", "get")
}

func TestJobList(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	on(t, url, 0, "job", "list").wants(t, "no jobs")
	on(t, url, 1, "job", "list", "--state", "runing").wants(t, `"runing"`, "hint: A job is scheduled, available, running")
	ids := failed(t, url, "q", "k", 3)
	exec(t, url, `select awa.enqueue('other', queue => 'p')`)
	type job struct {
		ID    int64
		State string
		Error string `json:"last_error"`
	}
	for want, args := range map[int][]string{
		4: {"job", "list"},
		3: {"job", "list", "--queue", "q", "--kind", "k", "--state", "failed"},
		2: {"job", "list", "--queue", "q", "--before", ids[2]},
		1: {"job", "list", "--limit", "1"},
		0: {"job", "list", "--queue", ""},
	} {
		if jobs := decode[[]job](t, on(t, url, 0, append(args, "-o", "json")...)); len(jobs) != want {
			t.Errorf("%q: %+v", args, jobs)
		}
	}
	jobs := decode[[]job](t, on(t, url, 0, "job", "list", "--state", "failed", "-o", "json"))
	if len(jobs) != 3 || jobs[0].ID < jobs[1].ID || jobs[0].State != "failed" || jobs[0].Error != "boom" {
		t.Errorf("%+v", jobs)
	}
	on(t, url, 1, "job", "list", "--state", "lost").wants(t, "invalid input value for enum")
}

// What waits for an answer from outside, or for other jobs, is shown as that.
func TestJobsThatWait(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	exec(t, url, `select awa.enqueue('payment', queue => 'bank')`)
	exec(t, url, `select awa.register_callback(c.receipt, '1 day') from awa.claim('bank') as c`)
	exec(t, url, `select awa.enqueue('report', queue => 'bank', after => array[(select id from awa.jobs)])`)
	on(t, url, 0, "queue", "counts", "bank").wants(t, "waiting_external  1", "scheduled         1")
	on(t, url, 0, "job", "list", "--state", "scheduled").wants(t, "report", "infinity")
	r := on(t, url, 0, "job", "list", "--state", "waiting_external", "-o", "json")
	jobs := decode[[]struct {
		ID    int64
		State string
	}](t, r)
	if len(jobs) != 1 || jobs[0].State != "waiting_external" {
		t.Fatalf("%+v", jobs)
	}
	id := strconv.FormatInt(jobs[0].ID, 10)
	on(t, url, 0, "job", "get", id).wants(t, "state                waiting_external", "callback_id          ", "callback_timeout_at  ")
	one(t, url, 2, "job", "retry", id).is(t, "not retried", "the job is waiting_external")
	one(t, url, 0, "job", "cancel", id, "--reason", "too late").is(t, "cancelled", "")
	on(t, url, 0, "storage", "check")
}

func TestJobCancelRetryDelete(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	exec(t, url, `select awa.enqueue('k', queue => 'q')`)
	id := strconv.FormatInt(decode[[]struct{ ID int64 }](t, on(t, url, 0, "job", "list", "-o", "json"))[0].ID, 10)

	on(t, url, 2, "job", "retry", id, "--dry-run").wants(t, "nothing would change")
	one(t, url, 2, "job", "retry", id).is(t, "not retried", "the job is available")
	on(t, url, 0, "job", "cancel", id, "--dry-run").wants(t, "available")
	one(t, url, 0, "job", "cancel", id, "--reason", "typo").is(t, "cancelled", "")
	on(t, url, 2, "job", "cancel", id, "--dry-run")
	one(t, url, 2, "job", "cancel", id).is(t, "not cancelled", "the job is cancelled")

	on(t, url, 0, "job", "retry", id, "--dry-run").wants(t, "cancelled")
	on(t, url, 1, "job", "retry", id, "--to-priority", "9").wants(t, "SQLSTATE AW006")
	one(t, url, 0, "job", "retry", id, "--to-queue", "p", "--to-priority", "1", "--run-at", "2999-01-01T00:00:00Z").is(t, "retried", "")
	on(t, url, 0, "job", "list", "--queue", "p", "--state", "scheduled").wants(t, "2999-01-01", "typo")

	on(t, url, 0, "job", "delete", id, "--dry-run").wants(t, "scheduled")
	one(t, url, 0, "job", "delete", id).is(t, "deleted", "")
	one(t, url, 2, "job", "delete", id).is(t, "not deleted", "no such job")
	on(t, url, 2, "job", "delete", id, "--dry-run")
	one(t, url, 2, "job", "cancel", id).is(t, "not cancelled", "no such job")
	on(t, url, 0, "storage", "check")
}

func TestJobDiscard(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	failed(t, url, "p", "a", 2)
	failed(t, url, "p", "b", 3)
	failed(t, url, "q", "a", 4)
	failed(t, url, "q", "b", 5)
	on(t, url, 1, "job", "discard").wants(t, "repeat with --all")
	on(t, url, 1, "job", "discard", "--all", "--kind", "a").wants(t, "awa-admin: job discard: --kind and --all contradict each other")
	on(t, url, 0, "job", "discard", "--dry-run").wants(t, "queue  kind  jobs", "q      b     5")
	for _, c := range []struct {
		want int64
		args []string
	}{
		{0, []string{"--kind", ""}},
		{2, []string{"--kind", "a", "--queue", "p"}},
		{5, []string{"--kind", "b", "--queue", "q"}},
		{4, []string{"--queue", "q"}},
		{3, []string{"--all"}},
	} {
		r := on(t, url, 0, append([]string{"job", "discard", "-o", "json"}, c.args...)...)
		if got := decode[[]struct{ Discarded int64 }](t, r); got[0].Discarded != c.want {
			t.Errorf("%q: %+v", c.args, got)
		}
	}
	on(t, url, 0, "job", "discard", "--dry-run").wants(t, "nothing would change")
	on(t, url, 0, "storage", "check")
}
