package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/pgtest"
	"github.com/awaqueue/awa/migrations"
)

// firstVersion is the storage before counters existed, with a client in place
// of the functions.
func firstVersion(t *testing.T) install.Options {
	t.Helper()
	names, err := fs.Glob(migrations.FS, "001_*.sql")
	if err != nil || len(names) != 1 {
		t.Fatalf("the first migration: %v, %v", names, err)
	}
	sql, err := fs.ReadFile(migrations.FS, names[0])
	if err != nil {
		t.Fatal(err)
	}
	return install.Options{
		Segments:   3,
		Migrations: fstest.MapFS{names[0]: &fstest.MapFile{Data: sql}},
		Code:       fstest.MapFS{"install.sql": &fstest.MapFile{Data: []byte(client)}},
	}
}

// client writes rows as an engine does that knows the first version. What has
// to be counted beside an outcome it counts as soon as there is a place for it.
const client = `
create schema client;
grant usage on schema client to public;

create function client.lane (q text, p integer) returns bigint
  language sql immutable as $$
  select (hashtextextended(q, 0) & (-256)::bigint) | ((p - 1) << 6)::bigint
$$;

create function client.slot () returns smallint
  language sql as $$ select r.slot from awa.segment_rotations as r order by r.generation desc limit 1 $$;

create function client.count (p_lane bigint, p_slot integer, p_closed integer, p_outcome "char") returns void
  language plpgsql as $$
begin
  if to_regclass('awa.terminal_count_deltas') is not null then
    insert into awa.terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
    values (p_lane, pg_current_xact_id(), p_slot, p_closed,
      -(p_outcome is not distinct from 'c')::integer, -(p_outcome is not distinct from 'f')::integer, -(p_outcome is not distinct from 'x')::integer);
  end if;
end;
$$;

-- Jobs that wait.
create function client.offer (q text, p integer, n integer) returns bigint[]
  language plpgsql as $$
declare
  v_ids bigint[] := array(select nextval('awa.job_id_seq') from generate_series(1, n));
begin
  insert into awa.queue_lanes (lane, queue, priority, enqueue_shard)
  select client.lane(q, p), q, p, 0 where not exists (select from awa.queue_lanes as l where l.lane = client.lane(q, p));
  insert into awa.ready_entries (lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args)
  select client.lane(q, p), pg_current_xact_id(), u.id, now(), now(), 1, client.slot(), 1, 25, 'old', to_jsonb(u.id)
  from unnest(v_ids) as u (id);
  return v_ids;
end;
$$;

create function client.batch (p_ids bigint[]) returns bigint
  language sql volatile as $$
  select (max(u.id) * 16 + 1) << 13 | floor(random() * 8192)::bigint from unnest(p_ids) as u (id)
$$;

-- Claims what this transaction offered: no cursor counts it.
create function client.claim_own (q text, p integer, p_ids bigint[]) returns bigint
  language plpgsql as $$
declare
  v_batch bigint := client.batch(p_ids);
  v_slot  smallint := (select r.ready_slot from awa.ready_entries as r where r.job_id = p_ids[1] and r.run_lease = 1);
begin
  update awa.ready_entries set xid = '0' where job_id = any (p_ids);
  insert into awa.claims (batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, worker, bypassed_by)
  values (v_batch, client.lane(q, p), clock_timestamp(), clock_timestamp() + interval '1 hour', v_slot, p_ids, 'old', pg_current_xact_id());
  perform client.count(client.lane(q, p), v_slot, -cardinality(p_ids), null);
  return v_batch;
end;
$$;

-- Claims all that waits in a lane and is committed, and moves its cursor. When
-- p_early the jobs never run: something closes them before their turn.
create function client.claim (q text, p integer, p_early boolean default false) returns table (batch bigint, job_ids bigint[])
  language plpgsql as $$
declare
  v_lane bigint := client.lane(q, p);
  v_now  timestamptz := clock_timestamp();
  c      awa.lane_cursors;
  g      awa.segment_rotations;
  w      record;
  v_snap pg_snapshot;
  v_rows jsonb;
begin
  select k.* into c from awa.lane_cursors as k where k.lane = v_lane order by k.generation desc limit 1;
  select r.* into g from awa.segment_rotations as r order by r.generation desc limit 1;
  select pg_current_snapshot(), jsonb_agg(jsonb_build_object('slot', r.ready_slot, 'id', r.job_id)) into v_snap, v_rows
  from awa.ready_entries as r
  where r.lane = v_lane and r.xid > '0' and r.xid is distinct from pg_current_xact_id_if_assigned()
    and not pg_visible_in_snapshot(r.xid, coalesce(c.s_cur, '1:1:'))
    and not exists (select from awa.ready_tombstones as t where t.job_id = r.job_id);
  for w in
    select (r ->> 'slot')::smallint as slot, array_agg((r ->> 'id')::bigint order by (r ->> 'id')::bigint) as ids
    from jsonb_array_elements(v_rows) as r group by 1
  loop
    batch := client.batch(w.ids);
    job_ids := w.ids;
    insert into awa.claims (batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, worker)
    values (batch, v_lane, v_now, case when p_early then v_now else v_now + interval '1 hour' end, w.slot, w.ids, case when not p_early then 'old' end);
    if p_early then
      insert into awa.ready_tombstones (job_id, run_lease, ready_slot) select u.id, 1, w.slot from unnest(w.ids) as u (id);
      c.skips := 2;
    end if;
    c.generation := coalesce(c.generation, 0) + 1;
    c.claimed_total := coalesce(c.claimed_total, 0) + cardinality(w.ids);
    insert into awa.lane_cursors (lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid, claimed_total,
      batch_id, look_at, ready_slot, skips, drained, s_prev, s_cur)
    values (v_lane, c.generation, g.generation, g.generation, 0, '0', -1, '0', c.claimed_total,
      case when not p_early then batch end, case when not p_early then v_now + interval '1 hour' end, g.slot, coalesce(c.skips, 0), true, v_snap, v_snap);
    return next;
  end loop;
end;
$$;

-- Closes a batch, or some jobs of it.
create function client.close (p_batch bigint, p_outcome "char", p_ids bigint[] default null) returns void
  language plpgsql as $$
declare
  k awa.claims;
begin
  select c.* into k from awa.claims as c where c.batch_id = p_batch;
  insert into awa.attempt_outcomes (batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, job_ids, errors)
  select k.batch_id, k.lane, pg_current_xact_id(), clock_timestamp(), count(o.seq), cardinality(coalesce(p_ids, k.job_ids)), k.ready_slot, p_outcome, p_ids,
    case when p_outcome in ('f', 'x', 'r') then array_fill('{"error": "old", "attempt": 1}'::jsonb, array[cardinality(coalesce(p_ids, k.job_ids))]) end
  from awa.attempt_outcomes as o where o.batch_id = p_batch;
  insert into awa.deferred_jobs (job_id, lane, state, run_at, created_at, run_lease, attempt, max_attempts, kind, args, xid)
  select r.job_id, r.lane, case when p_outcome = 's' then 'scheduled' else 'retryable' end::awa.job_state, now() + interval '1 day', r.created_at, 2,
    case when p_outcome = 's' then 1 else 2 end, r.max_attempts, r.kind, r.args, pg_current_xact_id()
  from awa.ready_entries as r
  where r.ready_slot = k.ready_slot and r.job_id = any (coalesce(p_ids, k.job_ids)) and p_outcome in ('r', 's', 'e');
  insert into awa.ready_entries (lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args)
  select r.lane, pg_current_xact_id(), r.job_id, now(), r.created_at, 2, client.slot(), 1, r.max_attempts, r.kind, r.args
  from awa.ready_entries as r
  where r.ready_slot = k.ready_slot and r.job_id = any (coalesce(p_ids, k.job_ids)) and p_outcome = 'm';
end;
$$;

-- Takes a terminal job out of history.
create function client.remove (p_batch bigint, p_id bigint, p_outcome "char") returns void
  language plpgsql as $$
declare
  k awa.claims;
begin
  select c.* into k from awa.claims as c where c.batch_id = p_batch;
  insert into awa.outcome_removals (job_id, lane, xid, run_lease, ready_slot, outcome) values (p_id, k.lane, pg_current_xact_id(), 1, k.ready_slot, p_outcome);
  perform client.count(k.lane, k.ready_slot, 0, p_outcome);
end;
$$;

create function client.rotate () returns void
  language sql as $$
  insert into awa.segment_rotations (generation, slot, epoch, xid)
  select max(generation) + 1, (max(generation) + 1) % 3, nextval('awa.storage_epoch'), pg_current_xact_id() from awa.segment_rotations
$$;
`

