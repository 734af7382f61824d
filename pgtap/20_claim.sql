-- Claim: which jobs, in which order, with which receipt. Inside one
-- transaction; race/20_claim_windows.sql claims what others committed.
begin;
select plan(53);
do $$ begin perform pg_advisory_xact_lock_shared(hashtext('awa pgtap')); end $$;

-- Result

create temp view shape as select * from awa.claim('tap/20/none');
select is((select array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) order by a.attnum) from pg_attribute as a
    where a.attrelid = 'pg_temp.shape'::regclass and a.attnum > 0),
  array['receipt awa.receipt', 'job_id bigint', 'kind text', 'args jsonb', 'queue text', 'priority smallint', 'attempt smallint',
    'max_attempts smallint', 'run_at timestamp with time zone', 'created_at timestamp with time zone', 'tags text[]', 'metadata jsonb',
    'progress jsonb', 'errors jsonb[]', 'deadline_at timestamp with time zone', 'lease_expires_at timestamp with time zone'],
  'a claim returns the documented columns');
select is((select array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) order by a.attnum) from pg_attribute as a
    where a.attrelid = (select typrelid from pg_type where oid = 'awa.receipt'::regtype) and a.attnum > 0),
  array['ready_slot smallint', 'batch_id bigint', 'job_id bigint', 'run_lease bigint'], 'a receipt has the documented fields');

-- How many

select awa.enqueue_many('k', array(select to_jsonb(n) from generate_series(1, 25) as n), queue => 'tap/20/fifo') \g /dev/null
create temp table fifo as
select c.*, 1 as call, row_number() over () as n from awa.claim('tap/20/fifo') as c;
select is((select count(*) from fifo), 1::bigint, 'a claim takes one job unless told otherwise');
insert into fifo select c.*, 2, row_number() over () from awa.claim('tap/20/fifo', 7) as c;
insert into fifo select c.*, 3, row_number() over () from awa.claim('tap/20/fifo', max_jobs => 17) as c;
insert into fifo select c.*, 4, row_number() over () from awa.claim('tap/20/fifo', 1000000) as c;
select results_eq('select call, count(*) from fifo group by call order by call', 'values (1, 1::bigint), (2, 7::bigint), (3, 17::bigint)',
  'max_jobs bounds a claim; asking for more than there is takes what there is');
select results_eq('select args from fifo order by call, n', 'select to_jsonb(n) from generate_series(1, 25) as n',
  'jobs of a lane come first in, first out, across claims');
select is((select count(distinct receipt) from fifo), 25::bigint, 'every receipt differs');
select is_empty('select * from fifo where (receipt).job_id <> job_id or (receipt).run_lease <> 1 or (receipt).batch_id is null or (receipt).ready_slot is null',
  'a receipt names its job and its first lease');
select results_eq('select call, count(distinct (receipt).batch_id) from fifo group by call order by call',
  'values (1, 1::bigint), (2, 1::bigint), (3, 1::bigint)', 'one claim from one lane is one batch');
select is_empty($$ select * from awa.claim('tap/20/fifo', 10) $$, 'what is claimed is not claimed again');

-- Lease

select awa.enqueue_many('k', array['1', '2', '3']::jsonb[], queue => 'tap/20/lease') \g /dev/null
create temp table moment as select clock_timestamp() as t;
create temp table leased as
select c.* from awa.claim('tap/20/lease') as c
union all select c.* from awa.claim('tap/20/lease', worker => 'me', lease => '2 hours') as c;
select is((select array_agg(c.lease_expires_at - c.claimed_at order by c.batch_id) from awa.claims as c join leased as l on (l.receipt).batch_id = c.batch_id),
  array[interval '5 minutes', interval '2 hours'], 'a lease is five minutes unless told otherwise');
select is_empty(
  $$ select * from leased as l join awa.claims as c on c.batch_id = (l.receipt).batch_id
     where c.lease_expires_at is distinct from l.lease_expires_at or c.claimed_at not between (select t from moment) and clock_timestamp() $$,
  'the lease starts with the claim, and the caller is told its end');
select results_eq('select c.worker from awa.claims as c join leased as l on (l.receipt).batch_id = c.batch_id order by c.batch_id',
  $$ values (null), ('me') $$, 'the worker''s name is kept');

-- Empty and unknown

