package cli_test

import (
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

func TestWorkerList(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	on(t, url, 0, "worker", "list").wants(t, "no workers")
	exec(t, url, `select awa.register_worker('w1', '{"host": "a"}'), awa.heartbeat('w2')`)
	on(t, url, 0, "worker", "list").wants(t, "w1", `{"host": "a"}`, "w2")
}
