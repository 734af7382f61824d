-- A clock that ran ahead by a day and is right again: what was noted meanwhile
-- holds nothing up.
begin;
select plan(33);
-- Alone: turns the ring, sets the clock.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
select awa.reset() \g /dev/null

create function pg_temp.at (p_step interval) returns void
  language sql as $$ select set_config('awa.now', (clock_timestamp() + p_step)::text, true) $$;
\ir rescued.psql
create function pg_temp.errors (p_queue text) returns setof text
  language sql as $$ select coalesce(j.errors[1] ->> 'error', j.state::text) from awa.jobs as j where j.queue = p_queue order by j.id $$;

-- Attempts of workers

select awa.enqueue('k', queue => 'tap/76/' || q) from unnest(array['alive', 'dead', 'dead', 'later', 'lease', 'answered']) as q \g /dev/null
select pg_temp.at('1 day') \g /dev/null
select awa.register_worker('tap/76/' || w) from unnest(array['alive', 'dead']) as w \g /dev/null
create temp table held as
  select q, c.* from unnest(array['alive', 'dead']) as q cross join lateral awa.claim('tap/76/' || q, 1, 'tap/76/' || q, '1 hour') as c;
create temp table answered as select c.* from awa.claim('tap/76/answered', 1, 'tap/76/dead', '1 hour') as c;
create temp table asked as select awa.register_callback(receipt, '1 hour') as id from answered;
select awa.resume_callback(a.id) from asked as a \g /dev/null
select is(pg_temp.rescued(), 0::bigint, 'all are alive');

select pg_temp.at('0') \g /dev/null
create temp table later as select c.* from awa.claim('tap/76/later', 1, 'tap/76/alive', '1 hour') as c;
insert into later select c.* from awa.claim('tap/76/dead', 1, 'tap/76/dead', '1 day') as c;
insert into later select c.* from awa.claim('tap/76/lease', 1, 'tap/76/nobody', '1 minute') as c;
select is(pg_temp.rescued(), 0::bigint, 'set back, they have not been silent yet');
select cmp_ok(max(w.heartbeat_at), '<=', clock_timestamp(), 'and silence counts from now') from awa.workers as w;
select cmp_ok((select p.looked_at from awa.watch_points as p order by p.point desc limit 1), '<=', clock_timestamp(), 'as rescue''s own ledger does');
select pg_temp.at('80 seconds') \g /dev/null
select awa.heartbeat('tap/76/alive') \g /dev/null
select is(pg_temp.rescued(), 1::bigint, 'a lease is as long as it says');
select pg_temp.at('100 seconds') \g /dev/null
select is(pg_temp.rescued(), 3::bigint, 'a silent worker''s attempts are rescued, those of before and of after, in the ring or not');
select bag_eq($$ select left(e, 28) from pg_temp.errors('tap/76/dead') as e union all select left(e, 28) from pg_temp.errors('tap/76/answered') as e $$,
  array_fill('worker tap/76/dead is silent'::text, array[3]), 'they say so');
select bag_eq($$ select e from pg_temp.errors('tap/76/alive') as e union all select e from pg_temp.errors('tap/76/later') as e $$,
  $$ values ('running'), ('running') $$, 'the other one''s go on');
select is((select count(*) from awa.heartbeat('tap/76/dead')), 3::bigint, 'it is told of them once it is back');
select ok(bool_and(awa.complete(h.receipt)), 'what goes on is finished') from held as h where h.q = 'alive';
select set_config('awa.now', '', true) \g /dev/null

-- A heartbeat from ahead of which no ledger tells

select awa.reset() \g /dev/null
select awa.enqueue('k', queue => 'tap/76/first') \g /dev/null
select pg_temp.at('1 day') \g /dev/null
select awa.register_worker('tap/76/first') \g /dev/null
select pg_temp.at('0') \g /dev/null
create temp table first as select c.* from awa.claim('tap/76/first', 1, 'tap/76/first', '5 minutes') as c;
select is(pg_temp.rescued(), 0::bigint, 'a claim after the clock is right again');
select pg_temp.at('6 minutes') \g /dev/null
select is(pg_temp.rescued(), 1::bigint, 'is rescued');
select set_config('awa.now', '', true) \g /dev/null

-- A bucket

