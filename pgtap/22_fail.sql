-- Fail: retried while attempts are left, failed for good otherwise, stale
-- never; and what the next attempt knows of the former ones.
begin;
select plan(94);
-- Alone: maintain may turn the ring.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;

-- Terminal

select awa.enqueue('k', '{"n": 1}', queue => 'tap/22/terminal') \g /dev/null
create temp table terminal as select c.* from awa.claim('tap/22/terminal', 1, 'w') as c;
select is(awa.fail(receipt, 'boom', terminal => true), 'failed', 'a terminal failure closes the job as failed') from terminal;
select is(awa.fail(receipt, 'boom', terminal => true), null, 'a second failure is stale: null') from terminal;
select is(awa.fail(receipt, 'boom'), null, 'so is one that asks for a retry') from terminal;
select is(awa.complete(receipt), false, 'so is a completion') from terminal;
select results_eq(
  $$ select d.id, d.state, d.attempt, d.args, cardinality(d.errors), d.errors[1] ->> 'error', (d.errors[1] ->> 'attempt')::integer,
       (d.errors[1] ->> 'at')::timestamptz between now() and clock_timestamp() and d.finalized_at >= d.attempted_at
     from awa.done_entries as d where d.queue = 'tap/22/terminal' $$,
  $$ select job_id, 'failed'::awa.job_state, 1::smallint, '{"n": 1}'::jsonb, 1, 'boom', 1, true from terminal $$,
  'a failed job keeps its body and the error with attempt and time');
select results_eq($$ select available, scheduled, retryable, running, completed, failed, terminal from awa.queue_counts('tap/22/terminal') $$,
  $$ values (0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 1::bigint, 1::bigint) $$, 'it counts as failed');

-- Exhausted

select awa.enqueue('k', queue => 'tap/22/exhausted', max_attempts => 1) \g /dev/null
create temp table exhausted as select c.* from awa.claim('tap/22/exhausted') as c;
select is(awa.fail(receipt, 'last'), 'failed', 'the last attempt fails for good') from exhausted;
select results_eq($$ select state, errors[1] ->> 'error' from awa.done_entries where queue = 'tap/22/exhausted' $$,
  $$ values ('failed'::awa.job_state, 'last') $$, 'with its error');

-- Retried

select awa.enqueue('k', '{"n": 1}', queue => 'tap/22/retry', priority => 3, max_attempts => 3, tags => array['t'], metadata => '{"m": 1}',
  unique_key => '\x01', unique_states => B'11110000', ordering_key => 'o', deadline => '1 hour') as retry_id \gset
create temp table attempts as select c.* from awa.claim('tap/22/retry') as c;
create temp table retried_at as select clock_timestamp() as t;
select is(awa.fail(receipt, 'first', retry_after => '1 hour'), 'retryable', 'with attempts left a failure is retried') from attempts where attempt = 1;
select results_eq(
  $$ select d.state, d.run_at - interval '1 hour' between (select t from retried_at) and clock_timestamp(), d.attempt, d.run_lease > 1, d.kind, d.args, d.max_attempts,
       d.tags, d.metadata, d.unique_key, d.unique_states, d.ordering_key, d.deadline
     from awa.deferred_jobs as d join awa.queue_lanes as l on l.lane = d.lane where l.queue = 'tap/22/retry' and l.priority = 3 $$,
  $$ values ('retryable'::awa.job_state, true, 2::smallint, true, 'k', '{"n": 1}'::jsonb, 3::smallint,
       array['t'], '{"m": 1}'::jsonb, '\x01'::bytea, B'11110000'::bit(8), 'o', interval '1 hour') $$,
  'it waits for retry_after, with everything it was enqueued with');
select results_eq($$ select available, retryable, running, terminal from awa.queue_counts('tap/22/retry') $$,
  'values (0::bigint, 1::bigint, 0::bigint, 0::bigint)', 'it counts as retryable');
select is(awa.complete(receipt), false, 'the first attempt''s receipt is stale now') from attempts;
select is(awa.fail(receipt, 'again'), null, 'for a failure too') from attempts;
select is_empty($$ select * from awa.claim('tap/22/retry', 10) $$, 'before its time it is not claimed');
select isnt_empty($$ select * from awa.maintain() where task = 'promote' $$, 'maintain promotes');
select is_empty($$ select * from awa.claim('tap/22/retry', 10) $$, 'but not before its time');

