package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/cli"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// result is how one command line ended.
type result struct {
	code           int
	stdout, stderr string
}

func run(t *testing.T, ctx context.Context, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := cli.Run(ctx, args, strings.NewReader(""), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// on runs a command on the database of url and demands its exit code.
func on(t *testing.T, url string, code int, args ...string) result {
	t.Helper()
	r := run(t, t.Context(), append([]string{"--database-url", url}, args...)...)
	if r.code != code {
		t.Fatalf("awa-admin %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	return r
}

func (r result) wants(t *testing.T, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(r.stdout+r.stderr, part) {
			t.Errorf("no %q in:\n%s%s", part, r.stdout, r.stderr)
		}
	}
}

func decode[T any](t *testing.T, r result) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
		t.Fatalf("%v\n%s", err, r.stdout)
	}
	return v
}

func exec(t *testing.T, url, sql string) {
	t.Helper()
	if _, err := pgtest.Conn(t, url).Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	on(t, url, 2, "migrate", "status").wants(t, ", 001_create_storage.sql to ", "to be installed")
	on(t, url, 1, "queue", "counts", "email").wants(t, "SQLSTATE 3F000", "hint: ", "awa-admin migrate status")
	on(t, url, 0, "migrate").wants(t, "installed awa in schema awa")
	on(t, url, 0, "migrate").wants(t, "is current")
	on(t, url, 1, "migrate", "--segments", "5").wants(t, "fixed by the first install")
	state := decode[struct{ Current bool }](t, on(t, url, 0, "migrate", "status", "-o", "json"))
	if !state.Current {
		t.Error("status does not see that all is current")
	}
}

// Names are those that others see, whatever the encoding of the database.
func TestDatabaseOfAnotherEncoding(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	name := fmt.Sprintf("latin_%d", time.Now().UnixNano())
	exec(t, url, `create database `+name+` encoding 'LATIN1' locale 'C' template template0`)
	defer exec(t, url, `drop database `+name+` with (force)`)
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	latin := strings.Replace(url, config.Database, name, 1)
	on(t, latin, 0, "migrate")
	exec(t, latin, `select awa.enqueue('k', queue => U&'\00E9')`)
	on(t, latin, 0, "queue", "pause", "é")
	if paused := decode[[]struct{ Paused bool }](t, on(t, latin, 0, "queue", "counts", "-o", "json")); len(paused) != 1 || !paused[0].Paused {
		t.Errorf("%+v", paused)
	}
}

func TestMigratePrint(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	exec(t, url, on(t, url, 0, "migrate", "print").stdout)
	on(t, url, 0, "migrate", "status").wants(t, "current")
}

func TestQueueCounts(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	on(t, url, 0, "queue", "counts").wants(t, "no queues")
	exec(t, url, `select awa.enqueue('k', queue => 'b'), awa.enqueue('k', queue => 'a'), awa.enqueue('k', queue => 'a')`)

	type counts struct {
		Queue     string
		Available int
	}
	one := decode[[]counts](t, on(t, url, 0, "queue", "counts", "a", "-o", "json"))
	if len(one) != 1 || one[0] != (counts{"a", 2}) {
		t.Errorf("queue a: %+v", one)
	}
	all := decode[[]counts](t, on(t, url, 0, "queue", "counts", "-o", "json"))
	if len(all) != 2 || all[0] != (counts{"a", 2}) || all[1] != (counts{"b", 1}) {
		t.Errorf("all queues: %+v", all)
	}
	on(t, url, 0, "queue", "counts").wants(t, "queue  available", "a      2")
}

func steers(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

// Whoever enqueues chooses the names that an operator's terminal shows.
func TestNamesDoNotSteerTheTerminal(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	exec(t, url, `select awa.enqueue(e'k\vind', queue => e'red \x1b[31m\u009b1m\u202e\n\f'), awa.enqueue('k', queue => 'b')`)
	for _, args := range [][]string{{"queue", "counts"}, {"job", "list"}} {
		r := on(t, url, 0, args...)
		r.wants(t, "red  [31m")
		if odd := strings.IndexFunc(strings.ReplaceAll(r.stdout, "\n", ""), steers); odd >= 0 {
			t.Errorf("%v: a control character at %d in %q", args, odd, r.stdout)
		}
		if lines := strings.Count(r.stdout, "\n"); lines != 3 {
			t.Errorf("%v: %d lines, want the heading and two", args, lines)
		}
	}
	r := on(t, url, 1, "cron", "next", "\x1b[31m\u202e")
	if !strings.Contains(r.stderr, "[31m") || strings.ContainsFunc(strings.ReplaceAll(r.stderr, "\n", ""), steers) {
		t.Errorf("an error: %q", r.stderr)
	}
}

func TestStorage(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	exec(t, url, `select awa.enqueue_many('k', array(select '{}'::jsonb from generate_series(1, 20)), queue => 'q');
		select awa.complete_many(array(select c.receipt from awa.claim('q', 20) as c));`)

	on(t, url, 0, "storage", "status")
	on(t, url, 0, "storage", "check").wants(t, "healthy")
	on(t, url, 0, "storage", "rebuild-terminal-counters").wants(t, "no drift")
	on(t, url, 0, "storage", "rotate", "--help").wants(t, "Exits with 2")
	on(t, url, 0, "storage", "rotate").wants(t, "rotated")
	on(t, url, 0, "storage", "prune").wants(t, "pruned")
	on(t, url, 0, "maintain")
	pruned := decode[[]struct {
		Pruned int64 `json:"pruned_terminal"`
	}](t, on(t, url, 0, "queue", "counts", "q", "-o", "json"))
	if len(pruned) != 1 || pruned[0].Pruned != 20 {
		t.Errorf("after prune: %+v", pruned)
	}
	on(t, url, 1, "storage", "reset").wants(t, "repeat with --yes")
	on(t, url, 0, "storage", "reset", "--yes").wants(t, "emptied")
	on(t, url, 0, "storage", "check").wants(t, "healthy")
}

// What cannot be printed is an error, be it that there is nothing to tell.
func TestNoRoomForOutput(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for _, args := range [][]string{{"storage", "check"}, {"storage", "status"}, {"queue", "counts", "-o", "json"}, {"version"}} {
		var stderr bytes.Buffer
		code := cli.Run(t.Context(), append([]string{"--database-url", url}, args...), strings.NewReader(""), full, &stderr)
		if code != 1 || !strings.Contains(stderr.String(), "no space left on device") {
			t.Errorf("%v: exit code %d, %s", args, code, &stderr)
		}
	}
}

// A counter that lies is found by check and healed by the rebuild, which tells.
func TestDrift(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	exec(t, url, `select awa.enqueue_many('k', array(select '{}'::jsonb from generate_series(1, 20)), queue => 'q');
		select awa.complete_many(array(select c.receipt from awa.claim('q', 20) as c));`)
	exec(t, url, `select awa.checkpoint_terminal_counters()`) // holds what is committed
	exec(t, url, `update awa.terminal_count_checkpoints set completed = completed + 3`)

	on(t, url, 2, "storage", "check").wants(t, "invariant")
	type drift struct {
		Queue         string
		Before, After int
		Drift         int
	}
	healed := decode[[]drift](t, on(t, url, 0, "storage", "rebuild-terminal-counters", "-o", "json"))
	if len(healed) != 1 || healed[0] != (drift{"q", 23, 20, -3}) {
		t.Errorf("healed: %+v", healed)
	}
	on(t, url, 0, "storage", "check").wants(t, "healthy")
	on(t, url, 0, "storage", "rebuild-terminal-counters").wants(t, "no drift")
}

func TestPruneBlocked(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	exec(t, url, `select awa.enqueue_many('k', array(select '{}'::jsonb from generate_series(1, 20)), queue => 'q'); select awa.rotate()`)
	on(t, url, 2, "storage", "prune").wants(t, "blocked")
}

func TestErrorsTellStateAndHint(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	on(t, url, 1, "queue", "counts", "x", "--schema", "elsewhere").wants(t, "SQLSTATE 3F000", "hint: ")
	on(t, url, 1, "queue", "counts", "x", "--output", "yaml").wants(t, "want table or json")
	on(t, url, 1, "queue", "counts", "x", "--timeout", "-1s").wants(t, "--timeout -1s")
	on(t, url, 1, "queue", "counts", "x", "--schema", "").wants(t, "--schema is empty")
	on(t, url, 1, "queue", "no-such-command").wants(t, "unknown command")
	on(t, url, 1, "cron", "set", "digest").wants(t, "usage: awa-admin cron set NAME CRON KIND")
	on(t, url, 1, "queue", "configure", "x", "on_full").wants(t, "want NAME=VALUE", "usage: awa-admin queue configure QUEUE")
	on(t, url, 1, "job", "list", "--no-such-flag").wants(t, "unknown flag", "usage: awa-admin job list")
	on(t, "postgres://127.0.0.1:1/none", 1, "queue", "counts", "x", "--timeout", "2s").wants(t, "connect")
}

// Who lacks a right is told whose it is.
// A command that is told to stop says so once, whatever the driver makes of it.
func TestToldToStop(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	holder := pgtest.Conn(t, url)
	if _, err := holder.Exec(t.Context(), `begin; lock table awa.queue_meta in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan result, 1)
	go func() {
		ended <- run(t, ctx, "--database-url", url, "queue", "configure", "x", "max_depth=1", "--dry-run")
	}()
	for waits := false; !waits; {
		if err := holder.QueryRow(t.Context(), `select exists (
			select from pg_locks as l where not l.granted and pg_backend_pid() = any (pg_blocking_pids(l.pid)))`).Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if r := <-ended; r.code != 1 || r.stderr != "awa-admin: interrupted\n" {
		t.Errorf("exit code %d: %q", r.code, r.stderr)
	}
}

func TestErrorsTellRights(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	conn := pgtest.Conn(t, url)
	var role string
	if err := conn.QueryRow(t.Context(), `select 'guest_' || oid from pg_database where datname = current_database()`).Scan(&role); err != nil {
		t.Fatal(err)
	}
	own := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	own(`create role ` + role)
	defer own(`drop role ` + role)
	own(`do $$ begin execute format('alter database %I set role = ` + role + `', current_database()); end $$`)
	on(t, url, 1, "queue", "counts").wants(t, "SQLSTATE 42501", "hint: awa_reader may look, awa_worker may maintain, awa_operator")
	on(t, url, 1, "migrate").wants(t, "SQLSTATE 42501", "the owner of the schema may migrate")
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	conn := pgtest.Conn(t, url)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `lock table awa.queue_lanes in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	on(t, url, 1, "queue", "counts", "x", "--timeout", "3s").wants(t, "SQLSTATE 57014")
}

// watch is an output that calls seen once it holds part.
type watch struct {
	bytes.Buffer
	part string
	seen func()
}

func (w *watch) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if strings.Contains(w.String(), w.part) {
		w.seen()
	}
	return n, err
}

// loop runs maintain --loop until it has printed part, and returns what it printed.
func loop(t *testing.T, url, part string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	stdout := &watch{part: part, seen: cancel}
	var stderr bytes.Buffer
	code := cli.Run(ctx, []string{"--database-url", url, "maintain", "--loop", "--interval", "20ms"},
		strings.NewReader(""), stdout, &stderr)
	if code != 0 || !strings.Contains(stdout.String(), part) {
		t.Errorf("exit code %d, no %q in:\n%s%s", code, part, stdout, &stderr)
	}
	return stdout.String()
}

// Whoever calls maintain by a timer sees from the exit code that a task failed.
func TestMaintainTellsFailure(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	on(t, url, 0, "maintain")
	exec(t, url, failingPrune)
	if r := on(t, url, 1, "maintain"); !strings.Contains(r.stdout, "promote") || !strings.HasPrefix(r.stderr, "awa-admin: prune: segment 0: ") {
		t.Errorf("%q\n%s", r.stderr, r.stdout)
	}
}

func TestMaintainLoopPauses(t *testing.T) {
	t.Parallel()
	for _, interval := range []string{"0s", "-1s"} {
		on(t, "postgres://127.0.0.1:1/none", 1, "maintain", "--loop", "--interval", interval).wants(t, "--interval "+interval)
	}
}

func TestMaintainLoopStopsWhenTold(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	exec(t, url, `select awa.enqueue('k', queue => 'q'); select awa.fail(c.receipt, retry_after => '0') from awa.claim('q') as c`)
	loop(t, url, "promote promoted 1")
	on(t, url, 0, "queue", "counts", "q").wants(t, "available         1")
}

// What a task could not do is told although it affected nothing, and not in each of
// the rounds until the job is due.
func TestMaintainLoopTellsTrouble(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	tx, err := pgtest.Conn(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `select awa.rotate()`); err != nil {
		t.Fatal(err)
	}
	exec(t, url, `select awa.enqueue('k', run_at => now() + interval '1 second')`)
	printed := loop(t, url, "promote promoted 1")
	if n := strings.Count(printed, "ring busy 0 another session rotates or prunes"); n != 1 {
		t.Errorf("told %d times:\n%s", n, printed)
	}
}

func TestMaintainLoopEndsWhenItCannotStart(t *testing.T) {
	t.Parallel()
	on(t, pgtest.Empty(t), 1, "maintain", "--loop").wants(t, "SQLSTATE 3F000")
}

func TestServerRun(t *testing.T) {
	t.Parallel()
	r := run(t, t.Context(), "--database-url", pgtest.URL(t), "server", "run", "--", "sh", "-c", `echo "$PGDATABASE"; exit 7`)
	if r.code != 7 {
		t.Errorf("exit code %d, want the command's 7: %s", r.code, r.stderr)
	}
	r.wants(t, "awa_test_")
}

func TestDemo(t *testing.T) {
	t.Parallel()
	r := run(t, t.Context(), "--database-url", pgtest.URL(t), "demo")
	if r.code != 0 {
		t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	r.wants(t, "awa.enqueue(", "pruned", "awa.check()", "That was awa")
}

// A database may make every transaction SERIALIZABLE unless told otherwise.
func TestHousekeepingIsReadCommitted(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	exec(t, url, `do $$ begin
		execute format('alter role current_user in database %I set default_transaction_isolation = serializable', current_database());
	end $$`)
	for _, args := range [][]string{{"maintain"}, {"storage", "rotate"}, {"storage", "prune"},
		{"storage", "rebase"}, {"storage", "rebuild-terminal-counters"}} {
		on(t, url, 0, args...)
	}
}

// The statement that failed tells little to whoever set the default or is on the wrong server.
func TestReadOnlyHasAHint(t *testing.T) {
	t.Parallel()
	for url, args := range map[string][]string{
		pgtest.Empty(t): {"migrate"},
		pgtest.URL(t):   {"queue", "pause", "email"},
	} {
		exec(t, url, `do $$ begin
			execute format('alter role current_user in database %I set default_transaction_read_only = on', current_database());
		end $$`)
		on(t, url, 1, args...).wants(t, "SQLSTATE 25006", "hint: ", "default_transaction_read_only")
	}
}