select awa.configure_queue('tap/76/rate', '{"rate_limit": 2, "rate_burst": 3}') \g /dev/null
select awa.enqueue_many('k', array_fill('{}'::jsonb, array[20]), queue => 'tap/76/rate') \g /dev/null
select set_config('awa.now', (now() + interval '1 day')::text, true) \g /dev/null
select is((select count(*) from awa.claim('tap/76/rate', 10, lease => '1 day')), 3::bigint, 'a burst, ahead');
select set_config('awa.now', (now() + interval '0')::text, true) \g /dev/null
select is((select count(*) from awa.claim('tap/76/rate', 10, lease => '1 day')), 0::bigint, 'an empty bucket stays empty');
select set_config('awa.now', (now() + interval '1 second')::text, true) \g /dev/null
select is((select count(*) from awa.claim('tap/76/rate', 10, lease => '1 day')), 2::bigint, 'and fills from now');
select set_config('awa.now', '', true) \g /dev/null

-- Slots of keys

select awa.configure_queue('tap/76/slots', '{"concurrency_limit": 1}') \g /dev/null
select awa.enqueue('k', queue => 'tap/76/slots', concurrency_key => k) from unnest(array['short', 'short', 'long', 'long']) as k \g /dev/null
select pg_temp.at('1 day') \g /dev/null
create temp table slots as select c.* from awa.claim('tap/76/slots', 2, lease => '2 days') as c;
select awa.complete(s.receipt) from slots as s where s.job_id = (select min(s.job_id) from slots as s) \g /dev/null
select pg_temp.at('0') \g /dev/null
select is((select count(*) from awa.claim('tap/76/slots', 2, lease => '2 days')), 1::bigint, 'an attempt that ended ahead holds no slot');
-- So that the open one is found by its key and no longer by its batch.
select awa.enqueue('k', queue => 'tap/76/slots', concurrency_key => n::text) from generate_series(1, 140) as n \g /dev/null
select awa.claim('tap/76/slots', lease => '2 days') from generate_series(1, 140) \g /dev/null
select pg_temp.at('1 day') \g /dev/null
select is((select s.key from awa.slot_entries as s where s.key = 'long'), 'long', 'another one is old by now');
select awa.complete(s.receipt) from slots as s \g /dev/null
select pg_temp.at('0') \g /dev/null
select is((select count(*) from awa.claim('tap/76/slots')), 1::bigint, 'and neither does it');
select set_config('awa.now', '', true) \g /dev/null

-- Jobs that a claim set aside were due, and had no key that counts while they are not

select awa.configure_queue(q, '{"concurrency_limit": 1}') from unnest(array['tap/76/parked', 'tap/76/moved']) as q \g /dev/null
select set_config('awa.now', (clock_timestamp() + interval '1 day')::text, true) \g /dev/null
select awa.enqueue('k', queue => 'tap/76/parked', concurrency_key => 'c'), awa.enqueue('k', queue => 'tap/76/moved', concurrency_key => 'c') \g /dev/null
select awa.enqueue('k', queue => 'tap/76/parked', concurrency_key => 'c', unique_key => '\x7601', unique_states => b'10000000') as parked,
  awa.enqueue('k', queue => 'tap/76/moved', concurrency_key => 'c', unique_key => '\x7602', unique_states => b'10000000') as moved \gset
select awa.claim(q) from unnest(array['tap/76/parked', 'tap/76/moved']) as q, generate_series(1, 2) \g /dev/null
select results_eq(format('select run_at from awa.jobs where id in (%s, %s)', :parked, :moved), $$ values (timestamptz 'infinity'), ('infinity') $$, 'jobs are set aside while the clock is ahead');
select set_config('awa.now', '', true) \g /dev/null
select awa.enqueue('k', queue => 'tap/76/keys', unique_key => k) from unnest(array['\x7601', '\x7602']::bytea[]) as k \g /dev/null
select awa.configure_queue('tap/76/parked', '{"concurrency_limit": null}') \g /dev/null
select is((select state from awa.jobs where id = :parked), 'available', 'one whose queue has no limit any more is due');
select awa.run_batch_operation(awa.start_batch_operation('reprioritize', jsonb_build_object('ids', jsonb_build_array(:moved)), '{"priority": 3}')) \g /dev/null
select ok((select run_at <= clock_timestamp() from awa.jobs where id = :moved), 'and so is one that is moved');
select is_empty('select * from awa.check()', 'others have their keys');

-- Available jobs stay so, whatever an UPDATE that gives them no time changes