// history are the statements, each a transaction, of a life before the
// upgrade: every outcome, whole batches and parts, removals, early closures,
// claims past a cursor, in two segments.
var history = []string{
	`select client.offer(q, p, 20) from unnest(array['up/a', 'up/b']) as q, generate_series(1, 2) as p`,
	`select client.close(c.batch, 'c', c.job_ids[1:4]), client.close(c.batch, 'f', c.job_ids[5:8]), client.close(c.batch, 'x', c.job_ids[9:10]),
	   client.close(c.batch, 'r', c.job_ids[11:12]), client.close(c.batch, 's', c.job_ids[13:13]), client.close(c.batch, 'e', c.job_ids[14:14]),
	   client.close(c.batch, 'd', c.job_ids[16:16]), client.close(c.batch, 'q', c.job_ids[17:17])
	 from unnest(array['up/a', 'up/b']) as q, generate_series(1, 2) as p, lateral client.claim(q, p) as c`,
	`select client.offer('up/whole', 1, 10)`,
	`select client.close(c.batch, 'c') from client.claim('up/whole', 1) as c`,
	`select client.offer('up/whole', 2, 10)`,
	`select client.close(c.batch, 'f') from client.claim('up/whole', 2) as c`,
	`select client.offer('up/early', 1, 3)`,
	`select client.close(c.batch, 'x') from client.claim('up/early', 1, true) as c`,
	`select client.offer('up/moved', 1, 3)`,
	`select client.close(c.batch, 'm') from client.claim('up/moved', 1, true) as c`,
	`select client.remove(o.batch_id, (coalesce(o.job_ids, c.job_ids))[n], o.outcome)
	 from awa.attempt_outcomes as o join awa.claims as c using (batch_id, ready_slot), generate_series(1, 2) as n
	 where o.outcome in ('c', 'f', 'x') and o.lane = any (array[client.lane('up/a', 1), client.lane('up/b', 2), client.lane('up/whole', 1), client.lane('up/whole', 2)])`,
	`select client.rotate()`,
	`with offered as materialized (select q, client.offer(q, 3, 4) as ids from unnest(array['up/a', 'up/own']) as q)
	 select client.close(client.claim_own(o.q, 3, o.ids), 'c') from offered as o`,
	`select client.offer('up/a', 1, 5)`,
	`select client.close(c.batch, 'c', c.job_ids[1:2]) from client.claim('up/a', 1) as c`,
	`select client.offer('up/waits', 4, 6)`,
}

