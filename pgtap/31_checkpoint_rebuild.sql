-- Checkpoints and rebuilds inside one transaction: its own rows stay in the
-- tail, poison is found, reported and healed. race/ has committed rows.
begin;
select plan(28);
-- Alone: one session at a time checkpoints.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
select awa.reset() \g /dev/null

create temp view drift as
select coalesce(h.queue, c.queue) as queue, h.n as history, c.n as counters
from (select d.queue, count(*) as n from awa.done_entries as d group by d.queue) as h
full join (select l.queue, sum(l.live_terminal_count) as n from awa.queue_terminal_live_counts as l group by l.queue) as c on c.queue = h.queue
where coalesce(h.n, 0) <> coalesce(c.n, 0);

select is_empty('select * from awa.rebuild_terminal_counters()', 'an empty storage has nothing to rebuild');
select is(awa.checkpoint_terminal_counters(), 0::bigint, 'nor anything to checkpoint');

create temp view shape as select * from awa.rebuild_terminal_counters();
select is((select array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) order by a.attnum) from pg_attribute as a
    where a.attrelid = 'pg_temp.shape'::regclass and a.attnum > 0),
  array['ready_slot smallint', 'queue text', 'priority smallint', 'enqueue_shard smallint', 'before bigint', 'after bigint'],
  'rebuild_terminal_counters returns the documented columns');

select awa.enqueue_many('k', array_fill('1'::jsonb, array[20]), queue => 'tap/31', priority => 3) \g /dev/null
create temp table held as select c.receipt, row_number() over () as n from awa.claim('tap/31', 15) as c;
select awa.complete_many(array_agg(receipt)) from held where n <= 7 \g /dev/null
select awa.fail(receipt, 'e', terminal => true) from held where n in (8, 9) \g /dev/null

create temp table figures as select * from awa.queue_counts('tap/31');
select results_eq('select available, running, completed, failed, terminal from figures', 'values (5::bigint, 6::bigint, 7::bigint, 2::bigint, 9::bigint)',
  'the figures before');
select is(awa.checkpoint_terminal_counters(), 0::bigint, 'a checkpoint leaves the rows of its own transaction in the tail');
select results_eq($$ select * from awa.queue_counts('tap/31') $$, 'select * from figures', 'and changes no figure');
select is_empty('select * from pg_temp.drift', 'counters equal history');
select is_empty('select * from awa.rebuild_terminal_counters()', 'a rebuild has nothing to heal');
select results_eq($$ select * from awa.queue_counts('tap/31') $$, 'select * from figures', 'and changes no figure either');
select is_empty('select * from pg_temp.drift', 'counters still equal history');

-- Counting goes on after both

select awa.complete(receipt) from held where n = 10 \g /dev/null
select awa.checkpoint_terminal_counters() \g /dev/null
select awa.complete(receipt) from held where n = 11 \g /dev/null
select results_eq($$ select available, running, completed, failed, terminal from awa.queue_counts('tap/31') $$,
  'values (5::bigint, 4::bigint, 9::bigint, 2::bigint, 11::bigint)', 'finishes after them count');
select is_empty('select * from pg_temp.drift', 'in every key');

-- Poison. A checkpoint that lies, in the slot of the jobs and in another.

create temp table lane as select distinct lane from awa.queue_lanes where queue = 'tap/31';
create function pg_temp.poison (p_slot integer, p_column text, p_by integer) returns void
  language plpgsql as $$
begin
  insert into awa.checkpoint_snapshots (checkpoint, ready_slot, source, snapshot)
  select coalesce(max(s.checkpoint), 0) + 1, p_slot, 'checkpoint', coalesce((array_agg(s.snapshot order by s.checkpoint desc))[1], '1:1:')
  from awa.checkpoint_snapshots as s where s.ready_slot = p_slot;
  insert into awa.terminal_count_checkpoints (lane, checkpoint, enqueued, closed, completed, failed, cancelled, ready_slot)
  select l.lane, (select max(s.checkpoint) from awa.checkpoint_snapshots as s where s.ready_slot = p_slot), 0, 0, 0, 0, 0, p_slot from pg_temp.lane as l;
  execute format('update awa.terminal_count_checkpoints set %1$I = %1$I + $1 where ready_slot = $2
    and checkpoint = (select max(s.checkpoint) from awa.checkpoint_snapshots as s where s.ready_slot = $2)', p_column)
  using p_by, p_slot;
end;
$$;
create temp table current as select slot from awa.segment_rotations order by generation desc limit 1;

select pg_temp.poison(slot, 'completed', 5) from current \g /dev/null
select pg_temp.poison(3, 'failed', -2) \g /dev/null
select results_eq($$ select queue, history, counters from pg_temp.drift $$, $$ values ('tap/31', 11::bigint, 14::numeric) $$,
  'a poisoned checkpoint shows in the counters');
select results_eq($$ select invariant, actual - expected from awa.check() where invariant = 'terminal counters equal history' order by 2 $$,
  $$ values ('terminal counters equal history', -2::bigint), ('terminal counters equal history', 5::bigint) $$,
  'check reports each key that drifted, and by how much');
select is((select count(*) from awa.check() where detail like '%tap/31%'), 2::bigint, 'and names its queue');
create temp table healed as select * from awa.rebuild_terminal_counters();
select bag_eq('select ready_slot, queue, priority, enqueue_shard, before - after from healed',
  $$ select v.* from current, lateral (values (slot, 'tap/31', 3::smallint, 0::smallint, 5::bigint), (3, 'tap/31', 3, 0, -2)) as v $$,
  'a rebuild reports the drift of each key');
select is_empty('select * from pg_temp.drift', 'and heals it');
select is_empty('select * from awa.check()', 'check is content');
select is_empty('select * from awa.rebuild_terminal_counters()', 'a second rebuild finds nothing');
select results_eq($$ select available, running, completed, failed, terminal from awa.queue_counts('tap/31') $$,
  'values (5::bigint, 4::bigint, 9::bigint, 2::bigint, 11::bigint)', 'the queue''s figures are back');

select pg_temp.poison(slot, 'enqueued', 100) from current \g /dev/null
select is((select available from awa.queue_counts('tap/31')), 105::bigint, 'a poisoned total of enqueued jobs shows in available');
select isnt_empty($$ select * from awa.check() where invariant like 'available%' $$, 'check reports it');
select pg_temp.poison(slot, 'closed', 3) from current \g /dev/null
select isnt_empty($$ select * from awa.check() where invariant like 'running%' $$, 'as it does a poisoned total of closed attempts');
select lives_ok('select * from awa.rebuild_terminal_counters()', 'a rebuild');
select results_eq($$ select available, running, completed, failed, terminal from awa.queue_counts('tap/31') $$,
  'values (5::bigint, 4::bigint, 9::bigint, 2::bigint, 11::bigint)', 'heals these too');

-- Work goes on

select awa.complete_many(array_agg(receipt)) from held \g /dev/null
select results_eq($$ select available, running, completed, failed from awa.queue_counts('tap/31') $$, 'values (5::bigint, 0::bigint, 13::bigint, 2::bigint)',
  'finishing goes on from the rebuilt counters');
select is_empty('select * from pg_temp.drift', 'exactly');
select is_empty('select * from awa.check()', 'the storage is sound after all of this');

select * from finish();
rollback;
