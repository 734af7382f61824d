-- Counters: after every surface the counts equal history, key by key and state
-- by state, and queue_counts says the same.
begin;
select plan(64);
do $$ begin perform pg_advisory_xact_lock_shared(hashtext('awa pgtap')); end $$;

\ir counters.psql

-- A queue in one line, counted from the rows themselves and as queue_counts says it.
create function pg_temp.truth (p_queue text) returns text
  language sql as $$
  with lanes as (select distinct l.lane from awa.queue_lanes as l where l.queue = p_queue),
  claimed as (select j.job_id, coalesce(j.lease, 1) as lease from awa.claims as c join lanes using (lane), unnest(c.job_ids, c.run_leases) as j (job_id, lease)),
  closed as (
    select j.job_id, coalesce(j.lease, 1) as lease from awa.attempt_outcomes as o join lanes using (lane)
    left join awa.claims as c on c.batch_id = o.batch_id
    cross join unnest(coalesce(o.job_ids, c.job_ids), case when o.job_ids is null then c.run_leases else o.run_leases end) as j (job_id, lease)),
  done as (select d.state from awa.done_entries as d where d.queue = p_queue)
  select format('available %s scheduled %s retryable %s running %s waiting 0 completed %s failed %s cancelled %s terminal %s dlq 0 pruned 0',
    (select count(*) from awa.ready_entries as r join lanes using (lane) where not exists (select from claimed as c where c.job_id = r.job_id and c.lease = r.run_lease)),
    (select count(*) from awa.deferred_jobs as d join lanes using (lane) where d.state = 'scheduled'),
    (select count(*) from awa.deferred_jobs as d join lanes using (lane) where d.state = 'retryable'),
    (select count(*) from claimed as c where not exists (select from closed as x where x.job_id = c.job_id and x.lease = c.lease)),
    (select count(*) from done where state = 'completed'), (select count(*) from done where state = 'failed'),
    (select count(*) from done where state = 'cancelled'), (select count(*) from done))
$$;
create function pg_temp.counted (p_queue text) returns text
  language sql as $$
  select format('available %s scheduled %s retryable %s running %s waiting %s completed %s failed %s cancelled %s terminal %s dlq %s pruned %s',
    available, scheduled, retryable, running, waiting_external, completed, failed, cancelled, terminal, dlq, pruned_terminal)
  from awa.queue_counts(p_queue)
$$;
create function pg_temp.live (p_queue text) returns bigint
  language sql as $$
  select coalesce(sum(live_terminal_count), 0)::bigint from awa.queue_terminal_live_counts where queue = p_queue
$$;

-- Results

create temp view shape as select * from awa.queue_counts('tap/30');
select is((select array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) order by a.attnum) from pg_attribute as a
    where a.attrelid = 'pg_temp.shape'::regclass and a.attnum > 0),
  array['queue text', 'available bigint', 'scheduled bigint', 'retryable bigint', 'running bigint', 'waiting_external bigint', 'completed bigint',
    'failed bigint', 'cancelled bigint', 'terminal bigint', 'dlq bigint', 'pruned_terminal bigint'], 'queue_counts returns the documented columns');
select results_eq($$ select * from awa.queue_counts('tap/30/unknown "queue"') $$,
  $$ values ('tap/30/unknown "queue"', 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint) $$,
  'an unknown queue has one row of zeros');
select is((select available from awa.queue_counts(null)), 0::bigint, 'so has null');

-- Each surface alone. A step names the queue it works on, the live count it
-- must lead to, and the line it must lead to.

create table pg_temp.held (queue text, n bigint, receipt awa.receipt);

create function pg_temp.step (p_title text, p_queue text, p_sql text, p_live bigint, p_line text) returns setof text
  language plpgsql as $$
begin
  execute p_sql;
  return next is(pg_temp.live(p_queue), p_live, p_title || ': the live count');
  return next is(pg_temp.counted(p_queue), pg_temp.truth(p_queue), p_title || ': queue_counts equals the rows');
  return next matches(pg_temp.counted(p_queue), p_line, p_title || ': queue_counts moves as it should');
  return next is_empty('select * from pg_temp.drift', p_title || ': no key differs from history');
