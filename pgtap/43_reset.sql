-- Reset: an empty queue system that works.
begin;
select plan(21);
-- Alone: empties everything (and rolls back).
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;

create function pg_temp.fill () returns void
  language plpgsql as $$
begin
  perform awa.enqueue_many('k', array_fill('1'::jsonb, array[20]), queue => 'tap/43');
  perform awa.enqueue('k', queue => 'tap/43', run_at => now() + interval '1 day');
  perform awa.configure_queue('tap/43', '{"enqueue_shards": 4}');
  set local client_min_messages = error;
  perform awa.pause_queue('tap/43/paused');
  reset client_min_messages;
  perform awa.complete(c.receipt) from awa.claim('tap/43', 5) as c;
  perform awa.fail(c.receipt, 'e', terminal => true) from awa.claim('tap/43', 3) as c;
  perform awa.fail(c.receipt, 'e', retry_after => '1 day') from awa.claim('tap/43', 3) as c;
end;
$$;
select pg_temp.fill() \g /dev/null
create temp table held as select c.receipt from awa.claim('tap/43', 2) as c;
create temp table last_id as select max(job_id) as id from awa.ready_entries;
select awa.rotate() \g /dev/null
-- Rows of a call that failed, which nobody sees any more.
do $$
begin
  perform awa.register_worker('w43');
  raise division_by_zero;
exception when division_by_zero then
end $$;
create temp table files as
  select c.oid, c.relname, pg_relation_size(c.oid) as size, pg_relation_filenode(c.oid) as file
  from pg_class as c where c.relnamespace = 'awa'::regnamespace and c.relkind = 'r' and c.relname <> 'storage_settings';

select lives_ok('select awa.reset()', 'reset');
select is_empty('select f.relname from files as f where f.size = 0 and pg_relation_filenode(f.oid) <> f.file',
  'leaves tables alone that have nothing');
select bag_eq('select f.relname from files as f where pg_relation_filenode(f.oid) <> f.file', 'select f.relname from files as f where f.size > 0',
  'and gives all others new files');
select is((select count(*) from awa.ready_entries) + (select count(*) from awa.claims) + (select count(*) from awa.attempt_outcomes)
    + (select count(*) from awa.outcome_removals) + (select count(*) from awa.lane_cursors) + (select count(*) from awa.terminal_count_deltas)
    + (select count(*) from awa.checkpoint_snapshots) + (select count(*) from awa.terminal_count_checkpoints)
    + (select count(*) from awa.deferred_jobs) + (select count(*) from awa.queue_lanes) + (select count(*) from awa.segment_prunes)
    + (select count(*) from awa.terminal_rollup_entries), 0::bigint, 'empties jobs, history, cursors, counters and ledgers');
select is((select count(*) from awa.queue_meta), 0::bigint, 'and forgets the settings of queues');
select is_empty('select * from awa.done_entries', 'there is no history');
select is_empty('select * from awa.queue_terminal_live_counts', 'no live count');
select is_empty('select * from awa.queue_terminal_rollups', 'and no rollup');
select results_eq($$ select available, scheduled, retryable, running, terminal, pruned_terminal from awa.queue_counts('tap/43') $$,
  'values (0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint)', 'every figure is zero');
select results_eq($$ select slot::integer, generation, phase from awa.storage_status() where phase <> 'empty' $$, $$ values (0, 0::bigint, 'current') $$,
  'the ring starts anew');
select is_empty('select * from awa.check()', 'check is content');
select is_empty('select * from awa.rebuild_terminal_counters()', 'there is nothing to rebuild');
select is_empty('select receipt from held where awa.complete(receipt)', 'receipts from before are stale');
select is_empty($$ select * from awa.claim('tap/43', 10) $$, 'nothing can be claimed');

create temp table fresh as select awa.enqueue('after', '{"n": 1}', queue => 'tap/43') as id;
select ok((select f.id > l.id from fresh as f, last_id as l), 'job ids go on, so that no old receipt meets a new job');
select results_eq($$ select job_id, kind, args, attempt from awa.claim('tap/43', 10) $$, $$ select id, 'after', '{"n": 1}'::jsonb, 1::smallint from fresh $$,
  'a new job is claimed');
select is((select count(*) from awa.claim('tap/43', 10)), 0::bigint, 'once');
select is_empty('select * from awa.check()', 'check is content with new work');

-- Configuration on request

select pg_temp.fill() \g /dev/null
create temp table meta as select * from awa.queue_meta;
select awa.reset(keep_config => true) \g /dev/null
select bag_eq('select * from awa.queue_meta', 'select * from meta', 'with keep_config the settings of queues stay');
select results_eq($$ select available, terminal from awa.queue_counts('tap/43') $$, 'values (0::bigint, 0::bigint)', 'everything else goes');
select lives_ok('select awa.reset(), awa.reset()', 'reset may be repeated');

select * from finish();
rollback;
