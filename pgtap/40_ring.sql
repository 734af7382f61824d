-- The ring: rotate, prune, what becomes of history, of failures and of
-- stragglers. Inside one transaction; race/40_ring.sql turns it for real.
begin;
select plan(68);
-- Alone: turns the ring, truncates segments.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
select awa.reset() \g /dev/null

select count(*) as segments from pg_inherits where inhparent = 'awa.ready_entries'::regclass \gset

\ir prune.psql

-- Enqueues, claims and keeps p_jobs receipts of a queue.
create table pg_temp.held (queue text, n bigint, receipt awa.receipt);
create function pg_temp.hold (p_queue text, p_jobs integer, p_claim integer default null) returns bigint
  language sql as $$
  select awa.enqueue_many('k', array(select to_jsonb(n) from generate_series(1, p_jobs) as n), queue => p_queue);
  insert into pg_temp.held select p_queue, row_number() over (), c.receipt from awa.claim(p_queue, coalesce(p_claim, p_jobs)) as c;
  select count(*) from pg_temp.held where queue = p_queue
$$;
-- A segment's worth of finished work.
create function pg_temp.work (p_queue text, p_jobs integer) returns bigint
  language sql as $$
  select awa.enqueue_many('k', array_fill('1'::jsonb, array[p_jobs]), queue => p_queue);
  select count(awa.complete(c.receipt)) from awa.claim(p_queue, p_jobs) as c
$$;
create temp view history as
select d.queue, d.priority, d.enqueue_shard, count(*) as terminal, count(*) filter (where d.state = 'completed') as completed,
  count(*) filter (where d.state = 'failed') as failed, count(*) filter (where d.state = 'cancelled') as cancelled
from awa.done_entries as d group by d.queue, d.priority, d.enqueue_shard;

-- An empty ring

select is(pg_temp.prune(), 'empty', 'with no sealed segment there is nothing to prune');
select is(awa.rotate(), 'idle', 'an empty segment is not sealed');
select is((select count(*) from awa.segment_rotations), 1::bigint, 'so the ring stands still');

-- Fold

select awa.configure_queue('tap/40/fold', '{"failed_retention": "0", "enqueue_shards": 3}') \g /dev/null
select awa.enqueue('k', to_jsonb(n), queue => 'tap/40/fold', priority => 1 + n % 3, ordering_key => n::text) from generate_series(1, 60) as n \g /dev/null
insert into pg_temp.held select 'tap/40/fold', row_number() over (), c.receipt from awa.claim('tap/40/fold', 60) as c;
select is(awa.rotate(), 'rotated', 'a used segment is sealed');
select results_eq('select generation, slot::integer from awa.segment_rotations order by generation desc limit 1', 'values (1::bigint, 1)',
  'the next slot is the current one');
select is(pg_temp.prune(), 'blocked', 'a segment whose jobs run is not pruned');
select is((select count(*) from pg_temp.history), 0::bigint, 'nothing was lost by trying');
select awa.complete_many(array_agg(receipt)) from pg_temp.held where queue = 'tap/40/fold' and n <= 40 \g /dev/null
select awa.fail_many(array_agg(receipt), terminal => true) from pg_temp.held where queue = 'tap/40/fold' and n between 41 and 59 \g /dev/null
select is(pg_temp.prune(), 'blocked', 'not even when one of them does');
select ok(awa.fail(receipt, 'e', retry_after => '1 day') = 'retryable', 'the last one is to be retried') from pg_temp.held where queue = 'tap/40/fold' and n = 60;
create temp table truth as select * from pg_temp.history where queue = 'tap/40/fold';
create temp table counts_before as select * from awa.queue_counts('tap/40/fold');

-- Poison must not reach the rollups.
insert into awa.checkpoint_snapshots (checkpoint, ready_slot, source, snapshot) values (1, 0, 'checkpoint', '1:1:');
insert into awa.terminal_count_checkpoints (lane, checkpoint, enqueued, closed, completed, failed, cancelled, ready_slot)
select lane, 1, 7, 7, 1000, 500, 20, 0 from (select distinct lane from awa.queue_lanes where queue = 'tap/40/fold') as l;
select cmp_ok((select sum(live_terminal_count) from awa.queue_terminal_live_counts where queue = 'tap/40/fold'), '>', 1000::numeric, 'the counters are poisoned');

