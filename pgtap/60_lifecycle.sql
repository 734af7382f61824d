-- Out of history: retry and discard, with the counts before and after, per key.
begin;
select plan(81);
-- Alone: rebuilds counters, promotes.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;

\ir counters.psql
\ir done.psql

-- Retry: a failed job

select awa.configure_queue('tap/60/a', '{"enqueue_shards": 8}') \g /dev/null
select awa.enqueue('work', '{"n": 1}', queue => 'tap/60/a', priority => 3, max_attempts => 2, tags => array['t'], metadata => '{"m": 1}',
  unique_key => '\x6001', unique_states => b'11111111', ordering_key => 'same', deadline => '1 hour') as id \gset
create temp table first as select * from awa.claim('tap/60/a');
select awa.fail(receipt, 'first', retry_after => '0') from first \g /dev/null
select count(*) from awa.maintain() \g /dev/null
select awa.fail(c.receipt, 'second') from awa.claim('tap/60/a') as c \g /dev/null
select pg_temp.figures_are('tap/60/a', '0/1/0/0', 'a job that used up its attempts is in history');
create temp table before as select *, pg_temp.deltas() as deltas from awa.done_entries where id = :id;

select is(awa.retry(:id), true, 'retry takes it');
select pg_temp.figures_are('tap/60/a', '0/0/0/0', 'and out of history, out of the counters');
select is_empty('select * from pg_temp.drift', 'no key drifts');
select is(pg_temp.deltas() - deltas, 1::bigint, 'that cost one delta') from before;
select results_eq(
  format('select state, attempt, run_lease, cardinality(errors), attempted_at, finalized_at, unique_key from awa.jobs where id = %s', :id),
  $$ values ('available'::awa.job_state, 0::smallint, 2::bigint, 2, null::timestamptz, null::timestamptz, '\x6001'::bytea) $$,
  'it waits with no attempt begun, its errors kept, its leases counted on');
select results_eq('select available, running, terminal from awa.queue_counts(''tap/60/a'')', 'values (1::bigint, 0::bigint, 0::bigint)', 'queue_counts has it as available');
select is(awa.retry(:id), false, 'a second retry finds nothing');
create temp table again as select * from awa.claim('tap/60/a', 10);
select results_eq(
  'select job_id, kind, args, priority, attempt, max_attempts, tags, metadata, deadline_at - (lease_expires_at - interval ''5 minutes''), created_at, (receipt).run_lease from again',
  $$ select id, kind, args, priority, 1::smallint, max_attempts, tags, metadata, interval '1 hour', created_at, 3::bigint from before $$,
  'it is claimed as its first attempt, with everything it was enqueued with');
select is((select array_agg(e ->> 'error' order by n) from again, unnest(errors) with ordinality as u (e, n)), array['first', 'second'],
  'and with the errors of its former life');
select is((select enqueue_shard from awa.queue_lanes as l join awa.ready_entries as r on r.lane = l.lane where r.job_id = :id and r.run_lease = 3),
  (select enqueue_shard from before), 'in the shard of its ordering key');
select is((select ordering_key from awa.ready_entries where job_id = :id and run_lease = 3), 'same', 'which it keeps');
select is(awa.fail(receipt, 'third', retry_after => '1 day'), 'retryable', 'attempts start over: one of two is used') from again;
select is(awa.complete(receipt), false, 'the receipt of the former life stays stale') from first;
select is((select array_agg(e ->> 'error' || ' ' || (e ->> 'attempt') order by n) from awa.jobs, unnest(errors) with ordinality as u (e, n) where id = :id),
  array['first 1', 'second 2', 'third 1'], 'errors go on where they ended');

-- Retry: cancelled jobs, wherever they were cancelled

select awa.enqueue('k', '"waiting"', queue => 'tap/60/x') as waiting \gset
select awa.enqueue('k', '"scheduled"', queue => 'tap/60/x', run_at => now() + interval '1 day') as scheduled \gset
select (pg_temp.done('tap/60/x', 1, 'r'))[1] as running \gset
select awa.cancel(id, 'no') from unnest(array[:waiting, :scheduled, :running]) as id \g /dev/null
select pg_temp.figures_are('tap/60/x', '0/0/3/0', 'three jobs are cancelled: waiting, scheduled and running');
select is(awa.retry(:waiting), true, 'one that was cancelled before its turn is retried');
select pg_temp.figures_are('tap/60/x', '0/0/2/0', 'the others stay');
select is(awa.retry(:scheduled), true, 'one that was cancelled before its time');
select is(awa.retry(:running), true, 'one that was cancelled as it ran');
select pg_temp.figures_are('tap/60/x', '0/0/0/0', 'no cancelled job is left in history');
select is_empty('select * from pg_temp.drift', 'no key drifts');
select bag_eq(
  $$ select job_id, attempt, errors[1] ->> 'error', cardinality(errors) from awa.claim('tap/60/x', 10) $$,
  format($$ select id, 1::smallint as attempt, 'no', 1 as errors from unnest(array[%s, %s, %s]::bigint[]) as id $$, :waiting, :scheduled, :running),
  'all three are claimed as first attempts and say why they had been cancelled');

