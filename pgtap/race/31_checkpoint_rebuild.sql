-- Checkpoints and rebuilds over committed rows, beside open writers.
\ir sessions.psql
select pg_temp.forget('race/31') \g /dev/null
select plan(49);
select pg_temp.open(s) from unnest(array['a', 'b', 'm']) as s \g /dev/null

create temp view lanes as select distinct lane from awa.queue_lanes where queue = 'race/31';
create temp view drift as
select coalesce(h.queue, c.queue) as queue, h.n as history, c.n as counters
from (select d.queue, count(*) as n from awa.done_entries as d group by d.queue) as h
full join (select l.queue, sum(l.live_terminal_count) as n from awa.queue_terminal_live_counts as l group by l.queue) as c on c.queue = h.queue
where coalesce(h.n, 0) <> coalesce(c.n, 0);
-- available, running, completed, failed
create function pg_temp.figures () returns text
  language sql as $$
  select concat_ws(' ', available, running, completed, failed) from awa.queue_counts('race/31')
$$;
create temp table held (receipt awa.receipt, n bigint);
create function pg_temp.finishing (p_from integer, p_to integer) returns text
  language sql as $$
  select format('select awa.complete_many(%L::awa.receipt[])', (select array_agg(receipt order by n) from held where n between p_from and p_to))
$$;

select awa.enqueue_many('k', array_fill('1'::jsonb, array[60]), queue => 'race/31') \g /dev/null
select awa.enqueue_many('k', array_fill('1'::jsonb, array[20]), queue => 'race/31', priority => 4) \g /dev/null
insert into held select c.receipt, row_number() over () from awa.claim('race/31', 70) as c;
select pg_temp.run('a', pg_temp.finishing(1, 20)) \g /dev/null
select awa.fail_many(array_agg(receipt), terminal => true) from held where n between 21 and 25 \g /dev/null
select is(pg_temp.figures(), '10 45 20 5', 'the figures before any checkpoint');

-- A checkpoint takes the tail in

select cmp_ok(awa.checkpoint_terminal_counters(), '>=', 2::bigint, 'a checkpoint writes each key that changed');
select is(pg_temp.figures(), '10 45 20 5', 'and changes no figure');
select is((select sum(c.enqueued) || ' ' || sum(c.completed) || ' ' || sum(c.failed) from awa.terminal_count_checkpoints as c join lanes using (lane)), '80 20 5',
  'the totals are in the checkpoint now');
select is_empty('select * from drift', 'counters equal history');
select is(awa.checkpoint_terminal_counters(), 0::bigint, 'a second one finds nothing to write');
select pg_temp.run('a', pg_temp.finishing(26, 30)) \g /dev/null
select is(pg_temp.figures(), '10 40 25 5', 'what finishes later is the tail');
select is_empty('select * from drift', 'counters equal history');

-- A finisher and a producer that were open while a checkpoint was written

select pg_temp.tell('a', 'begin'), pg_temp.run('a', pg_temp.finishing(31, 35)) \g /dev/null
select pg_temp.tell('b', 'begin'), pg_temp.run('b', $$ select awa.enqueue_many('k', array['1', '2']::jsonb[], queue => 'race/31') $$) \g /dev/null
select pg_temp.run('m', pg_temp.finishing(61, 62)) \g /dev/null
select is(pg_temp.figures(), '10 38 27 5', 'open transactions do not count');
select cmp_ok(awa.checkpoint_terminal_counters(), '>=', 1::bigint, 'a checkpoint beside them');
select is(pg_temp.figures(), '10 38 27 5', 'leaves them out');
select is(pg_temp.tell('a', 'commit'), 'ok', 'the finisher commits');
select is(pg_temp.figures(), '10 33 32 5', 'and counts, though its number lies below the checkpoint');
select is_empty('select * from drift', 'counters equal history');
select is(pg_temp.tell('b', 'commit'), 'ok', 'the producer commits');
select is(pg_temp.figures(), '12 33 32 5', 'and counts');
select cmp_ok(awa.checkpoint_terminal_counters(), '>=', 1::bigint, 'the next checkpoint takes both in');
select is(pg_temp.figures(), '12 33 32 5', 'once');
select is_empty('select * from drift', 'counters equal history');
select is_empty('select * from awa.check()', 'check agrees');

-- A rebuild beside an open finisher

select pg_temp.tell('a', 'begin'), pg_temp.run('a', pg_temp.finishing(38, 40)) \g /dev/null
select is(pg_temp.run('m', 'select queue from awa.rebuild_terminal_counters()'), null, 'a rebuild beside an open finisher does not wait and finds no drift');
select is(pg_temp.tell('a', 'commit'), 'ok', 'the finisher commits');
select is(pg_temp.figures(), '12 30 35 5', 'nothing is lost, nothing counts twice');
select pg_temp.tell('a', 'begin'), pg_temp.run('a', pg_temp.finishing(41, 41)) \g /dev/null
select is(pg_temp.run('m', 'select queue from awa.rebuild_terminal_counters()'), null, 'again');
select pg_temp.tell('a', 'rollback') \g /dev/null
select is(pg_temp.figures(), '12 30 35 5', 'a finisher that rolls back counts for nothing');
select is_empty('select * from drift', 'counters equal history');

-- One at a time

