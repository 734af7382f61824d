-- Compatibility: the view jobs with its triggers, insert_job_compat, and
-- delete_job_compat for every place that a job can be in.
begin;
select plan(203);
-- Alone: takes a relation away, rebuilds counters.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
select awa.reset() \g /dev/null

\ir counters.psql
\ir done.psql

-- Makes this transaction's waiting jobs of a queue look like those that
-- another one committed long ago.
create function pg_temp.settle (p_queue text) returns void
  language sql as $$
  update awa.ready_entries as r set xid = '5'
  where r.xid = pg_current_xact_id() and r.lane in (select l.lane from awa.queue_lanes as l where l.queue = p_queue)
$$;
create function pg_temp.rows (p_sql text) returns bigint
  language plpgsql as $$
declare
  v_rows bigint;
begin
  execute p_sql;
  get diagnostics v_rows = row_count;
  return v_rows;
end;
$$;

-- The view: one job of every state

select awa.enqueue('k', '{"n": 1}', queue => 'tap/62/v', priority => 3, max_attempts => 7, tags => array['t'], metadata => '{"m": 1}', unique_key => '\x6201', unique_states => b'11110000',
  run_at => now() + interval '1 hour') as scheduled \gset
select awa.enqueue('k', queue => 'tap/62/v', run_at => now() + interval '1 day') as cancelled_early \gset
select awa.cancel(:cancelled_early, 'too early') \g /dev/null
select (pg_temp.done('tap/62/v', 1, 'c'))[1] as completed, (pg_temp.done('tap/62/v', 1, 'f'))[1] as failed, (pg_temp.done('tap/62/v', 1, 'x'))[1] as cancelled \gset
select awa.enqueue('k', queue => 'tap/62/v', deadline => '1 hour') as running \gset
create temp table running as select * from awa.claim('tap/62/v', 1, 'w');
select awa.enqueue('k', queue => 'tap/62/v') as retryable \gset
select awa.fail(c.receipt, 'once', retry_after => '1 hour') from awa.claim('tap/62/v') as c \g /dev/null
select awa.enqueue('k', queue => 'tap/62/v') as cancelled_waiting \gset
select awa.cancel(:cancelled_waiting) \g /dev/null
select awa.enqueue('k', '[1, "two"]', queue => 'tap/62/v', priority => 1, max_attempts => 3) as available \gset
select (pg_temp.done('tap/62/v2', 1, 'f'))[1] as dead \gset
select awa.move_failed_to_dlq(:dead) \g /dev/null

select bag_eq(
  $$ select id, state::text, attempt::integer, run_lease, attempted_at is not null as ran, finalized_at is not null as ended, cardinality(errors) as errors from awa.jobs where queue = 'tap/62/v' $$,
  format($$ values (%s::bigint, 'scheduled', 0, 0::bigint, false, false, 0), (%s, 'available', 0, 0, false, false, 0), (%s, 'running', 1, 1, true, false, 0), (%s, 'retryable', 1, 1, false, false, 1),
    (%s, 'completed', 1, 1, true, true, 0), (%s, 'failed', 1, 1, true, true, 1), (%s, 'cancelled', 1, 1, true, true, 1), (%s, 'cancelled', 0, 0, false, true, 1), (%s, 'cancelled', 0, 0, false, true, 1) $$,
    :scheduled, :available, :running, :retryable, :completed, :failed, :cancelled, :cancelled_early, :cancelled_waiting),
  'every job is visible once, in its state, with the attempts that it began');
select results_eq(format('select kind, queue, args, state, priority::integer, max_attempts::integer, run_at, created_at, metadata, tags, unique_key, unique_states from awa.jobs where id = %s', :scheduled),
  $$ select 'k', 'tap/62/v', '{"n": 1}'::jsonb, 'scheduled'::awa.job_state, 3, 7, now() + interval '1 hour', now(), '{"m": 1}'::jsonb, array['t'], '\x6201'::bytea, b'11110000'::bit(8) $$,
  'with what it was enqueued with');
select results_eq(format('select kind, args, priority::integer, max_attempts::integer, metadata, tags, unique_key, errors, deadline_at from awa.jobs where id = %s', :available),
  $$ select 'k', '[1, "two"]'::jsonb, 1, 3, '{}'::jsonb, '{}'::text[], null::bytea, '{}'::jsonb[], null::timestamptz $$, 'defaults are empty, not null');
select results_eq(format('select attempted_at between now() and clock_timestamp(), deadline_at - attempted_at, attempt from awa.jobs where id = %s', :running),
  $$ values (true, interval '1 hour', 1::smallint) $$, 'a running job tells since when, and its deadline');
select is((select deadline_at from awa.jobs where id = :running), (select deadline_at from running), 'the one that its worker was told');
select results_eq(format('select errors[1] ->> ''error'', (errors[1] ->> ''attempt'')::integer, run_at > now() from awa.jobs where id = %s', :retryable), $$ values ('once', 1, true) $$,
  'a retryable job tells why and when');
