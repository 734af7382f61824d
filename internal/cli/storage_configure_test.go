package cli_test

import (
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

func TestStorageConfigure(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	on(t, url, 0, "storage", "configure", "straggler_limit=7", "--dry-run").wants(t, "straggler_limit    7")
	on(t, url, 0, "storage", "configure").wants(t, "straggler_limit    1000")
	on(t, url, 0, "storage", "configure", "straggler_limit=7", "history_retention=6 hours").wants(t, "history_retention  06:00:00")
	on(t, url, 0, "storage", "configure", "history_retention=").wants(t, "history_retention  01:00:00", "straggler_limit    7")
	on(t, url, 1, "storage", "configure", "no_such=1").wants(t, "SQLSTATE AW006", "hint: ")
}