end;
$$;

select pg_temp.step('enqueue', 'tap/30/a', $$ select awa.enqueue('k', queue => 'tap/30/a') from generate_series(1, 10) $$, 0,
  'available 10 scheduled 0 retryable 0 running 0 .* terminal 0 ');
select pg_temp.step('enqueue for later', 'tap/30/a', $$ select awa.enqueue('k', queue => 'tap/30/a', run_at => now() + interval '1 day') from generate_series(1, 3) $$, 0,
  'available 10 scheduled 3 retryable 0 running 0 .* terminal 0 ');
select pg_temp.step('enqueue_many', 'tap/30/a', $$ select awa.enqueue_many('k', array_fill('1'::jsonb, array[5]), queue => 'tap/30/a') $$, 0,
  'available 15 scheduled 3 retryable 0 running 0 .* terminal 0 ');
select pg_temp.step('claim', 'tap/30/a', $$ insert into pg_temp.held select 'a', row_number() over (), c.receipt from awa.claim('tap/30/a', 12) as c $$, 0,
  'available 3 scheduled 3 retryable 0 running 12 .* terminal 0 ');
select pg_temp.step('complete', 'tap/30/a', $$ select awa.complete(receipt) from pg_temp.held where queue = 'a' and n = 1 $$, 1,
  'available 3 scheduled 3 retryable 0 running 11 waiting 0 completed 1 failed 0 cancelled 0 terminal 1 ');
select pg_temp.step('a stale complete', 'tap/30/a', $$ select awa.complete(receipt) from pg_temp.held where queue = 'a' and n = 1 $$, 1,
  'available 3 scheduled 3 retryable 0 running 11 waiting 0 completed 1 failed 0 cancelled 0 terminal 1 ');
select pg_temp.step('complete_many', 'tap/30/a', $$ select awa.complete_many(array_agg(receipt)) from pg_temp.held where queue = 'a' and n between 1 and 4 $$, 4,
  'available 3 scheduled 3 retryable 0 running 8 waiting 0 completed 4 failed 0 cancelled 0 terminal 4 ');
select pg_temp.step('fail terminal', 'tap/30/a', $$ select awa.fail(receipt, 'e', terminal => true) from pg_temp.held where queue = 'a' and n = 5 $$, 5,
  'available 3 scheduled 3 retryable 0 running 7 waiting 0 completed 4 failed 1 cancelled 0 terminal 5 ');
select pg_temp.step('fail with attempts left', 'tap/30/a', $$ select awa.fail(receipt, 'e', retry_after => '1 day') from pg_temp.held where queue = 'a' and n = 6 $$, 5,
  'available 3 scheduled 3 retryable 1 running 6 waiting 0 completed 4 failed 1 cancelled 0 terminal 5 ');
select pg_temp.step('fail_many terminal', 'tap/30/a', $$ select awa.fail_many(array_agg(receipt), terminal => true) from pg_temp.held where queue = 'a' and n between 5 and 8 $$, 7,
  'available 3 scheduled 3 retryable 1 running 4 waiting 0 completed 4 failed 3 cancelled 0 terminal 7 ');
select pg_temp.step('fail exhausted', 'tap/30/b', $$
    select awa.enqueue_many('k', array_fill('1'::jsonb, array[3]), queue => 'tap/30/b', max_attempts => 1, priority => 4);
    select awa.fail_many(array_agg(c.receipt)) from awa.claim('tap/30/b', 2) as c $$, 2,
  'available 1 scheduled 0 retryable 0 running 0 waiting 0 completed 0 failed 2 cancelled 0 terminal 2 ');
select is(pg_temp.live('tap/30/a'), 7::bigint, 'one queue does not count for another');

-- Many keys at once: queues, priorities, shards, in one call