select is((select errors[1] ->> 'error' from awa.jobs where id = :cancelled_early), 'too early', 'a cancelled job tells why');
create temp view both_ways as
select id, kind, queue, args, state, priority, attempt, max_attempts, run_at, heartbeat_at, deadline_at, attempted_at, finalized_at, created_at, errors, metadata, tags, unique_key,
  unique_states, callback_id, callback_timeout_at, run_lease, progress from awa.done_entries;
select bag_eq($$ select * from both_ways where queue = 'tap/62/v' $$,
  $$ select id, kind, queue, args, state, priority, attempt, max_attempts, run_at, heartbeat_at, deadline_at, attempted_at, finalized_at, created_at, errors, metadata, tags, unique_key,
     unique_states, callback_id, callback_timeout_at, run_lease, progress from awa.jobs where queue = 'tap/62/v' and state in ('completed', 'failed', 'cancelled') $$,
  'of terminal jobs jobs and done_entries say the same, column by column');
select is_empty(format('select * from awa.jobs where id = %s', :dead), 'a dead letter is not in it');
select is_empty('select id from awa.jobs group by id having count(*) > 1', 'no job is in it twice');

-- INSERT

insert into awa.jobs (kind, queue, args, priority, max_attempts, metadata, tags, unique_key, unique_states)
values ('ins', 'tap/62/i', '{"n": 1}', 3, 9, '{"m": 1}', array['t'], '\x6202', b'11100000') returning id as inserted, state as inserted_state \gset
select is(:'inserted_state'::text, 'available', 'an inserted job is available');
select results_eq(format('select kind, queue, args, state, priority::integer, max_attempts::integer, metadata, tags, unique_key, unique_states, attempt::integer from awa.jobs where id = %s', :inserted),
  $$ values ('ins', 'tap/62/i', '{"n": 1}'::jsonb, 'available'::awa.job_state, 3, 9, '{"m": 1}'::jsonb, array['t'], '\x6202'::bytea, b'11100000'::bit(8), 0) $$, 'as it was given');
select is((select array_agg(job_id) from awa.claim('tap/62/i', 10)), array[:inserted]::bigint[], 'and is claimed');
insert into awa.jobs (kind) values ('ins') returning id as plain \gset
select results_eq(format('select queue, args, state, priority::integer, max_attempts::integer, metadata, tags from awa.jobs where id = %s', :plain),
  $$ values ('default', '{}'::jsonb, 'available'::awa.job_state, 2, 25, '{}'::jsonb, '{}'::text[]) $$, 'a kind is enough');
select awa.delete_job_compat(:plain) \g /dev/null
select is(pg_temp.rows($$ insert into awa.jobs (kind, queue, run_at, state) select 'ins', 'tap/62/i', now() + n * interval '1 hour', 'scheduled' from generate_series(1, 5) as n $$), 5::bigint,
  'many are inserted in one statement');
select is((select scheduled from awa.queue_counts('tap/62/i')), 5::bigint, 'those with a later run_at are scheduled');
select throws_ok($$ insert into awa.jobs (kind, queue, unique_key) values ('ins', 'tap/62/i', '\x6202') $$, '23505', format('job %s holds this unique key', :inserted), 'a duplicate is refused');
select throws_ok(format('insert into awa.jobs (kind, queue, %s) values (''ins'', ''tap/62/i'', %s)', col, value), 'AW006', null, format('%s is not for the inserter to give', col))
from (values ('id', '7'), ('attempt', '1'), ('run_lease', '1'), ('created_at', 'now()'), ('attempted_at', 'now()'), ('finalized_at', 'now()'), ('heartbeat_at', 'now()'), ('deadline_at', 'now()'),
  ('callback_id', '''00000000-0000-0000-0000-000000000000'''), ('callback_timeout_at', 'now()'), ('progress', '''{}'''), ('errors', 'array[''{}''::jsonb]')) as v (col, value);
select throws_ok($$ insert into awa.jobs (kind, created_at, attempt, errors, run_lease) values ('ins', now(), 3, '{}', 0) $$, 'AW006', 'attempt, created_at cannot be inserted', 'it is told which');
select throws_ok(format('insert into awa.jobs (kind, queue, state) values (''ins'', ''tap/62/i'', %L)', state), 'AW006', null, format('nor can a new job be %s', state))
from unnest(array['running', 'completed', 'failed', 'cancelled', 'waiting_external']) as state;
select throws_ok($$ insert into awa.jobs (kind, priority) values ('ins', 5) $$, 'AW006', null, 'bounds are those of enqueue');
select throws_ok($$ insert into awa.jobs (queue) values ('tap/62/i') $$, 'AW006', null, 'a kind must be given');

-- insert_job_compat

create temp table compat as select * from awa.insert_job_compat(p_kind => 'c', p_queue => 'tap/62/c', p_args => '{"n": 1}', p_state => 'available', p_priority => 1::smallint, p_max_attempts => 4::smallint,
  p_run_at => null, p_metadata => '{"m": 1}', p_tags => array['a', 'b'], p_unique_key => '\x6203', p_unique_states => b'10000000', p_ordering_key => '\xbeef');