update awa.deferred_jobs as d set run_at = clock_timestamp() - interval '1 ms' where d.job_id = :retry_id;
select results_eq($$ select outcome, affected from awa.maintain() where task = 'promote' $$, $$ values ('promoted', 1::bigint) $$,
  'when its time has come maintain promotes it');
insert into attempts select c.* from awa.claim('tap/22/retry', 10) as c;
select results_eq(
  $$ select job_id, attempt, kind, args, priority, max_attempts, tags, metadata, cardinality(errors), errors[1] ->> 'error', deadline_at > now()
     from attempts where attempt = 2 $$,
  format($$ values (%s::bigint, 2::smallint, 'k', '{"n": 1}'::jsonb, 3::smallint, 3::smallint, array['t'], '{"m": 1}'::jsonb, 1, 'first', true) $$, :retry_id),
  'the second attempt is the same job, one attempt on, and knows the first error');
select results_eq('select count(distinct created_at), count(distinct (receipt).run_lease), count(distinct (receipt).batch_id) from attempts',
  'values (1::bigint, 2::bigint, 2::bigint)', 'it keeps its creation time and gets a lease and batch of its own');
select is(awa.complete(row((a.receipt).ready_slot, (b.receipt).batch_id, a.job_id, (a.receipt).run_lease)::awa.receipt), false,
  'the first lease does not open the second batch') from attempts as a, attempts as b where a.attempt = 1 and b.attempt = 2;

select is(awa.fail(receipt, 'second', retry_after => '0'), 'retryable', 'a retry may be due at once') from attempts where attempt = 2;
select results_eq($$ select outcome, affected from awa.maintain() where task = 'promote' $$, $$ values ('promoted', 1::bigint) $$, 'and is promoted at once');
insert into attempts select c.* from awa.claim('tap/22/retry', 10) as c;
select is(awa.fail(receipt, 'third', retry_after => '1 hour'), 'failed', 'when attempts are used up retry_after does not help') from attempts where attempt = 3;
select is((select array_agg(e ->> 'error' || ' ' || (e ->> 'attempt') order by n) from awa.done_entries as d
    cross join lateral unnest(d.errors) with ordinality as u (e, n) where d.queue = 'tap/22/retry'),
  array['first 1', 'second 2', 'third 3'], 'history shows every error, in order');
select results_eq($$ select attempt, run_lease, state from awa.done_entries where queue = 'tap/22/retry' $$,
  $$ values (3::smallint, 3::bigint, 'failed'::awa.job_state) $$, 'and the last attempt');
select results_eq($$ select available, retryable, running, completed, failed, terminal from awa.queue_counts('tap/22/retry') $$,
  'values (0::bigint, 0::bigint, 0::bigint, 0::bigint, 1::bigint, 1::bigint)', 'the job counts once');

-- A retried job that succeeds

select awa.enqueue('k', queue => 'tap/22/recovers') \g /dev/null
select awa.fail(receipt, 'hiccup', retry_after => '0') from awa.claim('tap/22/recovers') \g /dev/null
select count(*) from awa.maintain() \g /dev/null
select results_eq($$ select awa.complete(receipt) from awa.claim('tap/22/recovers') $$, 'values (true)', 'a retry can be completed');
select results_eq($$ select state, attempt, errors[1] ->> 'error' from awa.done_entries where queue = 'tap/22/recovers' $$,
  $$ values ('completed'::awa.job_state, 2::smallint, 'hiccup') $$, 'history shows the attempts it took and their errors');

-- Many errors: the history is bounded, its newest entries are kept

select awa.enqueue('k', queue => 'tap/22/long', max_attempts => 1000) \g /dev/null
create function pg_temp.fail_times (p_queue text, p_times integer) returns integer
  language plpgsql as $$
declare
  v_done integer := 0;
begin
  for i in 1 .. p_times loop
    perform from awa.claim(p_queue) as c where awa.fail(c.receipt, 'error ' || i, retry_after => '0') = 'retryable';
    if found then
      v_done := v_done + 1;
    end if;
    perform awa.maintain();
  end loop;
  return v_done;
end;
$$;
select is(pg_temp.fail_times('tap/22/long', 70), 70, 'a job can fail seventy times');
create temp table long as select c.* from awa.claim('tap/22/long') as c;
select results_eq('select attempt::integer, cardinality(errors) < 70, errors[cardinality(errors)] ->> ''error'' from long',
  $$ values (71, true, 'error 70') $$, 'its history is bounded and ends with the newest error');
