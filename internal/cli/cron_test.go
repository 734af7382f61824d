package cli_test

import (
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

func TestCron(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	on(t, url, 0, "cron", "list").wants(t, "no schedules")
	on(t, url, 0, "cron", "set", "report", "30 7 * * MON-FRI", "send_report", "--dry-run").wants(t, "next_fire_at", ":30:00")
	on(t, url, 0, "cron", "list").wants(t, "no schedules")
	on(t, url, 0, "cron", "set", "report", "30 7 * * MON-FRI", "send_report", "--timezone", "Europe/Berlin", "--queue", "q",
		"--args", `{"to": "all"}`, "--priority", "1", "--max-attempts", "3", "--tags", "{a,b}", "--metadata", `{"m": 1}`,
		"--ordering-key", "o", "--deadline", "1 minute", "--missed-fire", "skip").wants(t, "report", ":30:00")
	exec(t, url, `do $$ begin assert (
		select (s.kind, s.timezone, s.queue, s.args, s.priority, s.max_attempts, s.tags, s.metadata, s.ordering_key, s.deadline, s.missed_fire)
			= ('send_report', 'Europe/Berlin', 'q', '{"to": "all"}'::jsonb, 1, 3, '{a,b}'::text[], '{"m": 1}'::jsonb, 'o', interval '1 minute', 'skip')
		from awa.cron_schedules as s where s.name = 'report'); end $$`)

	type schedule struct {
		Name       string
		Paused     bool
		NextFireAt *string `json:"next_fire_at"`
	}
	listed := func() schedule {
		t.Helper()
		all := decode[[]schedule](t, on(t, url, 0, "cron", "list", "-o", "json"))
		if len(all) != 1 {
			t.Fatalf("%+v", all)
		}
		return all[0]
	}
	on(t, url, 0, "cron", "pause", "report", "--dry-run").wants(t, "paused")
	if s := listed(); s.Paused || s.NextFireAt == nil {
		t.Errorf("%+v", s)
	}
	on(t, url, 0, "cron", "pause", "report").wants(t, "paused")
	if s := listed(); !s.Paused || s.NextFireAt != nil {
		t.Errorf("%+v", s)
	}
	on(t, url, 0, "cron", "resume", "report").wants(t, "resumed")
	if s := listed(); s.Paused || s.NextFireAt == nil {
		t.Errorf("%+v", s)
	}
	on(t, url, 0, "cron", "remove", "report").wants(t, "removed")
	for _, verb := range []string{"remove", "pause", "resume"} {
		on(t, url, 2, "cron", verb, "report").wants(t, "no such schedule")
	}
	on(t, url, 1, "cron", "set", "n", "61 * * * *", "k").wants(t, "SQLSTATE AW006", "hint: ")
	on(t, url, 1, "cron", "set", "n", "@daily", "k", "--priority", "9").wants(t, "SQLSTATE AW006")
	on(t, url, 1, "cron", "set", "n", "@daily")
}

func TestCronNext(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	type fire struct {
		Local string
	}
	fires := decode[[]fire](t, on(t, url, 0, "cron", "next", "0 0 29 2 *", "--timezone", "Asia/Tokyo", "--count", "2", "-o", "json"))
	if len(fires) != 2 || len(fires[0].Local) != len("Thu 2028-02-29 00:00:00") || fires[0].Local[8:] != "-02-29 00:00:00" {
		t.Errorf("%+v", fires)
	}
	on(t, url, 0, "cron", "next", "* * * * *").wants(t, "local", ":00")
	on(t, url, 0, "cron", "next", "0 0 30 2 *").wants(t, "never")
	on(t, url, 1, "cron", "next", "* * * * *", "--count", "0").wants(t, "--count 0")
	on(t, url, 1, "cron", "next", "* * * * *", "--timezone", "Mars/Phobos").wants(t, "SQLSTATE AW006", "hint: ")
}
