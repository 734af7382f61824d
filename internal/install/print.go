package install

import (
	"fmt"
	"io"
	"strings"
)

// PrintOptions says what Print writes.
type PrintOptions struct {
	Options
	// From is the version that the script starts at: 0 for a first install, or
	// the installed version for an upgrade.
	From int
	// NoTransaction leaves out begin and commit, for tools that bring their own
	// transaction.
	NoTransaction bool
}

// Print writes what Migrate does as plain SQL, for psql and for other
// migration tools. The script does its own bookkeeping, so that Migrate knows
// what it installed, and refuses a database that is not at From.
func Print(w io.Writer, opts PrintOptions) error {
	o, err := opts.Options.withDefaults()
	if err != nil {
		return err
	}
	segments, err := o.segments(0)
	if err != nil {
		return err
	}
	r, err := o.compile(segments)
	if err != nil {
		return err
	}
	if opts.From < 0 || opts.From > r.latest() {
		return fmt.Errorf("install: no version %d to start from: this program knows 0 to %d", opts.From, r.latest())
	}

	var b strings.Builder
	fmt.Fprintf(&b, "-- awa: schema %s from version %d to version %d, %d segments\n\n",
		o.Schema, opts.From, r.latest(), segments)
	if !opts.NoTransaction {
		b.WriteString("begin isolation level read committed;\n\n")
	}
	b.WriteString(keepPath + systemPath + databaseTablespace + o.refuseWord() + "\n")
	fmt.Fprintf(&b, enter, lockNum, o.versionTable(), o.Schema)
	b.WriteString("\n" + o.refuseOthers() + "\n")
	fmt.Fprintf(&b, guard, o.versionTable(), opts.From, o.Schema, segments)
	if opts.From > 0 {
		b.WriteString("\n" + o.lockTables(r, opts.From))
	}
	for _, m := range r.pending(opts.From) {
		fmt.Fprintf(&b, "\n-- migrations/%s\n\n%s\n\n%s\n", m.Name, terminated(m.UpSQL), o.setVersion(m.Sequence))
	}
	fmt.Fprintf(&b, "\n-- The functions\n\n%s\n\n%s\n%s\n", terminated(r.code), o.refuseOthers(), o.stamp(r))
	if opts.NoTransaction {
		b.WriteString("\n" + giveBack)
	} else {
		b.WriteString("\ncommit;\n")
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// keepPath writes down the caller's path, before the script has one of its own.
const keepPath = `do $path$
begin
  perform pg_catalog.set_config('awa.callers_path', pg_catalog.current_setting('search_path'), true);
end
$path$;
`

// enter is the head of the script: tern's lock and tern's version table.
const enter = `do $enter$
begin
  perform pg_advisory_xact_lock(%[1]d);
  perform set_config('awa.callers_messages', current_setting('client_min_messages'), true);
  if current_setting('client_min_messages') <> 'error' then
    -- A first install has none of the functions that it drops.
    set local client_min_messages = 'warning';
  end if;
  if to_regclass('%[2]s') is null then
    if exists (select from pg_class where relnamespace = to_regnamespace('%[3]s') and relname = 'ready_entries') then
      raise exception using errcode = '55000',
        message = 'awa: schema %[3]s is there without %[2]s',
        hint = 'It was renamed or restored alone: rename or restore that table too.';
    end if;
    create table %[2]s (version int4 not null primary key);
    insert into %[2]s (version) values (0);
  end if;
end
$enter$;
`

// guard refuses a database that the rest of the script does not fit.
const guard = `do $guard$
declare
  v_version  integer;
  v_segments integer;
begin
  if to_regnamespace('%[3]s') is null then
    update %[1]s set version = 0;
  end if;
  select version into v_version from %[1]s;
  if v_version <> %[2]d then
    raise exception using errcode = '55000',
      message = format('awa: schema %%s is at version %%s, and this script starts at version %[2]d',
        '%[3]s', v_version),
      hint = format('Print a script that starts there: awa-admin migrate print --from %%s', v_version);
  end if;
  select count(*) into v_segments from pg_inherits
  where inhparent = to_regclass('%[3]s.ready_entries');
  if v_segments <> 0 and v_segments <> %[4]d then
    raise exception using errcode = '55000',
      message = format('awa: schema %%s has %%s segments, and this script is for %[4]d',
        '%[3]s', v_segments),
      hint = format('Print a script for them: awa-admin migrate print --segments %%s', v_segments);
  end if;
end
$guard$;
`

// giveBack is the foot of a script that runs in its caller's transaction: what the
// script set until the end of the transaction, the caller's next statements would meet.
const giveBack = `do $give_back$
begin
  perform set_config('default_tablespace', current_setting('awa.callers_tablespace'), true);
  perform set_config('client_min_messages', current_setting('awa.callers_messages'), true);
  perform set_config('search_path', current_setting('awa.callers_path'), true);
end
$give_back$;
`

// terminated ends the last statement, which a migration may leave open, on a
// line of its own when a comment may come last.
func terminated(sql string) string {
	sql = strings.TrimSpace(sql)
	if sql == "" || strings.HasSuffix(sql, ";") && !strings.Contains(lastLine(sql), "--") {
		return sql
	}
	return sql + "\n;"
}

func lastLine(sql string) string { return sql[strings.LastIndexByte(sql, '\n')+1:] }
