package cli_test

import (
	"strconv"
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

// started runs batch start and returns the operation's id.
func started(t *testing.T, url string, args ...string) string {
	t.Helper()
	r := on(t, url, 0, append([]string{"batch", "start", "-o", "json"}, args...)...)
	return strconv.FormatInt(decode[[]map[string]int64](t, r)[0]["operation_id"], 10)
}

func TestBatch(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	ids := failed(t, url, "q", "k", 3)
	failed(t, url, "p", "k", 2)
	on(t, url, 0, "batch", "list").wants(t, "no batch operations")

	on(t, url, 1, "batch", "start").wants(t, "accepts 1 arg")
	on(t, url, 1, "batch", "start", "retry").wants(t, "repeat with --all")
	on(t, url, 1, "batch", "start", "retry", "--all", "--queue", "q").wants(t, "contradict")
	on(t, url, 1, "batch", "start", "explode", "--all").wants(t, "explode", "reprioritize")
	on(t, url, 1, "batch", "start", "retry", "--queue", "q", "--reason", "r").wants(t, "unknown setting")
	on(t, url, 1, "batch", "start", "move", "--queue", "q").wants(t, "without a target")
	on(t, url, 1, "batch", "start", "cancel", "--state", "failed").wants(t, "does not take")
	on(t, url, 1, "batch", "start", "retry", "--created-after", "soon").wants(t, "created-after")

	for want, filter := range map[int64][]string{
		0: {"--kind", "other"},
		1: {"--ids", ids[0]},
		2: {"--min-id", ids[0], "--max-id", ids[1]},
		3: {"--queue", "q", "--state", "failed,cancelled", "--created-before", "2999-01-01T00:00:00Z"},
		5: {},
	} {
		bulk(t, url, want, append([]string{"batch", "start", "retry", "--dry-run"}, filter...)...)
	}

	id := started(t, url, "retry", "--queue", "q", "--to-queue", "r", "--to-priority", "1")
	on(t, url, 0, "batch", "list", "--state", "pending").wants(t, "retry")
	on(t, url, 0, "batch", "list", "--state", "running").wants(t, "no batch operations")
	on(t, url, 0, "maintain").wants(t, "batch")
	on(t, url, 0, "batch", "show", id).wants(t, "done", `{"queue": "q"}`)
	on(t, url, 2, "batch", "show", "0").wants(t, "no such operation")
	on(t, url, 0, "job", "list", "--queue", "r").wants(t, ids[0], ids[2], "available")
	on(t, url, 2, "batch", "cancel", id, "--dry-run").wants(t, "nothing would change")
	on(t, url, 2, "batch", "cancel", id).wants(t, "not cancelled", "the operation is done")

	id = started(t, url, "delete", "--all")
	on(t, url, 0, "batch", "cancel", id, "--dry-run").wants(t, "pending")
	on(t, url, 0, "batch", "cancel", id).wants(t, "cancelled")
	on(t, url, 2, "batch", "cancel", "0").wants(t, "no such operation")
	on(t, url, 0, "batch", "list").wants(t, "cancelled", "done")
	on(t, url, 0, "storage", "check")
}