// before is where the history above leaves each queue: completed, failed and
// cancelled jobs.
var before = map[string]string{
	"up/a":     "12 6 2", // twice 4 4 2, less 2 each; 4 at once, 2 in the second segment
	"up/b":     "6 6 2",
	"up/early": "0 0 3",
	"up/moved": "0 0 0",
	"up/own":   "4 0 0",
	"up/waits": "0 0 0",
	"up/whole": "8 8 0",
}

// keysQuery lists the keys whose counters differ from history.
const keysQuery = `
select ready_slot, queue, priority, enqueue_shard, h::text, c::text
from (
  select d.ready_slot, d.queue, d.priority, d.enqueue_shard, array[count(*), count(*) filter (where d.state = 'completed'),
    count(*) filter (where d.state = 'failed'), count(*) filter (where d.state = 'cancelled')] as h
  from awa.done_entries as d group by d.ready_slot, d.queue, d.priority, d.enqueue_shard
) as history
full join (
  select l.ready_slot, l.queue, l.priority, l.enqueue_shard, array[l.live_terminal_count, l.completed, l.failed, l.cancelled] as c
  from awa.queue_terminal_live_counts as l where l.live_terminal_count <> 0
) as counters using (ready_slot, queue, priority, enqueue_shard)
where h is distinct from c`

