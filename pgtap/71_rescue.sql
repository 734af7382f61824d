-- Leases, heartbeats, deadlines and rescue.
begin;
select plan(73);
-- Alone: calls maintain.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;

\ir rescued.psql
create function pg_temp.state_of (p_queue text) returns text
  language sql as $$ select string_agg(j.state || ' ' || j.attempt, ', ' order by j.id) from awa.jobs as j where j.queue = p_queue $$;

-- By lease

select awa.enqueue('k', queue => 'tap/71/lease', max_attempts => 2) from generate_series(1, 4) \g /dev/null
create temp table held as select c.*, row_number() over () as n from awa.claim('tap/71/lease', 4, 'tap/71/nobody', '1 minute') as c;
select is(pg_temp.rescued(), 0::bigint, 'nothing is due yet');
select ok(awa.complete(receipt), 'one of the batch is completed') from held where n = 1;
select is_empty($$ select awa.extend_lease(array(select receipt from held where n = 2), '10 minutes') $$, 'one lease is extended');
select set_eq($$ select awa.extend_lease(array(select receipt from held where n <= 2), '1 second') $$, 'select receipt from held where n = 1', 'a closed attempt is stale; a shorter lease changes nothing');
select throws_ok($$ select awa.extend_lease(array(select receipt from held), '0') $$, 'AW006', null, 'a lease of zero is refused');
-- A month is 30 days to a comparison; here it is as short as 28, or as long as 31.
select throws_ok('select awa.' || call, 'AW006', null, call || ' is refused')
from (values ($$claim('tap/71/lease', lease => '1 mon -28 days')$$), ($$extend_lease('{}', '-1 mon 31 days')$$), ($$register_callback(null, '1 mon -28 days')$$),
  ($$enqueue('k', deadline => '-1 mon 31 days')$$), ($$enqueue_many('k', array['1']::jsonb[], deadline => '1 mon -28 days')$$),
  ($$configure_storage('{"worker_silence": "1 mon -29 days"}')$$)) as c (call);
select set_config('awa.now', (clock_timestamp() + interval '2 minutes')::text, true) \g /dev/null
select is(pg_temp.rescued(), 2::bigint, 'two leases ran out');
select is(pg_temp.state_of('tap/71/lease'), 'completed 1, running 1, retryable 1, retryable 1', 'their attempts count; the extended one goes on');
select is(pg_temp.rescued(), 0::bigint, 'nothing is rescued twice');
select results_eq($$ select j.errors[1] ->> 'error', (j.errors[1] ->> 'attempt')::integer from awa.jobs as j join held as h on h.job_id = j.id where h.n = 3 $$,
  $$ values ('lease expired', 1) $$, 'the error says so');
select ok(not awa.complete(receipt) and awa.fail(receipt) is null and not awa.snooze(receipt, '1 s') and not awa.set_progress(receipt, 1),
  'the old worker''s receipt is stale for everything') from held where n = 3;
select set_eq($$ select h.receipt from awa.heartbeat('tap/71/nobody') as h where h.reason = 'rescued' $$, 'select receipt from held where n >= 3', 'and its heartbeat says so');
select set_config('awa.now', (clock_timestamp() + interval '1 hour')::text, true) \g /dev/null
select is(pg_temp.rescued(), 1::bigint, 'an extended lease runs out as well');
select set_config('awa.now', (clock_timestamp() + interval '70 minutes')::text, true) \g /dev/null
select awa.maintain() \g /dev/null
create temp table last as select c.* from awa.claim('tap/71/lease', 10, lease => '1 minute') as c;
select is((select count(*) from last where attempt = 2), 3::bigint, 'all come back for their second attempt');
select set_config('awa.now', (clock_timestamp() + interval '2 hours')::text, true) \g /dev/null
select is(pg_temp.rescued(), 3::bigint, 'which is lost again');
select is(pg_temp.state_of('tap/71/lease'), 'completed 1, failed 2, failed 2, failed 2', 'a job that loses its last attempt fails: no loop');
select set_config('awa.now', '', true) \g /dev/null

