-- Batch operations: one thing done to many jobs, in bites.
begin;
select plan(119);
-- Alone: maintain takes the oldest operation there is.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
select awa.reset() \g /dev/null

-- What became of an operation.
create function pg_temp.outcome (p_id bigint) returns text
  language sql as $$
  select format('%s: %s matched, %s affected, %s skipped, %s failed', o.state, o.matched, o.affected, o.skipped, o.failed)
  from awa.get_batch_operation(p_id) as o
$$;
-- Starts one, runs it to its end and says what became of it.
create function pg_temp.run (p_operation text, p_filter jsonb, p_settings jsonb default '{}') returns text
  language plpgsql as $$
declare
  v_id bigint := awa.start_batch_operation(p_operation, p_filter, p_settings);
begin
  perform awa.run_batch_operation(v_id, null);
  return pg_temp.outcome(v_id);
end;
$$;
-- p_jobs jobs of a kind, and their end.
create function pg_temp.failed (p_queue text, p_kind text, p_jobs integer) returns bigint[]
  language plpgsql as $$
declare
  v_ids bigint[] := awa.enqueue_many(p_kind, array_fill('1'::jsonb, array[p_jobs]), queue => p_queue);
begin
  perform awa.fail(c.receipt, 'boom', terminal => true) from awa.claim(p_queue, p_jobs) as c;
  return v_ids;
end;
$$;

-- What is refused

select throws_like($$ select awa.start_batch_operation('explode', all_jobs => true) $$, '%explode%', 'an unknown operation');
select throws_ok($$ select awa.start_batch_operation('explode', all_jobs => true) $$, 'AW006', null, 'is an invalid argument');
select throws_ok(format('select awa.start_batch_operation(%L, %L, %L)', o, f, s), 'AW006', null, title)
from (values
  ('a null operation', null, '{"queue": "q"}', '{}'),
  ('an empty filter without all_jobs', 'cancel', '{}', '{}'),
  ('an unknown filter', 'cancel', '{"colour": "red"}', '{}'),
  ('a filter that is no object', 'cancel', '[]', '{}'),
  ('a null in the filter', 'cancel', '{"queue": null}', '{}'),
  ('an array where one value belongs', 'cancel', '{"queue": ["a"]}', '{}'),
  ('no ids at all', 'cancel', '{"ids": []}', '{}'),
  ('an id that is no number', 'cancel', '{"ids": ["one"]}', '{}'),
  ('a bound that is no number', 'cancel', '{"min_id": "one"}', '{}'),
  ('a time that is none', 'cancel', '{"created_after": "soon"}', '{}'),
  ('an unknown state', 'cancel', '{"state": "asleep"}', '{}'),
  ('a state that cancel does not take', 'cancel', '{"state": "failed"}', '{}'),
  ('one among others', 'retry', '{"state": ["failed", "completed"]}', '{}'),
  ('discard of what is not failed', 'discard', '{"state": "cancelled"}', '{}'),
  ('a setting that the operation does not have', 'cancel', '{"queue": "q"}', '{"priority": 1}'),
  ('any setting of delete', 'delete', '{"queue": "q"}', '{"reason": "r"}'),
  ('settings that are no object', 'cancel', '{"queue": "q"}', '1'),
  ('reprioritize without a priority', 'reprioritize', '{"queue": "q"}', '{}'),
  ('a priority out of bounds', 'reprioritize', '{"queue": "q"}', '{"priority": 5}'),
  ('half a priority', 'reprioritize', '{"queue": "q"}', '{"priority": 1.5}'),
  ('a priority that is no number', 'reprioritize', '{"queue": "q"}', '{"priority": "1"}'),
  ('move without a queue', 'move', '{"queue": "q"}', '{"priority": 1}'),
  ('a queue without a name', 'move', '{"queue": "q"}', '{"queue": ""}'),
  ('a reason that is no text', 'cancel', '{"queue": "q"}', '{"reason": 1}')
) as v (title, o, f, s);
select throws_like($$ select awa.count_batch_jobs('cancel', '{"state": ["running", "asleep"]}') $$, 'cancel does not take jobs that are asleep',
  'of an unknown state it says what of one that is not taken');