select results_eq('select kind, queue, args, state, priority::integer, max_attempts::integer, metadata, tags, unique_key, unique_states, run_at, attempt::integer, run_lease, errors from compat',
  $$ select 'c', 'tap/62/c', '{"n": 1}'::jsonb, 'available'::awa.job_state, 1, 4, '{"m": 1}'::jsonb, array['a', 'b'], '\x6203'::bytea, b'10000000'::bit(8), now(), 0, 0::bigint, '{}'::jsonb[] $$,
  'insert_job_compat returns the job as a row of jobs');
select results_eq('select * from awa.jobs where id = (select id from compat)', 'select * from compat', 'exactly as jobs shows it');
select is((select count(distinct ordering_key) from awa.ready_entries where job_id = (select id from compat)), 1::bigint, 'its ordering key is kept');
select is((select state from awa.insert_job_compat('c', 'tap/62/c', p_state => s::awa.job_state, p_run_at => at)), want::awa.job_state, title)
from (values ('available', null::timestamptz, 'available', 'without a time it is available'), ('scheduled', now() + interval '1 day', 'scheduled', 'with a later one scheduled'),
  ('retryable', now() + interval '1 day', 'scheduled', 'also when it is given as retryable'), ('available', now() + interval '1 day', 'scheduled', 'or as available'),
  ('scheduled', now() - interval '1 day', 'available', 'with a past one it is available, whatever was given')) as v (s, at, want, title);
select results_eq($$ select queue, args, state, priority::integer, max_attempts::integer, metadata, tags from awa.insert_job_compat('c', null, null, null, null, null, null, null, null) $$,
  $$ values ('default', '{}'::jsonb, 'available'::awa.job_state, 2, 25, '{}'::jsonb, '{}'::text[]) $$, 'null means the default');