-- Dead letters

select awa.configure_queue('tap/71/dlq', '{"dlq_enabled": true}') \g /dev/null
select awa.enqueue('k', queue => 'tap/71/dlq', max_attempts => 1) \g /dev/null
create temp table doomed as select c.* from awa.claim('tap/71/dlq', lease => '1 ms') as c;
select set_config('awa.now', (clock_timestamp() + interval '1 minute')::text, true) \g /dev/null
select is(pg_temp.rescued(), 1::bigint, 'a rescued last attempt');
select results_eq($$ select e.dlq_reason, e.attempt, e.errors[1] ->> 'error' from awa.dlq_entries as e where e.queue = 'tap/71/dlq' $$,
  $$ values ('max_attempts_exhausted', 1::smallint, 'lease expired') $$, 'is dead-lettered where the queue says so');
select set_config('awa.now', '', true) \g /dev/null

-- By heartbeat

select awa.register_worker('tap/71/alive', '{"host": "a"}') \g /dev/null
select awa.register_worker('tap/71/silent') \g /dev/null
select awa.enqueue('k', queue => q) from unnest(array['tap/71/alive', 'tap/71/silent']) as q \g /dev/null
create temp table beats as
  select c.* from awa.claim('tap/71/alive', 1, 'tap/71/alive', '1 ms') as c union all select c.* from awa.claim('tap/71/silent', 1, 'tap/71/silent', '1 day') as c;
select set_config('awa.now', (clock_timestamp() + interval '80 seconds')::text, true) \g /dev/null
select awa.heartbeat('tap/71/alive') \g /dev/null
select is(pg_temp.rescued(), 0::bigint, 'a lease that ran out does not matter while the worker''s heartbeat is young');
select isnt((select j.heartbeat_at from awa.jobs as j where j.queue = 'tap/71/alive'), null, 'jobs shows the heartbeat');
select set_config('awa.now', (clock_timestamp() + interval '160 seconds')::text, true) \g /dev/null
select is(pg_temp.rescued(), 1::bigint, 'a silent worker''s attempt is rescued, however long its lease');
select is(pg_temp.state_of('tap/71/alive') || ', ' || pg_temp.state_of('tap/71/silent'), 'running 1, retryable 1', 'the other one''s is not');
select matches((select j.errors[1] ->> 'error' from awa.jobs as j where j.queue = 'tap/71/silent'), '^worker tap/71/silent is silent since', 'the error names the worker');
select set_config('awa.now', '', true) \g /dev/null

select awa.enqueue('k', queue => 'tap/71/late', deadline => d) from unnest(array['2 minutes', null]::interval[]) as d \g /dev/null
select awa.claim('tap/71/late', 2, 'tap/71/late') \g /dev/null
select set_config('awa.now', (clock_timestamp() + interval '160 seconds')::text, true) \g /dev/null
select awa.heartbeat('tap/71/late') \g /dev/null
select is(pg_temp.rescued(), 1::bigint, 'an attempt beyond its deadline is rescued from a worker that lives');
select is(pg_temp.state_of('tap/71/late'), 'retryable 1, running 1', 'alone of its batch');
select set_config('awa.now', '', true) \g /dev/null

-- By the worker itself, of claims whose answers it never had

select awa.register_worker('tap/71/lost') \g /dev/null
select awa.enqueue('k', queue => 'tap/71/lost') from generate_series(1, 6) \g /dev/null
create temp table lost_known as select c.receipt from awa.claim('tap/71/lost', 2, 'tap/71/lost') as c;
create temp table lost_answer as select c.receipt from awa.claim('tap/71/lost', 3, 'tap/71/lost') as c;
create temp table lost_other as select c.receipt from awa.claim('tap/71/lost', 1, 'tap/71/other') as c;
select ok(awa.complete(u.receipt), 'one of them is finished') from lost_answer as u limit 1;
select is(awa.rescue_unknown('tap/71/lost', array(select a.receipt from lost_known as a)), 2::bigint, 'what a worker does not know of is rescued');
select is(pg_temp.state_of('tap/71/lost'), 'running 1, running 1, completed 1, retryable 1, retryable 1, running 1', 'and nothing else');
select is((select distinct j.errors[1] ->> 'error' from awa.jobs as j where j.queue = 'tap/71/lost' and j.state = 'retryable'),
  'worker tap/71/lost does not know of the attempt', 'the error says so');