select is_empty(
  $$ select * from (select (e ->> 'attempt')::integer as a, lag((e ->> 'attempt')::integer) over (order by n) as before
     from long, unnest(errors) with ordinality as u (e, n)) as s where a <> before + 1 $$, 'without a gap');

-- Error texts

select awa.enqueue_many('k', array['1', '2', '3', '4']::jsonb[], queue => 'tap/22/texts', max_attempts => 1) \g /dev/null
create temp table texts as select c.*, row_number() over () as n from awa.claim('tap/22/texts', 4) as c;
select is(awa.fail(receipt), 'failed', 'an error text is not required') from texts where n = 1;
select is(awa.fail(receipt, E'it''s "bad"\n日本語 %s $1 \\'), 'failed', 'any text will do') from texts where n = 2;
select is(awa.fail(receipt, repeat('é', 1000000)), 'failed', 'also a very long one') from texts where n = 3;
select results_eq($$ select coalesce(d.errors[1] ->> 'error', '') from awa.done_entries as d join texts as t on t.job_id = d.id where t.n < 3 order by n $$,
  $$ values (''), (E'it''s "bad"\n日本語 %s $1 \\') $$, 'texts come back as they were');
select is((select d.errors[1] ->> 'error' from awa.done_entries as d join texts as t on t.job_id = d.id where n = 3), repeat('é', 10000),
  'a very long one is cut');

-- The same of jobs that come back, one by one, of one batch or of several, and of a cancel.
select awa.enqueue_many('k', array_fill('1'::jsonb, array[6]), queue => 'tap/22/long texts') \g /dev/null
create temp table cut as
  select c.receipt, 1 as way from awa.claim('tap/22/long texts') as c union all select c.receipt, 2 from awa.claim('tap/22/long texts', 2) as c
  union all select c.receipt, 3 from awa.claim('tap/22/long texts') as c union all select c.receipt, 3 from awa.claim('tap/22/long texts', 2) as c;
select awa.fail(receipt, repeat('a', 10001)) from cut where way = 1 \g /dev/null
select count(*) from awa.fail_many(array(select receipt from cut where way = 2), array[repeat('a', 10001), repeat('a', 10002)]) \g /dev/null
select count(*) from awa.fail_many(array(select receipt from cut where way = 3), array_fill(repeat('a', 10001), array[3])) \g /dev/null
select results_eq($$ select j.errors[1] ->> 'error', count(*)::integer from awa.jobs as j where j.queue = 'tap/22/long texts' group by 1 $$,
  $$ values (repeat('a', 10000), 6) $$, 'however many fail together');
select awa.cancel(j.id, repeat('b', 10001)) from awa.jobs as j where j.queue = 'tap/22/long texts' \g /dev/null
select results_eq($$ select distinct d.errors[2] ->> 'error' from awa.done_entries as d where d.queue = 'tap/22/long texts' $$,
  $$ values (repeat('b', 10000)) $$, 'and the reason of a cancel');

-- Arguments

select throws_ok($$ select awa.fail((select receipt from texts where n = 4), 'e', retry_after => '-1 second') $$, 'AW006', null,
  'a negative delay is refused');
select throws_like($$ select awa.fail((select receipt from texts where n = 4), 'e', retry_after => '-1 second') $$, '%-00:00:01%',
  'the message names it');
select is((select running from awa.queue_counts('tap/22/texts')), 1::bigint, 'and the job runs on');
select is(awa.fail(null, 'e'), null, 'a null receipt is stale');
select is(awa.fail(row(0, 1, 2, 3)::awa.receipt, 'e'), null, 'so is an unknown one');
select is(awa.fail(row(999, 1, 2, 3)::awa.receipt, 'e'), null, 'also in a slot that no ring has');
select lives_ok($$ select awa.fail(row(0, 1, 2, 4294967297)::awa.receipt, 'e') $$, 'a lease beyond 32 bits is no error');
select is(awa.fail(receipt, 'e', terminal => null), 'failed', 'terminal null means not by itself; here the attempt was the last') from texts where n = 4;

-- fail_many