select is(pg_temp.prune(), 'pruned', 'a segment whose jobs are all finished is pruned');
select bag_eq(
  $$ select queue, priority, enqueue_shard, pruned_terminal_count, pruned_completed_count, pruned_failed_count, pruned_cancelled_count
     from awa.queue_terminal_rollups where queue = 'tap/40/fold' $$,
  'select queue, priority, enqueue_shard, terminal, completed, failed, cancelled from truth',
  'the rollups equal history, per key and state, whatever the counters said');
select is((select sum(terminal) from truth), 59::numeric, 'that is 59 jobs');
select is_empty($$ select * from awa.done_entries where queue = 'tap/40/fold' $$, 'history has left');
select is((select coalesce(sum(live_terminal_count), 0) from awa.queue_terminal_live_counts where queue = 'tap/40/fold'), 0::numeric,
  'and its counters, poison and all');
select results_eq($$ select available, retryable, running, terminal, pruned_terminal from awa.queue_counts('tap/40/fold') $$,
  'select available, retryable, running, 0::bigint, 59::bigint from counts_before', 'the queue''s figures follow');
select is_empty(
  $$ select c.relname from pg_class as c where c.relnamespace = 'awa'::regnamespace and c.relkind = 'r' and c.relname ~ '_0$'
       and pg_relation_size(c.oid) > 0 $$, 'the slot''s files are empty');
select is((select array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) order by a.attnum) from pg_attribute as a
    where a.attrelid = 'awa.queue_terminal_rollups'::regclass and a.attnum > 0),
  array['queue text', 'priority smallint', 'enqueue_shard smallint', 'pruned_terminal_count bigint', 'pruned_completed_count bigint',
    'pruned_failed_count bigint', 'pruned_cancelled_count bigint'], 'queue_terminal_rollups has the documented columns');
select is(awa.complete(receipt), false, 'a receipt of pruned history is stale') from pg_temp.held where queue = 'tap/40/fold' and n = 1;
select is(awa.fail(receipt, 'e'), null, 'for a failure as well') from pg_temp.held where queue = 'tap/40/fold' and n = 1;
select is(pg_temp.prune(), 'empty', 'then no sealed segment is left');
select is_empty('select * from awa.check()', 'the storage is sound');

-- Failures inside their retention

select awa.enqueue_many('bad', array['{"a": 1}', '{"a": 2}', '{"a": 3}']::jsonb[], queue => 'tap/40/keep', priority => 3, tags => array['t'],
  metadata => '{"m": 1}', max_attempts => 2) \g /dev/null
insert into pg_temp.held select 'tap/40/keep', row_number() over (), c.receipt from awa.claim('tap/40/keep', 3) as c;
select awa.fail_many(array_agg(receipt order by n desc), array_agg('error ' || n order by n desc), terminal => true) from pg_temp.held
where queue = 'tap/40/keep' and n < 3 \g /dev/null
select awa.complete(receipt) from pg_temp.held where queue = 'tap/40/keep' and n = 3 \g /dev/null
create temp view kept as
select id, kind, queue, args, state, priority, attempt, max_attempts, run_at, deadline_at, attempted_at, finalized_at, created_at, errors, metadata, tags,
  unique_key, unique_states, run_lease, progress, enqueue_shard from awa.done_entries where queue = 'tap/40/keep' and state = 'failed';
create temp table kept_before as select * from pg_temp.kept;
select is((select count(*) from kept_before), 2::bigint, 'two jobs failed');
select is(awa.rotate() || ' ' || pg_temp.prune(), 'rotated pruned', 'their segment is pruned inside their retention');
select bag_eq('select * from pg_temp.kept', 'select * from kept_before', 'failed jobs survive, with args, errors and all');
select results_eq($$ select completed, failed, terminal, pruned_terminal from awa.queue_counts('tap/40/keep') $$,
  'values (0::bigint, 2::bigint, 2::bigint, 1::bigint)', 'they still count as failed; the completed one is in the rollup');
