-- Priorities that age, jobs that are deferred and come due, the clock of tests.
begin;
select plan(30);
-- Alone: calls maintain.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;

-- Jobs of earlier, closed transactions, as claimers of real life see them.
create function pg_temp.waiting (p_queue text, p_priority integer, p_waited interval, p_name text) returns void
  language plpgsql as $$
declare
  v_id bigint := awa.enqueue('k', queue => p_queue, priority => p_priority);
begin
  update awa.ready_entries as r set xid = '5', run_at = now() - p_waited, args = to_jsonb(p_name) where r.job_id = v_id;
end;
$$;
create function pg_temp.next (p_queue text) returns text
  language sql as $$ select c.args #>> '{}' || ' ' || c.priority from awa.claim(p_queue) as c $$;

create function pg_temp.promoted () returns bigint
  language plpgsql as $$ begin return (select m.affected from awa.maintain() as m where m.task = 'promote'); end; $$;

-- Strict without ageing

select awa.configure_queue('tap/72/strict', '{"priority_aging_interval": "0"}') \g /dev/null
select pg_temp.waiting('tap/72/strict', 4, '10 years', 'old') \g /dev/null
select pg_temp.waiting('tap/72/strict', 2, '0', 'new') \g /dev/null
select is(pg_temp.next('tap/72/strict'), 'new 2', 'an interval of zero: priorities are strict');
select is(pg_temp.next('tap/72/strict'), 'old 4', 'the rest comes after');

-- Ageing

select awa.configure_queue('tap/72/aging', '{"priority_aging_interval": "10 minutes"}') \g /dev/null
select set_config('awa.now', now()::text, true) \g /dev/null
select pg_temp.waiting('tap/72/aging', 4, '25 minutes', 'two steps') \g /dev/null
select pg_temp.waiting('tap/72/aging', 3, '1 minute', 'fresh third') \g /dev/null
select pg_temp.waiting('tap/72/aging', 1, '0', 'fresh first') \g /dev/null
select is(pg_temp.next('tap/72/aging'), 'fresh first 1', 'a fresh job of the first priority comes first');
select is(pg_temp.next('tap/72/aging'), 'two steps 4', 'then one that earned two steps; it keeps its own priority');
select is(pg_temp.next('tap/72/aging'), 'fresh third 3', 'then a fresh third');
select is(pg_temp.next('tap/72/aging'), null, 'then nothing');
select is((select array_agg(j.priority order by j.priority) from awa.jobs as j where j.queue = 'tap/72/aging'), array[1, 3, 4]::smallint[], 'jobs shows the priorities that were given');
set local awa.now = '';

-- By default

select pg_temp.waiting('tap/72/default', 4, '10 minutes', 'starved') \g /dev/null
select pg_temp.waiting('tap/72/default', 2, '1 second', 'fresh') \g /dev/null
select is(pg_temp.next('tap/72/default'), 'starved 4', 'a minute a step: nobody starves');

-- Whatever the times

select pg_temp.waiting('tap/72/wild', 4, '200000 days', 'ancient') \g /dev/null
select pg_temp.waiting('tap/72/wild', 3, '1 day', 'yesterday') \g /dev/null
update awa.ready_entries set run_at = '-infinity' where args = '"ancient"';
select awa.configure_queue('tap/72/wild', '{"priority_aging_interval": "1 microsecond"}') \g /dev/null
select is(pg_temp.next('tap/72/wild'), 'ancient 4', 'times without end and the shortest interval do not overflow');
select is(pg_temp.next('tap/72/wild'), 'yesterday 3', 'and nothing is stuck behind them');
select awa.pause_queue('tap/72/paused') \g /dev/null
select pg_temp.waiting('tap/72/paused', p, '90 days', 'p' || p) from generate_series(1, 4) as p \g /dev/null
select is(pg_temp.next('tap/72/paused'), null, 'a paused queue gives nothing');
select awa.resume_queue('tap/72/paused') \g /dev/null
select is((select count(*) from awa.claim('tap/72/paused', 10)), 4::bigint, 'weeks later it gives all it has');

-- By the clock of tests, a fresh job is fresh

