-- Check: every invariant, by damaging the tables by hand and seeing exactly
-- that violation.
begin;
select plan(58);
-- Alone: damages ledgers.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
select awa.reset() \g /dev/null
select count(*) as segments from pg_inherits where inhparent = 'awa.ready_entries'::regclass \gset

\ir prune.psql

create temp view shape as select * from awa.check();
select is((select array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) order by a.attnum) from pg_attribute as a
    where a.attrelid = 'pg_temp.shape'::regclass and a.attnum > 0),
  array['invariant text', 'detail text', 'expected bigint', 'actual bigint'], 'check returns the documented columns');
select is_empty('select * from awa.check()', 'an empty storage is sound');

-- Three jobs done (one whole batch, one partial), one running, two waiting,
-- one deferred; a lane with a window; a pruned segment behind it all.

select count(awa.complete(c.receipt)) from awa.enqueue('k', queue => 'tap/44') as id, awa.claim('tap/44') as c \g /dev/null
select awa.rotate(), pg_temp.prune() \g /dev/null
select awa.enqueue_many('k', array['1', '2', '3', '4', '5', '6']::jsonb[], queue => 'tap/44') \g /dev/null
create temp table held as
select c.receipt, c.job_id, row_number() over () as n from (
  select * from awa.claim('tap/44', 1) union all select * from awa.claim('tap/44', 3)) as c;
select awa.complete(receipt) from held where n = 1 \g /dev/null
select awa.fail(receipt, 'e', terminal => true) from held where n = 2 \g /dev/null
select awa.complete(receipt) from held where n = 3 \g /dev/null
select awa.enqueue('k', queue => 'tap/44', run_at => now() + interval '1 day') \g /dev/null
select r.lane, max(r.job_id) as waiting_job, max(g.slot) as slot, max(g.generation) as generation
from awa.ready_entries as r, (select * from awa.segment_rotations order by generation desc limit 1) as g group by r.lane \gset
select (receipt).batch_id as batch from held where n = 3 \gset
select job_id as done_job from held where n = 3 \gset
select job_id as running_job from held where n = 4 \gset
-- This transaction's own jobs move no cursor: one as a lane's first claim
-- leaves it, before it.
insert into awa.lane_cursors (lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid, claimed_total,
  ready_slot, drained, s_prev, s_cur)
values (:lane, 1, :generation, :generation, :generation, '0', -1, '0', 0, :slot, true, '1:1:', '1:1:');
select is_empty('select * from awa.check()', 'a working storage is sound');

-- Runs p_sql, collects what check says, undoes it.
create table pg_temp.seen (invariant text);
create function pg_temp.damage (p_sql text) returns text[]
  language plpgsql as $$
declare
  v_found text[];
begin
  begin
    execute p_sql;
    v_found := array(select distinct c.invariant from awa.check() as c order by 1);
    raise exception using errcode = 'TAP00';
  exception when sqlstate 'TAP00' then
    null;
  end;
  insert into pg_temp.seen select unnest(v_found);
  return v_found;
end;
$$;

select $$ select awa.configure_queue('tap/44', '{"concurrency_limit": 1}');
  update awa.deferred_jobs set run_at = 'infinity', metadata = '{"awa:run_at": "2020-01-01", "awa:concurrency_key": "key"}';
  insert into awa.parked_jobs (queue, key, job_id, round)
  select m.queue, %L, d.job_id, m.parked_round from awa.deferred_jobs as d, awa.queue_meta as m where m.queue = 'tap/44' $$ as listing \gset