select throws_ok($$ select awa.count_batch_jobs('cancel', '{"colour": "red"}') $$, 'AW006', null, 'count_batch_jobs refuses alike');
select throws_ok('select awa.run_batch_operation(0)', 'AW002', null, 'an unknown operation cannot be run');
select throws_ok('select awa.run_batch_operation(0, -1)', 'AW006', null, 'nor can less than nothing be run');
select is_empty('select awa.get_batch_operation(0)', 'get_batch_operation finds no unknown one');
select is(awa.cancel_batch_operation(0), false, 'and none can be cancelled');
select throws_ok($$ select awa.list_batch_operations('finished') $$, 'AW006', null, 'no operation is ever in a state that there is not');
select throws_ok('select awa.list_batch_operations(max_operations => -1)', 'AW006', 'max_operations is -1', 'nor are less than none listed');
select is_empty('select * from awa.list_batch_operations()', 'nothing that was refused is left');

-- cancel, in every state that it takes

select awa.enqueue_many('k', array_fill('1'::jsonb, array[5]), queue => 'tap/81', tags => '{red}') \g /dev/null
select awa.enqueue('k', queue => 'tap/81', run_at => now() + interval '1 day') \g /dev/null
create temp table held as select c.receipt from awa.claim('tap/81', 3, 'w/81') as c;
select awa.fail(receipt, 'e', retry_after => '1 day') from (select receipt from held limit 1) as h \g /dev/null
select awa.complete(receipt) from (select receipt from held offset 1 limit 1) as h \g /dev/null
select is(awa.count_batch_jobs('cancel', '{"queue": "tap/81"}'), 5::bigint, 'count_batch_jobs counts what a cancel would meet: two wait, one runs, two are deferred');
select is(awa.count_batch_jobs('cancel', '{"queue": "tap/81", "state": ["scheduled", "running"]}'), 2::bigint, 'of two states');
select is(awa.count_batch_jobs('delete', '{"queue": "tap/81"}'), 6::bigint, 'delete would meet the completed one too');
select is(awa.count_batch_jobs('delete', '{"queue": "tap/81", "tag": "red"}'), 5::bigint, 'a tag restricts it');
select is(pg_temp.run('cancel', '{"queue": "tap/81"}', '{"reason": "too late"}'), 'done: 5 matched, 5 affected, 0 skipped, 0 failed', 'cancel takes them all');
select results_eq($$ select available, scheduled, retryable, running, completed, cancelled from awa.queue_counts('tap/81') $$,
  'values (0::bigint, 0::bigint, 0::bigint, 0::bigint, 1::bigint, 5::bigint)', 'the counts say so');
select is((select count(*) from awa.done_entries as d where d.queue = 'tap/81' and d.errors[cardinality(d.errors)] ->> 'error' = 'too late'), 5::bigint,
  'each carries the reason');
select is((select awa.complete(receipt) from held offset 2), false, 'the finish of the running one is stale');
select is((select h.reason from awa.heartbeat('w/81') as h), 'too late', 'and its worker is told');
select is_empty('select * from awa.check()', 'check is content');

-- retry

select is(pg_temp.run('retry', '{"queue": "tap/81"}'), 'done: 5 matched, 5 affected, 0 skipped, 0 failed', 'retry takes what was cancelled');
select results_eq($$ select state, attempt, max(cardinality(errors)), count(*) from awa.jobs where queue = 'tap/81' and state <> 'completed' group by 1, 2 $$,
  $$ values ('available'::awa.job_state, 0::smallint, 2, 5::bigint) $$, 'they wait, attempts start over, errors stay');
select pg_temp.failed('tap/81/f', 'bad', 3), pg_temp.failed('tap/81/f', 'worse', 2) \g /dev/null
select is(pg_temp.run('retry', '{"queue": "tap/81/f", "kind": "bad"}', '{"queue": "tap/81/g", "priority": 1}'), 'done: 3 matched, 3 affected, 0 skipped, 0 failed',
  'retry of one kind, into another queue');
select results_eq($$ select queue, priority, count(*) from awa.jobs where kind = 'bad' group by 1, 2 $$, $$ values ('tap/81/g', 1::smallint, 3::bigint) $$, 'that is where they are');
select is_empty('select * from awa.check()', 'check is content');

-- discard and delete

