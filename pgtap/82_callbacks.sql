-- Callbacks: attempts that wait for an answer from outside.
begin;
select plan(75);
-- Alone: calls maintain.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;

create function pg_temp.running (p_queue text, variadic p_settings text[] default '{}') returns awa.receipt
  language plpgsql as $$
begin
  perform awa.enqueue('k', '{"a": 1}', queue => p_queue, max_attempts => coalesce(p_settings[1], '25')::integer,
    unique_key => p_settings[2]::bytea, unique_states => p_settings[3]::bit(8), deadline => p_settings[4]::interval);
  return (select c.receipt from awa.claim(p_queue, worker => p_settings[5]) as c);
end;
$$;
create function pg_temp.job (p_receipt awa.receipt) returns awa.jobs
  language sql as $$ select j from awa.jobs as j where j.id = (p_receipt).job_id $$;
create function pg_temp.state (p_receipt awa.receipt) returns text
  language sql as $$ select (pg_temp.job(p_receipt)).state::text $$;
create function pg_temp.counts (p_queue text) returns text
  language sql as $$
  select format('%s available %s scheduled %s retryable %s running %s waiting %s completed %s failed %s cancelled',
    c.available, c.scheduled, c.retryable, c.running, c.waiting_external, c.completed, c.failed, c.cancelled)
  from awa.queue_counts(p_queue) as c $$;
\ir rescued.psql
create function pg_temp.later (p_by interval) returns void
  language sql as $$ select set_config('awa.now', (clock_timestamp() + p_by)::text, true) $$;
create function pg_temp.on_time () returns void
  language sql as $$ select set_config('awa.now', '', true) $$;

-- Waiting

select pg_temp.running('tap/82/wait') as r \gset
select clock_timestamp() as asked \gset
select awa.register_callback(:'r', '1 hour') as id \gset
select is(pg_temp.state(:'r'), 'waiting_external', 'a job with a callback waits');
select is((pg_temp.job(:'r')).callback_id, :'id'::uuid, 'its id is shown');
select ok((pg_temp.job(:'r')).callback_timeout_at between timestamptz :'asked' + interval '1 hour' and clock_timestamp() + interval '1 hour', 'and its timeout');
select is((pg_temp.job(:'r')).attempt, 1::smallint, 'the attempt is the same');
select is((pg_temp.job(:'r')).args, '{"a": 1}', 'so are the args');
select is(pg_temp.counts('tap/82/wait'),
  '0 available 0 scheduled 0 retryable 0 running 1 waiting 0 completed 0 failed 0 cancelled', 'it is counted as waiting');
select is((select o.waiting_external from awa.queue_overview() as o where o.queue = 'tap/82/wait'), 1::bigint, 'in the overview too');
select is((select array_agg(l.id) from awa.list_jobs('tap/82/wait', state => 'waiting_external') as l),
  array[(:'r'::awa.receipt).job_id], 'and listed');
select results_eq(format('select * from awa.callback_status(%L)', :'r'), format('select %L::uuid, null::jsonb', :'id'), 'its worker sees that it waits');
select pg_temp.later('30 minutes') \g /dev/null
select is(pg_temp.rescued(), 0::bigint, 'no lease runs out while it waits');
select pg_temp.on_time() \g /dev/null

-- Complete

select ok(awa.complete_callback(:'id', '{"ok": true}'), 'an answer is accepted');
select is(pg_temp.state(:'r'), 'completed', 'the job is completed');
select is((pg_temp.job(:'r')).metadata, '{"_awa_callback_result": {"ok": true}}', 'with the result among its metadata');
select is((pg_temp.job(:'r')).attempt, 1::smallint, 'by its first attempt');
select isnt((pg_temp.job(:'r')).attempted_at, null, 'which ran');
select is(pg_temp.counts('tap/82/wait'),
  '0 available 0 scheduled 0 retryable 0 running 0 waiting 1 completed 0 failed 0 cancelled', 'and counted');
select throws_ok(format('select awa.complete_callback(%L)', :'id'), 'AW002', null, 'an id is good for one answer');
select throws_ok(format('select awa.%I(%L)', f, :'id'), 'AW002', null, f || ' comes too late')
from unnest(array['fail_callback', 'retry_callback', 'resume_callback']) as f;
select throws_ok(format('select awa.heartbeat_callback(%L, ''1 s'')', :'id'), 'AW002', null, 'so does a heartbeat');
select throws_ok('select awa.complete_callback(gen_random_uuid())', 'AW002', null, 'an unknown id is refused');
select throws_ok('select awa.complete_callback(null)', 'AW002', null, 'so is none');
select ok(not awa.complete(:'r'), 'the receipt is stale by then');
select is_empty(format('select * from awa.callback_status(%L)', :'r'), 'its worker sees that it is closed');