select awa.delete_job_compat(id) from awa.jobs where queue = 'default' \g /dev/null
select lives_ok($$ select awa.insert_job_compat('c', 'tap/62/c', p_unique_key => '\x6204') $$, 'the first job of a key is inserted');
select throws_ok($$ select awa.insert_job_compat('c', 'tap/62/c', p_unique_key => '\x6204') $$, '23505', null, 'the second is refused');
select throws_ok(format('select awa.insert_job_compat(%s)', args), 'AW006', null, format('%s is refused', what))
from (values ('null', 'a null kind'), ('''''', 'an empty kind'), ('''c'', ''''', 'an empty queue name'), ('''c'', p_priority => 0::smallint', 'priority 0'), ('''c'', p_max_attempts => 0::smallint', 'max_attempts 0'),
  ('''c'', p_metadata => ''[]''', 'metadata that is no object'), ('''c'', p_tags => array_fill(''t''::text, array[21])', 'a 21st tag'), ('''c'', p_state => ''failed''', 'a job that has failed already')) as v (args, what);

-- UPDATE

-- However long the file takes: run_at is when it began.
select awa.configure_queue('tap/62/u', '{"priority_aging_interval": "0"}') \g /dev/null
select awa.enqueue_many('u', array['1', '2', '3', '4']::jsonb[], queue => 'tap/62/u') as u \gset
select pg_temp.settle('tap/62/u') \g /dev/null
select is(pg_temp.rows($$ update awa.jobs set priority = 1 where queue = 'tap/62/u' and args = '3' $$), 1::bigint, 'one job is updated by its args');
select is(pg_temp.rows($$ update awa.jobs set priority = 4 where queue = 'tap/62/u' and args in ('1', '2') $$), 2::bigint, 'two are');
select results_eq($$ select args, priority::integer, state::text, attempt::integer from awa.jobs where queue = 'tap/62/u' order by args $$,
  $$ values ('1'::jsonb, 4, 'available', 0), ('2', 4, 'available', 0), ('3', 1, 'available', 0), ('4', 2, 'available', 0) $$, 'jobs shows it, each job once');
select is((select available from awa.queue_counts('tap/62/u')), 4::bigint, 'the count of waiting jobs stays');
select pg_temp.settle('tap/62/u') \g /dev/null
select is((select array_agg(args order by n) from (select args, row_number() over () as n from awa.claim('tap/62/u', 10)) as c), array['3', '4', '1', '2']::jsonb[], 'the order of claims follows the new priorities');
select pg_temp.figures_are('tap/62/u', '0/0/0/0', 'history has none of it');

select awa.enqueue('u', '{"n": 1}', queue => 'tap/62/from', priority => 3, ordering_key => 'o', unique_key => '\x6205', deadline => '1 hour') as u \gset
select pg_temp.settle('tap/62/from') \g /dev/null
update awa.jobs set queue = 'tap/62/it''s "the" other', max_attempts = 7, metadata = '{"m": 2}', tags = array['x', 'y'], priority = 2 where id = :u;
select results_eq(format('select kind, args, queue, priority::integer, max_attempts::integer, metadata, tags, unique_key, state::text, created_at from awa.jobs where id = %s', :u),
  $$ select 'u', '{"n": 1}'::jsonb, 'tap/62/it''s "the" other', 2, 7, '{"m": 2}'::jsonb, array['x', 'y'], '\x6205'::bytea, 'available', now() $$, 'every column that may be updated is, the others stay');
select is_empty($$ select * from awa.claim('tap/62/from', 10) $$, 'its old queue does not have it');
select results_eq($$ select job_id, kind, args, attempt::integer, max_attempts::integer, metadata, tags, deadline_at is not null from awa.claim('tap/62/it''s "the" other', 10) $$,
  format($$ values (%s::bigint, 'u', '{"n": 1}'::jsonb, 1, 7, '{"m": 2}'::jsonb, array['x', 'y'], true) $$, :u), 'the new one hands it out, once');

select awa.enqueue('u', queue => 'tap/62/t') as u \gset
update awa.jobs set run_at = now() + interval '1 day' where id = :u;
select results_eq('select available, scheduled from awa.queue_counts(''tap/62/t'')', 'values (0::bigint, 1::bigint)', 'a waiting job can be put off');
select is_empty($$ select * from awa.claim('tap/62/t', 10) $$, 'then nobody gets it');
update awa.jobs set run_at = now() + interval '2 days', priority = 1 where id = :u;
select results_eq(format('select run_at, state::text, priority::integer from awa.jobs where id = %s', :u), $$ select now() + interval '2 days', 'scheduled', 1 $$, 'further');
update awa.jobs set run_at = now() where id = :u;
select results_eq('select job_id, priority::integer from awa.claim(''tap/62/t'', 10)', format('values (%s::bigint, 1)', :u), 'or brought forward to now');
update awa.jobs set run_at = now(), max_attempts = 3 where id = :retryable;
select results_eq($$ select job_id, attempt::integer, max_attempts::integer, errors[1] ->> 'error' from awa.claim('tap/62/v', 10) where job_id <> 0 order by priority desc $$,
  format($$ values (%s::bigint, 2, 3, 'once'), (%s, 1, 3, null) $$, :retryable, :available), 'a retryable job as well: it goes on with its second attempt');

-- UPDATE: values as they are

select awa.enqueue('u', queue => 'tap/62/odd', tags => array['a"b', 'c\d', 'é,{}', ''], unique_key => '\x00ff5c27', deadline => '90 minutes') as u \gset
create temp table odd as select args, tags, unique_key, unique_states, created_at from awa.jobs where id = :u;
set local datestyle = 'SQL, DMY';
set local intervalstyle = 'sql_standard';
set local timezone = 'Asia/Kathmandu';
set local bytea_output = 'escape';
update awa.jobs set metadata = '{"x": "\"\\ \u00e9, }{"}', run_at = '02/03/2999 00:00:00.123456' where id = :u;
reset datestyle;
reset intervalstyle;
reset timezone;
reset bytea_output;
select results_eq(format('select args, tags, unique_key, unique_states, created_at from awa.jobs where id = %s', :u), 'select * from odd', 'an update leaves other columns to the byte, whatever the session''s formats');
select results_eq(format('select metadata ->> ''x'', run_at from awa.jobs where id = %s', :u), $$ values (E'"\\ é, }{', timestamptz '2999-03-02 00:00:00.123456+05:45') $$, 'and takes its own as they were given');
update awa.jobs set metadata = jsonb_build_object('x', repeat('y', 100000)), run_at = 'infinity' where id = :u;
select results_eq(format('select length(metadata ->> ''x''), run_at from awa.jobs where id = %s', :u), $$ values (100000, timestamptz 'infinity') $$, 'also when they are long, or without end');
update awa.jobs set metadata = '{}', tags = null, run_at = '-infinity' where id = :u;
select results_eq(format('select metadata, tags, state::text from awa.jobs where id = %s', :u), $$ values ('{}'::jsonb, '{}'::text[], 'available') $$, 'or empty');
select is((select c.deadline_at - (c.lease_expires_at - interval '5 minutes') from awa.claim('tap/62/odd') as c), interval '90 minutes', 'its deadline came along');

select awa.enqueue('u', queue => 'tap/62/returning') as u \gset
update awa.jobs set run_at = now() + interval '1 hour', tags = null where id = :u returning state as later, coalesce(tags::text, 'null') as none \gset
update awa.jobs set run_at = now() where id = :u returning state as due \gset
select is(array[:'later', :'none', :'due'], array['scheduled', '{}', 'available'], 'RETURNING shows a job as it is after the update');
select c.receipt as r from awa.claim('tap/62/returning') as c \gset
select awa.fail(:'r', 'e') \g /dev/null
update awa.jobs set run_at = run_at + interval '1 hour' where id = :u returning state as still \gset
select is(:'still'::text, 'retryable', 'one that is to be retried stays so');

-- UPDATE: nothing, and what it refuses

select is(pg_temp.rows($$ update awa.jobs set priority = 1 where queue = 'tap/62/nowhere' $$), 0::bigint, 'an update that matches nothing does nothing');
select is(pg_temp.rows($$ update awa.jobs set priority = priority where id = 9223372036854775807 $$), 0::bigint, 'nor does one of an unknown job');
select throws_ok(format('update awa.jobs set priority = 1 where id = %s', id), 'AW003', format('job %s is %s, only waiting jobs can be updated', id, what), format('a %s job is not updated', what))
from (values (:running, 'running'), (:completed, 'completed'), (:failed, 'failed'), (:cancelled, 'cancelled')) as v (id, what);
select awa.enqueue('u', queue => 'tap/62/w') as u \gset
select throws_ok(format('update awa.jobs set %s = %s where id = %s', col, value, :u), 'AW006', null, format('%s cannot be updated', col))
from (values ('id', '7'), ('kind', '''x'''), ('args', '''[]'''), ('state', '''running'''), ('attempt', '5'), ('run_lease', '5'), ('created_at', 'now() - interval ''1 day'''), ('attempted_at', 'now()'), ('finalized_at', 'now()'),
  ('heartbeat_at', 'now()'), ('deadline_at', 'now()'), ('callback_id', '''00000000-0000-0000-0000-000000000000'''), ('callback_timeout_at', 'now()'), ('progress', '''{}'''), ('errors', 'array[''{}''::jsonb]'),
  ('unique_key', '''\x01'''), ('unique_states', 'b''10000000''')) as v (col, value);
select throws_ok(format('update awa.jobs set priority = 3, state = ''completed'', args = null, unique_key = null where id = %s', :u), 'AW006', format('job %s: args, state cannot be updated', :u), 'it is told which');
select throws_ok(format('update awa.jobs set %s where id = %s', change, :u), 'AW006', null, format('%s is refused', what))
from (values ('run_at = null', 'a null run_at'), ('priority = 0', 'priority 0'), ('priority = null', 'a null priority'), ('queue = ''''', 'an empty queue'), ('max_attempts = 0', 'max_attempts 0'), ('metadata = ''[]''', 'metadata that is no object'),
  ('tags = array_fill(''t''::text, array[21])', 'a 21st tag')) as v (change, what);
select throws_ok($$ update awa.jobs set priority = 4 where queue in ('tap/62/w', 'tap/62/v') $$, 'AW003', null, 'of several jobs one that runs refuses them all');
select results_eq(format('select priority::integer, run_lease from awa.jobs where id = %s', :u), 'values (2, 0::bigint)', 'so that none is changed');
select awa.enqueue_many('u', array_fill('1'::jsonb, array[300]), queue => 'tap/62/big'), awa.enqueue_many('u', array_fill('1'::jsonb, array[300]), queue => 'tap/62/big', run_at => now() + interval '1 day') \g /dev/null
select pg_temp.settle('tap/62/big') \g /dev/null
select is(pg_temp.rows($$ update awa.jobs set tags = array['all'], priority = 1 + (id % 4)::integer where queue = 'tap/62/big' $$), 600::bigint, 'six hundred jobs are updated in one statement');
select results_eq($$ select available, scheduled from awa.queue_counts('tap/62/big') $$, 'values (300::bigint, 300::bigint)', 'waiting and scheduled ones stay what they were');
select is((select count(*) from awa.claim('tap/62/big', 1000) where tags = array['all'] and priority = 1 + job_id % 4), 300::bigint, 'and all of them are claimed, changed');
select is_empty('select * from awa.check()', 'the storage is sound after the updates');

-- delete_job_compat: wherever a job is

select awa.enqueue('d', queue => 'tap/62/d') as ready_job, awa.enqueue('d', queue => 'tap/62/d', priority => 1) as own \gset
update awa.ready_entries set xid = '5' where job_id = :ready_job;
select awa.enqueue('d', queue => 'tap/62/d', run_at => now() + interval '1 day') as scheduled \gset
select (pg_temp.done('tap/62/d2', 1, 'c'))[1] as completed, (pg_temp.done('tap/62/d2', 1, 'f'))[1] as failed, (pg_temp.done('tap/62/d2', 1, 'x'))[1] as cancelled, (pg_temp.done('tap/62/d2', 1, 'f'))[1] as dead \gset
select awa.move_failed_to_dlq(:dead) \g /dev/null
select awa.enqueue('d', queue => 'tap/62/d2') as retryable \gset
select awa.fail(c.receipt, 'e', retry_after => '1 day') from awa.claim('tap/62/d2') as c \g /dev/null
select awa.enqueue('d', queue => 'tap/62/d2') as running \gset
truncate running;
insert into running select * from awa.claim('tap/62/d2', 1, 'w');
select results_eq($$ select available, scheduled, retryable, running, completed, failed, cancelled, dlq from awa.queue_counts('tap/62/d2') $$, 'values (0::bigint, 0::bigint, 1::bigint, 1::bigint, 1::bigint, 1::bigint, 1::bigint, 1::bigint)', 'a queue with a job in most places');
create temp table still as select pg_temp.deltas() as deltas, pg_temp.removals() as removals;
select is(awa.delete_job_compat(:ready_job), true, 'a waiting job is deleted');
select is((select available from awa.queue_counts('tap/62/d')), 1::bigint, 'and counted no more');
select is(awa.delete_job_compat(:own), true, 'one that this transaction added');
select is(awa.delete_job_compat(:scheduled), true, 'a scheduled one');
select is_empty($$ select * from awa.claim('tap/62/d', 10) $$, 'none of them is claimed');
select results_eq($$ select available, scheduled from awa.queue_counts('tap/62/d') $$, 'values (0::bigint, 0::bigint)', 'none is counted');
select is(awa.delete_job_compat(:retryable), true, 'a retryable one');
select is(awa.delete_job_compat(:running), true, 'a running one');
select is(awa.complete(receipt), false, 'its worker''s completion is stale') from running;
select is(awa.fail(receipt, 'e'), null, 'so is its failure') from running;
select is(awa.fail(receipt, 'e', terminal => true), null, 'also one for good') from running;
select is((pg_temp.deltas(), pg_temp.removals()), (deltas, removals), 'so far nothing left history') from still;
select pg_temp.figures_are('tap/62/d2', '1/1/1/1', 'or entered it');
select is(awa.delete_job_compat(:completed), true, 'a completed one');
select pg_temp.figures_are('tap/62/d2', '0/1/1/1', 'leaves history and counters');
select is(awa.delete_job_compat(:failed), true, 'a failed one');
select pg_temp.figures_are('tap/62/d2', '0/0/1/1', 'as well');
select is(awa.delete_job_compat(:cancelled), true, 'a cancelled one');
select pg_temp.figures_are('tap/62/d2', '0/0/0/1', 'as well');
select is((pg_temp.deltas() - deltas, pg_temp.removals() - removals), (3::bigint, 3::bigint), 'each with one removal and one delta') from still;
select is(awa.delete_job_compat(:dead), true, 'a dead letter');
select pg_temp.figures_are('tap/62/d2', '0/0/0/0', 'is gone');
select is((pg_temp.deltas() - deltas, pg_temp.removals() - removals), (3::bigint, 3::bigint), 'without touching the terminal counters') from still;
select is((select available + scheduled + retryable + running from awa.queue_counts('tap/62/d2')), 0::bigint, 'nothing is left in that queue');
select is(awa.delete_job_compat(id), false, format('a second time there is nothing: %s', what))
from (values (:ready_job, 'waiting'), (:own, 'own'), (:scheduled, 'scheduled'), (:retryable, 'retryable'), (:running, 'running'), (:completed, 'completed'), (:failed, 'failed'), (:cancelled, 'cancelled'), (:dead, 'dead')) as v (id, what);
select is(awa.delete_job_compat(9223372036854775807), false, 'an unknown job is not deleted');
select is(awa.delete_job_compat(null), false, 'nor is null');
select is_empty(format('select id from awa.jobs where id in (%s, %s, %s, %s, %s, %s, %s, %s)', :ready_job, :own, :scheduled, :retryable, :running, :completed, :failed, :cancelled), 'jobs shows none of them');
select is(awa.retry(id), false, 'none can be retried') from unnest(array[:failed, :cancelled, :dead]::bigint[]) as id;
select is_empty('select * from pg_temp.drift', 'no key drifts');
select is_empty('select * from awa.check()', 'the storage is sound after the deletions');

-- DELETE: any condition, many rows, mixed states

create function pg_temp.mixed (p_queue text) returns void
  language plpgsql as $$
begin
  perform pg_temp.done(p_queue, 3, 'c', 'one'), pg_temp.done(p_queue, 2, 'f', 'two'), pg_temp.done(p_queue, 1, 'x', 'one', 4), pg_temp.done(p_queue, 2, 'r', 'two');
  perform awa.enqueue_many('one', array['1', '2', '3', '4']::jsonb[], queue => p_queue);
  perform awa.enqueue('two', queue => p_queue, run_at => now() + interval '1 day', tags => array['t']);
end;
$$;
select pg_temp.mixed(q) from unnest(array['tap/62/m', 'tap/62/"m''']) as q \g /dev/null
select is(pg_temp.rows($$ delete from awa.jobs where queue = 'tap/62/nowhere' $$), 0::bigint, 'a DELETE that matches nothing deletes nothing');
select is(pg_temp.rows($$ delete from awa.jobs where queue = 'tap/62/m' and state = 'completed' and kind = 'two' $$), 0::bigint, 'nor does one whose conditions contradict the jobs');
update still set deltas = pg_temp.deltas(), removals = pg_temp.removals();
select is(pg_temp.rows($$ delete from awa.jobs where queue = 'tap/62/m' and state in ('completed', 'cancelled') $$), 4::bigint, 'by state: four');
select pg_temp.figures_are('tap/62/m', '0/2/0/0', 'the others stay');
select is((pg_temp.deltas() - deltas, pg_temp.removals() - removals), (2::bigint, 4::bigint), 'one removal per job, one delta per key') from still;
select is(pg_temp.rows($$ delete from awa.jobs where queue = 'tap/62/m' and args > '2' and state = 'available' $$), 2::bigint, 'by args: two waiting ones');
select is(pg_temp.rows($$ delete from awa.jobs where queue = 'tap/62/m' and kind = 'two' $$), 5::bigint, 'by kind: failed, running and scheduled ones at once');
select results_eq($$ select available, scheduled, running, terminal from awa.queue_counts('tap/62/m') $$, 'values (2::bigint, 0::bigint, 0::bigint, 0::bigint)', 'two are left');
create temp table gone as select null::bigint as id, null::text as state limit 0;
with d as (delete from awa.jobs as j using (values ('tap/62/"m''')) as v (q) where j.queue = v.q returning j.id, j.state::text) insert into gone select * from d;
select results_eq('select state, count(*)::integer from gone group by state order by state', $$ values ('available', 4), ('cancelled', 1), ('completed', 3), ('failed', 2), ('running', 2), ('scheduled', 1) $$,
  'DELETE with a join, a quoted name and RETURNING takes a whole queue, and says what it took');
select is_empty($$ select * from awa.jobs where queue = 'tap/62/"m''' $$, 'nothing of it is left');
select pg_temp.figures_are('tap/62/"m''', '0/0/0/0', 'nor counted');
select is((select running + available + scheduled from awa.queue_counts('tap/62/"m''')), 0::bigint, 'in any state');
select is_empty('select * from pg_temp.drift', 'no key drifts');

select pg_temp.done('tap/62/big' || p, 250, o, 'k', p) from (values (1, 'c'::"char"), (2, 'f'), (3, 'x')) as v (p, o) \g /dev/null
update still set deltas = pg_temp.deltas(), removals = pg_temp.removals();
select is(pg_temp.rows($$ delete from awa.jobs where queue ~ '^tap/62/big[123]$' $$), 750::bigint, '750 terminal jobs go in one statement');
select is((pg_temp.deltas() - deltas, pg_temp.removals() - removals), (3::bigint, 750::bigint), 'with a removal each and a delta per key') from still;
select is_empty('select * from pg_temp.drift', 'no key drifts');

select pg_temp.done('tap/62/undo', 2, 'c') \g /dev/null
savepoint undone;
delete from awa.jobs where queue = 'tap/62/undo';
select pg_temp.figures_are('tap/62/undo', '0/0/0/0', 'a DELETE counts');
rollback to undone;
select pg_temp.figures_are('tap/62/undo', '2/0/0/0', 'one that rolled back does not');
select is_empty('select * from awa.check()', 'the storage is sound after the DELETEs');

-- MERGE: the same three, on a server that lets it write to views
create function pg_temp.merged () returns setof text
  language plpgsql as $f$
begin
  if current_setting('server_version_num')::integer < 170000 then
    return query select skip('this server has no MERGE into views', 2);
    return;
  end if;
  perform awa.enqueue(k, queue => 'tap/62/merge', priority => 2) from unnest(array['running', 'gone', 'changed', 'kept']) as k;
  perform awa.claim('tap/62/merge', 1);
  execute $m$
    merge into awa.jobs as j
    using (values ('running'), ('gone'), ('changed'), ('new')) as v (kind) on j.queue = 'tap/62/merge' and j.kind = v.kind
    when matched and v.kind = 'changed' then update set priority = 1
    when matched then delete
    when not matched then insert (kind, queue) values (v.kind, 'tap/62/merge') $m$;
  return next results_eq($$ select j.kind, j.state::text, j.priority::integer from awa.jobs as j where j.queue = 'tap/62/merge' order by j.id $$,
    $$ values ('changed', 'available', 1), ('kept', 'available', 2), ('new', 'available', 2) $$, 'one MERGE updates, deletes and inserts');
  return next is((select c.available from awa.queue_counts('tap/62/merge') as c), 3::bigint, 'and is counted');
end;
$f$;
select pg_temp.merged();

-- A storage that has no counters to decrement

select (pg_temp.done('tap/62/bare', 3, 'c'))[1] as bare \gset
select awa.enqueue('k', queue => 'tap/62/bare') as bare_waiting \gset
update awa.ready_entries set xid = '5' where job_id = :bare_waiting;
alter table awa.terminal_count_deltas rename to terminal_count_deltas_away;
select is(awa.delete_job_compat(:bare), true, 'without its counter relation a completed job is deleted all the same');
select is(awa.delete_job_compat(:bare_waiting), true, 'and a waiting one');
select is(pg_temp.rows($$ delete from awa.jobs where id = (select min(id) from awa.jobs where queue = 'tap/62/bare') $$), 1::bigint, 'also by DELETE');
select is((select count(*) from awa.jobs where queue = 'tap/62/bare'), 1::bigint, 'one job is left');
alter table awa.terminal_count_deltas_away rename to terminal_count_deltas;
select results_eq('select invariant, expected, actual from awa.check()', $$ values ('terminal counters equal history', 1::bigint, 3::bigint) $$, 'with the relation back check reports the key');
-- A rebuild leaves alone what its own transaction did.
update awa.attempt_outcomes set xid = '5' where lane in (select lane from awa.queue_lanes where queue = 'tap/62/bare');
update awa.outcome_removals set xid = '5' where lane in (select lane from awa.queue_lanes where queue = 'tap/62/bare');
select results_eq('select queue, before, after from awa.rebuild_terminal_counters()', $$ values ('tap/62/bare', 3::bigint, 1::bigint) $$, 'a rebuild heals it');
select is_empty('select * from awa.rebuild_terminal_counters()', 'once');
select is_empty('select * from awa.queue_terminal_live_counts where least(live_terminal_count, completed, failed, cancelled) < 0', 'no count is below zero');

select (pg_temp.done('tap/62/none', 1, 'c'))[1] as bare_completed, (pg_temp.done('tap/62/none', 1, 'f'))[1] as bare_failed, (pg_temp.done('tap/62/none', 1, 'f'))[1] as bare_dead, (pg_temp.done('tap/62/none', 1, 'r'))[1] as bare_running \gset
select awa.move_failed_to_dlq(:bare_dead) \g /dev/null
select awa.enqueue('k', queue => 'tap/62/none', run_at => now() + interval '1 day') as bare_scheduled \gset
savepoint bare;
set local client_min_messages = warning;
drop table awa.terminal_count_deltas, awa.checkpoint_snapshots, awa.terminal_count_checkpoints, awa.terminal_rollup_entries cascade;
reset client_min_messages;
select is(awa.delete_job_compat(id), true, format('without any counter relation a %s job is deleted', what))
from (values (:bare_completed, 'completed'), (:bare_failed, 'failed'), (:bare_dead, 'dead'), (:bare_running, 'running'), (:bare_scheduled, 'scheduled')) as v (id, what);
select is((select count(*) from awa.jobs where queue = 'tap/62/none'), 0::bigint, 'and jobs shows none');
rollback to bare;

-- Nor does an UPDATE change more than it may by way of the settings in which its rows are kept.
create function pg_temp.forged (p_id bigint, p_change jsonb) returns boolean
  language plpgsql as $$
begin
  perform set_config('awa.update' || n || '_few', (jsonb_build_object('id', p_id) || p_change)::text || ',', true) from generate_series(1, 3) as n;
  return true;
end;
$$;
select awa.enqueue('k', queue => 'tap/62/forged') as forged \gset
select throws_ok(format($$ update awa.jobs as j set priority = 3 where j.id = %s returning pg_temp.forged(j.id, %L) $$, :forged, c.change), 'AW006', null,
  'forged in the middle of an UPDATE: ' || c.change)
from unnest(array['{"max_attempts": -4}', '{"tags": [null]}', '{"tags": [["a"]]}', '{"metadata": [1]}', '{"priority": 9}', '{"queue": ""}']) as c (change);

-- What awa keeps in metadata is not the user's to lose.
savepoint own;
select awa.configure_queue('tap/62/own', '{"concurrency_limit": 1}'),
  awa.enqueue('own', queue => 'tap/62/own', run_at => '2999-01-01', concurrency_key => 'a', follow_ups => '{"completed": [{"kind": "next"}]}',
    after => array[awa.enqueue('first', queue => 'tap/62/own', concurrency_key => 'a')]) \g /dev/null
update awa.jobs set metadata = '{"mine": 1}' where kind = 'first' and queue = 'tap/62/own' returning metadata as returned \gset
select is(:'returned'::jsonb, '{"mine": 1, "awa:concurrency_key": "a"}', 'an UPDATE of metadata returns what awa has there');
update awa.jobs set metadata = '{"mine": 1, "awa:run_at": "2000-01-01", "awa:concurrency_key": "b"}' where kind = 'own' and queue = 'tap/62/own';
select is((select j.metadata - 'awa:run_at' from awa.jobs as j where j.kind = 'own' and j.queue = 'tap/62/own'),
  '{"mine": 1, "awa:concurrency_key": "a", "awa:follow_ups": {"completed": [{"kind": "next"}]}}', 'and leaves it');
select awa.complete(c.receipt) from awa.claim('tap/62/own') as c \g /dev/null
select awa.maintain() \g /dev/null
select is((select j.run_at from awa.jobs as j where j.kind = 'own' and j.queue = 'tap/62/own'), '2999-01-01'::timestamptz, 'so a job that waited for another has its time');
rollback to own;

-- More than a text may hold where it is cut.
savepoint large;
select awa.enqueue_many('k', array_fill('{}'::jsonb, array[150]), queue => 'tap/62/large') \g /dev/null
select is(pg_temp.rows($$ update awa.jobs set metadata = jsonb_build_object('x', repeat('x', 900000)), priority = 1 where queue = 'tap/62/large' $$),
  150::bigint, 'one UPDATE writes 135 MB');
select results_eq($$ select distinct priority::integer, length(metadata ->> 'x') from awa.jobs where queue = 'tap/62/large' $$, $$ values (1, 900000) $$, 'to every job');
rollback to large;

select is_empty('select * from awa.check()', 'the storage is sound after all of this');

select * from finish();
rollback;