select is_empty($$ select * from awa.claim('tap/20/never heard of', 10) $$, 'an unknown queue yields no rows');
select is_empty($$ select * from awa.queue_lanes where queue like 'tap/20/never%' $$, 'claiming an unknown queue does not create it');

\ir refused.psql
select is((select (r.state, r.hinted, r.message like '%' || named || '%') from pg_temp.refused(sql) as r),
  ('AW006'::text, true, true), format('%s is refused with AW006, %s in the message and a hint', title, named))
from (values
  ('max_jobs 0',        'max_jobs 0',    $$ select * from awa.claim('tap/20/lease', 0) $$),
  ('max_jobs -1',       'max_jobs -1',   $$ select * from awa.claim('tap/20/lease', -1) $$),
  ('max_jobs null',     'max_jobs null', $$ select * from awa.claim('tap/20/lease', null) $$),
  ('a null queue',      'queue is null',          $$ select * from awa.claim(null, 1) $$),
  ('an empty queue',    '''''',          $$ select * from awa.claim('') $$),
  ('a queue of 201 characters', '201',   $$ select * from awa.claim(repeat('é', 201)) $$),
  ('a null lease',      'null',          $$ select * from awa.claim('tap/20/lease', 1, lease => null) $$),
  ('a lease of zero',   '00:00:00',      $$ select * from awa.claim('tap/20/lease', 1, lease => '0') $$),
  ('a negative lease',  '-00:01:00',     $$ select * from awa.claim('tap/20/lease', 1, lease => '-1 minute') $$),
  ('a worker''s name of 201 characters', '201', $$ select * from awa.claim('tap/20/lease', 1, worker => repeat('é', 201)) $$)
) as v (title, named, sql);
select is((select count(*) from awa.claim('tap/20/lease', 10)), 1::bigint, 'a refused claim takes nothing');

-- Names

