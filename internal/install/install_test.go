package install_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"

	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// A toy release: a ring, a second migration, and one function.
func fixture(migrations int, code string) install.Options {
	all := []string{
		`create schema {{ .schema }};
create table {{ .schema }}.ready_entries (ready_slot smallint) partition by list (ready_slot);
{{ range $i := until (int .segments) }}
create table {{ $.schema }}.ready_entries_{{ $i }} partition of {{ $.schema }}.ready_entries for values in ({{ $i }});
{{ end }}
---- create above / drop below ----
drop schema {{ .schema }} cascade;`,
		`create table {{ .schema }}.second (id int) -- no semicolon at the end`,
	}
	fsys := fstest.MapFS{}
	for i, sql := range all[:migrations] {
		fsys[fmt.Sprintf("%03d_step.sql", i+1)] = &fstest.MapFile{Data: []byte(sql)}
	}
	return install.Options{
		Migrations: fsys,
		Code: fstest.MapFS{
			"install.sql": {Data: []byte(`{{ template "api/f.sql" . }}`)},
			"api/f.sql":   {Data: []byte(code)},
		},
	}
}

const (
	codeOne = `create or replace function {{ .schema }}.f() returns int language sql as 'select 1';`
	codeTwo = `create or replace function {{ .schema }}.f() returns int language sql as 'select 2';`
)

func mustMigrate(t *testing.T, conn *pgx.Conn, o install.Options) install.Result {
	t.Helper()
	res, err := install.Migrate(t.Context(), conn, o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func scan[T any](t *testing.T, conn *pgx.Conn, query string) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), query).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func TestMigrateUpgradesStepByStep(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))

	if res := mustMigrate(t, conn, fixture(1, codeOne)); res.From != 0 || res.To != 1 || !res.CodeInstalled || res.Segments != 8 {
		t.Errorf("first install: %+v", res)
	}
	if res := mustMigrate(t, conn, fixture(1, codeOne)); res.Changed() {
		t.Errorf("a second run did something: %+v", res)
	}
	if res := mustMigrate(t, conn, fixture(1, codeTwo)); res.From != 1 || res.To != 1 || !res.CodeInstalled {
		t.Errorf("new code alone: %+v", res)
	}
	if got := scan[int](t, conn, "select awa.f()"); got != 2 {
		t.Errorf("f() is %d, want the new 2", got)
	}
	if res := mustMigrate(t, conn, fixture(2, codeTwo)); res.From != 1 || res.To != 2 || len(res.Applied) != 1 {
		t.Errorf("a new migration: %+v", res)
	}
}

// Whatever the database's default, a step sees what others committed before the
// locks that the upgrade took.
func TestMigrateIsReadCommitted(t *testing.T) {
	t.Parallel()
	const isolation = `create table if not exists {{ .schema }}.told as select current_setting('transaction_isolation') as isolation;`
	o := fixture(1, isolation)
	for name, install := range map[string]func(*pgx.Conn) error{
		"Migrate": func(conn *pgx.Conn) error { _, err := install.Migrate(t.Context(), conn, o); return err },
		"Print": func(conn *pgx.Conn) error {
			_, err := conn.Exec(t.Context(), printed(t, install.PrintOptions{Options: o}))
			return err
		},
	} {
		conn := pgtest.Conn(t, pgtest.Empty(t))
		if _, err := conn.Exec(t.Context(), "set default_transaction_isolation = 'repeatable read'"); err != nil {
			t.Fatal(err)
		}
		if err := install(conn); err != nil {
			t.Fatal(err)
		}
		if got := scan[string](t, conn, "select isolation from awa.told"); got != "read committed" {
			t.Errorf("%s is %s", name, got)
		}
	}
}

