-- A running attempt: snooze, cancel, progress, and what others are told.
begin;
select plan(50);
-- Alone: calls maintain.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;

create function pg_temp.claim_one (p_queue text, p_worker text default null, p_lease interval default '5 minutes') returns setof awa.claimed_job
  language sql as $$ select c.* from awa.claim(p_queue, 1, p_worker, p_lease) as c $$;

-- Backoff

select is(awa.backoff(attempt) between low and high, true, format('backoff(%s) lies from %s to %s', attempt, low, high))
from (values (1, interval '1 s', interval '1.25 s'), (2, '2 s', '2.5 s'), (5, '16 s', '20 s'), (0, '1 s', '1.25 s'), (-7, '1 s', '1.25 s'),
  (17, '18 h', '23 h'), (18, '24 h', '24 h'), (50, '24 h', '24 h'), (1000, '24 h', '24 h'), (2147483647, '24 h', '24 h')) as b (attempt, low, high);

-- Snooze

select awa.enqueue('k', queue => 'tap/70/snooze', max_attempts => 2, ordering_key => 'o', priority => 3) \g /dev/null
create temp table snoozed as select * from pg_temp.claim_one('tap/70/snooze');
select ok(awa.set_progress(receipt, 30, 'third'), 'progress of a running attempt is taken') from snoozed;
create temp table asked as select clock_timestamp() as at;
select ok(awa.snooze(receipt, '1 hour'), 'a snooze is accepted') from snoozed;
select ok(not awa.snooze(receipt, '1 hour'), 'once') from snoozed;
select ok(not awa.complete(receipt), 'the receipt is stale then') from snoozed;
select results_eq(
  $$ select j.state, j.attempt, j.run_lease, j.priority, cardinality(j.errors), j.progress, j.run_at between a.at + interval '1 hour' and clock_timestamp() + interval '1 hour'
     from awa.jobs as j cross join asked as a where j.queue = 'tap/70/snooze' $$,
  $$ values ('scheduled'::awa.job_state, 0::smallint, 1::bigint, 3::smallint, 0, '{"percent": 30, "message": "third"}'::jsonb, true) $$,
  'the job is scheduled, the attempt not counted, progress kept, no error noted');
select results_eq($$ select scheduled, running, retryable, terminal from awa.queue_counts('tap/70/snooze') $$,
  'values (1::bigint, 0::bigint, 0::bigint, 0::bigint)', 'it counts as scheduled');
set local awa.now = '2100-01-01';
select ok((select m.affected = 1 from awa.maintain() as m where m.task = 'promote'), 'it is promoted when due');
create temp table many as
select c.receipt from awa.enqueue_many('k', array['1', '2', '3']::jsonb[], queue => 'tap/70/many') as id, awa.claim('tap/70/many', 3) as c;
select awa.complete((select m.receipt from many as m limit 1)) \g /dev/null
select is((select count(*) from awa.snooze_many(array(select m.receipt from many as m), '1 hour') as s), 1::bigint, 'of many to snooze the stale ones are returned');
select is((select array_agg(s) from awa.snooze_many(array(select m.receipt from many as m), '1 hour') as s) is null, false, 'once');
select is((select c.scheduled from awa.queue_counts('tap/70/many') as c), 2::bigint, 'the others are scheduled');
create temp table now as select c.receipt from awa.enqueue('k', queue => 'tap/70/now') as id, awa.claim('tap/70/now') as c;
select is_empty('select * from awa.snooze_many(array(select n.receipt from now as n), ''0'')', 'a job put back for at once');
select is((select c.attempt from awa.claim('tap/70/now') as c), 1::smallint, 'is claimed again, its attempt not counted');
select throws_ok('select awa.snooze_many(array(select n.receipt from now as n), ''-1 s'')', 'AW006', null, 'a delay below zero is refused');
create temp table snoozed_again as select * from pg_temp.claim_one('tap/70/snooze');
select results_eq('select attempt, priority, progress from snoozed_again',
  $$ values (1::smallint, 3::smallint, '{"percent": 30, "message": "third"}'::jsonb) $$, 'the next attempt is the first still, and has the progress');
select is((select r.ordering_key from awa.ready_entries as r join snoozed_again as s on s.job_id = r.job_id where r.run_lease = 2), 'o', 'and the ordering key');
reset awa.now;
select throws_ok(format($$ select awa.snooze(%L::awa.receipt, %s) $$, (select receipt from snoozed_again), delay), 'AW006', null, format('a delay of %s is refused', delay))
from (values ('null'), ($$'-1 s'$$), ($$'200 years'$$)) as d (delay);

-- Progress