select is(pg_temp.damage(sql), invariants, title)
from (values
  ('a stray delta', array['terminal counters equal history'],
    format($$ insert into awa.terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
      values (%s, pg_current_xact_id(), %s, 0, 1, 0, 0) $$, :lane, :slot)),
  ('a failure counted as a success', array['terminal counters equal history'],
    format($$ insert into awa.terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
      values (%s, pg_current_xact_id(), %s, 0, 1, -1, 0) $$, :lane, :slot)),
  ('a second outcome of one attempt', array['a job is in one place', 'an attempt closes once', 'running equals claims without an outcome'],
    format($$ insert into awa.attempt_outcomes (batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, job_ids)
      values (%s, %s, pg_current_xact_id(), now(), 9, 1, %s, 'x', array[%s]) $$, :batch, :lane, :slot, :done_job)),
  ('a second claim of one attempt', array['an attempt is claimed once'],
    format($$ insert into awa.claims (batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids)
      select 5, lane, claimed_at, lease_expires_at, ready_slot, array[%s] from awa.claims where batch_id = %s $$, :done_job, :batch)),
  ('a claim that was lost, its outcomes left', array['a row that was offered was claimed', 'every outcome has its claim', 'running equals claims without an outcome'],
    format('delete from awa.claims where batch_id = %s', :batch)),
  ('an outcome in another batch than its claim', array['every outcome has its claim'],
    format($$ update awa.attempt_outcomes set batch_id = (select min(c.batch_id) from awa.claims as c where c.batch_id <> %1$s), seq = 7
      where batch_id = %1$s and outcome = 'f' $$, :batch)),
  ('an outcome in another lane than its claim', array['every outcome has its claim'],
    format($$ insert into awa.queue_lanes (lane, queue, priority, enqueue_shard) values (%1$s + 1, 'tap/44', 2, 1);
      update awa.attempt_outcomes set lane = %1$s + 1 where batch_id = %2$s and outcome = 'f' $$, :lane, :batch)),
  ('an outcome that counts more jobs than it names', array['every outcome counts its jobs', 'running equals claims without an outcome', 'terminal counters equal history'],
    format($$ update awa.attempt_outcomes set jobs = 5 where batch_id = %s and outcome = 'c' $$, :batch)),
  ('an outcome of no known kind', array['an outcome is of a known kind'],
    format($$ update awa.attempt_outcomes set outcome = 'z' where batch_id = %s and outcome = 'c' $$, :batch)),
  ('the row of a running job lost', array['every claim has its ready rows'],
    format('delete from awa.ready_entries where job_id = %s', :running_job)),
  ('a waiting lease lost', array['a job goes on after an attempt that did not end it'],
    format($$ select awa.register_callback(receipt, '1 hour') from held where n = 4; delete from awa.leases where job_id = %s $$, :running_job)),
  ('a retryable job lost', array['a job goes on after an attempt that did not end it'],
    format($$ select awa.fail(receipt) from held where n = 4; delete from awa.deferred_jobs where job_id = %s $$, :running_job)),
  ('a retryable job that would run under the lease of its last attempt', array['a job goes on after an attempt that did not end it'],
    format($$ select awa.fail(receipt) from held where n = 4; update awa.deferred_jobs set run_lease = 1 where job_id = %s $$, :running_job)),
  ('a removal of a job that did not finish', array['every removal has its outcome'],
    format($$ insert into awa.outcome_removals (job_id, lane, xid, run_lease, ready_slot, outcome)
      values (%s, %s, pg_current_xact_id(), 1, %s, 'c') $$, :running_job, :lane, :slot)),
  ('a removal without its delta', array['terminal counters equal history'],
    format($$ insert into awa.outcome_removals (job_id, lane, xid, run_lease, ready_slot, outcome)
      values (%s, %s, pg_current_xact_id(), 1, %s, 'c') $$, :done_job, :lane, :slot)),
  ('a removal in another lane than its outcome', array['every removal has its outcome'],
    format($$ insert into awa.queue_lanes (lane, queue, priority, enqueue_shard) values (%2$s + 1, 'tap/44', 2, 1);
      delete from awa.jobs where id = %1$s; update awa.outcome_removals set lane = lane + 1 where job_id = %1$s $$, :done_job, :lane)),
  ('a running claim that rescue does not know of', array['an open claim is within reach of rescue'],
    'delete from awa.watched_claims'),
  ('a running claim that rescue was led past', array['an open claim is within reach of rescue'],
    format($$ insert into awa.watch_points (point, looked_at, ready_slot, seen, open_batches)
      values (1000000, now(), %s, '9223372036854775807:9223372036854775807:', '{}') $$, :slot)),
  ('a full ring whose oldest segment is held', array['the ring has a free segment'],
    $$ update awa.storage_settings set straggler_limit = 0;
       select awa.enqueue('k', queue => 'tap/44/full'), awa.rotate() from generate_series(1, 8) $$),
  ('a deferred job that nobody counted', array['deferred counters equal deferred jobs'],
    'update awa.terminal_count_deltas set scheduled = scheduled + 1 where scheduled > 0'),
  ('a deferred job that promotion was led past', array['a deferred job is within reach of promotion'],
    format($$ insert into awa.promotion_points (point, run_at, job_id, ready_slot, seen)
      values (1000000, 'infinity', 0, %s, '9223372036854775807:9223372036854775807:') $$, :slot)),
  ('a job after one that is gone', array['a job waits for one that may complete'],
    format($$ insert into awa.job_dependencies (after_id, job_id, xid) select 9999999999, d.job_id, '5' from awa.deferred_jobs as d limit 1;
      insert into awa.dependency_points (point, ready_slot, seen) values (1000000, %s, '9223372036854775807:9223372036854775807:') $$, :slot)),
  ('a schedule whose ledger is lost', array['a schedule knows its next fire'],
    $$ select awa.upsert_schedule('tap/44', '@yearly', 'k'); delete from awa.cron_fires $$),
  ('a schedule that the search for due ones was led past', array['a due schedule is within reach'],
    format($$ select awa.upsert_schedule('tap/44', '@yearly', 'k');
      insert into awa.cron_points (point, look_at, fire_point, ready_slot, seen, held, troubled)
      values (1000000, 'infinity', 0, %s, '9223372036854775807:9223372036854775807:', '{}', '{}') $$, :slot)),
  ('a sequence that a logical copy left behind', array['new jobs get new ids'],
    'update awa.deferred_jobs set job_id = (select s.last_value + 1000000 from awa.job_id_seq as s)'),
  ('a job that waits twice', array['a job is in one place'],
    format($$ insert into awa.deferred_jobs select %s, lane, state, run_at, created_at, run_lease, attempt, max_attempts, kind, args,
      metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline, xid from awa.deferred_jobs limit 1 $$, :waiting_job)),
  ('a job that is done and deferred', array['a job is in one place'],
    format($$ insert into awa.deferred_jobs select %s, lane, state, run_at, created_at, run_lease, attempt, max_attempts, kind, args,
      metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline, xid from awa.deferred_jobs limit 1 $$, :done_job)),
  ('a waiting row in a segment that its lane has left', array['a waiting row is within reach'],
    format($$ update awa.lane_cursors set base_segment = %s + 1, floor_xid = '0', drained = true where lane = %s $$, :generation, :lane)),
  ('a waiting row beyond the open window of its lane', array['a row that was offered was claimed', 'a waiting row is within reach', 'cursors stay inside their snapshots'],
    format($$ update awa.lane_cursors set segment = %1$s - 1, last_segment = %1$s - 1, pos_xid = '0', pos_job_id = -1, drained = false,
      s_prev = '1:1:', s_cur = '9223372036854775807:9223372036854775807:' where lane = %2$s $$, :generation, :lane)),
  ('a tombstone on a waiting row', array['a tombstone stands for a claim'],
    format('insert into awa.ready_tombstones (job_id, run_lease, ready_slot) values (%s, 1, %s)', :waiting_job, :slot)),
  ('a unique key of a job that is gone', array['a unique key belongs to a job'],
    $$ insert into awa.job_unique_claims (unique_key, job_id, states) values ('\x01', 9223372036854775807, b'11111111') $$),
  ('a waiting job whose unique key another holds', array['a waiting job holds its unique key'],
    format($$ update awa.ready_entries set unique_key = '\x01', unique_states = b'11111111' where job_id = %s;
      insert into awa.job_unique_claims (unique_key, job_id, states) values ('\x01', %s, b'11111111') $$, :waiting_job, :running_job)),
  ('a row behind its lane''s window', array['a row that was offered was claimed'],
    format($$ update awa.ready_entries set xid = '5' where job_id = %s;
      insert into awa.lane_cursors (lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid, claimed_total,
        ready_slot, drained, s_prev, s_cur)
      select lane, generation + 1, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid, claimed_total, ready_slot,
        true, s, s from awa.lane_cursors, pg_current_snapshot() as s where lane = %s order by generation desc limit 1 $$, :waiting_job, :lane)),
  ('a row of a transaction''s own job that nobody claimed', array['a row that was offered was claimed'],
    format($$ update awa.ready_entries set xid = '0' where job_id = %s $$, :waiting_job)),
  ('a job taken before its turn whose tombstone is lost', array['a row that was taken is not offered', 'available equals ready rows without a claim'],
    format($$ update awa.ready_entries set xid = pg_current_xact_id() where job_id = %s $$, :running_job)),
  ('a tombstone that no cursor tells of', array['a row that was taken is not offered', 'available equals ready rows without a claim'],
    format($$ update awa.ready_entries set xid = pg_current_xact_id() where job_id = %s;
      insert into awa.ready_tombstones (job_id, run_lease, ready_slot) values (%1$s, 1, %s) $$, :running_job, :slot)),
  ('a job that was set aside and that no list has', array['a job that was set aside is listed'],
    $$ update awa.deferred_jobs set run_at = 'infinity', metadata = '{"awa:run_at": "2020-01-01"}' $$),
  ('a job that is listed for its key', '{}',
    format(:'listing', 'key')),
  ('a job that is listed for another key', array['a job that was set aside is listed'],
    format(:'listing', 'other')),
  ('lost settings', array['the storage has its settings'], 'delete from awa.storage_settings'),
  ('a lane whose queue is forgotten', array['a job is in a lane of a queue'],
    format('delete from awa.queue_lanes where lane = %s', :lane)),
  ('a cursor ahead of its segment', array['cursors stay inside their snapshots'],
    format($$ update awa.lane_cursors set segment = last_segment + 1 where lane = %s $$, :lane)),
  ('a cursor with the snapshots of another cluster', array['a row that was offered was claimed', 'cursors stay inside their snapshots'],
    format($$ update awa.lane_cursors set s_cur = '8000000000000000000:8000000000000000000:' where lane = %s $$, :lane)),
  ('a cursor that counts a claim too many', array['available equals ready rows without a claim', 'running equals claims without an outcome'],
    format($$ update awa.lane_cursors set claimed_total = claimed_total + 1 where lane = %s $$, :lane)),
  ('a closure that nobody made', array['running equals claims without an outcome'],
    format($$ insert into awa.terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
      values (%s, pg_current_xact_id(), %s, 1, 0, 0, 0) $$, :lane, :slot)),
  ('a negative rollup', array['rollups are not negative'],
    format($$ insert into awa.terminal_rollup_entries (lane, generation, ready, closed, completed, failed, cancelled) values (%s, 99, 0, 0, -1, 1, 0) $$, :lane)),
  ('a rollup that folded too much', array['available equals ready rows without a claim', 'running equals claims without an outcome'],
    format($$ update awa.terminal_rollup_entries set ready = ready + 1, closed = closed + 2 where lane = %s $$, :lane)),
  ('a gap in the ring''s ledger', array['the ring ledger has no gap'],
    format($$ insert into awa.segment_rotations (generation, slot, epoch, xid) values (%s + 2, (%s + 2) %% %s, 1, '5') $$, :generation, :generation, :segments)),
  ('a prune of the current segment', array['pruned segments are the oldest'],
    format($$ insert into awa.segment_prunes (generation, slot, epoch, ready_rows, terminal_jobs, relocated, carried) values (%s, %s, 1, 0, 0, 0, 0) $$, :generation, :slot)),
  ('more segments than slots', array['the ring has a slot for every segment'],
    format($$ insert into awa.segment_rotations (generation, slot, epoch, xid) select g, g %% %s, 1, '5' from generate_series(%s + 1, %s + %s) as g $$,
      :segments, :generation, :generation, :segments)),
  ('two queues on one lane', array['a job is in one place', 'a lane belongs to one queue'],
    format($$ insert into awa.queue_lanes (lane, queue, priority, enqueue_shard) values (%s, 'tap/44/other', 2, 0) $$, :lane))
) as v (title, invariants, sql);

