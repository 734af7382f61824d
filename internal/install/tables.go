package install

import (
	"fmt"
	"regexp"
	"strings"
)

// changes is the line by which a migration, or the code, names the tables and views
// that were there before it and that it takes away from others.
var changes = regexp.MustCompile(`(?m)^-- changes: (.+)$`)

// changed are the names in a step's lines.
func changed(sql string) (names []string) {
	for _, line := range changes.FindAllStringSubmatch(sql, -1) {
		names = append(names, strings.Split(line[1], ", ")...)
	}
	return names
}

// lockTables locks what an upgrade from a version changes, before it changes anything: from
// then on it waits for nobody. Live clients lock tables in orders of their own. So that no
// deadlock ends one of them, an attempt gives everything back before a client that waits for
// it would look for one. Every other attempt begins with the gate of the ring, where calls that
// read all segments queue before they hold a table: otherwise, beside a few of them, there is no
// moment in which no two wait for each other. Then come the tables that kept earlier attempts
// waiting: clients that hold them end, and others queue with nothing in hand. The attempts
// between begin with these tables, since a claim comes to the gate after it has read its queue's
// settings: beside busy claims there is always one between the two. A vacuum, which
// PostgreSQL cancels only for those who wait longer, is waited for there as well.
func (o Options) lockTables(r release, version int) string {
	names := changed(r.code)
	for _, m := range r.pending(version) {
		names = append(names, changed(m.UpSQL)...)
	}
	return fmt.Sprintf(lockTablesSQL, o.Schema, strings.Join(names, ","))
}

// A view is locked by a change of nothing, for LOCK would go on to all its tables.
const lockTablesSQL = `do $lock$
declare
  v_own      text := current_setting('lock_timeout');
  v_limit    double precision := (select setting::double precision from pg_settings where name = 'deadlock_timeout');
  v_patience double precision := least(50, v_limit / 4);
  v_until    timestamptz;
  v_table    regclass;
  v_lock     text;
  v_first    regclass[] := '{}';
  v_vacuum   boolean := false;
begin
  for v_attempt in 1 .. 2147483647 loop
    begin
      v_until := clock_timestamp() + make_interval(secs => case when v_vacuum then v_limit * 1.5 else v_patience end / 1000);
      v_table := null;
      for v_table, v_lock in
        select s.id, s.lock
        from (
          select null::regclass, format('select pg_advisory_xact_lock(%%s, 8)', hashtext('awa/%[1]s')),
            case when v_attempt %% 2 = 1 then -2147483647 else 0 end, true, 0::oid
          union all
          select c.oid::regclass, case c.relkind
              when 'v' then format('alter view %%s alter %%I drop default', c.oid::regclass,
                (select a.attname from pg_attribute as a where a.attrelid = c.oid and a.attnum = 1))
              else format('lock table only %%s in access exclusive mode', c.oid::regclass) end,
            coalesce(array_position(v_first, c.oid::regclass) - cardinality(v_first) - 1, 1), c.relkind = 'v', c.oid
          from pg_class as c
          left join pg_inherits as i on i.inhrelid = c.oid
          where coalesce(i.inhparent, c.oid) in (
            select to_regclass('%[1]s.' || n.name) from unnest('{%[2]s}'::text[]) as n (name))
        ) as s (id, lock, place, is_view, oid)
        order by s.place, s.is_view desc, s.oid
      loop
        perform set_config('lock_timeout',
          greatest(1, ceil(extract(epoch from v_until - clock_timestamp()) * 1000))::text || 'ms', true);
        execute v_lock;
      end loop;
      perform set_config('lock_timeout', v_own, true);
      return;
    exception when lock_not_available or deadlock_detected then
    end;
    v_first := array_remove(v_table || array_remove(v_first, v_table), null);
    v_vacuum := exists (
      select from pg_locks as l
      where l.relation = v_table and l.pid in (select p.pid from pg_stat_progress_vacuum as p union all select p.pid from pg_stat_progress_analyze as p));
    raise notice 'awa: the upgrade of schema %[1]s gave way to the users of %%, attempt %%', coalesce(v_table::text, 'all segments'), v_attempt;
    -- Not in step with the clients.
    perform pg_sleep(v_patience / 1000 * (0.5 + random()));
    v_patience := least(v_patience * 1.5, v_limit / 2);
  end loop;
end
$lock$;
`