select is(awa.rescue_unknown('tap/71/lost', array(select a.receipt from lost_known as a)), 0::bigint, 'once');
select is(awa.rescue_unknown('tap/71/absent', '{}'), 0::bigint, 'an unknown worker has no attempts');
select is(awa.rescue_unknown('tap/71/lost', '{}'), 2::bigint, 'a worker that knows of none has none left');

-- Also of one that runs on after a callback: heartbeats keep it alive, whatever its lease.
select awa.enqueue('k', queue => 'tap/71/resumed') from generate_series(1, 3) \g /dev/null
create temp table resumed as select c.receipt, row_number() over () as n from awa.claim('tap/71/resumed', 3, 'tap/71/lost') as c;
select count(awa.resume_callback(awa.register_callback(u.receipt, '1 hour'))) from resumed as u where u.n < 3 \g /dev/null
select awa.register_callback(u.receipt, '1 hour') from resumed as u where u.n = 3 \g /dev/null
select is(awa.rescue_unknown('tap/71/lost', array(select u.receipt from resumed as u where u.n = 1)), 1::bigint,
  'an attempt that was resumed is rescued like any other');
select is(pg_temp.state_of('tap/71/resumed'), 'running 1, retryable 1, waiting_external 1', 'what waits for a callback is not');

select throws_ok(format('select %s', call), 'AW006', null, call || ' is refused')
from (values ($$awa.rescue_unknown(null, '{}')$$), ($$awa.rescue_unknown('w', null)$$), ($$awa.register_worker(null)$$), ($$awa.register_worker('')$$), ($$awa.heartbeat(repeat('w', 201))$$),
  ($$awa.register_worker('tap/71/alive', to_jsonb(repeat('w', 70000)))$$)) as c (call);

-- By deadline

select awa.enqueue('k', queue => 'tap/71/deadline', deadline => '10 seconds') \g /dev/null
create temp table late as select c.* from awa.claim('tap/71/deadline', 1, 'tap/71/alive') as c;
select ok((select deadline_at between now() and clock_timestamp() + interval '11 s' from late), 'a claim says its deadline');
select set_config('awa.now', (clock_timestamp() + interval '30 seconds')::text, true) \g /dev/null
select awa.heartbeat('tap/71/alive') \g /dev/null
select is(pg_temp.rescued(), 1::bigint, 'an attempt past its deadline is closed though the worker lives');
select results_eq($$ select j.state, j.errors[1] ->> 'error' from awa.jobs as j where j.queue = 'tap/71/deadline' $$,
  $$ values ('retryable'::awa.job_state, 'deadline exceeded') $$, 'as a failure');
select set_config('awa.now', '', true) \g /dev/null

-- One bad row keeps nobody else

select awa.enqueue('k', queue => 'tap/71/bad', max_attempts => 5) from generate_series(1, 3) \g /dev/null
create temp table bad as select c.*, row_number() over () as n from awa.claim('tap/71/bad', 3, lease => '1 ms') as c;
update awa.ready_entries as r set attempt = 32767, max_attempts = 32767, errors = array[null::jsonb] from bad as b where r.job_id = b.job_id and b.n = 2;
alter table awa.deferred_jobs add constraint tap_71 check (job_id is null or kind <> 'k' or metadata is null) not valid;
update awa.ready_entries as r set metadata = '{"a": 1}', max_attempts = 5, attempt = 1 from bad as b where r.job_id = b.job_id and b.n = 2;
select set_config('awa.now', (clock_timestamp() + interval '1 minute')::text, true) \g /dev/null
select setval('awa.rescue_clock', 1) \g /dev/null
select results_eq($$ select m.affected, m.detail like 'job % violates check constraint%' from awa.maintain() as m where m.task = 'rescue' $$,
  'values (2::bigint, true)', 'the others are rescued, and maintain names the one that could not be');