select set_config('awa.now', (clock_timestamp() + interval '1 day')::text, true) \g /dev/null
select awa.configure_queue('tap/76/updated', '{"concurrency_limit": 1}') \g /dev/null
select awa.enqueue('first', queue => 'tap/76/updated', concurrency_key => 'c') \g /dev/null
select awa.enqueue('parked', queue => 'tap/76/updated', concurrency_key => 'c', unique_key => '\x7603', unique_states => b'10000000') \g /dev/null
select awa.claim('tap/76/updated') from generate_series(1, 2) \g /dev/null
select awa.enqueue('keyed', queue => 'tap/76/updated', unique_key => '\x7604', unique_states => b'10000000'),
  awa.enqueue('timed', queue => 'tap/76/updated') \g /dev/null
select set_config('awa.now', '', true) \g /dev/null
select awa.enqueue('k', queue => 'tap/76/keys', unique_key => k, unique_states => b'11000000') from unnest(array['\x7603', '\x7604']::bytea[]) as k \g /dev/null
create function pg_temp.updated () returns table (kind text, state awa.job_state)
  language sql as $$
  update awa.jobs as j set priority = 3, run_at = case when j.kind = 'timed' then j.run_at + interval '1 s' else j.run_at end
  where j.queue = 'tap/76/updated' and j.kind <> 'first' returning j.kind, j.state $$;
select bag_eq('select * from pg_temp.updated()', $$ values ('parked', 'available'::awa.job_state), ('keyed', 'available'), ('timed', 'scheduled') $$, 'they need no key for that');
select bag_eq($$ select kind, state from awa.jobs where queue = 'tap/76/updated' and kind <> 'first' $$,
  $$ values ('parked', 'available'::awa.job_state), ('keyed', 'available'), ('timed', 'scheduled') $$, 'as RETURNING tells');
select awa.configure_queue('tap/76/updated', '{"concurrency_limit": null}') \g /dev/null
select bag_eq($$ select kind from awa.claim('tap/76/updated', 5) $$, $$ values ('parked'), ('keyed') $$, 'and are handed out');
select is_empty('select * from awa.check()', 'others keep their keys');

-- Gates of once a second and of ten times what a pass took

select awa.enqueue('k', queue => 'tap/76/gate') \g /dev/null
create temp table gate as select c.* from awa.claim('tap/76/gate', 1, lease => '1 ms') as c;
select pg_temp.at('1 minute') \g /dev/null
select setval('awa.rescue_clock', (extract(epoch from clock_timestamp() + interval '1 day') * 1000)::bigint) \g /dev/null
select is((select m.affected from awa.maintain() as m where m.task = 'rescue'), 1::bigint, 'a pass that was put off until tomorrow is due');
select setval('awa.rescue_clock', (extract(epoch from clock_timestamp() + interval '2 minutes') * 1000)::bigint) \g /dev/null
select results_eq($$ select m.outcome, m.affected from awa.maintain() as m where m.task = 'rescue' $$, $$ values ('idle', 0::bigint) $$, 'one that was put off by minutes is not');
select setval('awa.rescue_clock', 1) \g /dev/null
select set_config('awa.now', '', true) \g /dev/null
select setval('awa.checkpoint_clock', (extract(epoch from clock_timestamp() + interval '1 day') * 1000)::bigint) \g /dev/null
select awa.maintain() \g /dev/null
select cmp_ok((select k.last_value from awa.checkpoint_clock as k), '<=', (extract(epoch from clock_timestamp()) * 1000 + 1000)::bigint, 'so is a checkpoint of all segments');

-- Segments

update awa.segment_rotations set rotated_at = clock_timestamp() + interval '1 day';
select results_eq($$ select m.outcome from awa.maintain() as m where m.task = 'rotate' $$, $$ values ('rotated') $$, 'a segment that was opened ahead is sealed');
select is((select count(*) from awa.maintain() as m where m.task = 'rotate'), 0::bigint, 'once');

-- Progress

select awa.enqueue('k', queue => 'tap/76/progress') \g /dev/null
create temp table moved as select c.* from awa.claim('tap/76/progress') as c;
select awa.set_progress(receipt, 10, metadata => '{"a": 1}') from moved \g /dev/null
update awa.progress_entries set at = at + interval '1 day';
select awa.set_progress(receipt, 20, metadata => '{"b": 2}') from moved \g /dev/null
select awa.set_progress(receipt, 30, metadata => '{"c": 3}') from moved \g /dev/null
select is((select j.progress from awa.jobs as j where j.queue = 'tap/76/progress'), '{"percent": 30, "metadata": {"a": 1, "b": 2, "c": 3}}'::jsonb, 'the last report counts');

select is_empty('select * from awa.check()', 'the storage is sound');
select * from finish();
rollback;
