-- Reset: every relation is emptied, and what comes afterwards works.
begin;
select plan(62);
-- Alone: empties everything (and rolls back).
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;

\ir counters.psql
\ir done.psql

-- Relations of the storage that hold rows, partitions taken together.
create function pg_temp.filled () returns text[]
  language plpgsql as $$
declare
  v_filled text[] := '{}';
  v_name   text;
  v_some   boolean;
begin
  for v_name in
    select c.relname from pg_class as c
    where c.relnamespace = 'awa'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition order by c.relname
  loop
    execute format('select exists (select from awa.%I)', v_name) into v_some;
    if v_some then
      v_filled := v_filled || v_name;
    end if;
  end loop;
  return v_filled;
end;
$$;
-- Something of everything; returns the ids of jobs that are still somewhere.
create function pg_temp.fill () returns bigint[]
  language plpgsql as $$
declare
  v_ids bigint[];
begin
  perform awa.configure_queue('tap/65', '{"enqueue_shards": 4, "failed_retention": "1 hour"}'), awa.configure_queue('tap/65/dlq', '{"dlq_enabled": true, "dlq_retention": "1 day"}');
  perform awa.pause_queue('tap/65/paused');
  perform awa.register_worker('w65');
  perform pg_temp.done('tap/65/done', 3, 'c'), pg_temp.done('tap/65/done', 2, 'f'), pg_temp.done('tap/65/done', 1, 'x'), pg_temp.done('tap/65/dlq', 2, 'f');
  perform awa.retry(min(d.id)) from awa.done_entries as d where d.queue = 'tap/65/done' and d.state = 'failed';
  perform awa.enqueue_many('k', array_fill('1'::jsonb, array[4]), queue => 'tap/65/committed');
  update awa.ready_entries set xid = '5' where lane in (select l.lane from awa.queue_lanes as l where l.queue = 'tap/65/committed');
  perform awa.cancel(max(j.id)) from awa.jobs as j where j.queue = 'tap/65/committed';
  perform awa.enqueue('k', queue => 'tap/65/key', unique_key => '\x6501', unique_states => b'11111111'),
    awa.enqueue('k', queue => 'tap/65/key', unique_key => '\x6502', run_at => now() + interval '1 day'),
    awa.enqueue('k', queue => 'tap/65/soon', run_at => clock_timestamp() + interval '1 ms');
  perform awa.fail(c.receipt, 'e', retry_after => '1 day') from awa.enqueue('k', queue => 'tap/65/retry') as id, awa.claim('tap/65/retry') as c;
  perform awa.register_callback(c.receipt, '1 day') from awa.enqueue('k', queue => 'tap/65/wait') as id, awa.claim('tap/65/wait') as c;
  perform awa.enqueue_many('k', array_fill('1'::jsonb, array[3]), queue => 'tap/65/run');
  insert into pg_temp.held select c.receipt, c.job_id from awa.claim('tap/65/run', 3, 'w65') as c;
  perform awa.extend_lease(array(select h.receipt from pg_temp.held as h), '1 hour');
  perform awa.set_progress(h.receipt, 50) from pg_temp.held as h;
  perform awa.cancel((select max(h.job_id) from pg_temp.held as h));
  perform awa.upsert_schedule('tap/65', '@every 24h', 'k', queue => 'tap/65/cron');
  perform awa.configure_queue('tap/65/flow', '{"rate_limit": 100, "concurrency_limit": 1}');
  perform awa.enqueue('k', queue => 'tap/65/flow', concurrency_key => 'a') from generate_series(1, 2);
  perform awa.claim('tap/65/flow', 2);
  perform awa.enqueue('k', queue => 'tap/65/flow', after => array[awa.enqueue('k', queue => 'tap/65/flow')]);
  perform awa.delete_job_compat(awa.enqueue('k', queue => 'tap/65/gone', run_at => now() + interval '1 day'));
  perform pg_sleep(0.002);
  perform awa.maintain();
  perform awa.start_batch_operation('cancel', '{"ids": [1, 2]}');
  v_ids := array(select j.id from awa.jobs as j union select q.id from awa.dlq_entries as q);
  perform awa.rotate();
  return v_ids;
end;
$$;
create temp table held (receipt awa.receipt, job_id bigint);
create temp table ids as select unnest(pg_temp.fill()) as id;
insert into awa.terminal_rollup_entries (lane, generation, ready, closed, completed, failed, cancelled) select lane, 0, 1, 1, 1, 0, 0 from awa.queue_lanes limit 1;
insert into awa.slot_entries (queue, key, slot, point, batch_id, job_id, ready_slot) values ('tap/65/flow', 'b', 1, 1, 0, 0, 0);
select awa.pause_queue('tap/65/passing'), awa.remove_queue('tap/65/passing') \g /dev/null
insert into awa.segment_prunes (generation, slot, epoch, ready_rows, terminal_jobs, relocated, carried) select 0, 0, 1, 0, 0, 0, 0 where not exists (select from awa.segment_prunes where generation = 0);