select is(pg_temp.run('discard', '{"queue": "tap/81/f"}'), 'done: 2 matched, 2 affected, 0 skipped, 0 failed', 'discard takes what failed');
select is_empty($$ select * from awa.jobs where queue = 'tap/81/f' $$, 'which is gone');
select is(pg_temp.run('delete', '{"queue": "tap/81"}'), 'done: 6 matched, 6 affected, 0 skipped, 0 failed', 'delete takes every state');
select is_empty($$ select * from awa.jobs where queue = 'tap/81' $$, 'nothing is left');
select is_empty('select * from awa.check()', 'check is content');

-- reprioritize and move

select awa.enqueue_many('k', array_fill('1'::jsonb, array[4]), queue => 'tap/81') \g /dev/null
select awa.enqueue('k', queue => 'tap/81', priority => 1) \g /dev/null
select awa.enqueue('k', queue => 'tap/81', run_at => now() + interval '1 day') \g /dev/null
select is(awa.count_batch_jobs('reprioritize', '{"queue": "tap/81"}', '{"priority": 1}'), 5::bigint, 'a job that has the priority need not be reprioritized');
select is(pg_temp.run('reprioritize', '{"queue": "tap/81"}', '{"priority": 1}'), 'done: 5 matched, 5 affected, 0 skipped, 0 failed', 'the others are');
select is((select array_agg(distinct priority) from awa.jobs where queue = 'tap/81'), '{1}'::smallint[], 'all have it then');
select is(pg_temp.run('move', '{"queue": "tap/81"}', '{"queue": "tap/81/m"}'), 'done: 6 matched, 6 affected, 0 skipped, 0 failed', 'move takes them to another queue');
select results_eq($$ select state, priority, count(*) from awa.jobs where queue = 'tap/81/m' group by 1, 2 order by 1 $$,
  $$ values ('scheduled'::awa.job_state, 1::smallint, 1::bigint), ('available', 1::smallint, 5::bigint) $$, 'as they were');
select is((select count(*) from awa.claim('tap/81/m', 10)), 5::bigint, 'where they are claimed');
select awa.enqueue('k', queue => 'tap/81/i', run_at => 'infinity') as never \gset
select awa.enqueue('k', queue => 'tap/81/i', run_at => '2100-01-01') as later \gset
update awa.deferred_jobs set metadata = '{"awa:run_at": "2020-01-01"}' where job_id = :later;
select awa.start_batch_operation('move', '{"queue": "tap/81/i"}', '{"queue": "tap/81/j"}') as op \gset
select awa.run_batch_operation(:op) \g /dev/null
select results_eq(format('select queue, state, run_at from awa.jobs where id = %s', :never),
  $$ values ('tap/81/j'::text, 'scheduled'::awa.job_state, timestamptz 'infinity') $$, 'one that is scheduled for never stays so');
select results_eq(format('select queue, state, run_at from awa.jobs where id = %s', :later),
  $$ values ('tap/81/j'::text, 'scheduled'::awa.job_state, timestamptz '2100-01-01') $$,
  'so does one for later beside it, though it has the metadata of a job that waited');
select is_empty('select * from awa.check()', 'check is content');

-- Jobs that wait for somebody outside, for a slot of their key, for another job

select awa.reset() \g /dev/null
select awa.configure_queue('tap/81/c', '{"concurrency_limit": 1}') \g /dev/null
select awa.enqueue('k', queue => 'tap/81/c', concurrency_key => 'one') from generate_series(1, 3) \g /dev/null
create temp table slot as select c.receipt from awa.claim('tap/81/c', 10) as c;
select awa.enqueue('k', queue => 'tap/81/c', after => array[(receipt).job_id]) as dependent from slot \gset
select awa.register_callback(receipt, '1 hour') from slot \g /dev/null
select results_eq($$ select state, count(*) from awa.jobs group by 1 order by 1 $$,
  $$ values ('scheduled'::awa.job_state, 3::bigint), ('waiting_external', 1::bigint) $$, 'two jobs are parked, one waits for another, one for an answer');