select is((select sum(live_terminal_count) from awa.queue_terminal_live_counts where queue = 'tap/40/keep'), 2::numeric, 'counters equal history');
select is_empty($$ select * from awa.claim('tap/40/keep', 10) $$, 'none of them is handed out again');
select is(awa.rotate() || ' ' || pg_temp.prune(), 'rotated pruned', 'a second turn');
select bag_eq('select * from pg_temp.kept', 'select * from kept_before', 'carries them on');
select is_empty('select * from awa.check()', 'the storage is sound');
select awa.configure_queue('tap/40/keep', '{"failed_retention": "0"}') \g /dev/null
select is(awa.rotate() || ' ' || pg_temp.prune(), 'rotated pruned', 'a turn after their retention');
select results_eq($$ select completed, failed, terminal, pruned_terminal from awa.queue_counts('tap/40/keep') $$,
  'values (0::bigint, 0::bigint, 0::bigint, 3::bigint)', 'lets them go into the rollup');
select results_eq($$ select pruned_completed_count, pruned_failed_count from awa.queue_terminal_rollups where queue = 'tap/40/keep' $$,
  'values (1::bigint, 2::bigint)', 'once each, though they were carried');

-- Stragglers

select is(pg_temp.hold('tap/40/straggler', 300, 299), 299::bigint, 'of 300 jobs 299 are claimed');
select awa.complete_many(array_agg(receipt)) from pg_temp.held where queue = 'tap/40/straggler' and n < 298 \g /dev/null
create temp table figures as select * from awa.queue_counts('tap/40/straggler');
select is(awa.rotate() || ' ' || pg_temp.prune(), 'rotated pruned', 'two running jobs and a waiting one do not hold a segment of 300');
select results_eq($$ select available, running, terminal + pruned_terminal from awa.queue_counts('tap/40/straggler') $$,
  'select available, running, terminal from figures', 'the queue''s figures stay');
select is_empty('select * from awa.check()', 'the storage is sound with relocated jobs');
select is(awa.complete(receipt), true, 'the receipt of a running one is still good') from pg_temp.held where queue = 'tap/40/straggler' and n = 298;
select is(awa.complete(receipt), false, 'once') from pg_temp.held where queue = 'tap/40/straggler' and n = 298;
select is(awa.fail(receipt, 'late', terminal => true), 'failed', 'for a failure as well') from pg_temp.held where queue = 'tap/40/straggler' and n = 299;
select results_eq($$ select args, attempt, awa.complete(receipt) from awa.claim('tap/40/straggler', 10) $$, $$ values ('300'::jsonb, 1::smallint, true) $$,
  'the waiting one is handed out');
select bag_eq($$ select args, state, errors[1] ->> 'error' from awa.done_entries where queue = 'tap/40/straggler' $$,
  $$ values ('298'::jsonb, 'completed'::awa.job_state, null), ('299', 'failed', 'late'), ('300', 'completed', null) $$, 'history shows all three with their bodies');
select results_eq($$ select available, running, terminal, pruned_terminal from awa.queue_counts('tap/40/straggler') $$,
  'values (0::bigint, 0::bigint, 3::bigint, 297::bigint)', 'the figures add up');
select is_empty('select * from awa.check()', 'the storage is sound once they are finished');

-- A straggler that is carried many times over, and its batch mates

select pg_temp.hold('tap/40/long', 400) \g /dev/null
select awa.complete_many(array_agg(receipt)) from pg_temp.held where queue = 'tap/40/long' and n > 3 \g /dev/null
create function pg_temp.turn (p_times integer) returns text[]
  language plpgsql as $$
declare
  v_outcomes text[] := '{}';
begin
  for i in 1 .. p_times loop
    perform pg_temp.work('tap/40/filler', 400);
    v_outcomes := v_outcomes || awa.rotate() || pg_temp.prune();
  end loop;
  return (select array_agg(distinct o) from unnest(v_outcomes) as o);
end;
$$;
select is(pg_temp.turn(3 * :segments), array['pruned', 'rotated'], 'the whole ring can be turned three times under a running job');
select results_eq($$ select available, running, pruned_terminal from awa.queue_counts('tap/40/long') $$, 'values (0::bigint, 3::bigint, 397::bigint)',
  'which runs on');
select is_empty($$ select * from awa.claim('tap/40/long', 10) $$, 'and is handed to nobody else');
select is_empty($$ select s from awa.complete_many((select array_agg(receipt) from pg_temp.held where queue = 'tap/40/long' and n in (1, 2))) as s $$,
  'its first receipt is still good');