select awa.enqueue_many('k', array['1', '2', '3', '4']::jsonb[], queue => 'tap/22/many', max_attempts => 2) \g /dev/null
select awa.enqueue_many('k', array['5', '6']::jsonb[], queue => 'tap/22/many', max_attempts => 1) \g /dev/null
create temp table many as
select c.*, row_number() over () as n from (
  select * from awa.claim('tap/22/many', 3) union all select * from awa.claim('tap/22/many', 3)) as c;
select is(awa.complete(receipt), true, 'one of six completes') from many where n = 2;
select bag_eq(
  $$ select f.receipt, f.state from awa.fail_many(
       (select array_agg(receipt order by n desc) || array[row(0, 1, 2, 3), null]::awa.receipt[] from many),
       (select array_agg('error ' || n order by n desc) || array['unknown', null] from many), retry_after => '1 hour') as f $$,
  $$ select receipt, (case when n < 5 then 'retryable' else 'failed' end)::awa.job_state from many where n <> 2 $$,
  'fail_many returns each accepted receipt with its state; stale ones are left out');
select bag_eq(
  $$ select d.job_id, d.errors[1] ->> 'error' from awa.deferred_jobs as d join many as m on m.job_id = d.job_id
     union all select d.id, d.errors[1] ->> 'error' from awa.done_entries as d join many as m on m.job_id = d.id where d.state = 'failed' $$,
  $$ select job_id, 'error ' || n from many where n <> 2 $$, 'each with its own error');
select results_eq($$ select retryable, running, completed, failed from awa.queue_counts('tap/22/many') $$,
  'values (3::bigint, 0::bigint, 1::bigint, 2::bigint)', 'the figures follow');
select is_empty('select * from awa.fail_many((select array_agg(receipt) from many))', 'all of them are stale now');
select throws_ok($$ select * from awa.fail_many((select array_agg(receipt) from many), array['one error']) $$, 'AW006', null,
  'one error for several receipts is refused');
select is_empty('select * from awa.fail_many(null)', 'a null array fails nothing');
select throws_ok($$ select * from awa.fail_many(null, array['e']) $$, 'AW006', null, 'nor may errors come without receipts');
select awa.enqueue('k', queue => 'tap/22/twice') \g /dev/null
select is((select count(distinct f.receipt) from awa.claim('tap/22/twice') as c, lateral awa.fail_many(array[c.receipt, c.receipt], array['a', 'b']) as f), 1::bigint,
  'a receipt given twice is failed');
select is((select count(*) from awa.deferred_jobs as d join awa.queue_lanes as l on l.lane = d.lane where l.queue = 'tap/22/twice'), 1::bigint,
  'once');

-- Part of a batch: what all of them come back from is one outcome.
select awa.enqueue_many('k', array(select to_jsonb(i) from generate_series(1, 120) as i), queue => 'tap/22/part') \g /dev/null
select awa.enqueue_many('k', array(select to_jsonb(i) from generate_series(121, 122) as i), queue => 'tap/22/part', max_attempts => 1) \g /dev/null
create temp table part as select c.receipt, c.job_id, row_number() over () as n from awa.claim('tap/22/part', 122) as c;
create temp table outcomes as
select o.batch_id, o.seq, o.outcome, o.job_ids, o.errors from awa.attempt_outcomes as o, part as p
where o.ready_slot = (p.receipt).ready_slot and o.batch_id = (p.receipt).batch_id limit 0;
create or replace function pg_temp.part_outcomes () returns setof outcomes language sql as $$
  select o.batch_id, o.seq, o.outcome, o.job_ids, o.errors from awa.attempt_outcomes as o
  where o.batch_id = (select (p.receipt).batch_id from part as p limit 1) order by o.seq
$$;
select is((select count(*) from awa.fail_many(
    (select array_agg(receipt order by n desc) from part where n <= 40), (select array_agg('error ' || n order by n desc) from part where n <= 40),
    retry_after => '1 hour') as f where f.state = 'retryable'), 40::bigint, 'forty of a batch are to be retried');
select bag_eq($$ select d.job_id, d.errors[1] ->> 'error' from awa.deferred_jobs as d join part as p on p.job_id = d.job_id $$,
  $$ select job_id, 'error ' || n from part where n <= 40 $$, 'each comes back with its own error');
select is((select array_agg(o.seq || o.outcome::text) from pg_temp.part_outcomes() as o), array['0r'], 'and is one');
select bag_eq(
  $$ select f.receipt, f.state from awa.fail_many((select array_agg(receipt order by n) from part where n between 40 and 50), retry_after => '1 hour') as f $$,
  $$ select receipt, 'retryable'::awa.job_state from part where n between 41 and 50 $$, 'one that is closed keeps none of the others');