// old prepares a database of the first version with a past.
func old(t *testing.T) (url string, conn *pgx.Conn) {
	t.Helper()
	url = pgtest.Empty(t)
	conn = pgtest.Conn(t, url)
	if _, err := install.Migrate(t.Context(), conn, firstVersion(t)); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, conn, `select to_regclass('awa.terminal_count_deltas') is null`); got[0] != "true" {
		t.Fatal("the first version has counters already")
	}
	for _, sql := range history {
		mustExec(t, conn, sql)
	}
	return url, conn
}

// upgraded checks a database after its upgrade: counters, invariants, and that
// neither another upgrade nor a rebuild has anything to do.
func upgraded(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	if bad := lines(t, conn, keysQuery); len(bad) > 0 {
		t.Errorf("counters differ from history: %s", strings.Join(bad, "; "))
	}
	sound(t, conn)
	deltas := lines(t, conn, `select count(*) from awa.terminal_count_deltas`)
	if res, err := install.Migrate(t.Context(), conn, install.Options{}); err != nil || res.Changed() {
		t.Errorf("a second upgrade: %+v, %v", res, err)
	}
	if again := lines(t, conn, `select count(*) from awa.terminal_count_deltas`); again[0] != deltas[0] {
		t.Errorf("a second upgrade left %s deltas, want the %s of before", again[0], deltas[0])
	}
	if bad := lines(t, conn, `select * from awa.rebuild_terminal_counters()`); len(bad) > 0 {
		t.Errorf("a rebuild found drift: %s", strings.Join(bad, "; "))
	}
	if bad := lines(t, conn, keysQuery); len(bad) > 0 {
		t.Errorf("counters differ from history after a rebuild: %s", strings.Join(bad, "; "))
	}
}

// figures are the counters of queues that begin with prefix.
func figures(t *testing.T, conn *pgx.Conn, prefix string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, line := range lines(t, conn, `
		select l.queue || ': ' || coalesce(sum(c.completed), 0) || ' ' || coalesce(sum(c.failed), 0) || ' ' || coalesce(sum(c.cancelled), 0)
		from (select distinct queue from awa.queue_lanes where starts_with(queue, $1)) as l
		left join awa.queue_terminal_live_counts as c on c.queue = l.queue
		group by l.queue`, prefix) {
		queue, figures, _ := strings.Cut(line, ": ")
		got[queue] = figures
	}
	return got
}

func wantFigures(t *testing.T, got, want map[string]string) {
	t.Helper()
	for queue, figures := range want {
		if got[queue] != figures {
			t.Errorf("queue %s counts %q (completed, failed, cancelled), want %q", queue, got[queue], figures)
		}
	}
	if len(got) != len(want) {
		t.Errorf("counters of %d queues, want %d: %v", len(got), len(want), got)
	}
}