select ok(awa.set_progress(receipt, 150, 'over', '{"a": 1}'), 'percent is kept within bounds') from snoozed_again;
select ok(awa.set_progress(receipt, -5, null, '{"b": 2}'), 'on both sides') from snoozed_again;
select results_eq($$ select j.progress from awa.jobs as j where j.queue = 'tap/70/snooze' $$,
  $$ values ('{"percent": 0, "metadata": {"a": 1, "b": 2}}'::jsonb) $$, 'a message is replaced, metadata merged');
select throws_ok(format($$ select awa.set_progress(%L::awa.receipt, null) $$, (select receipt from snoozed_again)), 'AW006', null, 'percent must be given');
select throws_ok(format($$ select awa.set_progress(%L::awa.receipt, 1, metadata => '[]') $$, (select receipt from snoozed_again)), 'AW006', null, 'metadata is an object');
select is(awa.fail(receipt, 'oops', retry_after => '1 s'), 'retryable', 'it fails once') from snoozed_again;
select results_eq($$ select j.state, j.attempt, j.progress ->> 'percent' from awa.jobs as j where j.queue = 'tap/70/snooze' $$,
  $$ values ('retryable'::awa.job_state, 1::smallint, '0') $$, 'a retry keeps progress');
set local awa.now = '2101-01-01';
select awa.maintain() \g /dev/null
reset awa.now;
select ok(awa.complete(receipt), 'it completes') from pg_temp.claim_one('tap/70/snooze');
select results_eq($$ select d.progress, d.attempt from awa.done_entries as d where d.queue = 'tap/70/snooze' $$,
  $$ values (null::jsonb, 2::smallint) $$, 'a completed job has no progress');

-- Cancel

select awa.enqueue('k', queue => 'tap/70/cancel') \g /dev/null
create temp table given_up as select * from pg_temp.claim_one('tap/70/cancel', 'tap/70/w');
select ok(awa.cancel_attempt(receipt, 'bad address'), 'a worker gives its job up') from given_up;
select ok(not awa.cancel_attempt(receipt), 'once') from given_up;
select results_eq($$ select d.state, d.attempt, d.errors[1] ->> 'error' from awa.done_entries as d where d.queue = 'tap/70/cancel' $$,
  $$ values ('cancelled'::awa.job_state, 1::smallint, 'bad address') $$, 'the job is cancelled, with the reason');
select is_empty($$ select * from awa.heartbeat('tap/70/w') $$, 'the worker is not told what it did itself');

select awa.enqueue('k', queue => 'tap/70/told') from generate_series(1, 3) \g /dev/null
create temp table told as select c.*, row_number() over () as n from awa.claim('tap/70/told', 3, 'tap/70/w') as c;
select ok(awa.cancel(job_id, 'stop'), 'a running job is cancelled by others') from told where n = 1;
select ok(awa.delete_job_compat(job_id), 'or deleted') from told where n = 2;
select bag_eq($$ select h.receipt, h.reason from awa.heartbeat('tap/70/w') as h $$,
  $$ select receipt, case n when 1 then 'stop' else 'deleted' end from told where n < 3 $$, 'the next heartbeat tells the worker');
select is_empty($$ select * from awa.heartbeat('tap/70/w') where job_id not in (select job_id from told) $$, 'and nothing of others');
select ok(awa.complete(receipt), 'the rest goes on') from told where n = 3;

-- Receipts of one batch that are given twice, or of another lease

select awa.enqueue('k', queue => 'tap/70/mixed') from generate_series(1, 3) \g /dev/null
create temp table mixed as select (c.receipt).*, row_number() over () as n from awa.claim('tap/70/mixed', 3) as c;
select results_eq(
  $$ select m.n, x.run_lease
     from awa.extend_lease(array(
       select row(m.ready_slot, m.batch_id, m.job_id, m.run_lease + d.d)::awa.receipt from mixed as m, (values (1), (0), (0)) as d (d) where m.n < 3)) as x
     join mixed as m on m.job_id = x.job_id order by 1, 2 $$,
  $$ values (1::bigint, 2::bigint), (2, 2) $$, 'of those one lease is good, and once is as good as twice');
select results_eq(
  $$ select m.n, f.state
     from awa.fail_many(array(
       select row(m.ready_slot, m.batch_id, m.job_id, m.run_lease + d.d)::awa.receipt from mixed as m, (values (1), (0), (0)) as d (d) where m.n < 3),
       terminal => true) as f
     join mixed as m on m.job_id = (f.receipt).job_id and m.run_lease = (f.receipt).run_lease
     group by m.n, f.state order by 1 $$,
  $$ values (1::bigint, 'failed'::awa.job_state), (2, 'failed') $$, 'so it is when they fail');
select results_eq($$ select running, failed from awa.queue_counts('tap/70/mixed') $$, 'values (1::bigint, 2::bigint)', 'each is counted once');

select is_empty('select * from awa.check()', 'the storage is sound');
select * from finish();
rollback;
