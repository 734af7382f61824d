-- What an attempt has done stays with its job: progress across rescue, retries
-- and dead letters; and what is at the far end of attempts and ages.
begin;
select plan(28);
-- Alone: calls maintain.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
-- A segment that is due would be sealed by maintain.
select awa.reset() \g /dev/null

\ir rescued.psql
create function pg_temp.later (p_step interval) returns text
  language sql as $$ select set_config('awa.now', (clock_timestamp() + p_step)::text, true) $$;
create function pg_temp.progress (p_queue text) returns jsonb
  language sql as $$ select j.progress from awa.jobs as j where j.queue = p_queue $$;
create temp table held (receipt awa.receipt, attempt smallint, progress jsonb);
create function pg_temp.next (p_queue text, p_lease interval default '1 minute') returns bigint
  language plpgsql as $$
declare
  v_jobs bigint;
begin
  delete from held;
  insert into held select c.receipt, c.attempt, c.progress from awa.claim(p_queue, 10, 'tap/73/w', p_lease) as c;
  get diagnostics v_jobs = row_count;
  return v_jobs;
end;
$$;

-- Across rescues

select awa.enqueue('k', queue => 'tap/73/rescue', max_attempts => 4) \g /dev/null
select is(pg_temp.next('tap/73/rescue'), 1::bigint, 'an attempt');
select ok(awa.set_progress(receipt, 40, 'half', '{"page": 4, "file": "a"}'), 'with progress') from held;
select pg_temp.later('10 minutes') \g /dev/null
select is(pg_temp.rescued(), 1::bigint, 'is lost');
select is(pg_temp.progress('tap/73/rescue'), '{"percent": 40, "message": "half", "metadata": {"page": 4, "file": "a"}}', 'its progress stays with the deferred job');
select pg_temp.later('1 day') \g /dev/null
select awa.maintain() \g /dev/null
select is(pg_temp.next('tap/73/rescue'), 1::bigint, 'the next attempt');
select results_eq('select attempt, progress from held',
  $$ values (2::smallint, '{"percent": 40, "message": "half", "metadata": {"page": 4, "file": "a"}}'::jsonb) $$, 'is handed all of it');
select pg_temp.later('2 days') \g /dev/null
select is(pg_temp.rescued(), 1::bigint, 'it is lost before it sets its own');
select pg_temp.later('3 days') \g /dev/null
select awa.maintain() \g /dev/null
select pg_temp.next('tap/73/rescue') \g /dev/null
select is(h.progress ->> 'percent', '40', 'the third attempt is handed what the first one set') from held as h;
select ok(awa.set_progress(receipt, 60, metadata => '{"page": 6}'), 'it goes on from there') from held;
select is(pg_temp.progress('tap/73/rescue'), '{"percent": 60, "metadata": {"page": 6, "file": "a"}}', 'metadata is merged across attempts');
select is(awa.fail(receipt, 'oops', '0'), 'retryable', 'it fails') from held;
select awa.maintain() \g /dev/null
select pg_temp.next('tap/73/rescue') \g /dev/null
select is(h.progress, '{"percent": 60, "metadata": {"page": 6, "file": "a"}}', 'the last attempt has it') from held as h;
select is(awa.fail(receipt, 'oops'), 'failed', 'it fails for good') from held;
select is(pg_temp.progress('tap/73/rescue') ->> 'percent', '60', 'a failed job shows how far it came');
select ok(awa.retry(h.job_id), 'it is retried by hand') from (select (receipt).job_id from held) as h;
select is(pg_temp.progress('tap/73/rescue'), null, 'which starts over');

-- Of a batch, each its own

select pg_temp.later('0') \g /dev/null
select awa.enqueue('k', to_jsonb(n), queue => 'tap/73/batch') from generate_series(1, 3) as n \g /dev/null
select pg_temp.next('tap/73/batch') \g /dev/null
select awa.set_progress(receipt, row_number() over ()::integer) from (select receipt from held order by (receipt).job_id limit 2) as h \g /dev/null
select ok(awa.snooze(receipt, '1 hour'), 'one of three is snoozed') from (select receipt from held order by (receipt).job_id limit 1) as h;
select pg_temp.later('10 minutes') \g /dev/null
select is(pg_temp.rescued(), 2::bigint, 'the others are lost');
select results_eq($$ select j.state, (j.progress ->> 'percent')::integer from awa.jobs as j where j.queue = 'tap/73/batch' order by j.id $$,
  $$ values ('scheduled'::awa.job_state, 1), ('retryable', 2), ('retryable', null) $$, 'each has the progress that it made');

-- Dead letters

select awa.configure_queue('tap/73/dlq', '{"dlq_enabled": true}') \g /dev/null
select pg_temp.later('0') \g /dev/null
select awa.enqueue('k', queue => 'tap/73/dlq', max_attempts => 1) \g /dev/null
select pg_temp.next('tap/73/dlq') \g /dev/null
select ok(awa.set_progress(receipt, 99), 'a last attempt with progress') from held;
select pg_temp.later('10 minutes') \g /dev/null
select is(pg_temp.rescued(), 1::bigint, 'is lost');
select results_eq($$ select e.progress, e.attempt from awa.dlq_entries as e where e.queue = 'tap/73/dlq' $$,
  $$ values ('{"percent": 99}'::jsonb, 1::smallint) $$, 'its dead letter tells how far it came');

-- Backoff

select is_empty($$
  select a from generate_series(1, 1000) as a cross join generate_series(1, 5)
  where awa.backoff(a) not between least(make_interval(secs => power(2, least(a, 30) - 1)), '24 hours') and interval '24 hours'
$$, 'no attempt up to the thousandth overflows or comes too early');
select awa.enqueue('k', queue => 'tap/73/many', max_attempts => 1000) \g /dev/null
select pg_temp.later('0'), pg_temp.next('tap/73/many') \g /dev/null
update awa.ready_entries as r set attempt = 999 from held as h where r.job_id = (h.receipt).job_id;
select is(awa.fail(receipt, 'again'), 'retryable', 'the attempt before the thousandth is retried') from held;
select results_eq($$ select j.attempt, j.run_at > clock_timestamp() + interval '23 hours', j.run_at < clock_timestamp() + interval '25 hours' from awa.jobs as j where j.queue = 'tap/73/many' $$,
  'values (999::smallint, true, true)', 'a day later');

-- A queue that was paused for a million hours

select awa.pause_queue('tap/73/paused') \g /dev/null
select awa.enqueue('k', to_jsonb(p), queue => 'tap/73/paused', priority => p) from generate_series(4, 1, -1) as p \g /dev/null
update awa.ready_entries as r set xid = '5', run_at = now() - interval '1000000 hours' where r.args = '4' and r.lane in (select l.lane from awa.queue_lanes as l where l.queue = 'tap/73/paused');
update awa.ready_entries as r set xid = '5' where r.lane in (select l.lane from awa.queue_lanes as l where l.queue = 'tap/73/paused');
select awa.resume_queue('tap/73/paused') \g /dev/null
select set_config('awa.now', (now() + interval '1000000 hours')::text, true) \g /dev/null
create temp table aged as select c.args, c.priority, row_number() over () as nth from awa.claim('tap/73/paused', 10) as c;
select results_eq('select args, priority from aged where nth = 1', $$ values ('4'::jsonb, 4::smallint) $$, 'ages of a million hours and more do not overflow: the oldest is first');
select is((select count(*) from aged), 4::bigint, 'and nothing is stuck behind it');
select set_config('awa.now', '', true) \g /dev/null

select is_empty('select * from awa.check()', 'the storage is sound');
select * from finish();
rollback;