-- Retry: overrides

select awa.configure_queue('tap/60/to', '{"enqueue_shards": 8}') \g /dev/null
select awa.enqueue('k', queue => 'tap/60/from', priority => 1, ordering_key => 'same') as moved \gset
select awa.fail(c.receipt, terminal => true) from awa.claim('tap/60/from') as c \g /dev/null
select awa.enqueue('k', queue => 'tap/60/to', priority => 4, ordering_key => 'same') as twin \gset
select is(awa.retry(:moved, queue => 'tap/60/to', priority => 4), true, 'a job is retried into another queue and priority');
select pg_temp.figures_are('tap/60/from', '0/0/0/0', 'the queue that it left counts it no more');
select results_eq(format('select queue, priority::integer, state from awa.jobs where id = %s', :moved), $$ values ('tap/60/to', 4, 'available'::awa.job_state) $$,
  'it waits in the other one');
select is((select lane from awa.ready_entries where job_id = :moved order by run_lease desc limit 1), (select lane from awa.ready_entries where job_id = :twin),
  'in the lane of its ordering key there');
select is((select available from awa.queue_counts('tap/60/to')), 2::bigint, 'which counts it');

select (pg_temp.done('tap/60/later', 1, 'f'))[1] as later \gset
select is(awa.retry(:later, run_at => now() + interval '1 day'), true, 'a job is retried later');
select results_eq(format('select state, run_at, attempt from awa.jobs where id = %s', :later), $$ select 'scheduled'::awa.job_state, now() + interval '1 day', 0::smallint $$,
  'it is scheduled until then');
select is_empty($$ select * from awa.claim('tap/60/later', 10) $$, 'and nobody gets it before');
select (pg_temp.done('tap/60/soon', 1, 'f'))[1] as soon \gset
select awa.retry(:soon, run_at => now() - interval '1 day') \g /dev/null
select results_eq('select job_id, run_at from awa.claim(''tap/60/soon'', 10)', format($$ select %s::bigint, now() - interval '1 day' $$, :soon), 'a run_at in the past means at once');

-- Retry: jobs that it does not take

select (pg_temp.done('tap/60/no', 1, 'c'))[1] as completed, (pg_temp.done('tap/60/no', 1, 'r'))[1] as busy \gset
select awa.enqueue('k', queue => 'tap/60/no/waits') as waits, awa.enqueue('k', queue => 'tap/60/no/waits', run_at => now() + interval '1 day') as deferred \gset
select (pg_temp.done('tap/60/no', 1, 'f'))[1] as dead \gset
select awa.move_failed_to_dlq(:dead) \g /dev/null
create temp table still as select pg_temp.deltas() as deltas, pg_temp.removals() as removals;
select is(awa.retry(id), false, format('a %s job is not retried', what))
from (values (:completed, 'completed'), (:busy, 'running'), (:waits, 'waiting'), (:deferred, 'scheduled'), (:dead, 'dead-lettered'), (9223372036854775807, 'unknown'),
  (null, 'null')) as v (id, what);
select pg_temp.figures_are('tap/60/no', '1/0/0/1', 'none of them moved');
select is((pg_temp.deltas(), pg_temp.removals()), (deltas, removals), 'and nothing was written: no delta, no removal') from still;