select bag_eq(
  $$ select f.receipt, f.state from awa.fail_many((
       select array_agg(row((receipt).ready_slot, (receipt).batch_id, job_id, (receipt).run_lease + (n = 51)::integer)::awa.receipt) from part where n between 51 and 60),
       retry_after => '1 hour') as f $$,
  $$ select receipt, 'retryable'::awa.job_state from part where n between 52 and 60 $$, 'nor does a lease that was never given');
select bag_eq(
  $$ select f.receipt, f.state from awa.fail_many((select array_agg(receipt) from part where n > 51), retry_after => '1 hour') as f $$,
  $$ select receipt, (case when n > 120 then 'failed' else 'retryable' end)::awa.job_state from part where n > 60 $$,
  'the rest, of which two were the last attempts');
select bag_eq($$ select u.id, u.error ->> 'error' from pg_temp.part_outcomes() as o, unnest(o.job_ids, o.errors) as u (id, error) where o.errors is not null $$,
  $$ select job_id, '' from part where n > 120 $$, 'of whose errors alone the outcomes tell: the others carry theirs with them');
select results_eq($$ select retryable, running, failed from awa.queue_counts('tap/22/part') $$, 'values (119::bigint, 1::bigint, 2::bigint)',
  'all but one are counted where they went');

-- Part of a batch of first attempts and second ones: a lease of another attempt of the
-- same job is not that attempt's, however many are given and finished before.
select awa.enqueue_many('k', array(select to_jsonb(i) from generate_series(1, 100) as i), queue => 'tap/22/mixed') \g /dev/null
select awa.snooze_many((select array_agg(c.receipt) from awa.claim('tap/22/mixed', 50) as c), '0') \g /dev/null
create temp table mixed as
select c.receipt, c.job_id, row_number() over (order by (c.receipt).run_lease, c.job_id) as n from awa.claim('tap/22/mixed', 100) as c;
-- 1 to 50 have lease 1, the others lease 2.
create function pg_temp.given (p_from bigint, p_to bigint, p_wrong bigint default 0) returns awa.receipt[] language sql as $$
  select array_agg(row((m.receipt).ready_slot, (m.receipt).batch_id, m.job_id,
    case when m.n = p_wrong then 3 - (m.receipt).run_lease else (m.receipt).run_lease end)::awa.receipt order by m.n desc)
  from mixed as m where m.n between p_from and p_to
$$;
select results_eq($$ select count(distinct (m.receipt).batch_id), count(*) filter (where (m.receipt).run_lease = 1) from mixed as m $$,
  'values (1::bigint, 50::bigint)', 'half of a batch are first attempts');
select bag_eq($$ select c from awa.complete_many(pg_temp.given(1, 4, 2)) as c $$, $$ select unnest(pg_temp.given(2, 2, 2)) $$,
  'a second lease does not complete a first attempt');
select bag_eq($$ select c from awa.complete_many(pg_temp.given(48, 53, 51)) as c $$, $$ select unnest(pg_temp.given(51, 51, 51)) $$,
  'nor a first lease a second attempt');
select bag_eq($$ select (f.receipt).* from awa.fail_many(pg_temp.given(2, 46, 46), retry_after => '1 hour') as f $$,
  $$ select (m.receipt).* from mixed as m where m.n = 2 or m.n between 5 and 45 $$, 'nor does one fail it');
select bag_eq($$ select (f.receipt).* from awa.fail_many(pg_temp.given(46, 56, 56), retry_after => '1 hour') as f $$,
  $$ select (m.receipt).* from mixed as m where m.n in (46, 47, 51, 54, 55) $$, 'and of both kinds the right ones are failed, once');
select bag_eq($$ select (f.receipt).* from awa.fail_many(pg_temp.given(56, 60), retry_after => '1 hour') as f $$,
  $$ select (m.receipt).* from mixed as m where m.n between 56 and 60 $$, 'second attempts alone too');
select is_empty($$ select c from awa.complete_many(pg_temp.given(61, 70) || pg_temp.given(61, 61)) as c $$, 'one given twice is completed with the others');
select is((select array_agg(o.jobs order by o.seq desc) from awa.attempt_outcomes as o
    where o.batch_id = (select (m.receipt).batch_id from mixed as m limit 1) and o.outcome = 'c' and o.job_ids @> (select array_agg(m.job_id) from mixed as m where m.n = 61)),
  array[10], 'once');