alter table awa.deferred_jobs drop constraint tap_71;
select is(pg_temp.rescued(), 1::bigint, 'it is when nothing is in its way');

-- A straggler of a pruned segment

select set_config('awa.now', '', true) \g /dev/null
select awa.enqueue('k', queue => 'tap/71/straggler') \g /dev/null
create temp table straggler as select c.* from awa.claim('tap/71/straggler', lease => '1 hour') as c;
select ok(awa.set_progress(receipt, 7), 'a straggler with progress') from straggler;
select isnt((select count(*) from awa.watched_claims as w join straggler as s on w.batch_id = (s.receipt).batch_id), 0::bigint, 'its claim is watched');

-- Who is there
select awa.register_worker('tap/71/told', '{"host": "b"}') \g /dev/null
select awa.heartbeat('tap/71/told') \g /dev/null
select results_eq($$ select w.worker, w.info, w.heartbeat_at = (select max(h.heartbeat_at) from awa.workers as h where h.worker = w.worker)
    from awa.list_workers() as w where w.worker in ('tap/71/told', 'tap/71/alive', 'tap/71/absent') $$,
  $$ values ('tap/71/alive', '{"host": "a"}'::jsonb, true), ('tap/71/told', '{"host": "b"}', true) $$, 'list_workers has each worker once, with its last heartbeat and its info');
select is((select count(*) - count(distinct w.worker) from awa.list_workers() as w), 0::bigint, 'none of them twice');

-- A server that was down: what workers could not tell it is not silence

create function pg_temp.after_start (p_step interval) returns void
  language sql as $$ select set_config('awa.now', (pg_postmaster_start_time() + p_step)::text, true) $$;
select awa.reset() \g /dev/null
select awa.enqueue('k', queue => q) from unnest(array['tap/71/lives', 'tap/71/died', 'tap/71/parked']) as q \g /dev/null
select pg_temp.after_start('-10 minutes') \g /dev/null
select awa.register_worker(w) from unnest(array['tap/71/lives', 'tap/71/died']) as w \g /dev/null
create temp table down as
  select q, c.receipt from unnest(array['lives', 'died']) as q cross join lateral awa.claim('tap/71/' || q, 1, 'tap/71/' || q) as c;
create temp table answered as
  select awa.register_callback(c.receipt, '1 hour') as id from awa.claim('tap/71/parked', 1, 'tap/71/died') as c;
select awa.resume_callback(a.id) from answered as a \g /dev/null
select pg_temp.after_start('89 seconds') \g /dev/null
select is(pg_temp.rescued(), 0::bigint, 'nobody is silent before the server is there long enough');
select awa.heartbeat('tap/71/lives') \g /dev/null
select pg_temp.after_start('91 seconds') \g /dev/null
select is(pg_temp.rescued(), 2::bigint, 'then who has not been back is');
select is(awa.complete(receipt), q = 'lives', q || ' while the server was down') from down;

-- A standby that was promoted: it had been up for long

select set_config('awa.now', '', true) \g /dev/null
select awa.reset() \g /dev/null
select awa.enqueue('k', queue => q) from unnest(array['tap/71/lives', 'tap/71/died']) as q \g /dev/null
select pg_temp.after_start('1 day') \g /dev/null
select awa.register_worker(w) from unnest(array['tap/71/lives', 'tap/71/died']) as w \g /dev/null
select is(pg_temp.rescued(), 0::bigint, 'a pass knows the timeline');
truncate down;
insert into down select q, c.receipt from unnest(array['lives', 'died']) as q cross join lateral awa.claim('tap/71/' || q, 1, 'tap/71/' || q) as c;
update awa.primaries as p set timeline = p.timeline - 1 where p.n = (select max(k.n) from awa.primaries as k);
select pg_temp.after_start('1 day 10 minutes') \g /dev/null
select is(pg_temp.rescued(), 0::bigint, 'nobody is silent when the first pass meets a new timeline');
select pg_temp.after_start('1 day 11 minutes 29 seconds') \g /dev/null
select awa.heartbeat('tap/71/lives') \g /dev/null
select is(pg_temp.rescued(), 0::bigint, 'nor before the server has been the primary for long enough');
select pg_temp.after_start('1 day 11 minutes 31 seconds') \g /dev/null
select is(pg_temp.rescued(), 1::bigint, 'then who has not been back is');
select is(awa.complete(receipt), q = 'lives', q || ' while there was no primary') from down;

