-- Removal of a queue.
begin;
select plan(41);
-- Alone: turns the ring.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
select awa.reset() \g /dev/null

create function pg_temp.refused (p_queue text, p_what text, p_title text) returns setof text
  language plpgsql as $$
declare
  v_message text := format('queue %L cannot be removed: %s', p_queue, p_what);
begin
  return next throws_ok(format('select awa.remove_queue(%L)', p_queue), 'AW003', v_message, p_title);
end;
$$;
\ir prune.psql
-- Gives back every segment but a fresh one.
create function pg_temp.turn () returns void
  language plpgsql as $$
begin
  perform awa.rotate();
  while pg_temp.prune() = 'pruned' loop
  end loop;
end;
$$;
-- A job that was worked on.
create function pg_temp.work (p_queue text) returns void
  language plpgsql as $$
begin
  perform awa.enqueue('k', queue => p_queue);
  perform awa.complete(c.receipt) from awa.claim(p_queue) as c;
end;
$$;
create temp view traces as
select 'queue_lanes' as relation from awa.queue_lanes as l where l.queue ^@ 'tap/14'
union all select 'queue_meta' from awa.queue_meta as m where m.queue ^@ 'tap/14'
union all select 'terminal_rollup_entries' from awa.terminal_rollup_entries
union all select 'lane_cursors' from awa.lane_cursors
union all select 'rescue_points' from awa.rescue_points
union all select 'rate_points' from awa.rate_points
union all select 'slot_batches' from awa.slot_batches
union all select 'slot_entries' from awa.slot_entries;

select is(awa.remove_queue('tap/14'), false, 'a queue that nobody knows');
select is((select count(*) from awa.queue_removals), 0::bigint, 'was not removed');
select throws_ok($$ select awa.remove_queue(null) $$, 'AW006', null, 'null is no name');
select throws_ok($$ select awa.remove_queue('') $$, 'AW006', null, 'nor is the empty text');

select awa.configure_queue('tap/14', '{"enqueue_shards": 2, "rate_limit": 1000, "concurrency_limit": 1, "dlq_enabled": true}') \g /dev/null
select awa.configure_queue('tap/14 settings only', '{"max_depth": 3}') \g /dev/null
select is(awa.remove_queue('tap/14 settings only'), true, 'settings are enough of a queue');
select is((select count(*) from awa.queue_meta where queue = 'tap/14 settings only'), 0::bigint, 'they go');

-- What keeps it
select awa.upsert_schedule('tap/14 "yearly"', '@yearly', 'k', queue => 'tap/14') \g /dev/null
select pg_temp.refused('tap/14', 'schedule ''tap/14 "yearly"'' enqueues into it', 'a schedule keeps it');
select awa.remove_schedule('tap/14 "yearly"') \g /dev/null

create temp table job as select awa.enqueue('k', queue => 'tap/14', run_at => 'infinity') as id;
select pg_temp.refused('tap/14', 'jobs wait or run there', 'a scheduled job keeps it');
update awa.jobs as j set run_at = now() where j.id = (select id from job);
select pg_temp.refused('tap/14', 'jobs wait or run there', 'so does one that waits');
create temp table attempt as select c.receipt from awa.claim('tap/14') as c;
select pg_temp.refused('tap/14', 'jobs wait or run there', 'and one that runs');
create temp table callback as select awa.register_callback(a.receipt, '1 hour') as id from attempt as a;
select is(awa.park(a.receipt), true, 'parked') from attempt as a;
select pg_temp.turn() \g /dev/null
select pg_temp.refused('tap/14', 'jobs wait or run there', 'and one that waits for an answer, whose segment is gone');
select awa.complete_callback(c.id) from callback as c \g /dev/null
select pg_temp.refused('tap/14', 'its history is not pruned yet', 'history keeps it');

select awa.enqueue('k', queue => 'tap/14') \g /dev/null
select is(awa.fail(c.receipt, terminal => true), 'failed', 'failed') from awa.claim('tap/14') as c;
select pg_temp.turn() \g /dev/null
select pg_temp.refused('tap/14', 'it has dead letters', 'a dead letter keeps it');
select is(awa.purge_dlq('tap/14'), 1::bigint, 'purged');

select awa.enqueue('k', queue => 'tap/14', concurrency_key => 'a') from generate_series(1, 2) \g /dev/null
create temp table first as select c.receipt from awa.claim('tap/14', 2) as c;
select is((select count(*) from first), 1::bigint, 'one of a key runs');
select awa.complete(f.receipt) from first as f \g /dev/null
select pg_temp.refused('tap/14', 'jobs wait or run there', 'a job that waits for its key keeps it');
select awa.complete(c.receipt) from awa.claim('tap/14', 2) as c \g /dev/null
-- As if another transaction had committed it, so that a cursor is moved.
select awa.enqueue('k', queue => 'tap/14') \g /dev/null
update awa.segment_rotations as g set xid = '5' where g.xid = pg_current_xact_id();
update awa.ready_entries as r set xid = '5' where r.xid = pg_current_xact_id();
select awa.complete(c.receipt) from awa.claim('tap/14', 2) as c \g /dev/null
select pg_temp.turn() \g /dev/null
select is((select pruned_terminal > 0 from awa.queue_counts('tap/14')), true, 'totals are left');
select bag_eq('select distinct relation from traces', $$ values ('queue_lanes'), ('queue_meta'), ('terminal_rollup_entries'), ('lane_cursors'), ('rate_points'), ('slot_batches') $$,
  'a name, settings, totals and cursors are left');