// A past without clients in it.
func TestUpgradeCountsThePast(t *testing.T) {
	t.Parallel()
	_, conn := old(t)
	res, err := install.Migrate(t.Context(), conn, install.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if res.From != 1 || res.To < 2 || len(res.Applied) != res.To-1 || res.Segments != 3 {
		t.Errorf("the upgrade did %+v", res)
	}
	wantFigures(t, figures(t, conn, "up/"), before)
	upgraded(t, conn)

	// The new functions go on where the old rows end.
	if got := lines(t, conn, `select available, running, retryable, scheduled from awa.queue_counts('up/a')`); got[0] != "0 11 6 2" {
		t.Errorf("queue up/a has %s available, running, retryable and scheduled jobs, want 0 11 6 2", got[0])
	}
	for _, check := range []struct{ sql, want, says string }{
		{`select count(*) from awa.claim('up/waits', 10) as c where awa.complete(c.receipt)`, "6", "jobs that waited are claimed"},
		{`select count(*) from awa.claim('up/moved', 10) as c where awa.fail(c.receipt, 'e', terminal => true) = 'failed'`, "3", "so are those that had been moved"},
		{`select count(*) from awa.claims as c, unnest(c.job_ids) as id where c.lane = client.lane('up/a', 1)
		    and awa.complete(row(c.ready_slot, c.batch_id, id, 1)::awa.receipt)`, "7", "old receipts are good"},
		{`select count(*) from awa.claims as c, unnest(c.job_ids) as id where c.lane = client.lane('up/whole', 1)
		    and awa.complete(row(c.ready_slot, c.batch_id, id, 1)::awa.receipt)`, "0", "unless they were used"},
		{`select count(*) from unnest(array(select id from awa.done_entries where queue = 'up/whole' and state = 'failed')) as id where awa.retry(id)`, "8", "failed jobs are retried"},
		{`select count(*) from unnest(array(select id from awa.done_entries where queue = 'up/early')) as id where awa.delete_job_compat(id)`, "3", "cancelled ones deleted"},
		{`select awa.bulk_move_failed_to_dlq('up/b')`, "6", "failed ones moved"},
		{`select count(*) from unnest(array(select id from awa.jobs where queue = 'up/a' and state in ('retryable', 'scheduled'))) as id where awa.cancel(id)`, "8", "deferred ones cancelled"},
	} {
		if got := lines(t, conn, check.sql); got[0] != check.want {
			t.Errorf("%s: %s, want %s", check.says, got[0], check.want)
		}
	}
	wantFigures(t, figures(t, conn, "up/"), map[string]string{
		"up/a": "19 6 10", "up/b": "6 0 2", "up/early": "0 0 0", "up/moved": "0 3 0", "up/own": "4 0 0", "up/waits": "6 0 0", "up/whole": "8 0 0",
	})
	upgraded(t, conn)
}

// Functions whose result has another type than in an earlier release, as that had it: they
// cannot be replaced.
var retyped = []string{`
	drop function awa._job_changes();
	create function awa._job_changes()
	  returns table (id bigint, queue text, priority smallint, run_at timestamptz, max_attempts smallint, metadata jsonb, tags text[],
	    unique_key bytea, unique_states bit(8))
	  language plpgsql as $$ begin return; end $$`,
}

func TestUpgradeRetypesFunctions(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.URL(t))
	const functions = `
		select p.oid::regprocedure || ' ' || pg_get_function_result(p.oid) from pg_proc as p
		where p.pronamespace = 'awa'::regnamespace order by 1`
	want := lines(t, conn, functions)
	for _, sql := range retyped {
		mustExec(t, conn, sql)
	}
	mustExec(t, conn, `comment on schema awa is null`) // as if other code were installed
	if _, err := install.Migrate(t.Context(), conn, install.Options{}); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, conn, functions); !slices.Equal(got, want) {
		t.Errorf("an upgrade gives other functions than an install:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// awaitBlocked waits until a session waits for a lock.
func awaitBlocked(t *testing.T, conn, session *pgx.Conn) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if lines(t, conn, `select count(*) from pg_locks where not granted and pid = $1`, session.PgConn().PID())[0] != "0" {
			return
		}
	}
	t.Fatal("nobody keeps the session waiting")
}