// Whoever was there first has no functions that run as the installer.
func TestOthersOwnNothing(t *testing.T) {
	t.Parallel()
	o := fixture(2, codeOne)
	conn := pgtest.Conn(t, pgtest.Empty(t))
	run := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	run(`create role awa_test_squatter; create schema squat authorization awa_test_squatter; set role awa_test_squatter;
		create function squat.t() returns trigger language plpgsql as 'begin return new; end'; reset role`)
	for _, first := range []string{
		"create schema awa authorization awa_test_squatter",
		"create schema awa; grant create on schema awa to awa_test_squatter",
		"create schema awa; grant create on schema awa to public",
		"create schema awa; create function awa.g() returns int language sql as 'select 1'; alter function awa.g() owner to awa_test_squatter",
		"create schema awa; create table awa.g (); alter table awa.g owner to awa_test_squatter",
		"create schema awa; create operator awa.=== (procedure = int4eq, leftarg = int4, rightarg = int4); alter operator awa.=== (int4, int4) owner to awa_test_squatter",
		"create table public.awa_schema_version as select 0 as version; alter table public.awa_schema_version owner to awa_test_squatter",
		"create schema awa; create table awa.g (); create trigger t before insert on awa.g for each row execute function squat.t()",
		"create table public.awa_schema_version as select 0 as version; create trigger t before update on public.awa_schema_version for each row execute function squat.t()",
	} {
		run(first)
		if _, err := install.Migrate(t.Context(), conn, o); err == nil || !strings.Contains(err.Error(), "is in the hands of") {
			t.Errorf("%s: %v", first, err)
		}
		if _, err := conn.Exec(t.Context(), printed(t, install.PrintOptions{Options: o})); err == nil || !strings.Contains(err.Error(), "is in the hands of") {
			t.Errorf("%s, the script: %v", first, err)
		}
		run("rollback; drop schema if exists awa cascade; drop table if exists public.awa_schema_version")
	}
	run("drop owned by awa_test_squatter; drop role awa_test_squatter")
	mustMigrate(t, conn, o)
}

// A view in the place of the version table runs functions as whoever reads it.
func TestOthersVersionIsNotRead(t *testing.T) {
	t.Parallel()
	o := fixture(2, codeOne)
	conn := pgtest.Conn(t, pgtest.Empty(t))
	role := "squatter_" + scan[string](t, conn, "select oid::text from pg_database where datname = current_database()")
	run := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	run(fmt.Sprintf(`create schema awa; create role %[1]s; grant create on schema public to %[1]s; set role %[1]s;
		create function public.lure() returns int language plpgsql as 'begin raise exception ''lured''; end';
		create view public.awa_schema_version as select public.lure() as version; reset role`, role))
	for name, read := range map[string]func() error{
		"Status":  func() error { _, err := install.Status(t.Context(), conn, o); return err },
		"Migrate": func() error { _, err := install.Migrate(t.Context(), conn, o); return err },
		"Print": func() error {
			_, err := conn.Exec(t.Context(), printed(t, install.PrintOptions{Options: o}))
			return errors.Join(err, rollback(t.Context(), conn))
		},
	} {
		if err := read(); err == nil || !strings.Contains(err.Error(), "in the hands of") {
			t.Errorf("%s: %v", name, err)
		}
	}
	run(fmt.Sprintf("drop owned by %[1]s; drop role %[1]s", role))
	run("drop schema awa")
	mustMigrate(t, conn, o)
}

func rollback(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "rollback")
	return err
}

// What others create after the first look, while an install waits for its turn, is neither
// read nor taken over.
func TestOthersComeInBetween(t *testing.T) {
	t.Parallel()
	o := fixture(2, codeOne)
	url := pgtest.Empty(t)
	admin, conn := pgtest.Conn(t, url), pgtest.Conn(t, url)
	role := "squatter_" + scan[string](t, admin, "select oid::text from pg_database where datname = current_database()")
	run := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	run(fmt.Sprintf("create role %[1]s; grant create on schema public to %[1]s", role))
	for name, install := range map[string]func() error{
		"Migrate": func() error { _, err := install.Migrate(t.Context(), conn, o); return err },
		"Print": func() error {
			_, err := conn.Exec(t.Context(), printed(t, install.PrintOptions{Options: o}))
			return errors.Join(err, rollback(t.Context(), conn))
		},
	} {
		run("begin; select pg_advisory_xact_lock(9628173550095224)")
		done := make(chan error, 1)
		go func() { done <- install() }()
		for scan[bool](t, admin, "select not exists (select from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database()))") {
			time.Sleep(5 * time.Millisecond)
		}
		run(fmt.Sprintf(`set local role %[1]s; create function public.lure() returns int language plpgsql as 'begin raise exception ''lured''; end';
			create view public.awa_schema_version as select public.lure() as version; commit`, role))
		if err := <-done; err == nil || !strings.Contains(err.Error(), "in the hands of") {
			t.Errorf("%s: %v", name, err)
		}
		run("drop view public.awa_schema_version; drop function public.lure")
	}
	run(fmt.Sprintf("drop owned by %[1]s; drop role %[1]s", role))
}