select is(awa.fail(receipt, 'e', retry_after => '0'), 'retryable', 'as is that of a batch mate which is retried') from pg_temp.held where queue = 'tap/40/long' and n = 3;
select count(*) from awa.maintain() \g /dev/null
select results_eq($$ select args, attempt, awa.complete(receipt) from awa.claim('tap/40/long', 10) $$, $$ values ('3'::jsonb, 2::smallint, true) $$, 'and comes back');
select is_empty('select * from awa.check()', 'the storage is sound after many turns');
select is((select pruned_terminal + terminal from awa.queue_counts('tap/40/filler')), (3 * :segments * 400)::bigint, 'no finished job of the many turns went uncounted');

-- The cursor of a lane that nobody touches

select results_eq($$ select available, running, terminal, pruned_terminal, retryable from awa.queue_counts('tap/40/fold') $$,
  'values (0::bigint, 0::bigint, 0::bigint, 59::bigint, 1::bigint)', 'an idle queue''s figures survive every turn');

-- A ring that cannot be pruned

select pg_temp.hold('tap/40/holds', 5) \g /dev/null
create function pg_temp.fill () returns integer
  language plpgsql as $$
declare
  v_rotations integer := 0;
begin
  loop
    perform pg_temp.work('tap/40/filler', 1);
    exit when awa.rotate() <> 'rotated' or v_rotations > 1000;
    v_rotations := v_rotations + 1;
  end loop;
  return v_rotations;
end;
$$;
select results_eq('select pg_temp.prune() from generate_series(1, 2)', $$ values ('empty'), ('empty') $$, 'every sealed segment is pruned');
select cmp_ok(pg_temp.fill(), '<', :segments, 'unpruned segments end the rotation');
select is(awa.rotate(), 'blocked', 'then rotate is blocked');
select isnt(awa.enqueue('k', queue => 'tap/40/filler'), null, 'producers go on');
select is(pg_temp.prune(), 'pruned', 'with no slot left the few jobs in the way are moved');
select is(awa.rotate(), 'rotated', 'and the ring turns again');
select is_empty($$ select awa.complete_many(array_agg(receipt)) from pg_temp.held where queue = 'tap/40/holds' $$, 'their receipts are good');
select is_empty('select * from awa.check()', 'the storage is sound after all of this');

-- Idle

select count(awa.complete(c.receipt)) from awa.claim('tap/40/filler', 100) as c \g /dev/null
create function pg_temp.settle () returns text[]
  language plpgsql as $$
declare
  v_last text[];
begin
  -- Prune what is sealed, seal what is used, until neither is possible.
  for i in 1 .. 50 loop
    v_last := array[pg_temp.prune(), awa.rotate()];
    exit when v_last = array['empty', 'idle'];
  end loop;
  return v_last;
end;
$$;
update awa.queue_meta set failed_retention = '0';
insert into awa.queue_meta (queue, failed_retention) select distinct queue, interval '0' from awa.queue_lanes on conflict do nothing;
select is(pg_temp.settle(), array['empty', 'idle'], 'a ring without jobs comes to rest');

select awa.reset() \g /dev/null
select awa.heartbeat('tap/40/w') \g /dev/null
select is(awa.rotate(), 'idle', 'also when a worker sends a heartbeat');
insert into awa.workers (worker, heartbeat_at, ready_slot, seen)
select 'tap/40/w', clock_timestamp(), r.slot, pg_current_snapshot()
from (select r.slot from awa.segment_rotations as r order by r.generation desc limit 1) as r, generate_series(1, 20000);
select is(awa.rotate(), 'rotated', 'one that is full of heartbeats is, though no job came');
select pg_relation_filenode(format('awa.ready_entries_%s', r.slot)) as file, r.slot
from awa.segment_rotations as r order by r.generation desc offset 1 limit 1 \gset
select is(pg_temp.prune(), 'pruned', 'it is pruned');
select isnt(pg_relation_filenode(format('awa.ready_entries_%s', :slot)), :file::oid, 'and a reader with an older snapshot notices, though it had no job');

select is_empty($$
  select a.attrelid::regclass, a.attname
  from pg_partitioned_table as p
  join pg_inherits as i on i.inhparent = p.partrelid
  join pg_attribute as a on a.attrelid = i.inhrelid and a.attnum > 0 and not a.attisdropped
  join pg_type as t on t.oid = a.atttypid and t.typcategory = 'A'
  where p.partrelid::regclass::text ~ '^awa\.' and a.attname <> 'tags' and coalesce(a.attstattarget, -1) <> 0$$,
  'ANALYZE leaves the elements of arrays alone');

select * from finish();
rollback;