// A client in the middle of a call keeps the upgrade waiting, and nobody else. Both
// clients are counted, once.
func TestUpgradeAmongOpenCalls(t *testing.T) {
	t.Parallel()
	url, conn := old(t)

	const finish = `
		with claimed as materialized (select client.claim_own($1, 1, ids) as batch, ids from client.offer($1, 1, 5) as ids)
		select client.close(c.batch, 'f', c.ids[1:3]), client.close(c.batch, 'x', c.ids[4:5]), client.remove(b.batch_id, b.job_ids[3], 'c')
		from claimed as c, (select * from awa.claims where lane = client.lane('up/whole', 1)) as b`
	first := pgtest.Conn(t, url)
	mustExec(t, first, `begin`)
	mustExec(t, first, finish, "open/first")

	done := make(chan error, 1)
	upgrader := pgtest.Conn(t, url)
	go func() {
		_, err := install.Migrate(context.Background(), upgrader, install.Options{})
		done <- err
	}()
	awaitBlocked(t, conn, upgrader)
	// Others are not kept waiting with it.
	second := pgtest.Conn(t, url)
	mustExec(t, second, `set statement_timeout = '2min'`)
	mustExec(t, second, strings.ReplaceAll(strings.ReplaceAll(finish, "$1", "'open/second'"), "job_ids[3]", "job_ids[4]"))
	mustExec(t, first, `commit`)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantFigures(t, figures(t, conn, "open/"), map[string]string{"open/first": "0 3 2", "open/second": "0 3 2"})
	after := maps.Clone(before)
	after["up/whole"] = "6 8 0" // each of the two took one away
	wantFigures(t, figures(t, conn, "up/"), after)
	upgraded(t, conn)
}

// A client that holds the last table and asks for all the others, the way round in
// which it and the upgrade wait for each other, is never the one whom PostgreSQL
// ends for it.
func TestUpgradeGivesWay(t *testing.T) {
	t.Parallel()
	ways := map[string]func(conn *pgx.Conn) error{
		"Migrate": func(conn *pgx.Conn) error {
			_, err := install.Migrate(context.Background(), conn, install.Options{})
			return err
		},
		"the script": func(conn *pgx.Conn) error {
			var script strings.Builder
			if err := install.Print(&script, install.PrintOptions{Options: install.Options{Segments: 3}, From: 1}); err != nil {
				return err
			}
			_, err := conn.Exec(context.Background(), script.String())
			return err
		},
	}
	for name, upgrade := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, conn := old(t)
			client := pgtest.Conn(t, url)
			mustExec(t, client, `set deadlock_timeout = '700ms'`) // so that it would look before the upgrade does
			mustExec(t, client, `begin; lock table awa.attempt_outcomes_2 in row exclusive mode`)
			done := make(chan error, 1)
			upgrader := pgtest.Conn(t, url)
			go func() { done <- upgrade(upgrader) }()
			awaitBlocked(t, conn, upgrader)
			mustExec(t, client, `do $$
				declare v_table regclass;
				begin
				  for v_table in select oid from pg_class where relnamespace = 'awa'::regnamespace and relkind = 'r' order by oid loop
				    execute format('lock table %s in row exclusive mode', v_table);
				  end loop;
				end $$`)
			mustExec(t, client, `commit`)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			upgraded(t, conn)
		})
	}
}

// liveClient works in queues of its own and knows what became of every job.
type liveClient struct {
	conn  *pgx.Conn
	queue string
	rnd   *rand.Rand
	n     map[byte]int // terminal jobs in history by outcome
	calls int
}

