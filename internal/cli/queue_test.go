package cli_test

import (
	"strings"
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

func TestQueueConfigure(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	is := func(want string) {
		t.Helper()
		exec(t, url, `do $$ begin assert (select (dlq_enabled, enqueue_shards, failed_retention) = `+want+`
			from awa.queue_meta where queue = 'q'); end $$`)
	}
	on(t, url, 0, "queue", "configure", "q", "dlq_enabled=true", "enqueue_shards=4", "failed_retention=7 days").
		wants(t, "queue  setting           value", "q      failed_retention  7 days")
	is(`(true, 4, interval '7 days')`)
	on(t, url, 0, "queue", "configure", "q", "dlq_enabled=", "--dry-run").wants(t, "default")
	is(`(true, 4, interval '7 days')`)
	on(t, url, 0, "queue", "configure", "q", "dlq_enabled=", "failed_retention=").wants(t, "default")
	is(`(false, 4, interval '72 hours')`)
	on(t, url, 1, "queue", "configure", "q", "no_such=1", "--dry-run").wants(t, "SQLSTATE AW006", "hint: ")
	on(t, url, 1, "queue", "configure", "q", "enqueue_shards").wants(t, "want NAME=VALUE")
	on(t, url, 1, "queue", "configure", "q", "notify=1", "notify=2").wants(t, "twice")
	on(t, url, 0, "queue", "configure", "q").wants(t, "enqueue_shards           4", "failed_retention         72:00:00", "max_depth                default")
	on(t, url, 0, "queue", "configure", "q", "--dry-run").wants(t, "enqueue_shards           4")
	on(t, url, 1, "queue", "configure")
	on(t, url, 1, "queue", "configure", "").wants(t, "SQLSTATE AW006")
}

// Every setting that the server knows can be given, and is in the help.
func TestQueueConfigureKnowsEverySetting(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	refused := on(t, url, 1, "queue", "configure", "q", "no_such=1")
	_, keys, found := strings.Cut(refused.stderr, "The keys are ")
	if !found {
		t.Fatal(refused.stderr)
	}
	values := map[string]string{"on_full": "warn", "dlq_enabled": "true", "notify": "false",
		"priority_aging_interval": "1 minute", "failed_retention": "1 day", "dlq_retention": "1 day"}
	help := on(t, url, 0, "queue", "configure", "--help")
	args := []string{"queue", "configure", "q"}
	for key := range strings.SplitSeq(strings.Trim(keys, ".\n"), ", ") {
		help.wants(t, "\n  "+key+" ")
		value := values[key]
		if value == "" {
			value = "7"
		}
		args = append(args, key+"="+value)
	}
	on(t, url, 0, args...)
	exec(t, url, `do $$ begin assert (select (concurrency_limit, rate_limit, rate_burst, max_depth, on_full, notify) = (7, 7, 7, 7, 'warn', false)
		from awa.queue_meta where queue = 'q'); end $$`)
	on(t, url, 1, "queue", "configure", "q", "on_full=ask").wants(t, "SQLSTATE AW006", "reject or warn")
	on(t, url, 1, "queue", "configure", "q", "concurrency_limit=0").wants(t, "SQLSTATE AW006")
}

// An operator needs no right on any table.
func TestOperator(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	ids := failed(t, url, "q", "k", 3)
	url += sep(url) + "options=-c%20role%3Dawa_operator"
	for _, args := range [][]string{
		{"queue", "counts", "q"},
		{"queue", "configure", "q", "dlq_enabled=true"},
		{"queue", "pause", "q"},
		{"queue", "resume", "q"},
		{"queue", "pause", "passing"},
		{"queue", "remove", "passing"},
		{"job", "get", ids[0]},
		{"job", "list"},
		{"job", "retry", ids[0], "--dry-run"},
		{"job", "retry", ids[0]},
		{"job", "cancel", ids[0]},
		{"job", "delete", ids[0], "--dry-run"},
		{"job", "delete", ids[0]},
		{"dlq", "move", ids[1], "--dry-run"},
		{"dlq", "move", ids[1]},
		{"dlq", "list"},
		{"dlq", "depth"},
		{"dlq", "retry", ids[1]},
		{"dlq", "move", "--all", "--dry-run"},
		{"dlq", "move", "--all"},
		{"dlq", "retry", "--queue", "q"},
		{"dlq", "purge", "--all"},
		{"job", "discard", "--all", "--dry-run"},
		{"job", "discard", "--all"},
		{"cron", "set", "s", "@daily", "k"},
		{"cron", "list"},
		{"cron", "pause", "s"},
		{"cron", "resume", "s"},
		{"cron", "next", "@daily"},
		{"cron", "remove", "s"},
		{"storage", "check"},
		{"storage", "rebase"},
	} {
		on(t, url, 0, args...)
	}
}

func sep(url string) string {
	if strings.Contains(url, "?") {
		return "&"
	}
	return "?"
}

func TestQueueRemove(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	on(t, url, 2, "queue", "remove", "q").wants(t, "not removed: no such queue")
	on(t, url, 0, "cron", "set", "s", "@daily", "k", "--queue", "q")
	on(t, url, 0, "queue", "pause", "q")
	on(t, url, 1, "queue", "remove", "q").wants(t, "SQLSTATE AW003", "schedule 's' enqueues into it", "hint: ")
	on(t, url, 0, "cron", "remove", "s")
	on(t, url, 0, "queue", "remove", "q", "--dry-run").wants(t, "q      removed")
	on(t, url, 0, "queue", "remove", "q").wants(t, "q      removed")
	on(t, url, 2, "queue", "remove", "q")
	on(t, url, 1, "queue", "remove", "").wants(t, "SQLSTATE AW006")
}

func TestQueuePause(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	exec(t, url, `select awa.enqueue('k', queue => 'q')`)
	claims := func(want string) {
		t.Helper()
		exec(t, url, `do $$ begin assert (select count(*) from awa.claim('q')) = `+want+`; end $$`)
	}
	on(t, url, 0, "queue", "pause", "q").wants(t, "paused")
	claims("0")
	on(t, url, 0, "queue", "resume", "q", "--dry-run").wants(t, "resumed")
	claims("0")
	on(t, url, 0, "queue", "resume", "q").wants(t, "resumed")
	claims("1")
	on(t, url, 0, "queue", "pause", "typo").wants(t, "paused", "level=WARN", "queue 'typo' is new", "remove_queue forgets it")
}

func TestStorageRebase(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	exec(t, url, `select awa.enqueue('k', queue => 'q')`)
	for _, args := range [][]string{{"storage", "rebase", "--dry-run"}, {"storage", "rebase"}} {
		bulk(t, url, 1, args...)
	}
	on(t, url, 0, "storage", "check")
	on(t, url, 0, "queue", "counts", "q").wants(t, "available         1")
}