create temp table names (name text);
insert into names values ('tap/20/it''s'), ('tap/20/"q"'), ('tap/20/日本語'), (E'tap/20/\\n%s$1;--');
select awa.enqueue('k', to_jsonb(name), queue => name) from names \g /dev/null
select is((select c.args #>> '{}' from awa.claim(name, 2) as c), name, 'a claim by name finds ' || name) from names;

-- Own jobs: what this very transaction enqueued

select awa.enqueue('own', to_jsonb(p * 10 + n), queue => 'tap/20/own', priority => p)
from unnest(array[4, 2]) as p, generate_series(1, 2) as n order by p desc, n \g /dev/null
select results_eq($$ select args from awa.claim('tap/20/own', 3) $$, $$ values ('21'::jsonb), ('22'), ('41') $$,
  'a transaction claims what it enqueued, by priority, then in order');
select awa.enqueue('own', '43', queue => 'tap/20/own', priority => 4) \g /dev/null
select results_eq($$ select args from awa.claim('tap/20/own', 10) $$, $$ values ('42'::jsonb), ('43') $$,
  'and what it enqueues after a claim, once');
select is_empty($$ select * from awa.claim('tap/20/own', 10) $$, 'after that there is no more');

-- One by one, without going through the others each time

create function pg_temp.entries_read () returns bigint
  language sql as $$
  select sum(pg_stat_get_xact_tuples_returned(c.oid))::bigint
  from pg_class as c
  where c.relnamespace = 'awa'::regnamespace and c.relname ~ '^ready_entries_\d+_lane_idx$'
$$;
select awa.enqueue_many('own', array_fill('1'::jsonb, array[1000]), queue => 'tap/20/single') \g /dev/null
select is((select count(*) from awa.claim('tap/20/single', 500)), 500::bigint, 'of many own jobs half are claimed');
select pg_temp.entries_read() as entries \gset
select is((select count(*) from generate_series(1, 10) as n cross join lateral awa.claim('tap/20/single') as c), 10::bigint, 'then some one by one');
select cmp_ok(pg_temp.entries_read() - :entries, '<', 500::bigint, 'which reads neither what is taken nor what is left');
select job_id as older, awa.fail(receipt, terminal => true) from awa.claim('tap/20/single') \gset
select count(*) from awa.claim('tap/20/single', 1000) \g /dev/null
select awa.retry(:older) \g /dev/null
select is((select job_id from awa.claim('tap/20/single')), :older::bigint, 'a job that comes back under its old id is found');

-- Savepoints

select awa.enqueue('s', to_jsonb(n), queue => 'tap/20/savepoint') from generate_series(1, 3) as n \g /dev/null
savepoint tried;
create temp table lost as select receipt from awa.claim('tap/20/savepoint', 2);
select is((select count(*) from lost), 2::bigint, 'two jobs are claimed in a savepoint');
create temp table lost_receipt on commit drop as select (receipt).* from lost;
select (receipt).ready_slot as lost_slot, (receipt).batch_id as lost_batch, (receipt).job_id as lost_job, (receipt).run_lease as lost_lease from lost limit 1 \gset
rollback to tried;
select is(awa.complete(row(:lost_slot, :lost_batch, :lost_job, :lost_lease)::awa.receipt), false, 'a receipt of a claim that rolled back is stale');
select results_eq($$ select args, attempt, (receipt).run_lease from awa.claim('tap/20/savepoint', 10) $$,
  $$ select to_jsonb(n), 1::smallint, 1::bigint from generate_series(1, 3) as n $$,
  'a claim that rolled back leaves its jobs where they were, attempt and all');
savepoint producing;
select awa.enqueue('s', '4', queue => 'tap/20/savepoint') \g /dev/null
select is((select count(*) from awa.claim('tap/20/savepoint', 10)), 1::bigint, 'a job enqueued and claimed in a savepoint');
rollback to producing;
select is_empty($$ select * from awa.claim('tap/20/savepoint', 10) $$, 'is gone with it');
savepoint kept;
select awa.enqueue('s', '5', queue => 'tap/20/savepoint') \g /dev/null
release kept;
select results_eq($$ select args from awa.claim('tap/20/savepoint', 10) $$, $$ values ('5'::jsonb) $$, 'one from a released savepoint is there');

-- A queue and its columns after many claims

select results_eq($$ select available, running, terminal from awa.queue_counts('tap/20/fifo') $$, 'values (0::bigint, 25::bigint, 0::bigint)',
  'claimed jobs count as running');
set local client_min_messages = error;
select awa.pause_queue('tap/20/paused') \g /dev/null
reset client_min_messages;
select awa.enqueue('k', queue => 'tap/20/paused') \g /dev/null
select is_empty($$ select * from awa.claim('tap/20/paused', 10) $$, 'a queue paused before its first job hands nothing out');
select results_eq($$ select available, running from awa.queue_counts('tap/20/paused') $$, 'values (1::bigint, 0::bigint)', 'its jobs stay available');

-- A claim and its finish in one statement

select awa.enqueue_many('k', array['1', '2', '3']::jsonb[], queue => 'tap/20/statement') \g /dev/null
select results_eq($$ select c.args, awa.complete(c.receipt) from awa.claim('tap/20/statement', 2) as c $$,
  $$ values ('1'::jsonb, true), ('2', true) $$, 'a claim can be finished in the statement that makes it');
select results_eq($$ select available, running, completed from awa.queue_counts('tap/20/statement') $$,
  'values (1::bigint, 0::bigint, 2::bigint)', 'and is counted so');

-- Extremes

select awa.enqueue('attempts', queue => 'tap/20/edge', max_attempts => 1000) \g /dev/null
select results_eq($$ select attempt, max_attempts from awa.claim('tap/20/edge', 2147483647) $$, 'values (1::smallint, 1000::smallint)',
  'max_jobs may be as large as an integer');

-- The longest name that a worker may have; texts that do not compress.
create temp table edge as
select c.receipt from awa.enqueue('k', queue => 'tap/20/name') as j, awa.claim('tap/20/name', worker => (
  select string_agg(chr(65536 + (hashint4(n) & 65535)), '') from generate_series(1, 200) as n)) as c;
select is((select awa.cancel((e.receipt).job_id) from edge as e), true, 'an attempt of the longest name is cancelled');
select is((select count(*) from awa.worker_notices as n join edge as e on n.job_id = (e.receipt).job_id and length(n.worker) = 200), 1::bigint,
  'and its worker told');

select is(awa._draw_batch_id(((1::bigint << 46) - 1) * 16 + 15) >> 17, (1::bigint << 46) - 1, 'a batch is named after the highest job id that there can be');
select throws_ok('select awa._draw_batch_id((1::bigint << 46) * 16)', '22003', null, 'and after no higher one');

select is_empty('select * from awa.check()', 'the storage is sound after all of this');

select * from finish();
rollback;