select is(pg_temp.run('move', '{"queue": "tap/81/c"}', '{"queue": "tap/81/d"}'), 'done: 3 matched, 3 affected, 0 skipped, 0 failed', 'those that wait are moved');
select is_empty('select * from awa.parked_jobs', 'nobody is parked any more');
select awa.maintain() \g /dev/null
select is((select count(*) from awa.claim('tap/81/d', 10)), 2::bigint, 'so they run in a queue without a limit, but for the one that waits for another');
select is((select queue || ' ' || state from awa.jobs where id = :dependent), 'tap/81/d scheduled', 'which waits on');
select is_empty('select * from awa.check()', 'check is content');
select is(pg_temp.run('cancel', '{"state": ["scheduled", "waiting_external"]}'), 'done: 2 matched, 2 affected, 0 skipped, 0 failed', 'cancel takes it, and the one that waits for an answer');
select is(pg_temp.run('delete', '{"state": ["running", "cancelled"]}'), 'done: 4 matched, 4 affected, 0 skipped, 0 failed', 'delete takes what is left');
select is_empty('select * from awa.jobs', 'nothing is');
select is_empty('select * from awa.check()', 'check is content');

-- Filters by id and time

select awa.reset() \g /dev/null
select awa.enqueue_many('k', array_fill('1'::jsonb, array[10]), queue => 'tap/81') as ids \gset
select is(awa.count_batch_jobs('cancel', jsonb_build_object('ids', (:'ids'::bigint[])[2:4])), 3::bigint, 'ids name jobs');
select is(awa.count_batch_jobs('cancel', jsonb_build_object('ids', (:'ids'::bigint[])[2:4], 'queue', 'other')), 0::bigint, 'every filter must hold');
select is(awa.count_batch_jobs('cancel', jsonb_build_object('min_id', (:'ids'::bigint[])[3], 'max_id', (:'ids'::bigint[])[4])), 2::bigint, 'bounds of ids are inclusive');
select is(array[awa.count_batch_jobs('cancel', jsonb_build_object('created_after', j.created_at)),
    awa.count_batch_jobs('cancel', jsonb_build_object('created_before', j.created_at))], array[10, 0]::bigint[], 'jobs are created after a time or at it, or before')
from awa.jobs as j where j.id = (:'ids'::bigint[])[1];
select is(awa.count_batch_jobs('cancel', '{"min_id": -9223372036854775808}'), 10::bigint, 'a bound may be as low as an id cannot be');

-- Who starts an operation and who works on it may be in different time zones.
set local timezone = 'Asia/Tokyo';
set local datestyle = 'ISO, DMY';
select awa.start_batch_operation('cancel', '{"queue": "tap/81", "created_before": "01/02/2003 04:05", "created_after": "now"}') as op \gset
set local timezone = 'UTC';
set local datestyle = 'ISO, MDY';
select is((select (o.filter ->> 'created_before')::timestamptz from awa.get_batch_operation(:op) as o), timestamptz '2003-02-01 04:05+09',
  'a time is the one that its author meant');
select is((select (o.filter ->> 'created_after')::timestamptz from awa.get_batch_operation(:op) as o), now(), 'and is read once');

select is((select o.filter from awa.get_batch_operation(awa.start_batch_operation('retry', '{"ids": [1, 2], "queue": "none"}')) as o),
  '{"ids": 2, "queue": "none"}', 'an operation shows how many ids its filter has');
select o.id, awa.run_batch_operation(o.id) from awa.list_batch_operations() as o \g /dev/null
select awa.reset() \g /dev/null
select awa.enqueue_many('k', array_fill('1'::jsonb, array[10]), queue => 'tap/81') as ids \gset

-- Bites

select awa.start_batch_operation('cancel', '{"queue": "tap/81"}') as op \gset
select is(pg_temp.outcome(:op), 'pending: 0 matched, 0 affected, 0 skipped, 0 failed', 'an operation waits for its turn');
select awa.enqueue('k', queue => 'tap/81') as late \gset
select is((select (o.matched, o.cursor_id) from awa.run_batch_operation(:op, 4) as o), (4::bigint, (:'ids'::bigint[])[4]), 'a bite meets as many as it was told to');
select is((select array[available, cancelled] from awa.queue_counts('tap/81')), array[7, 4]::bigint[], 'and the counts follow it');
select awa.cancel((:'ids'::bigint[])[6]) \g /dev/null
select results_eq($$ select m.outcome, m.affected, m.detail from awa.maintain() as m where m.task = 'batch' $$,
  format($$ values ('done', 5::bigint, 'operation %s: cancel') $$, :op), 'maintain goes on; what changed meanwhile no longer matches');