select awa.configure_queue('tap/30/shards', '{"enqueue_shards": 4}') \g /dev/null
select awa.enqueue_many((select jsonb_agg(jsonb_build_object('kind', 'k', 'queue', q, 'priority', p, 'ordering_key', n::text))
    from unnest(array['tap/30/shards', 'tap/30/"c"', 'tap/30/d''']) as q, generate_series(1, 4) as p, generate_series(1, 20) as n)) \g /dev/null
insert into pg_temp.held
select 'many', row_number() over (), c.receipt
from unnest(array['tap/30/shards', 'tap/30/"c"', 'tap/30/d''']) as q cross join lateral awa.claim(q, 70) as c;
select is((select count(*) from pg_temp.held where queue = 'many'), 210::bigint, 'jobs of 24 lanes are claimed');
select is_empty($$ select awa.complete_many((select array_agg(receipt order by n) from pg_temp.held where queue = 'many' and n % 3 = 0)) $$,
  'a third completes in one call');
select is((select count(*) from awa.fail_many((select array_agg(receipt order by n desc) from pg_temp.held where queue = 'many' and n % 3 = 1), terminal => true)), 70::bigint,
  'a third fails in one call');
select is_empty('select * from pg_temp.drift', 'no key differs from history');
select cmp_ok((select count(distinct (ready_slot, queue, priority, enqueue_shard)) from awa.queue_terminal_live_counts where queue = 'tap/30/shards' and live_terminal_count > 0),
  '>', 4::bigint, 'there is a count per priority and shard');
select is(pg_temp.counted(q), pg_temp.truth(q), 'queue_counts equals the rows of ' || q) from unnest(array['tap/30/shards', 'tap/30/"c"', 'tap/30/d''']) as q;

-- What rolls back does not count

savepoint undone;
select awa.complete_many((select array_agg(receipt) from pg_temp.held where queue = 'many')) \g /dev/null
select awa.enqueue('k', queue => 'tap/30/a') \g /dev/null
rollback to undone;
select is_empty('select * from pg_temp.drift', 'a finish that rolled back does not count');
select is(pg_temp.counted('tap/30/a'), pg_temp.truth('tap/30/a'), 'nor does a job');

-- The counter's shape, and what it costs to keep

select is((select array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) order by a.attnum) from pg_attribute as a
    where a.attrelid = 'awa.queue_terminal_live_counts'::regclass and a.attnum > 0),
  array['ready_slot smallint', 'queue text', 'priority smallint', 'enqueue_shard smallint', 'live_terminal_count bigint', 'completed bigint', 'failed bigint',
    'cancelled bigint'], 'queue_terminal_live_counts has the documented columns');
select is((select count(*) from awa.queue_terminal_live_counts), (select count(distinct (ready_slot, queue, priority, enqueue_shard)) from awa.queue_terminal_live_counts),
  'it has one row per key');

create temp table rows_before as select count(*) as n from awa.attempt_outcomes;
select awa.enqueue_many('k', array_fill('1'::jsonb, array[300]), queue => 'tap/30/batch') \g /dev/null
insert into pg_temp.held select 'batch', row_number() over (), c.receipt from awa.claim('tap/30/batch', 300) as c;
select awa.complete_many((select array_agg(receipt order by n) from pg_temp.held where queue = 'batch')) \g /dev/null
select is((select count(*) from awa.attempt_outcomes) - (select n from rows_before), 1::bigint, 'finishing a batch of 300 in one call costs one row');
select is(pg_temp.live('tap/30/batch'), 300::bigint, 'which counts 300');

select awa.enqueue('k', queue => 'tap/30/rate') from generate_series(1, 3) \g /dev/null
select * from awa.claim('tap/30/rate', 2) \g /dev/null
select is((select o.closed_per_second from awa.queue_overview() as o where o.queue = 'tap/30/rate'), 0::double precision,
  'a claim of what the same transaction enqueued makes no rate below zero');

select is_empty('select * from awa.check()', 'the storage is sound after all of this');

select * from finish();
rollback;