-- Fail

select pg_temp.running('tap/82/fail', '2') as r \gset
select awa.register_callback(:'r', '1 hour') as id \gset
select ok(awa.fail_callback(:'id', 'refused'), 'a failure is an answer');
select is(pg_temp.state(:'r'), 'retryable', 'and the job is retried');
select is((pg_temp.job(:'r')).errors[1] ->> 'error', 'refused', 'with the error');
select pg_temp.later('1 hour') \g /dev/null
select is((select m.affected from awa.maintain() as m where m.task = 'promote'), 1::bigint, 'when its backoff is over');
select c.receipt as r, c.attempt as attempt from awa.claim('tap/82/fail') as c \gset
select is(:attempt, 2, 'by a second attempt');
select awa.configure_queue('tap/82/fail', '{"dlq_enabled": true}') \g /dev/null
select awa.register_callback(:'r', '1 hour') as id \gset
select ok(awa.fail_callback(:'id', 'again'), 'the last failure');
select results_eq(
  $$ select q.dlq_reason, q.attempt, cardinality(q.errors) from awa.dlq_entries as q where q.queue = 'tap/82/fail' $$,
  $$ values ('max_attempts_exhausted', 2::smallint, 2) $$, 'goes to the dead letters');
select pg_temp.on_time() \g /dev/null

-- Timeout

select pg_temp.running('tap/82/late', '2') as r \gset
select awa.register_callback(:'r', '1 hour') as id \gset
select ok(awa.heartbeat_callback(:'id', '2 hours'), 'who works on an answer says so');
select pg_temp.later('90 minutes') \g /dev/null
select is(pg_temp.rescued(), 0::bigint, 'and is given the time');
select pg_temp.later('3 hours') \g /dev/null
select is(pg_temp.rescued(), 1::bigint, 'then the attempt is given up');
select is(pg_temp.state(:'r') || ' ' || ((pg_temp.job(:'r')).errors[1] ->> 'error'), 'retryable callback timed out', 'as a failure');
select throws_ok(format('select awa.complete_callback(%L)', :'id'), 'AW002', null, 'an answer after that is too late');
select pg_temp.on_time() \g /dev/null
select pg_temp.running('tap/82/dead', '1') as r \gset
select awa.configure_queue('tap/82/dead', '{"dlq_enabled": true}') \g /dev/null
select awa.register_callback(:'r', '1 s') \g /dev/null
select pg_temp.later('1 minute') \g /dev/null
select is(pg_temp.rescued(), 1::bigint, 'a last attempt that is not answered');
select is((select q.dlq_reason from awa.dlq_entries as q where q.queue = 'tap/82/dead'), 'callback_timeout', 'is a dead letter with that reason');
select pg_temp.on_time() \g /dev/null

-- Retry and resume

select pg_temp.running('tap/82/again') as r \gset
select awa.register_callback(:'r', '1 hour') as id \gset
select ok(awa.retry_callback(:'id'), 'retry puts the job back');
select c.receipt as again, c.attempt as attempt from awa.claim('tap/82/again') as c \gset
select is(:attempt, 1, 'at once, and attempts start over');
select ok(not awa.complete(:'r'), 'the old receipt is stale');
select ok(awa.complete(:'again'), 'the new one is good');

select pg_temp.running('tap/82/resume', '25', null, null, '10 minutes') as r \gset
select awa.register_callback(:'r', '1 hour') as id \gset
select ok(awa.resume_callback(:'id', '{"step": 2}'), 'resume lets the attempt run on');
select is(pg_temp.state(:'r'), 'running', 'it runs');
select is(pg_temp.counts('tap/82/resume'),
  '0 available 0 scheduled 0 retryable 1 running 0 waiting 0 completed 0 failed 0 cancelled', 'and counts as running');