select is(pg_temp.outcome(:op), 'done: 9 matched, 9 affected, 0 skipped, 0 failed', 'and ends it');
select is((select state from awa.jobs where id = :late), 'available', 'a job that came after the start is left alone');
select is_empty($$ select * from awa.maintain() where task = 'batch' $$, 'then there is nothing to do');
select is((select o.matched from awa.run_batch_operation(:op) as o), 9::bigint, 'a finished operation does nothing more');

-- What the server lacks is no job's fault

select (awa.enqueue_many('k', array_fill('1'::jsonb, array[5]), queue => 'tap/81/full'))[3] as unlucky \gset
create function pg_temp.no_room () returns trigger language plpgsql as $$
begin
  if nullif(current_setting('tap.no_room', true), '')::bigint = any (new.job_ids) then
    raise disk_full;
  end if;
  return new;
end;
$$;
create trigger no_room before insert on awa.claims for each row execute function pg_temp.no_room();
select set_config('tap.no_room', :'unlucky', true) \g /dev/null
select awa.start_batch_operation('cancel', '{"queue": "tap/81/full"}') as full \gset
select is((select (o.state, o.affected, o.failed) from awa.run_batch_operation(:full) as o), ('running'::text, 2::bigint, 0::bigint),
  'a bite ends where the disk is full');
select is((select (o.state, o.affected, o.failed) from awa.run_batch_operation(:full) as o), ('running'::text, 2::bigint, 0::bigint),
  'the next one begins there, and no job failed');
select set_config('tap.no_room', '', true) \g /dev/null
select awa.run_batch_operation(:full, null) \g /dev/null
select is(pg_temp.outcome(:full), 'done: 5 matched, 5 affected, 0 skipped, 0 failed', 'once there is room it goes on');
drop trigger no_room on awa.claims;

-- A job that cannot be changed keeps nobody else.

select awa.start_batch_operation('retry', '{"queue": "tap/81"}') as op \gset
select awa.cancel(awa.enqueue('u', queue => 'tap/81/u', unique_key => 'tap/81')) from generate_series(1, 2) \g /dev/null
select awa.enqueue('u', queue => 'tap/81/u', unique_key => 'tap/81/held') as holder \gset
select awa.cancel(:holder), awa.enqueue('u', queue => 'tap/81/u', unique_key => 'tap/81/held') \g /dev/null
select is(pg_temp.run('retry', '{"queue": "tap/81/u"}'), 'done: 3 matched, 1 affected, 0 skipped, 2 failed', 'of jobs with one unique key one comes back');
select matches((select o.last_error from awa.list_batch_operations(max_operations => 1) as o), format('^job %s: ', :holder), 'the last error says which and why');
select is_empty('select * from awa.check()', 'check is content');

-- The list

select is((select array_agg(o.operation order by o.id desc) from awa.list_batch_operations() as o), array['retry', 'retry', 'cancel', 'cancel'], 'the list shows the newest first');
select is((select array_agg(o.id) from awa.list_batch_operations('pending') as o), array[:op]::bigint[], 'or those of one state');
select is(awa.cancel_batch_operation(:op), true, 'an operation that waits is cancelled');
select is(pg_temp.outcome(:op), 'cancelled: 0 matched, 0 affected, 0 skipped, 0 failed', 'it says so');
select is(awa.cancel_batch_operation(:op), false, 'once');
select is_empty($$ select * from awa.maintain() where task = 'batch' $$, 'and is not worked on');
select is((select count(*) from awa.batch_operation_pages), 0::bigint, 'nothing is kept of what it listed');

-- Many jobs, sparse and spread over segments

select awa.enqueue_many('noise', array_fill('1'::jsonb, array[3000]), queue => 'tap/81/n') \g /dev/null
select awa.rotate() \g /dev/null
select awa.enqueue_many('k', array_fill('1'::jsonb, array[450]), queue => 'tap/81/s') \g /dev/null
select is(pg_temp.run('reprioritize', '{"kind": "k", "queue": "tap/81/s"}', '{"priority": 4}'), 'done: 450 matched, 450 affected, 0 skipped, 0 failed',
  'jobs behind thousands of others are found');
select is(pg_temp.run('cancel', '{"queue": "tap/81/s"}'), 'done: 450 matched, 450 affected, 0 skipped, 0 failed', 'in their new lane as well');
select is((select count(*) from awa.done_entries where queue = 'tap/81/s' and state = 'cancelled'), 450::bigint, 'each once');
select is_empty('select * from awa.check()', 'check is content');