select results_eq($$ select running, completed, retryable from awa.queue_counts('tap/22/mixed') $$, 'values (30::bigint, 18::bigint, 52::bigint)',
  'the figures follow what was right');

-- The same over two batches, and of one more than the short way takes.
select awa.enqueue_many('k', array(select to_jsonb(i) from generate_series(1, 60) as i), queue => 'tap/22/over') \g /dev/null
select awa.snooze_many((select array_agg(c.receipt) from awa.claim('tap/22/over', 60) as c), '0') \g /dev/null
create temp table over_two as
select c.receipt, c.job_id, 1 as batch from awa.claim('tap/22/over', 40) as c;
select awa.enqueue_many('k', array(select to_jsonb(i) from generate_series(61, 240) as i), queue => 'tap/22/over') \g /dev/null
insert into over_two select c.receipt, c.job_id, 2 from awa.claim('tap/22/over', 200) as c;
alter table over_two add n integer;
update over_two as o set n = s.n from (select job_id, row_number() over (order by batch, (receipt).run_lease desc, job_id) as n from over_two) as s where s.job_id = o.job_id;
create function pg_temp.over_given (p_which integer[], p_wrong integer default 0) returns awa.receipt[] language sql as $$
  select array_agg(row((o.receipt).ready_slot, (o.receipt).batch_id, o.job_id,
    case when o.n = p_wrong then 3 - (o.receipt).run_lease else (o.receipt).run_lease end)::awa.receipt order by o.n % 7, o.n desc)
  from over_two as o where o.n = any (p_which)
$$;
create function pg_temp.over_failed (p_receipts awa.receipt[]) returns integer[] language sql as $$
  select array_agg(o.n order by o.n)
  from awa.fail_many(p_receipts, (select array_agg('error ' || u.job_id order by u.at) from unnest(p_receipts) with ordinality as u (slot, batch, job_id, lease, at)),
    retry_after => '1 hour') as f
  join over_two as o on o.receipt = f.receipt
$$;
select results_eq($$ select o.batch, count(distinct (o.receipt).batch_id), count(*) filter (where (o.receipt).run_lease = 2) from over_two as o group by o.batch order by o.batch $$,
  'values (1, 1::bigint, 40::bigint), (2, 1::bigint, 20::bigint)', 'of two batches one is of second attempts, one of both kinds');
select is(pg_temp.over_failed(pg_temp.over_given(array[1, 2, 41, 42, 101, 102])), array[1, 2, 41, 42, 101, 102], 'both kinds of both batches are failed together');
select is(pg_temp.over_failed(pg_temp.over_given(array[3, 43, 44, 103], 44)), array[3, 43, 103], 'none with the lease of another attempt');
select is(pg_temp.over_failed(pg_temp.over_given(array[1, 4, 44, 104])), array[4, 44, 104], 'none that is closed');
select is(pg_temp.over_failed(pg_temp.over_given(array[5, 45, 105]) || pg_temp.over_given(array[45])), array[5, 45, 45, 105], 'one given twice is not in the way of the others');
select is(cardinality(pg_temp.over_failed(pg_temp.over_given(array(
    select n from generate_series(6, 240) as n where n not in (41, 42, 43, 44, 45, 101, 102, 103, 104, 105))))), 225, 'all that are left');
select is((select count(*) from awa.deferred_jobs as d join over_two as o on o.job_id = d.job_id
    where d.errors[1] ->> 'error' = 'error ' || d.job_id and d.run_lease = (o.receipt).run_lease + 1), 240::bigint, 'each comes back with its own error and the next lease');
select is((select count(*) from awa.attempt_outcomes as a, unnest(a.job_ids, a.run_leases) as u (job_id, run_lease)
    join over_two as o on o.job_id = u.job_id and (o.receipt).run_lease = coalesce(u.run_lease, 1)
    where a.errors is null and cardinality(a.job_ids) = a.jobs and a.outcome = 'r'), 240::bigint, 'and is closed once');

-- Backoff

-- Jobs that fail together for one reason or another, some for the second time: of one claim, and of two.
create function pg_temp.fail_each (p_queue text, p_size integer, p_errors text[]) returns table (job text, errors text[])
  language plpgsql as $fn$
