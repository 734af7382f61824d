package cli_test

import (
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

// bulk runs a command and demands the number that it prints.
func bulk(t *testing.T, url string, want int64, args ...string) {
	t.Helper()
	r := on(t, url, 0, append(args, "-o", "json")...)
	for _, n := range decode[[]map[string]int64](t, r)[0] {
		if n != want {
			t.Errorf("%q: %d, want %d", args, n, want)
		}
	}
}

func TestDLQOfOneJob(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	id := failed(t, url, "q", "k", 1)[0]
	on(t, url, 0, "dlq", "depth").wants(t, "no dead letters")
	on(t, url, 0, "dlq", "list").wants(t, "no dead letters")

	on(t, url, 2, "dlq", "retry", id, "--dry-run")
	one(t, url, 2, "dlq", "retry", id).is(t, "not retried", "no such dead letter")
	on(t, url, 0, "dlq", "move", id, "--dry-run").wants(t, "failed")
	one(t, url, 0, "dlq", "move", id, "--reason", "odd").is(t, "moved", "")
	on(t, url, 2, "dlq", "move", id, "--dry-run").wants(t, "nothing would change")
	one(t, url, 2, "dlq", "move", id).is(t, "not moved", "the job is a dead letter")

	on(t, url, 0, "dlq", "depth").wants(t, "q      1")
	on(t, url, 0, "dlq", "depth", "other").wants(t, "no dead letters")
	on(t, url, 0, "dlq", "list", "--queue", "q", "--kind", "k").wants(t, "odd", "boom")
	on(t, url, 0, "dlq", "list", "--tag", "none").wants(t, "no dead letters")
	on(t, url, 0, "job", "delete", id, "--dry-run").wants(t, id)

	on(t, url, 1, "dlq", "retry", id, "--queue", "q").wants(t, "contradict")
	on(t, url, 1, "dlq", "retry", id, "--all").wants(t, "contradict")
	on(t, url, 0, "dlq", "retry", id, "--dry-run").wants(t, id)
	one(t, url, 0, "dlq", "retry", id, "--to-queue", "p").is(t, "retried", "")
	on(t, url, 0, "job", "list", "--queue", "p").wants(t, id, "boom")
	on(t, url, 0, "storage", "check")
}

func TestDLQInBulk(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	failed(t, url, "p", "a", 2)
	failed(t, url, "q", "a", 3)
	failed(t, url, "q", "b", 4)

	on(t, url, 1, "dlq", "move").wants(t, "repeat with --all")
	on(t, url, 1, "dlq", "move", "--max-jobs", "1").wants(t, "repeat with --all")
	on(t, url, 1, "dlq", "move", "1", "--max-jobs", "1").wants(t, "contradict")
	on(t, url, 1, "dlq", "move", "--all", "--max-jobs", "3000000000").wants(t, `"3000000000" for "--max-jobs"`, "out of range")
	on(t, url, 0, "dlq", "move", "--dry-run", "--queue", "q", "--max-jobs", "5").wants(t, "q      a     3", "q      b     2")
	bulk(t, url, 2, "dlq", "move", "--queue", "q", "--kind", "b", "--max-jobs", "2")
	bulk(t, url, 7, "dlq", "move", "--all")
	on(t, url, 0, "dlq", "move", "--dry-run").wants(t, "nothing would change")

	on(t, url, 1, "dlq", "retry").wants(t, "repeat with --all")
	on(t, url, 1, "dlq", "retry", "--queue", "q", "--to-queue", "p").wants(t, "give its id")
	on(t, url, 0, "dlq", "retry", "--dry-run", "--kind", "a").wants(t, "p      a     2", "q      a     3")
	bulk(t, url, 0, "dlq", "retry", "--tag", "none")
	bulk(t, url, 1, "dlq", "retry", "--kind", "b", "--max-jobs", "1")
	bulk(t, url, 3, "dlq", "retry", "--queue", "q", "--kind", "a")

	on(t, url, 1, "dlq", "purge").wants(t, "repeat with --all")
	on(t, url, 1, "dlq", "purge", "--older-than", "soon").wants(t, "invalid input syntax")
	on(t, url, 0, "dlq", "purge", "--dry-run").wants(t, "p      a     2", "q      b     3")
	on(t, url, 0, "dlq", "purge", "--dry-run", "--older-than", "1 hour").wants(t, "nothing would change")
	bulk(t, url, 0, "dlq", "purge", "--older-than", "1 hour")
	bulk(t, url, 0, "dlq", "purge", "--queue", "")
	bulk(t, url, 2, "dlq", "purge", "--queue", "p")
	bulk(t, url, 3, "dlq", "purge", "--all")
	on(t, url, 0, "dlq", "depth").wants(t, "no dead letters")
	on(t, url, 0, "storage", "check")
}