select (pg_temp.done('tap/60/bad', 1, 'f'))[1] as bad \gset
select throws_ok(format('select awa.retry(%s, %s)', :bad, override), 'AW006', null, format('%s is refused', what))
from (values ('queue => ''''', 'an empty queue name'), ('queue => repeat(''q'', 201)', 'a queue name that is too long'), ('priority => 0', 'priority 0'), ('priority => 5', 'priority 5')) as v (override, what);
select throws_ok('select awa.retry(-1, priority => 9)', 'AW006', null, 'also for no job');
select throws_like(format('select awa.retry(%s, priority => 5)', :bad), '%5%', 'the message names the value');
select pg_temp.figures_are('tap/60/bad', '0/1/0/0', 'the job stays in history');
select lives_ok(format('select awa.retry(%s, queue => %L)', :bad, 'it''s "a" queue \ 日本'), 'any other name will do');
select is((select available from awa.queue_counts('it''s "a" queue \ 日本')), 1::bigint, 'and the queue of that name has the job');

select awa.enqueue('k', queue => 'tap/60/key', unique_key => '\x6002') as loser \gset
select awa.fail(c.receipt, 'e', terminal => true) from awa.claim('tap/60/key') as c \g /dev/null
select awa.enqueue('k', queue => 'tap/60/key', unique_key => '\x6002') as winner \gset
select isnt(:winner::bigint, :loser::bigint, 'a failed job gave its key to the next one');
select throws_ok(format('select awa.retry(%s)', :loser), 'AW004', format('job %s: its unique key is held by job %s', :loser, :winner), 'which refuses its retry and says who holds it');
select pg_temp.figures_are('tap/60/key', '0/1/0/0', 'it stays in history');
select awa.cancel(:winner) \g /dev/null
select is(awa.retry(:loser), true, 'until the holder is gone');
select pg_temp.figures_are('tap/60/key', '0/0/1/0', 'then history has the holder alone');

-- Discard

select pg_temp.done(q, n, how, kind, p) from (values
  ('tap/60/d1', 3, 'f'::"char", 'bad60', 1), ('tap/60/d1', 2, 'f', 'bad60', 4), ('tap/60/d1', 4, 'f', 'other60', 1), ('tap/60/d1', 1, 'c', 'bad60', 1), ('tap/60/d1', 1, 'x', 'bad60', 1),
  ('tap/60/d2', 5, 'f', 'bad60', 2), ('tap/60/d2', 1, 'r', 'bad60', 2)) as v (q, n, how, kind, p) \g /dev/null
select awa.enqueue('bad60', queue => 'tap/60/d1') \g /dev/null
select awa.move_failed_to_dlq(min(id)) from awa.done_entries where queue = 'tap/60/d1' and kind = 'bad60' and priority = 4 \g /dev/null
select pg_temp.figures_are('tap/60/d1', '1/8/1/1', 'jobs of two kinds and several states in one queue');
select pg_temp.figures_are('tap/60/d2', '0/5/0/0', 'and in another');
update still set deltas = pg_temp.deltas(), removals = pg_temp.removals();
select is(awa.discard_failed_by_kind('nobody60'), 0::bigint, 'a kind that nobody has discards nothing');
select is(awa.discard_failed_by_kind('bad60', 'tap/60/nowhere'), 0::bigint, 'nor does a queue that is not there');
select is((pg_temp.deltas(), pg_temp.removals()), (deltas, removals), 'and then nothing is written') from still;
select is(awa.discard_failed_by_kind('bad60', 'tap/60/d1'), 4::bigint, 'failed jobs of one kind and queue are discarded');
select pg_temp.figures_are('tap/60/d1', '1/4/1/1', 'those and no others: completed, cancelled, dead and other kinds stay');
select pg_temp.figures_are('tap/60/d2', '0/5/0/0', 'in that queue alone');
select is(pg_temp.deltas() - deltas, 2::bigint, 'one delta for each of the two priorities') from still;
select is_empty('select * from pg_temp.drift', 'no key drifts');
select is(awa.discard_failed_by_kind('bad60'), 5::bigint, 'without a queue all queues are meant');
select pg_temp.figures_are('tap/60/d2', '0/0/0/0', 'which leaves nothing there');
select is((select running from awa.queue_counts('tap/60/d2')), 1::bigint, 'but the running one');
select is(awa.discard_failed_by_kind('bad60'), 0::bigint, 'a second call finds nothing');
select throws_ok('select awa.discard_failed_by_kind(null)', 'AW006', null, 'without a kind it is refused');
select is(awa.discard_failed_by_kind('other60'), 4::bigint, 'the other kind goes on its own account');
select is_empty($$ select * from awa.jobs where kind = 'other60' $$, 'and is nowhere afterwards');

-- Many keys in one statement, more jobs than are looked up one by one

select pg_temp.done('tap/60/m' || q, 60, 'f', 'many60', p) from generate_series(1, 3) as q, generate_series(1, 2) as p \g /dev/null
update still set deltas = pg_temp.deltas(), removals = pg_temp.removals();
select is(awa.discard_failed_by_kind('many60'), 360::bigint, '360 jobs of six keys go in one call');
select is(pg_temp.deltas() - deltas, 6::bigint, 'with one delta per key') from still;
select is(pg_temp.removals() - removals, 360::bigint, 'and one removal per job') from still;
select is_empty('select * from pg_temp.drift', 'no key drifts');
select is_empty('select * from awa.queue_terminal_live_counts where least(live_terminal_count, completed, failed, cancelled) < 0', 'no count is below zero');

select (pg_temp.done('tap/60/undo', 1, 'f'))[1] as undo \gset
savepoint undone;
select awa.retry(:undo) \g /dev/null
select pg_temp.figures_are('tap/60/undo', '0/0/0/0', 'a retry counts');
rollback to undone;
select pg_temp.figures_are('tap/60/undo', '0/1/0/0', 'one that rolled back does not');
select is_empty('select * from awa.rebuild_terminal_counters()', 'a rebuild finds nothing to heal');
select is_empty('select * from awa.check()', 'the storage is sound after all of this');

select * from finish();
rollback;