// step is one committed transaction, or one that is undone.
func (c *liveClient) step(ctx context.Context) error {
	ids := 1 + c.rnd.IntN(6)
	priority := 1 + c.rnd.IntN(2)
	outcome := "cfxrsed"[c.rnd.IntN(7)]
	removes, undone := c.rnd.IntN(2) == 0, c.rnd.IntN(8) == 0
	removed := 0
	tx, err := c.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if c.rnd.IntN(2) == 0 {
		// Offered, claimed and closed at once.
		_, err = tx.Exec(ctx, `select client.close(client.claim_own($1, $2, ids), $3::text::"char") from client.offer($1, $2, $4) as ids`,
			c.queue, priority, string(outcome), ids)
	} else {
		// Claimed from the lane, where each call leaves one batch to the next.
		var jobs int
		err = tx.QueryRow(ctx, `select coalesce(sum(cardinality(c.job_ids)), 0)::integer
			from client.claim($1, $2) as c, lateral client.close(c.batch, $3::text::"char") as done`,
			c.queue, 3, string(outcome)).Scan(&jobs)
		ids = jobs
		if err == nil {
			_, err = tx.Exec(ctx, `select client.offer($1, 3, $2)`, c.queue, 1+c.rnd.IntN(6))
		}
	}
	if err == nil {
		// Clients think, so that others meet them in the middle.
		_, err = tx.Exec(ctx, `select pg_sleep($1)`, c.rnd.Float64()/100)
	}
	if err == nil && removes {
		err = tx.QueryRow(ctx, `
			with taken as materialized (
			  select o.batch_id, id, o.outcome
			  from awa.attempt_outcomes as o join awa.claims as c using (batch_id, ready_slot), unnest(coalesce(o.job_ids, c.job_ids)) as id
			  where o.lane in (select client.lane($1, p) from generate_series(1, 3) as p) and o.outcome = 'c'
			    and not exists (select from awa.outcome_removals as m where m.job_id = id)
			  limit 2)
			select count(client.remove(t.batch_id, t.id, t.outcome))::integer from taken as t`, c.queue).Scan(&removed)
	}
	if err != nil || undone {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	c.calls++
	c.n[outcome] += ids
	c.n['c'] -= removed
	return nil
}

func TestUpgradeUnderLoad(t *testing.T) {
	t.Parallel()
	url, conn := old(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()

	var workers sync.WaitGroup
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	clients := make([]*liveClient, 6)
	started := make(chan struct{}, len(clients))
	failed := make(chan error, len(clients))
	for i := range clients {
		c := &liveClient{conn: pgtest.Conn(t, url), queue: fmt.Sprintf("live/%d", i), rnd: rand.New(rand.NewPCG(seed, uint64(i))), n: map[byte]int{}}
		clients[i] = c
		workers.Go(func() {
			for ctx.Err() == nil {
				if err := c.step(context.Background()); err != nil {
					failed <- fmt.Errorf("client %s: %w", c.queue, err)
					return
				}
				if c.calls == 5 {
					started <- struct{}{}
				}
			}
		})
	}
	for range clients {
		select {
		case <-started:
		case err := <-failed:
			t.Fatal(err)
		}
	}

	// From the moment at which counters are there they equal history.
	var samples atomic.Int64
	watcher := pgtest.Conn(t, url)
	workers.Go(func() {
		for ctx.Err() == nil {
			var drift int
			err := watcher.QueryRow(context.Background(), `select count(*) from (`+keysQuery+`) as drift`).Scan(&drift)
			var pgErr *pgconn.PgError
			switch {
			case errors.As(err, &pgErr) && pgErr.Code == "42P01":
				time.Sleep(time.Millisecond)
			case err != nil:
				t.Errorf("watcher: %v", err)
				return
			case drift > 0:
				t.Errorf("%d keys differ from history while clients work", drift)
				return
			default:
				samples.Add(1)
			}
		}
	})

	calls := func() (n string) { return lines(t, conn, `select count(*) from awa.attempt_outcomes`)[0] }
	earlier := calls()
	res, err := install.Migrate(t.Context(), pgtest.Conn(t, url), install.Options{})
	if err != nil {
		t.Fatal(err)
	}
	later := calls()
	for seen := samples.Load(); samples.Load() < seen+3 && !t.Failed(); {
		time.Sleep(time.Millisecond)
	}
	stop()
	workers.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	t.Logf("version %d to %d; outcomes %s before, %s after, %s at the end; %d samples", res.From, res.To, earlier, later, calls(), samples.Load())

	want := map[string]string{}
	for _, c := range clients {
		want[c.queue] = fmt.Sprintf("%d %d %d", c.n['c'], c.n['f'], c.n['x'])
	}
	wantFigures(t, figures(t, conn, "live/"), want)
	wantFigures(t, figures(t, conn, "up/"), before)
	upgraded(t, conn)
}