-- Few that match, behind many that do not: those are sorted out by their rows, a page at a
-- time, however few jobs a call may change.

set local track_functions = 'all';
create function pg_temp.calls (p_name text) returns bigint
  language sql as $$
  select coalesce(pg_stat_get_xact_function_calls(p.oid), 0)
  from pg_proc as p where p.proname = p_name and p.pronamespace = 'awa'::regnamespace
$$;
select pg_temp.failed('tap/81/f', 'f', 1200) \g /dev/null
select awa.enqueue_many('f', array_fill('1'::jsonb, array[5]), queue => 'tap/81/f', tags => '{few}') \g /dev/null
select awa.fail(c.receipt, 'boom', terminal => true) from awa.claim('tap/81/f', 5) as c \g /dev/null
select awa.start_batch_operation('retry', '{"queue": "tap/81/f", "tag": "few"}') as op \gset
select pg_temp.calls('_attempt_of') as before, pg_temp.calls('_batch_page') as pages \gset
select awa.run_batch_operation(:op, 1) \g /dev/null
select is(pg_temp.outcome(:op), 'running: 1 matched, 1 affected, 0 skipped, 0 failed', 'a call for one job finds the first that matches');
select cmp_ok(pg_temp.calls('_attempt_of') - :before, '<', 50::bigint, 'without a look at the attempts of the others');
select cmp_ok(pg_temp.calls('_batch_page') - :pages, '<', 10::bigint, 'and reads many at a time');
select awa.run_batch_operation(:op, 4) \g /dev/null
select is(pg_temp.outcome(:op), 'done: 5 matched, 5 affected, 0 skipped, 0 failed', 'the next one goes on behind it, and ends with the last');
select awa.start_batch_operation('discard', '{"queue": "tap/81/f"}') as op \gset
select awa.run_batch_operation(:op, 250) \g /dev/null
select is(pg_temp.outcome(:op), 'running: 250 matched, 250 affected, 0 skipped, 0 failed', 'a call stops at its bound within a page');
select awa.run_batch_operation(:op, null) \g /dev/null
select is(pg_temp.outcome(:op), 'done: 1200 matched, 1200 affected, 0 skipped, 0 failed', 'and nothing is left out or met twice');
select pg_temp.calls('_attempt_of') as before \gset
select is(awa.count_batch_jobs('cancel', '{"queue": "tap/81/f", "tag": "few"}'), 5::bigint, 'they are counted');
select is(awa.count_batch_jobs('cancel', jsonb_build_object('queue', 'tap/81/f', 'created_after', now() + interval '1 day')), 0::bigint, 'so are none');
select cmp_ok(pg_temp.calls('_attempt_of') - :before, '<', 50::bigint, 'without a look at the others'' attempts');
update awa.jobs set tags = '{few,late}' where id = (select min(j.id) from awa.jobs as j where j.queue = 'tap/81/f' and j.tags = '{few}');
select is(pg_temp.run('cancel', '{"queue": "tap/81/f", "tag": "late"}'), 'done: 1 matched, 1 affected, 0 skipped, 0 failed', 'a tag that only the newest row has is met');

-- One that starts before there ever was a job.
select awa.reset() \g /dev/null
alter sequence awa.job_id_seq restart;
select awa.start_batch_operation('delete', '{}', all_jobs => true) as op \gset
select awa.enqueue('first', queue => 'tap/81/first') \g /dev/null
select awa.run_batch_operation(:op, null) \g /dev/null
select is(pg_temp.outcome(:op), 'done: 0 matched, 0 affected, 0 skipped, 0 failed', 'the first job of all is not met by an operation that began before it');

-- A bite may wait for others, and so comes before what others may wait for.
select awa.start_batch_operation('cancel', '{"kind": "first"}') \g /dev/null
select awa.enqueue('due', queue => 'tap/81/due', run_at => now() + interval '1 day') \g /dev/null
select set_config('awa.now', (now() + interval '2 days')::text, true) \g /dev/null
select results_eq($$
  select m.task, m.outcome from awa.maintain() with ordinality as m (task, outcome, affected, detail, n)
  where m.task in ('batch', 'promote', 'rescue') order by m.n $$,
  $$ values ('rescue', 'idle'), ('batch', 'done'), ('promote', 'promoted') $$, 'a bite comes before jobs are promoted');

select * from finish();
rollback;
