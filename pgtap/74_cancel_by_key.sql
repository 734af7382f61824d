-- cancel_by_unique_key: a job in any state, wherever it is.
begin;
select plan(26);
-- Alone: calls maintain.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;

-- The key is held in every state.
create function pg_temp.enqueue (p_name text, p_run_at timestamptz default null, p_queue text default 'tap/74') returns bigint
  language sql as $$
  select awa.enqueue('k', to_jsonb(p_name), queue => p_queue, run_at => p_run_at, max_attempts => 2,
    unique_key => convert_to('tap/74/' || p_name, 'UTF8'), unique_states => b'11111110')
$$;
create function pg_temp.cancel (p_name text) returns boolean
  language sql as $$ select awa.cancel_by_unique_key(convert_to('tap/74/' || p_name, 'UTF8')) $$;
create function pg_temp.job (p_name text, out state awa.job_state, out attempt smallint, out errors text[]) returns setof record
  language sql as $$
  select j.state, j.attempt, array(select e ->> 'error' from unnest(j.errors) as e) from awa.jobs as j where j.args = to_jsonb(p_name)
$$;
create function pg_temp.claim (p_queue text default 'tap/74') returns awa.receipt
  language sql as $$ select c.receipt from awa.claim(p_queue, 1, 'tap/74/w') as c $$;

select ok(not pg_temp.cancel('nobody'), 'a key that nobody holds');
select ok(not awa.cancel_by_unique_key(null), 'no key');

select pg_temp.enqueue('available') \g /dev/null
select ok(pg_temp.cancel('available'), 'an available job is cancelled');
select results_eq($$ select * from pg_temp.job('available') $$, $$ values ('cancelled'::awa.job_state, 0::smallint, array['cancelled by unique key']) $$, 'and says why');
select is((pg_temp.claim()).job_id, null, 'it never runs');
select ok(not pg_temp.cancel('available'), 'a cancelled job is not cancelled again');

select pg_temp.enqueue('scheduled', now() + interval '1 hour') \g /dev/null
select ok(pg_temp.cancel('scheduled'), 'a scheduled job is cancelled');
select results_eq($$ select * from pg_temp.job('scheduled') $$, $$ values ('cancelled'::awa.job_state, 0::smallint, array['cancelled by unique key']) $$, 'and says why');

select pg_temp.enqueue('running') \g /dev/null
create temp table running as select pg_temp.claim() as receipt;
select ok(pg_temp.cancel('running'), 'a running job is cancelled');
select results_eq($$ select * from pg_temp.job('running') $$, $$ values ('cancelled'::awa.job_state, 1::smallint, array['cancelled by unique key']) $$, 'at once');
select ok(not awa.complete(receipt), 'its receipt is stale') from running;
select set_eq($$ select h.receipt, h.reason from awa.heartbeat('tap/74/w') as h $$, $$ select receipt, 'cancelled by unique key' from running $$, 'its worker is told');

select pg_temp.enqueue('retryable') \g /dev/null
select awa.fail(pg_temp.claim(), 'first', '1 hour') \g /dev/null
select ok(pg_temp.cancel('retryable'), 'a retryable job is cancelled');
select results_eq($$ select * from pg_temp.job('retryable') $$, $$ values ('cancelled'::awa.job_state, 1::smallint, array['first', 'cancelled by unique key']) $$, 'with its earlier errors');

select pg_temp.enqueue('completed') \g /dev/null
select awa.complete(pg_temp.claim()) \g /dev/null
select ok(not pg_temp.cancel('completed'), 'a completed job is not');
select is((select j.state from pg_temp.job('completed') as j), 'completed', 'it stays so');
select pg_temp.enqueue('failed') \g /dev/null
select awa.fail(pg_temp.claim(), 'no', terminal => true) \g /dev/null
select ok(not pg_temp.cancel('failed'), 'a failed job is not');
select is((select j.state from pg_temp.job('failed') as j), 'failed', 'it stays so');

select awa.configure_queue('tap/74/dlq', '{"dlq_enabled": true}') \g /dev/null
select pg_temp.enqueue('dead', p_queue => 'tap/74/dlq') \g /dev/null
select awa.fail(pg_temp.claim('tap/74/dlq'), 'no', terminal => true) \g /dev/null
select ok(not pg_temp.cancel('dead'), 'a dead letter is not');
select is((select count(*) from awa.dlq_entries as e where e.queue = 'tap/74/dlq'), 1::bigint, 'it stays where it is');

-- One that waits for a slot of concurrency leaves the list of those at once.

select awa.configure_queue('tap/74/slots', '{"concurrency_limit": 1}') \g /dev/null
select awa.enqueue('k', queue => 'tap/74/slots', concurrency_key => 'c', unique_key => int4send(74 + n)) from generate_series(1, 2) as n \g /dev/null
select pg_temp.claim('tap/74/slots'), pg_temp.claim('tap/74/slots') \g /dev/null
select ok(awa.cancel_by_unique_key(int4send(76)), 'a parked job is cancelled');
select is_empty($$ select * from awa.parked_jobs as p where p.queue = 'tap/74/slots' $$, 'no claim meets it again');

-- The key afterwards

select is(pg_temp.enqueue('available'), (select j.id from awa.jobs as j where j.args = '"available"'), 'a key that a cancelled job holds is still held');
select awa.enqueue('k', '"usual"', queue => 'tap/74', unique_key => '\x74', run_at => now() + interval '1 hour') \g /dev/null
select ok(awa.cancel_by_unique_key('\x74'), 'one by the usual states');
select isnt(awa.enqueue('k', '"next"', queue => 'tap/74', unique_key => '\x74'), (select j.id from awa.jobs as j where j.args = '"usual"'), 'is free');

select is_empty('select * from awa.check()', 'the storage is sound');
select * from finish();
rollback;