-- Nothing but the ring and the settings of the storage stays

create temp table settings as select * from awa.storage_settings;
create temp table missing as
select c.relname from pg_class as c where c.relnamespace = 'awa'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition and c.relname <> all (pg_temp.filled());
select is((select array_agg(relname::text) from missing where relname not in ('rescue_points')), null, 'every relation of the storage holds something');
-- Rows of a call that failed, which nobody sees any more.
do $$
begin
  insert into awa.rescue_points (lane, point, checked, marked, marked_at, ready_slot, open_batches) values (1, 1, 0, 0, now(), 0, '{}');
  raise division_by_zero;
exception when division_by_zero then
end $$;
create temp table files as
  select c.oid, c.relname, pg_relation_size(c.oid) as size, pg_relation_filenode(c.oid) as file
  from pg_class as c where c.relnamespace = 'awa'::regnamespace and c.relkind = 'r' and c.relname <> 'storage_settings';
savepoint filled;
select lives_ok('select awa.reset()', 'reset');
select is(pg_temp.filled(), array['segment_rotations', 'storage_settings'], 'empties every relation but the ledger of the ring and the settings of the storage');
select is_empty('select f.relname from files as f where f.size = 0 and pg_relation_filenode(f.oid) <> f.file',
  'leaves tables alone that have nothing');
select bag_eq('select f.relname from files as f where pg_relation_filenode(f.oid) <> f.file', 'select f.relname from files as f where f.size > 0',
  'and gives all others new files');
select results_eq($$ select slot::integer, generation, phase from awa.storage_status() where phase <> 'empty' $$, $$ values (0, 0::bigint, 'current') $$,
  'the ring begins anew');