func TestMigrateIsAtomic(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	_, err := install.Migrate(t.Context(), conn, fixture(2, "select 1;\nselect no_such_function();"))
	if err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("the error does not name the line: %v", err)
	}
	if scan[bool](t, conn, "select to_regnamespace('awa') is not null or to_regclass('public.awa_schema_version') is not null") {
		t.Error("a failed install left something behind")
	}
	if n := scan[int](t, conn, "select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())"); n != 0 {
		t.Errorf("a failed install holds %d advisory locks", n)
	}
	mustMigrate(t, conn, fixture(2, codeOne)) // the same connection goes on
}

// settled is told of a connection's statements, and finds those about advisory locks that
// are outside of a transaction.
type settled struct{ outside []string }

func (s *settled) TraceQueryStart(ctx context.Context, conn *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if strings.Contains(q.SQL, "advisory") && conn.PgConn().TxStatus() == 'I' {
		s.outside = append(s.outside, q.SQL)
	}
	return ctx
}

func (s *settled) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// Behind a pooler the next transaction may be another session's.
func TestMigrateLocksForATransaction(t *testing.T) {
	t.Parallel()
	config, err := pgx.ParseConfig(pgtest.Empty(t))
	if err != nil {
		t.Fatal(err)
	}
	var told settled
	config.Tracer = &told
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	mustMigrate(t, conn, fixture(2, codeOne))
	if told.outside != nil {
		t.Errorf("a session's locks: %q", told.outside)
	}
}