select set_config('awa.now', (now() + interval '720 hours')::text, true) \g /dev/null
select awa.enqueue('k', '"fourth"', queue => 'tap/72/later', priority => 4) \g /dev/null
select awa.enqueue_many('k', array['"third"']::jsonb[], queue => 'tap/72/later', priority => 3) \g /dev/null
select awa.enqueue_many('[{"kind": "k", "args": "second", "priority": 2}, {"kind": "k", "args": "first", "priority": 1, "unique_key": "\\x72"}]'::jsonb, queue => 'tap/72/later') \g /dev/null
select results_eq($$ select c.args #>> '{}', c.run_at - now(), c.created_at - now() from awa.claim('tap/72/later', 4) as c $$,
  $$ values ('first', interval '720 hours', interval '720 hours'), ('second', '720 hours', '720 hours'), ('third', '720 hours', '720 hours'), ('fourth', '720 hours', '720 hours') $$,
  'jobs enqueued at a later time have not waited since an earlier one');
set local awa.now = '';

-- Deferred

select awa.enqueue('k', to_jsonb(n), queue => 'tap/72/due', run_at => now() + make_interval(hours => n), priority => 3) from generate_series(1, 3) as n \g /dev/null
select set_config('awa.now', (now() + interval '150 minutes')::text, true) \g /dev/null
select is(pg_temp.promoted(), 2::bigint, 'what is due is promoted');
select results_eq($$ select j.state, j.priority, j.run_at - now() from awa.jobs as j where j.queue = 'tap/72/due' order by j.id $$,
  $$ values ('available'::awa.job_state, 3::smallint, interval '1 hour'), ('available', 3::smallint, '2 hours'), ('scheduled', 3::smallint, '3 hours') $$, 'with the time at which it was due');
select is(pg_temp.promoted(), 0::bigint, 'once');
select awa.enqueue('k', '"late"', queue => 'tap/72/due', run_at => now() + interval '1 second') \g /dev/null
update awa.deferred_jobs set run_at = now() - interval '1 day' where args = '3';
select is(pg_temp.promoted(), 1::bigint, 'a job whose time was set back by hand is found behind the point');
select set_config('awa.now', (now() - interval '1 day')::text, true) \g /dev/null
select awa.enqueue('k', queue => 'tap/72/back', run_at => now() - interval '12 hours') \g /dev/null
select is((select j.state from awa.jobs as j where j.queue = 'tap/72/back'), 'scheduled', 'the clock may be set back');
select set_config('awa.now', (now() - interval '6 hours')::text, true) \g /dev/null
select ok((select m.affected >= 1 from awa.maintain() as m where m.task = 'promote'), 'and promotion follows it');
select is((select j.state from awa.jobs as j where j.queue = 'tap/72/back'), 'available', 'to every job that is due by it');
select set_config('awa.now', '', true) \g /dev/null
select awa.enqueue_many('k', array(select to_jsonb(n) from generate_series(1, 2500) as n), queue => 'tap/72/many', run_at => now() + interval '1 hour') \g /dev/null
select set_config('awa.now', (now() + interval '1 day')::text, true) \g /dev/null
-- Attempts from above, rescued meanwhile, may come along with the last.
select is(least(pg_temp.promoted(), n), n, format('many of one time: a bite of %s', n)) from unnest(array[1000, 1000, 500]::bigint[]) as n;
select set_config('awa.now', '', true) \g /dev/null
select results_eq($$ select available, scheduled from awa.queue_counts('tap/72/many') $$, 'values (2500::bigint, 0::bigint)', 'and counted');

-- The clock

select set_config('awa.now', '2030-01-02 03:04:05+00', true) \g /dev/null
select is(awa._now(), '2030-01-02 03:04:05+00'::timestamptz, 'the owner may set the clock');
create role tap_72_plain;
grant usage on schema awa to tap_72_plain;
grant awa_worker, awa_producer, awa_reader to tap_72_plain;
grant execute on function awa._now, awa._may_set_clock to tap_72_plain;
set session authorization tap_72_plain;
select ok(awa._now() <= clock_timestamp(), 'nobody else may');
reset session authorization;
select set_config('awa.now', 'tomorrow or so', true) \g /dev/null
select throws_ok($$ select awa.claim('tap/72/many') $$, '22007', null, 'a time that is none is refused');
select set_config('awa.now', '', true) \g /dev/null

-- Keys

select is(awa.unique_key_of('k', 'q', '{"a": 1, "b": [2]}'), awa.unique_key_of('k', 'q', '{"b": [2], "a": 1}'), 'the order of keys in args does not matter');
select is((select count(distinct k) from unnest(array[awa.unique_key_of('k'), awa.unique_key_of('l'), awa.unique_key_of('k', 'q'), awa.unique_key_of('k', 'r'),
  awa.unique_key_of('k', 'q', '{}'), awa.unique_key_of('k', null, '{}'), awa.unique_key_of('k', 'q', '{"a": null}')]) as k), 7::bigint, 'every part does');

select is_empty('select * from awa.check()', 'the storage is sound');
select * from finish();
rollback;