select bag_eq('select * from awa.storage_settings', 'select * from settings', 'the settings of the storage are as they were');
select is((select count(*) from awa.job_unique_claims), 0::bigint, 'no unique key is left');
select is((select count(*) from awa.dlq_entries), 0::bigint, 'no dead letter');
select is_empty('select * from awa.dlq_depth()', 'of any queue');
select is((select count(*) from awa.jobs), 0::bigint, 'no job');
select is_empty('select * from awa.queue_terminal_live_counts', 'no live count');
select is_empty('select * from awa.queue_terminal_rollups', 'no rollup');
select is_empty('select q from unnest(array[''tap/65'', ''tap/65/dlq'', ''tap/65/done'', ''tap/65/run'']) as q, lateral awa.queue_counts(q) as c
  where (available, scheduled, retryable, running, completed, failed, cancelled, terminal, dlq, pruned_terminal) <> (0, 0, 0, 0, 0, 0, 0, 0, 0, 0)', 'every figure of every queue is zero');
select is_empty('select * from awa.check()', 'check is content');
select is_empty('select * from awa.rebuild_terminal_counters()', 'there is nothing to rebuild');

-- What was there before is nowhere

select is_empty('select id from ids where awa.delete_job_compat(id)', 'no old job can be deleted');
select is_empty('select id from ids where awa.cancel(id)', 'cancelled');
select is_empty('select id from ids where awa.retry(id)', 'retried');
select is_empty('select id from ids where awa.move_failed_to_dlq(id)', 'moved');
select is_empty('select id from ids where awa.retry_from_dlq(id)', 'or retried from the dead letters');
select is_empty('select receipt from held where awa.complete(receipt)', 'old receipts are stale for a completion');
select is_empty('select receipt from held where awa.fail(receipt, ''e'') is not null', 'a failure');
select is((select count(*) from awa.extend_lease((select array_agg(receipt) from held))), 3::bigint, 'and a lease');
select is((select count(*) from awa.heartbeat('w65')), 0::bigint, 'a worker of before hears nothing');
select is(awa.cancel_by_unique_key('\x6501'), false, 'an old key belongs to nobody');

-- A new life

select awa.enqueue('new', '{"n": 1}', queue => 'tap/65', unique_key => '\x6501', unique_states => b'11111111') as new \gset
select is((select max(id) from ids) < :new, true, 'job ids go on');
select is((select job_id from awa.job_unique_claims), :new::bigint, 'a new job takes an old key');
select is((select enqueue_shard from awa.queue_lanes where queue = 'tap/65'), 0::smallint, 'in a queue without shards');
create temp table fresh as select * from awa.claim('tap/65', 10, 'w65');
select results_eq('select job_id, kind, args, attempt::integer, errors from fresh', format($$ values (%s::bigint, 'new', '{"n": 1}'::jsonb, 1, '{}'::jsonb[]) $$, :new), 'it is claimed');
select is(awa.complete(receipt), true, 'and completed') from fresh;
select pg_temp.figures_are('tap/65', '1/0/0/0', 'and counted');
select awa.enqueue('new', queue => 'tap/65/paused') \g /dev/null
select is((select count(*) from awa.claim('tap/65/paused', 10)), 1::bigint, 'a queue that was paused yields jobs');
select pg_temp.done('tap/65/dlq', 1, 'f') \g /dev/null
select pg_temp.figures_are('tap/65/dlq', '0/1/0/0', 'one that had dead letters keeps its failures in history');
-- Due by the clock alone: a slow enqueue would find that it is already.
select awa.enqueue('new', queue => 'tap/65/soon', run_at => clock_timestamp() + interval '1 minute') as soon \gset
select set_config('awa.now', (clock_timestamp() + interval '2 minutes')::text, true) \g /dev/null
select results_eq($$ select affected from awa.maintain() where task = 'promote' $$, 'values (1::bigint)', 'maintain promotes');
select set_config('awa.now', '', true) \g /dev/null
select is((select array_agg(job_id) from awa.claim('tap/65/soon', 10)), array[:soon]::bigint[], 'what is due');
select is(awa.rotate(), 'rotated', 'the ring turns');
select is_empty('select * from pg_temp.drift', 'no key drifts');
select is_empty('select * from awa.check()', 'check is content with the new life');

-- Settings on request

rollback to filled;
select isnt_empty('select * from awa.jobs', 'a reset that rolled back changed nothing');
select isnt_empty('select * from awa.dlq_entries', 'in history, queues and dead letters');
create temp table meta as select * from awa.queue_meta;
select awa.reset(keep_config => true) \g /dev/null
select is(pg_temp.filled(), array['cron_fires', 'queue_meta', 'schedules', 'segment_rotations', 'storage_settings'], 'with keep_config the settings of the queues and the schedules stay, all else goes');
select bag_eq('select * from awa.queue_meta', 'select * from meta', 'just as they were');
select is_empty('select * from awa.check()', 'check is content');
select pg_temp.done('tap/65/dlq', 1, 'f') \g /dev/null
select pg_temp.figures_are('tap/65/dlq', '0/0/0/1', 'a queue with dlq_enabled still has dead letters');
select awa.enqueue('new', queue => 'tap/65/paused') \g /dev/null
select is_empty($$ select * from awa.claim('tap/65/paused', 10) $$, 'a paused one still yields nothing');
select awa.enqueue('new', queue => 'tap/65', ordering_key => n::text) from generate_series(1, 40) as n \g /dev/null
select is((select count(distinct enqueue_shard) from awa.queue_lanes where queue = 'tap/65'), 4::bigint, 'one with shards still has them');
select is((select count(*) from awa.claim('tap/65', 100)), 40::bigint, 'and its jobs are claimed');
select lives_ok('select awa.reset(), awa.reset(keep_config => false)', 'reset may be repeated');
select is((select count(*) from awa.queue_meta), 0::bigint, 'keep_config false keeps nothing');
select awa.pause_queue('tap/65') \g /dev/null
select awa.reset(keep_config => null) \g /dev/null
select is((select count(*) from awa.queue_meta), 0::bigint, 'nor does null');

-- Definitions that were restored without rows

truncate awa.segment_rotations, awa.storage_settings;
select throws_ok(call, '55000', 'the storage has no segment: it was restored without its rows', call)
from (values ($$select awa.enqueue('k')$$), ($$select awa.enqueue('k', unique_key => 'key')$$),
  ($$select awa.enqueue('k', run_at => now() + interval '1 hour')$$), ($$select awa.heartbeat('w')$$), ($$select awa.maintain()$$), ($$select awa.rotate()$$), ($$select awa.enqueue_many('k', array['{}'::jsonb])$$),
  ($$select awa.enqueue_many('[{"kind": "k", "tags": ["t"]}]')$$)) as c (call);
select awa.reset() \g /dev/null
select awa.enqueue('k', queue => 'tap/65') \g /dev/null
select is((select count(*) from awa.claim('tap/65')), 1::bigint, 'reset makes such a storage ready');
select is((select count(*) from awa.maintain() as m where m.task = 'checkpoint'), 1::bigint, 'maintain goes on there');
select is_empty('select * from awa.check()', 'the storage is sound after all of this');

select * from finish();
rollback;