func TestMigrateConcurrently(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		conn := pgtest.Conn(t, url)
		wg.Go(func() { _, errs[i] = install.Migrate(context.Background(), conn, fixture(2, codeOne)) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

func TestMigrateRefusesNewer(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	mustMigrate(t, conn, fixture(2, codeTwo))
	if _, err := install.Migrate(t.Context(), conn, fixture(1, codeOne)); !errors.Is(err, install.ErrNewer) {
		t.Errorf("got %v, want ErrNewer", err)
	}
	if _, err := install.Status(t.Context(), conn, fixture(1, codeOne)); !errors.Is(err, install.ErrNewer) {
		t.Errorf("status: got %v, want ErrNewer", err)
	}
	if got := scan[int](t, conn, "select awa.f()"); got != 2 {
		t.Error("the refused install replaced the code")
	}
}

func TestSegmentsAreFixedAtFirstInstall(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	with := func(n int, code string) install.Options {
		o := fixture(1, code)
		o.Segments = n
		return o
	}
	mustMigrate(t, conn, with(5, codeOne))
	if res := mustMigrate(t, conn, with(0, codeTwo)); res.Segments != 5 {
		t.Errorf("an upgrade took %d segments, want the installed 5", res.Segments)
	}
	if _, err := install.Migrate(t.Context(), conn, with(6, codeOne)); err == nil || !strings.Contains(err.Error(), "has 5 segments, not 6") {
		t.Errorf("a conflicting number: %v", err)
	}
	for _, n := range []int{-1, 2, 33} {
		if _, err := install.Migrate(t.Context(), conn, with(n, codeOne)); err == nil {
			t.Errorf("%d segments were accepted", n)
		}
	}
}

func TestSchemaNames(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	for _, name := range []string{"Awa", "1awa", "a-b", `a"b`, "a.b", "pg_awa", "public", "information_schema", strings.Repeat("a", 41)} {
		o := fixture(1, codeOne)
		o.Schema = name
		if _, err := install.Migrate(t.Context(), conn, o); err == nil || !strings.Contains(err.Error(), "schema name") {
			t.Errorf("%q: %v", name, err)
		}
	}
	words := fixture(1, codeOne)
	for _, words.Schema = range []string{"user", "order", "values", "left"} {
		if _, err := install.Migrate(t.Context(), conn, words); err == nil || !strings.Contains(err.Error(), "schema name "+words.Schema) {
			t.Errorf("%q: %v", words.Schema, err)
		}
	}
	words.Schema = "values" // alone of these it parses where it is read as one text
	if _, err := conn.Exec(t.Context(), printed(t, install.PrintOptions{Options: words})); err == nil || !strings.Contains(err.Error(), "schema name values") {
		t.Errorf("the script: %v", err)
	}
	if _, err := conn.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	o := fixture(1, codeOne)
	o.Schema = "jobs_2"
	mustMigrate(t, conn, o)
	mustMigrate(t, conn, fixture(1, codeOne)) // two installations side by side
	if got := scan[int](t, conn, "select jobs_2.f() + version from public.jobs_2_schema_version"); got != 2 {
		t.Errorf("schema jobs_2: got %d", got)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	status := func(o install.Options) install.State {
		t.Helper()
		s, err := install.Status(t.Context(), conn, o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := status(fixture(1, codeOne)); s.Current() || s.Version != 0 || len(s.Pending) != 1 {
		t.Errorf("before: %+v", s)
	}
	if scan[bool](t, conn, "select to_regclass('public.awa_schema_version') is not null") {
		t.Error("status wrote to the database")
	}
	mustMigrate(t, conn, fixture(1, codeOne))
	if s := status(fixture(1, codeOne)); !s.Current() {
		t.Errorf("after: %+v", s)
	}
	if s := status(fixture(1, codeTwo)); s.Current() || s.CodeCurrent || len(s.Pending) != 0 {
		t.Errorf("other code: %+v", s)
	}
}

func TestMissingTemplateData(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	_, err := install.Migrate(t.Context(), conn, fixture(1, "-- one\nselect {{ .scheme }};"))
	if err == nil || !strings.Contains(err.Error(), "code line 2") {
		t.Errorf("got %v", err)
	}
}

// tern itself reads the version that we wrote.
func TestTernAgrees(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	mustMigrate(t, conn, fixture(2, codeOne))
	m, err := migrate.NewMigrator(t.Context(), conn, "public.awa_schema_version")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := m.GetCurrentVersion(t.Context()); err != nil || v != 2 {
		t.Errorf("tern reads version %d, %v", v, err)
	}
}

func printed(t *testing.T, o install.PrintOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := install.Print(&b, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPrintInstallsAndUpgrades(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	run := func(sql string) error { _, err := conn.Exec(t.Context(), sql); return err }

	first := printed(t, install.PrintOptions{Options: fixture(1, codeOne)})
	if err := run(first); err != nil {
		t.Fatal(err)
	}
	if res := mustMigrate(t, conn, fixture(1, codeOne)); res.Changed() {
		t.Errorf("Migrate does not know what the script installed: %+v", res)
	}
	if err := run(first); err == nil || !strings.Contains(err.Error(), "is at version 1") {
		t.Errorf("a second run of the script: %v", err)
	}
	_ = run("rollback")
	if err := run(printed(t, install.PrintOptions{Options: fixture(2, codeTwo), From: 1})); err != nil {
		t.Fatal(err)
	}
	if res := mustMigrate(t, conn, fixture(2, codeTwo)); res.Changed() {
		t.Errorf("Migrate does not know the upgrade: %+v", res)
	}
	other := fixture(2, codeTwo)
	other.Segments = 5
	if err := run(printed(t, install.PrintOptions{Options: other, From: 2})); err == nil || !strings.Contains(err.Error(), "has 8 segments") {
		t.Errorf("a script for another ring: %v", err)
	}
}

func TestPrintWithoutTransaction(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	sql := printed(t, install.PrintOptions{Options: fixture(2, codeOne), NoTransaction: true})
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if scan[bool](t, conn, "select to_regnamespace('awa') is not null") {
		t.Error("the script ended the caller's transaction")
	}
}

// A schema that was dropped is not installed, whatever its version was.
// As a dump of definitions alone leaves it.
func TestVersionTableWithoutItsRow(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	mustMigrate(t, conn, fixture(2, codeOne))
	if _, err := conn.Exec(t.Context(), "delete from public.awa_schema_version"); err != nil {
		t.Fatal(err)
	}
	_, err := install.Migrate(t.Context(), conn, fixture(2, codeOne))
	if err == nil || !strings.Contains(err.Error(), "public.awa_schema_version is empty: it was restored without its row") {
		t.Errorf("Migrate: %v", err)
	}
}

// As a renamed schema is, or one that was dumped alone.
func TestSchemaWithoutItsVersionTable(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	mustMigrate(t, conn, fixture(1, codeOne))
	if _, err := conn.Exec(t.Context(), "alter schema awa rename to jobs"); err != nil {
		t.Fatal(err)
	}
	o := fixture(2, codeTwo)
	o.Schema = "jobs"
	for name, way := range map[string]func() error{
		"Migrate": func() error { _, err := install.Migrate(t.Context(), conn, o); return err },
		"Status":  func() error { _, err := install.Status(t.Context(), conn, o); return err },
		"Print": func() error {
			_, err := conn.Exec(t.Context(), printed(t, install.PrintOptions{Options: o}))
			return err
		},
	} {
		if err := way(); err == nil || !strings.Contains(err.Error(), "schema jobs is there without public.jobs_schema_version") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := conn.Exec(t.Context(), "rollback"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Exec(t.Context(), "alter table awa_schema_version rename to jobs_schema_version"); err != nil {
		t.Fatal(err)
	}
	if res := mustMigrate(t, conn, o); res.From != 1 || res.To != 2 {
		t.Errorf("with the table: %+v", res)
	}
	if got := scan[int](t, conn, "select jobs.f()"); got != 2 {
		t.Errorf("f() is %d, want the new 2", got)
	}
}

func TestInstallAfterDrop(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	drop := func() {
		t.Helper()
		if _, err := conn.Exec(t.Context(), "drop schema awa cascade"); err != nil {
			t.Fatal(err)
		}
		if s, err := install.Status(t.Context(), conn, fixture(2, codeOne)); err != nil || s.Version != 0 || len(s.Pending) != 2 {
			t.Errorf("status after the drop: %+v, %v", s, err)
		}
	}
	mustMigrate(t, conn, fixture(2, codeOne))
	drop()
	if res := mustMigrate(t, conn, fixture(2, codeOne)); res.From != 0 || res.To != 2 {
		t.Errorf("Migrate after the drop: %+v", res)
	}
	drop()
	if _, err := conn.Exec(t.Context(), printed(t, install.PrintOptions{Options: fixture(2, codeOne)})); err != nil {
		t.Fatal(err)
	}
	if res := mustMigrate(t, conn, fixture(2, codeOne)); res.Changed() {
		t.Errorf("Migrate does not know what the script installed: %+v", res)
	}
}

// What the script sets, the caller's next statements do not meet.
func TestPrintGivesBackTheCallersSettings(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	const settings = `select current_user || ' ' || current_setting('search_path') || ' ' || current_setting('client_min_messages')`
	before := scan[string](t, conn, settings)
	for from, migrations := range []int{1, 2} {
		sql := printed(t, install.PrintOptions{From: from, NoTransaction: true,
			Options: fixture(migrations, "set local search_path = pg_catalog;\n"+codeOne)})
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
		if got := scan[string](t, conn, settings); got != before {
			t.Errorf("after a script from version %d: %s, want %s", from, got, before)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// lures makes a namesake of each function and operator of the system that can have one,
// which fails, and puts them before those in the session's path.
const lures = `
create schema lures;
set check_function_bodies = off;
do $$
declare
  f record;
begin
  for f in
    select p.proname, p.proretset, format_type(p.prorettype, null) as result,
      (select string_agg(format_type(t, null), ', ') from unnest(p.proargtypes) as t) as arguments,
      (select min(o.oprname) from pg_operator as o where o.oprcode = p.oid and o.oprleft <> 0) as operator
    from pg_proc as p
    where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f'
  loop
    begin
      execute format('create function lures.%I(%s) returns %s language plpgsql as $f$ begin raise exception ''lured to %s''; end $f$',
        f.proname, f.arguments, case when f.proretset then 'setof ' else '' end || f.result, f.proname);
      if f.operator is not null then
        execute format('create operator lures.%s (function = lures.%I, leftarg = %s, rightarg = %s)',
          f.operator, f.proname, split_part(f.arguments, ', ', 1), split_part(f.arguments, ', ', 2));
      end if;
    exception when others then  -- of types that only the system's functions may have
    end;
  end loop;
end
$$;
set search_path = lures, pg_catalog`

// What others have in the schemas of the path is not called, however well it fits: it would
// run as whoever installs.
func TestMigrateCallsTheSystemsFunctions(t *testing.T) {
	t.Parallel()
	ways := map[string]func(conn *pgx.Conn, from int) error{
		"Migrate": func(conn *pgx.Conn, from int) error {
			state, err := install.Status(t.Context(), conn, install.Options{})
			if err == nil && state.Version != from {
				err = fmt.Errorf("installed is version %d", state.Version)
			}
			if err == nil {
				_, err = install.Migrate(t.Context(), conn, install.Options{})
			}
			return err
		},
		"Print": func(conn *pgx.Conn, from int) error {
			return pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), printed(t, install.PrintOptions{From: from, NoTransaction: true}))
				return err
			})
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := pgtest.Conn(t, pgtest.Empty(t))
			if _, err := conn.Exec(t.Context(), lures); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Exec(t.Context(), "select now()"); err == nil {
				t.Fatal("nobody is lured")
			}
			if err := way(conn, 0); err != nil {
				t.Fatalf("install: %v", err)
			}
			latest := scan[int](t, conn, "select version from public.awa_schema_version")
			if _, err := conn.Exec(t.Context(), "comment on schema awa is null"); err != nil { // as if other code were installed
				t.Fatal(err)
			}
			if err := way(conn, latest); err != nil {
				t.Fatalf("upgrade: %v", err)
			}
		})
	}
}

// What another role adds, the functions, which run as their owner, could not reach.
func TestUpgradeByAnotherRole(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	run := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	owner := "owner_" + scan[string](t, conn, "select oid::text from pg_database where datname = current_database()")
	run(fmt.Sprintf(`create role %[1]s; grant create on schema public to %[1]s;
		do $$ begin execute format('grant create on database %%I to %[1]s', current_database()); end $$`, owner))
	run("set role " + owner)
	mustMigrate(t, conn, fixture(1, codeOne))
	run("reset role")
	if _, err := install.Migrate(t.Context(), conn, fixture(2, codeOne)); err == nil || !strings.Contains(err.Error(), "is in the hands of "+owner) {
		t.Error(err)
	}
	run("set role " + owner)
	if res := mustMigrate(t, conn, fixture(2, codeOne)); res.To != 2 {
		t.Errorf("by its owner: %+v", res)
	}
	run("reset role")
	run(fmt.Sprintf("drop owned by %[1]s; drop role %[1]s", owner))
}

// Default privileges give nobody the rights of the owner, nor PUBLIC anything.
func TestDefaultPrivileges(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Empty(t))
	role := "dev_" + scan[string](t, conn, "select oid::text from pg_database where datname = current_database()")
	run := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	run(fmt.Sprintf(`create role %[1]s;
		alter default privileges grant all on tables to %[1]s with grant option;
		alter default privileges grant all on tables to public;
		alter default privileges grant all on sequences to public;
		alter default privileges grant all on functions to public;
		alter default privileges grant all on schemas to %[1]s, public`, role))
	mustMigrate(t, conn, install.Options{})
	if scan[bool](t, conn, fmt.Sprintf("select has_schema_privilege('%s', 'awa', 'create')", role)) {
		t.Error("others may create in the schema")
	}
	for what, query := range map[string]string{
		"triggers": fmt.Sprintf(`select coalesce(string_agg(c.relname, ' '), '') from pg_class as c
			where c.relnamespace = 'awa'::regnamespace and c.relkind in ('r', 'p', 'v') and has_table_privilege('%s', c.oid, 'trigger, references')`, role),
		"relations": `select coalesce(string_agg(c.relname || ' ' || a.privilege_type, ' '), '') from pg_class as c, aclexplode(c.relacl) as a
			where c.relnamespace = 'awa'::regnamespace and a.grantee = 0`,
		"functions": `select coalesce(string_agg(p.proname, ' '), '') from pg_proc as p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
			where p.pronamespace = 'awa'::regnamespace and a.grantee = 0`,
	} {
		if got := scan[string](t, conn, query); got != "" {
			t.Errorf("%s: %.200s", what, got)
		}
	}
	if !scan[bool](t, conn, fmt.Sprintf("select has_table_privilege('%s', 'awa.jobs', 'select')", role)) {
		t.Error("nothing is left of what was granted")
	}
	run(fmt.Sprintf("drop owned by %[1]s; drop role %[1]s", role))
}

// The real release, by the script and by Migrate, gives one schema; and it
// installs under another name.
func TestReleaseByPsql(t *testing.T) {
	t.Parallel()
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("no psql in PATH")
	}
	url := pgtest.Empty(t)
	script := filepath.Join(t.TempDir(), "awa.sql")
	o := install.PrintOptions{Options: install.Options{Schema: "other_awa", Segments: 3}}
	if err := os.WriteFile(script, []byte(printed(t, o)), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(psql, "-Xq", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "NOTICE") {
		t.Errorf("a first install speaks of what it does not replace:\n%s", out)
	}
	conn := pgtest.Conn(t, url)
	if res := mustMigrate(t, conn, o.Options); res.Changed() {
		t.Errorf("Migrate does not know what psql installed: %+v", res)
	}
	if scan[bool](t, conn, "select to_regnamespace('awa') is not null") {
		t.Error("a schema of another name made awa")
	}
}

// A database whose encoding lacks a character refuses a script that has it.
func TestReleaseIsASCII(t *testing.T) {
	t.Parallel()
	for n, line := range strings.Split(printed(t, install.PrintOptions{}), "\n") {
		if strings.ContainsFunc(line, func(r rune) bool { return r > unicode.MaxASCII }) {
			t.Errorf("line %d: %s", n+1, line)
		}
	}
}

// Every file of the code package is part of what is installed.
func TestNoFileIsLeftOut(t *testing.T) {
	t.Parallel()
	code := os.DirFS("../../plpgsql")
	var files []string
	var all strings.Builder
	err := fs.WalkDir(code, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".sql" {
			return err
		}
		files = append(files, path)
		body, err := fs.ReadFile(code, path)
		all.Write(body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if path != "install.sql" && !strings.Contains(all.String(), `template "`+path+`"`) {
			t.Errorf("no template names %s", path)
		}
	}
}

// PostgreSQL refuses a partitioned table for a role whose default_tablespace names the
// database's own.
func TestDefaultTablespaceIsTheDatabases(t *testing.T) {
	t.Parallel()
	const setting = `select current_setting('default_tablespace')`
	for name, install := range map[string]func(*testing.T, *pgx.Conn, install.Options){
		"migrate": func(t *testing.T, conn *pgx.Conn, o install.Options) { mustMigrate(t, conn, o) },
		"print": func(t *testing.T, conn *pgx.Conn, o install.Options) {
			if _, err := conn.Exec(t.Context(), printed(t, install.PrintOptions{Options: o})); err != nil {
				t.Fatal(err)
			}
		},
		"print for a transaction": func(t *testing.T, conn *pgx.Conn, o install.Options) {
			script := printed(t, install.PrintOptions{Options: o, NoTransaction: true})
			if _, err := conn.Exec(t.Context(), "begin;"+script); err != nil {
				t.Fatal(err)
			}
			if got := scan[string](t, conn, setting); got != "pg_default" {
				t.Errorf("default_tablespace is %q after the script", got)
			}
			if _, err := conn.Exec(t.Context(), "commit"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := pgtest.Conn(t, pgtest.Empty(t))
			if _, err := conn.Exec(t.Context(), "set default_tablespace = pg_default"); err != nil {
				t.Fatal(err)
			}
			install(t, conn, fixture(2, codeOne))
			if got := scan[string](t, conn, setting); got != "pg_default" {
				t.Errorf("default_tablespace is %q after the install", got)
			}
		})
	}
}