-- A server that was started while its clock ran ahead

select awa.reset() \g /dev/null
select awa.enqueue('k', queue => 'tap/71/died') \g /dev/null
select pg_temp.after_start('-1 day') \g /dev/null
select awa.register_worker('tap/71/died') \g /dev/null
select count(*) from awa.claim('tap/71/died', 1, 'tap/71/died') \g /dev/null
select pg_temp.after_start('-1 day' + interval '91 seconds') \g /dev/null
select is(pg_temp.rescued(), 1::bigint, 'the start of a server that is ahead keeps nobody from being silent');
select set_config('awa.now', '', true) \g /dev/null

-- A server that keeps no such log

create schema tap71;
create function tap71.pg_walfile_name (pg_lsn) returns text
  language plpgsql as $$ begin raise feature_not_supported; end $$;
set local search_path = tap71, pg_catalog, awa, public, pg_temp;
select is(awa._primary_since(now()), pg_postmaster_start_time(), 'a server that tells no timeline goes by its start');
reset search_path;

-- Many follow each: a pass ends when its time is over, and takes small bites until then

select awa.enqueue('k', queue => 'tap/71/follows', max_attempts => 1, follow_ups => '{"exhausted": [{"kind": "after", "queue": "tap/71/after"}]}')
from generate_series(1, 25) \g /dev/null
create temp table many as select c.receipt from awa.claim('tap/71/follows', 25, lease => '1 hour') as c;
set local search_path = pg_catalog, awa, public, pg_temp;
select is_empty($$ select o.* from awa._rescue_attempts(array(select receipt from many), array(select 'late' from many), '-infinity') as o $$,
  'nothing is begun when the time is over');
reset search_path;
select is((select running from awa.queue_counts('tap/71/follows')), 25::bigint, 'what is left is open');
select set_config('awa.now', (clock_timestamp() + interval '61 minutes')::text, true) \g /dev/null
select is(pg_temp.rescued(), 25::bigint, 'and comes with the next pass, every one');
select is((select scheduled + available from awa.queue_counts('tap/71/after')), 25::bigint, 'with what follows it');
select set_config('awa.now', '', true) \g /dev/null

-- One that cannot be rescued, among attempts that wait for answers: the others are one by one

select awa.enqueue(k, queue => 'tap/71/leased', priority => p)
from (values ('first', 1), ('second', 2), ('third', 1), ('bad', 3)) as j (k, p) \g /dev/null
select awa.register_callback(c.receipt, '1 second') from awa.claim('tap/71/leased', 4) as c \g /dev/null
create temp table met (n integer generated always as identity, kind text);
create function pg_temp.leased_gone () returns trigger
  language plpgsql as $$
begin
  insert into met (kind) values (old.kind);
  if old.kind = 'bad' then
    raise exception 'bad';
  end if;
  return null;
end $$;
create trigger leased_gone after delete on awa.leases for each row execute function pg_temp.leased_gone();
select set_config('awa.now', (clock_timestamp() + interval '2 seconds')::text, true) \g /dev/null
select is(pg_temp.rescued(), 3::bigint, 'an attempt that cannot be rescued keeps none that is leased from it');
select results_eq('select kind from met order by n', $$ values ('first'), ('second'), ('third') $$,
  'which are met in the order of their jobs, as by everybody, not of their batches');
drop trigger leased_gone on awa.leases;
select set_config('awa.now', '', true) \g /dev/null

select is_empty('select * from awa.check()', 'the storage is sound');
select * from finish();
rollback;