begin
  perform awa.fail_many(array_agg(c.receipt order by c.tags), p_errors, retry_after => '0')
  from generate_series(p_size, 4, p_size) as n cross join lateral awa.claim(p_queue, least(n, p_size)) as c;
  return query
  select j.tags[1], array(select e ->> 'attempt' || ' ' || (e ->> 'error') from unnest(j.errors) as e)
  from awa.jobs as j where j.queue = p_queue and j.state = 'retryable' order by 1;
end;
$fn$;
select awa.enqueue('k', queue => 'tap/22/why' || q, tags => array[n]) from unnest('{1,2,3,4}'::text[]) as n, generate_series(1, 2) as q \g /dev/null
select results_eq(format($$ select * from pg_temp.fail_each('tap/22/why%s', %s, array['a', 'b', null, 'a']) $$, q, 4 / q),
  $$ values ('1', '{"1 a"}'::text[]), ('2', '{"1 b"}'), ('3', '{"1 "}'), ('4', '{"1 a"}') $$, 'each job has the error that it failed with, claims: ' || q)
from generate_series(1, 2) as q;
select awa.maintain() \g /dev/null
select awa.cancel(j.id), awa.enqueue('k', queue => j.queue, tags => '{5}') from awa.jobs as j where j.queue like 'tap/22/why_' and j.tags = '{4}' \g /dev/null
select results_eq(format($$ select * from pg_temp.fail_each('tap/22/why%s', %s, array['c', 'c', 'c', 'c']) $$, q, 4 / q),
  $$ values ('1', '{"1 a","2 c"}'::text[]), ('2', '{"1 b","2 c"}'), ('3', '{"1 ","2 c"}'), ('5', '{"1 c"}') $$,
  'and those before it, beside one that fails for the first time, claims: ' || q)
from generate_series(1, 2) as q;

select is_empty(
  $$ select n, awa.backoff(n) from generate_series(1, 1000) as n, generate_series(1, 20)
     where awa.backoff(n) not between interval '1 second' and interval '24 hours' $$,
  'the backoff of attempts 1 to 1000 is between one second and a day');
select is_empty(
  $$ select n from generate_series(1, 15) as n, generate_series(1, 50)
     where awa.backoff(n) not between make_interval(secs => 2 ^ (n - 1)) and make_interval(secs => 2 ^ (n - 1) * 1.25) $$,
  'it doubles from one second, with up to a quarter of jitter');
select is_empty($$ select n from generate_series(18, 1000) as n where awa.backoff(n) <> interval '24 hours' $$, 'and stays at a day');
select ok((select count(distinct awa.backoff(8)) > 10 from generate_series(1, 50)), 'jitter spreads retries that failed together');
select lives_ok($$ select awa.backoff(0), awa.backoff(-5), awa.backoff(2147483647), awa.backoff(-2147483648) $$, 'no attempt number overflows');
select awa.enqueue('k', queue => 'tap/22/backoff') \g /dev/null
create temp table failed_at as select clock_timestamp() as t;
select awa.fail(receipt, 'e') from awa.claim('tap/22/backoff') \g /dev/null
select ok((select d.run_at between (select t + interval '1 second' from failed_at) and clock_timestamp() + interval '1.25 seconds' from awa.deferred_jobs as d join awa.queue_lanes as l on l.lane = d.lane where l.queue = 'tap/22/backoff'),
  'without retry_after the first retry waits for backoff(1)');

select is((select array_agg(distinct queue) from (
    select coalesce(c.queue, h.queue) as queue
    from (select queue, sum(live_terminal_count) as n from awa.queue_terminal_live_counts group by queue) as c
    full join (select queue, count(*) as n from awa.done_entries group by queue) as h on h.queue = c.queue
    where coalesce(c.n, 0) <> coalesce(h.n, 0)) as s), null, 'counters equal history in every queue');
select is_empty('select * from awa.check()', 'the storage is sound after all of this');

-- Of so many claims in one segment some would draw each other's id.
select lives_ok($$
  do $do$
  declare
    r awa.receipt;
  begin
    perform awa.enqueue('k', queue => 'tap/22/often', max_attempts => 1000);
    for i in 1 .. 600 loop
      select (c.receipt).* into strict r from awa.claim('tap/22/often') as c;
      perform awa.snooze(r, '0');
    end loop;
  end
  $do$ $$, 'a job is claimed again and again');
select * from finish();
rollback;