-- It goes, and comes back
select is(awa.remove_queue('tap/14'), true, 'a queue that holds nothing is removed');
select is_empty('select * from traces', 'with all that is its');
select is((select queue from awa.queue_removals), 'tap/14', 'the newest removal is on record');
select is_empty($$ select * from awa.queue_overview() where queue ^@ 'tap/14' $$, 'the overview does not know it');
select is(awa.remove_queue('tap/14'), false, 'it cannot be removed again');
select is_empty($$ select * from awa.claim('tap/14') $$, 'nothing is claimed there');
select is_empty('select * from awa.check()', 'check() finds nothing');

select awa.enqueue('k', to_jsonb(i), queue => 'tap/14') from generate_series(1, 3) as i \g /dev/null
select results_eq($$ select c.args from awa.claim('tap/14', 10) as c order by 1 $$, $$ select to_jsonb(i) from generate_series(1, 3) as i $$, 'a new one of the name starts anew');
select results_eq($$ select available, running, terminal, pruned_terminal from awa.queue_counts('tap/14') $$, $$ values (0::bigint, 3::bigint, 0::bigint, 0::bigint) $$, 'with its own figures');

-- Counted and gone without a row in the ring
select awa.enqueue('k', queue => 'tap/14 b', run_at => 'infinity') \g /dev/null
delete from awa.jobs as j where j.queue = 'tap/14 b';
select isnt_empty($$ select * from awa.terminal_count_deltas as d where d.lane in (select l.lane from awa.queue_lanes as l where l.queue = 'tap/14 b') $$, 'its deltas are there');
select is(awa.remove_queue('tap/14 b'), true, 'a queue whose deltas cancel each other out is removed');
select is_empty('select * from awa.check()', 'check() finds nothing');
select awa.enqueue('k', queue => 'tap/14 c', run_at => 'infinity') \g /dev/null
select pg_temp.work('tap/14 seals') \g /dev/null
select awa.rotate() \g /dev/null
delete from awa.jobs as j where j.queue = 'tap/14 c';
select pg_temp.refused('tap/14 c', 'its history is not pruned yet', 'deltas in two segments keep it');
select awa.cancel(j.id) from awa.jobs as j where j.queue = 'tap/14' and j.state = 'running' \g /dev/null
select is(pg_temp.prune(), 'pruned', 'one is given back');
select pg_temp.refused('tap/14 c', 'its history is not pruned yet', 'and the other keeps it');
select pg_temp.work('tap/14 seals'), pg_temp.turn() \g /dev/null
select is(awa.remove_queue('tap/14 c'), true, 'until it is given back, too');
select is_empty('select * from awa.check()', 'check() finds nothing');

-- A job that was parked there and left for another queue
select awa.configure_queue('tap/14 d', '{"concurrency_limit": 1}') \g /dev/null
select awa.enqueue('k', queue => 'tap/14 d', concurrency_key => 'one') from generate_series(1, 2) \g /dev/null
create temp table slot as select c.receipt from awa.claim('tap/14 d', 2) as c;
update awa.jobs as j set queue = 'tap/14 e' where j.queue = 'tap/14 d' and j.state = 'scheduled';
select awa.complete(s.receipt) from slot as s \g /dev/null
select awa.cancel(j.id) from awa.jobs as j where j.queue = 'tap/14 e' \g /dev/null
select pg_temp.turn() \g /dev/null
select isnt_empty($$ select * from awa.parked_jobs where queue = 'tap/14 d' $$, 'it is on the list still');
select is(awa.remove_queue('tap/14 d'), true, 'which does not keep the queue');
select is_empty($$ select * from awa.parked_jobs where queue = 'tap/14 d' $$, 'and goes with it');

-- Where DDL is forbidden

select awa.configure_queue('tap/14 f', '{}') \g /dev/null
alter table awa.queue_lanes replica identity default;  -- as it is before the first removal
create function pg_temp.forbid () returns event_trigger language plpgsql as $$ begin raise exception 'no DDL here'; end $$;
create event trigger tap_14 on ddl_command_start execute function pg_temp.forbid();
prepare removal as select awa.remove_queue('tap/14 f');
select results_eq('removal', 'values (true)', 'a queue is removed without any');
drop event trigger tap_14;

select * from finish();
rollback;