select pg_temp.tell('a', 'begin'), pg_temp.run('a', 'select count(*) from awa.rebuild_terminal_counters()') \g /dev/null
select is(pg_temp.run('m', 'select awa.checkpoint_terminal_counters()'), '0', 'beside an open rebuild a checkpoint does nothing');
select is(pg_temp.run('m', 'select count(*) from awa.rebuild_terminal_counters()'), '55P03', 'and another rebuild says that one is at it');
select is(pg_temp.run('m', pg_temp.finishing(41, 42)), null, 'finishers go on');
select pg_temp.tell('a', 'commit') \g /dev/null
select is(pg_temp.figures(), '12 28 37 5', 'and count');
select is_empty('select * from drift', 'counters equal history');

-- Poison in a committed checkpoint

select awa.checkpoint_terminal_counters() \g /dev/null
create temp table poisoned as
with newest as (
  select distinct on (c.ready_slot, c.lane) c.ready_slot, c.lane, c.checkpoint
  from awa.terminal_count_checkpoints as c join lanes using (lane) order by c.ready_slot, c.lane, c.checkpoint desc
),
poison as (
  update awa.terminal_count_checkpoints as c set completed = c.completed + 7, closed = c.closed + 7
  from newest as n where n.ready_slot = c.ready_slot and n.lane = c.lane and n.checkpoint = c.checkpoint and c.completed > 0
  returning c.ready_slot, c.lane
)
select p.ready_slot, l.queue, l.priority, l.enqueue_shard from poison as p join awa.queue_lanes as l on l.lane = p.lane;
select cmp_ok((select count(*) from poisoned), '>', 0::bigint, 'a checkpoint is poisoned');
select isnt_empty('select * from drift', 'which shows');
select bag_eq($$ select detail from awa.check() where invariant = 'terminal counters equal history' $$,
  $$ select format('slot %s queue %L priority %s shard %s completed', ready_slot, queue, priority, enqueue_shard) from poisoned $$, 'in check, key by key');
select pg_temp.tell('a', 'begin'), pg_temp.run('a', pg_temp.finishing(43, 44)) \g /dev/null
select bag_eq($$ select ready_slot, queue, priority, enqueue_shard, before - after from awa.rebuild_terminal_counters() $$,
  $$ select ready_slot, queue, priority, enqueue_shard, 7::bigint as drift from poisoned $$, 'a rebuild reports it, key by key, beside an open finisher');
select is_empty('select * from drift', 'and heals it');
select pg_temp.tell('a', 'commit') \g /dev/null
select is(pg_temp.figures(), '12 26 39 5', 'the finisher counts on top of the healed counters');
select is_empty('select * from awa.rebuild_terminal_counters()', 'a second rebuild finds nothing');
select is_empty('select * from awa.check()', 'check is content');

-- A stray delta

insert into awa.terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
select l.lane, pg_current_xact_id(), (select slot from awa.segment_rotations order by generation desc limit 1), 0, 3, 0, 0 from lanes as l limit 1;
select isnt_empty('select * from drift', 'a stray delta shows');
select is((select sum(before - after) from awa.rebuild_terminal_counters()), 3::numeric, 'a rebuild reports it');
select is_empty('select * from drift', 'and heals it');

-- maintain checkpoints

select pg_temp.run('a', pg_temp.finishing(45, 46)) \g /dev/null
select results_eq($$ select outcome, affected > 0 from awa.maintain() where task = 'checkpoint' $$, $$ values ('written', true) $$, 'maintain writes a checkpoint when there is a tail');

select is(pg_temp.figures(), '12 24 41 5', 'the figures in the end');

-- Every queue at a glance

create temp view at_a_glance as
select o.queue, o.available, o.running, o.terminal, o.oldest_waiting from awa.queue_overview() as o where o.queue like 'race/31%';
select results_eq($$ select available, running, terminal, oldest_waiting > '0' from at_a_glance $$,
  $$ select c.available, c.running, c.terminal, true from awa.queue_counts('race/31') as c $$, 'the overview says the same, and how long a job has waited');
select awa.complete_many(array_agg(c.receipt)) from awa.claim('race/31', 100) as c \g /dev/null
select results_eq('select available, oldest_waiting from at_a_glance', 'values (0::bigint, null::interval)', 'or that none waits');
select awa.enqueue('k', queue => 'race/31/late', run_at => now() - interval '1 hour') \g /dev/null
select results_eq($$ select oldest_waiting between interval '1 hour' and interval '2 hours' from at_a_glance where queue = 'race/31/late' $$, 'values (true)',
  'counted from the time it was due');
select pg_temp.forget('race/31/late') \g /dev/null
select awa.enqueue('k', queue => 'race/31/taken', run_at => now() - interval '1 hour') as taken \gset
select awa.enqueue('k', queue => 'race/31/taken') \g /dev/null
select awa.cancel(:taken) \g /dev/null
select results_eq($$ select available, oldest_waiting < interval '30 minutes' from at_a_glance where queue = 'race/31/taken' $$, 'values (1::bigint, true)',
  'a job that was taken before its turn waits no more');
select pg_temp.forget('race/31/taken') \g /dev/null
select pg_temp.forget('race/31') \g /dev/null
select is_empty('select * from awa.check()', 'the storage is sound after all of this');
select * from finish();