-- No invariant goes untested.
select is(array(select distinct m[1] from pg_proc as p, regexp_matches(p.prosrc, $$^\s+select '([^']+)', format\($$, 'gn') as m
    where p.oid = 'awa.check'::regproc and m[1] not in (select invariant from pg_temp.seen)), '{}', 'every invariant was seen violated');

-- However many queues there are, the counters are read once.
set local track_functions = 'all';
create function pg_temp.calls () returns numeric
  language sql as $$
  select coalesce(sum(pg_stat_get_xact_function_calls(p.oid)), 0) from pg_proc as p where p.pronamespace = 'awa'::regnamespace
$$;
create function pg_temp.calls_of_check () returns integer
  language plpgsql as $$
declare
  v_before numeric := pg_temp.calls();
begin
  perform from awa.check();
  return (pg_temp.calls() - v_before)::integer;
end;
$$;
select pg_temp.calls_of_check() as calls \gset
select awa.enqueue('k', queue => 'tap/44/' || n) from generate_series(1, 50) as n \g /dev/null
select is(pg_temp.calls_of_check(), :calls, 'check calls no more functions for fifty queues more');
select is_empty(
  $$ select n.* from awa.queue_overview() as o cross join lateral awa.queue_counts(o.queue) as n
     except select o.queue, o.available, o.scheduled, o.retryable, o.running, o.waiting_external, o.completed, o.failed, o.cancelled, o.terminal,
       o.dlq, o.pruned_terminal from awa.queue_overview() as o $$, 'the overview says of each queue what its counts do');

-- As a session has it that planned the overview when there was one lane.
select awa.reset() \g /dev/null
select awa.enqueue('k', queue => 'tap/44/0') \g /dev/null
select awa.claim('tap/44/0') \g /dev/null
analyze awa.ready_entries, awa.lane_cursors, awa.queue_lanes, awa.leases;
select o.queue from awa.queue_overview() as o \g /dev/null
select awa.enqueue('k', queue => 'tap/44/' || n), awa.enqueue('k', queue => 'tap/44/' || n) from generate_series(1, 50) as n \g /dev/null
select awa.claim('tap/44/' || n) from generate_series(1, 50) as n \g /dev/null
create temp view scanned as select sum(s.seq_tup_read) as rows from pg_stat_xact_user_tables as s where s.schemaname = 'awa';
select rows as before from scanned \gset
select o.queue from awa.queue_overview() as o \g /dev/null
select is(rows, :before::numeric, 'the overview reads no table from end to end, whatever was there when it was planned') from scanned;

select * from finish();
rollback;