select results_eq(format('select * from awa.callback_status(%L)', :'r'), $$ select null::uuid, '{"step": 2}'::jsonb $$, 'its worker gets the payload');
select ok((pg_temp.job(:'r')).deadline_at > now() + interval '9 minutes', 'its deadline starts over');
select ok(awa.set_progress(:'r', 40, 'half'), 'progress is recorded');
select is((pg_temp.job(:'r')).progress, '{"message": "half", "percent": 40}', 'and shown');
select is_empty(format('select * from awa.extend_lease(array[%L::awa.receipt], ''1 hour'')', :'r'), 'its lease is extended');
select pg_temp.later('9 minutes') \g /dev/null
select is(pg_temp.rescued(), 0::bigint, 'so it lives');
select pg_temp.on_time() \g /dev/null
select isnt(awa.register_callback(:'r', '1 hour'), null, 'it may wait again');
select ok(awa.complete(:'r'), 'and be finished by its receipt');
select ok(not awa.complete(:'r'), 'once');
select pg_temp.running('tap/82/resume') as r \gset
select awa.register_callback(:'r', '1 hour') as id \gset
select awa.resume_callback(:'id') \g /dev/null
select pg_temp.later('6 minutes') \g /dev/null
select is(pg_temp.rescued(), 1::bigint, 'a resumed attempt whose lease runs out is rescued');
select pg_temp.on_time() \g /dev/null

-- A worker that leaves

select pg_temp.running('tap/82/park') as r \gset
select ok(not awa.park(:'r'), 'an attempt without a callback is not left');
select awa.register_callback(:'r', '1 hour') as id \gset
select ok(awa.park(:'r'), 'a waiting one is');
select is(pg_temp.state(:'r'), 'waiting_external', 'and waits on');
select awa.resume_callback(:'id', '{"ok": 1}') \g /dev/null
select is(pg_temp.state(:'r'), 'available', 'resumed, it is for whoever claims it');
select results_eq($$ select c.attempt, c.metadata from awa.claim('tap/82/park') as c $$,
  $$ values (1::smallint, '{"_awa_callback_result": {"ok": 1}}'::jsonb) $$, 'its attempt not counted, the payload in its metadata');
select ok(not awa.complete(:'r'), 'the old receipt is stale');
select pg_temp.running('tap/82/park') as r \gset
select awa.register_callback(:'r', '1 hour') as id \gset
select awa.resume_callback(:'id') \g /dev/null
select ok(awa.park(:'r'), 'who leaves after the answer');
select is(pg_temp.state(:'r'), 'available', 'puts the job back');

-- Others

select pg_temp.running('tap/82/other', '25', null, null, null, 'tap-82') as r \gset
select awa.register_callback(:'r', '1 hour') as id \gset
select ok(awa.cancel((:'r'::awa.receipt).job_id, 'no more'), 'a waiting job is cancelled');
select is((select h.reason from awa.heartbeat('tap-82') as h), 'no more', 'and its worker told');
select pg_temp.running('tap/82/other') as r \gset
select awa.register_callback(:'r', '1 hour') \g /dev/null
delete from awa.jobs as j where j.id = (:'r'::awa.receipt).job_id;
select is(pg_temp.state(:'r'), null, 'or deleted');
select pg_temp.running('tap/82/other', '25', 'tap-82', '00000001') as r \gset
select awa.register_callback(:'r', '1 hour') as id \gset
select awa.register_callback(:'r', '1 hour') as newer \gset
select throws_ok(format('select awa.complete_callback(%L)', :'id'), 'AW002', null, 'a newer callback replaces the earlier one');
select is(awa.fail(:'r', 'no', terminal => true), 'failed'::awa.job_state, 'a waiting attempt is failed by its receipt');
select is(awa.register_callback(:'r', '1 hour'), null, 'a stale receipt cannot wait');
select pg_temp.running('tap/82/mixed') as r \gset
select pg_temp.running('tap/82/mixed') as s \gset
select awa.register_callback(:'r', '1 hour') \g /dev/null
select results_eq(format('select f.receipt::text, f.state::text from awa.fail_many(array[%L, %L, %1$L]::awa.receipt[]) as f', :'s', :'r'),
  format('values (%L, %L), (%L, %2$L), (%1$L, %2$L)', :'s', 'retryable', :'r'), 'receipts come back as they were given and in that order, also of one that waits');
select throws_ok(format('select awa.register_callback(%L, %L)', :'r', t), 'AW006', null, 'a timeout of ' || coalesce(t, 'null') || ' is refused')
from unnest(array[null, '0', '-1 s']) as t;

select is_empty($$ select * from awa.check() $$, 'check() finds nothing');
select * from finish();
rollback;
