-- Enqueue: what a producer may say, and what of it is kept.
begin;
select plan(59);
-- Files that turn the ring run alone; all others share it.
do $$ begin perform pg_advisory_xact_lock_shared(hashtext('awa pgtap')); end $$;

-- Defaults

create temp table defaults as select awa.enqueue('plain') as id;

create temp table got_default as select * from awa.claim('default', 1, 'w');

select results_eq(
  'select job_id, kind, args, queue, priority, attempt, max_attempts, tags, metadata, progress, errors, deadline_at
   from got_default',
  $$ select id, 'plain', '{}'::jsonb, 'default', 2::smallint, 1::smallint, 25::smallint, '{}'::text[], '{}'::jsonb,
       null::jsonb, '{}'::jsonb[], null::timestamptz
     from defaults $$,
  'a job of a kind alone carries every default');
select results_eq('select run_at, created_at from got_default', 'select now(), now()',
  'a job without run_at is due at the time of its transaction');

-- Every argument

create temp table everything as
select awa.enqueue('send', '{"to": "a@b.c", "n": [1, 2]}', queue => 'tap/10/all', priority => 4,
  run_at => now() - interval '1 day', max_attempts => 7, tags => array['x', 'y z', ''],
  metadata => '{"m": {"deep": true}}', unique_key => '\x00ff', unique_states => B'10110000',
  ordering_key => 'customer 7', deadline => interval '90 seconds') as id;
create temp table got_everything as select * from awa.claim('tap/10/all', 5, 'w');

select results_eq(
  'select job_id, kind, args, queue, priority, attempt, max_attempts, run_at, tags, metadata from got_everything',
  $$ select id, 'send', '{"to": "a@b.c", "n": [1, 2]}'::jsonb, 'tap/10/all', 4::smallint, 1::smallint, 7::smallint,
       now() - interval '1 day', array['x', 'y z', ''], '{"m": {"deep": true}}'::jsonb
     from everything $$,
  'every argument comes back from the claim; a run_at in the past is kept and due');
select results_eq(
  $$ select deadline_at - (lease_expires_at - interval '5 minutes') from got_everything $$,
  $$ values (interval '90 seconds') $$,
  'the deadline runs from the claim');
select results_eq(
  'select r.unique_key, r.unique_states, r.ordering_key from awa.ready_entries as r join everything as e on r.job_id = e.id',
  $$ values ('\x00ff'::bytea, B'10110000'::bit(8), 'customer 7') $$,
  'unique key, unique states and ordering key are stored');

-- Positions: kind, args, queue, priority come first

select lives_ok($$ select awa.enqueue('k', '{"a": 1}', 'tap/10/positional', 1) $$,
  'kind, args, queue and priority can be given by position');
select results_eq($$ select kind, args, queue, priority from awa.claim('tap/10/positional') $$,
  $$ values ('k', '{"a": 1}'::jsonb, 'tap/10/positional', 1::smallint) $$,
  'arguments by position arrive at their names');

-- Ids

select results_eq(
  $$ select array_agg(id order by n) = array_agg(id order by id), count(distinct id)
     from (select n, awa.enqueue('id', queue => 'tap/10/ids') as id from generate_series(1, 10) as n) as s $$,
  $$ values (true, 10::bigint) $$,
  'ids are unique and ascend in the order of the calls');

-- args need not be an object

select awa.enqueue('args', a, queue => 'tap/10/args')
from unnest(array['[1, 2]', '"text"', '7', 'false', 'null', '{}']::jsonb[]) with ordinality as u (a, n) order by n
\g /dev/null
select results_eq($$ select args from awa.claim('tap/10/args', 10) $$,
  $$ select unnest(array['[1, 2]', '"text"', '7', 'false', 'null', '{}']::jsonb[]) $$,
  'args may be any JSON value, JSON null included');

-- Names

create temp table names (name text);
insert into names values
  ('it''s'), ('"quoted"'), ('a;drop table x;--'), ('back\slash'), ('%I %s %L'), ('$1 $$'), (' leading and trailing '),
  (E'tab\tand\nnewline'), ('Ünïcödé 日本語 🐘'), (repeat('🐘', 200)), (repeat('x', 200)), ('UPPER'), ('upper'), ('null'), ('1');
select is(
  (select count(*) from (select awa.enqueue(name, to_jsonb(name), queue => name, tags => array[name], ordering_key => name) from names) as s),
  (select count(*) from names),
  'kinds and queues of 1 to 200 characters are accepted, whatever the characters');
select bag_eq(
  'select c.queue, c.kind, c.args, c.tags from names as n cross join lateral awa.claim(n.name, 10) as c',
  'select name, name as kind, to_jsonb(name) as args, array[name] as tags from names',
  'each such queue delivers its own job, character by character');

-- Limits. Each message names the value, each hint the remedy.

\ir refused.psql

select is((select (r.state, r.hinted, r.message like '%' || named || '%') from pg_temp.refused(sql) as r),
  ('AW006'::text, true, true), format('%s is refused with AW006, the value %s in the message and a hint', title, named))
from (values
  ('priority 0',                 '0',                $$ select awa.enqueue('k', priority => 0) $$),
  ('priority 5',                 '5',                $$ select awa.enqueue('k', priority => 5) $$),
  ('priority -1',                '-1',               $$ select awa.enqueue('k', priority => -1) $$),
  ('priority beyond smallint',   '70000',            $$ select awa.enqueue('k', priority => 70000) $$),
  ('priority null',              'null',             $$ select awa.enqueue('k', priority => null) $$),
  ('max_attempts 0',             '0',                $$ select awa.enqueue('k', max_attempts => 0) $$),
  ('max_attempts 1001',          '1001',             $$ select awa.enqueue('k', max_attempts => 1001) $$),
  ('max_attempts null',          'null',             $$ select awa.enqueue('k', max_attempts => null) $$),
  ('an empty kind',              '''''',             $$ select awa.enqueue('') $$),
  ('a kind of 201 characters',   '201',              $$ select awa.enqueue(repeat('k', 201)) $$),
  ('a null kind',                'kind is null',     $$ select awa.enqueue(null) $$),
  ('an empty queue',             '''''',             $$ select awa.enqueue('k', queue => '') $$),
  ('a queue of 201 characters',  '201',              $$ select awa.enqueue('k', queue => repeat('q', 201)) $$),
  ('a null queue',               'queue is null',    $$ select awa.enqueue('k', queue => null) $$),
  ('21 tags',                    'tags has 21',      $$ select awa.enqueue('k', tags => array_fill('t'::text, array[21])) $$),
  ('a null tag',                 '{a,NULL}',         $$ select awa.enqueue('k', tags => array['a', null]) $$),
  ('tags in two dimensions',     'tags',             $$ select awa.enqueue('k', tags => array[['a', 'b'], ['c', 'd']]) $$),
  ('null args',                  'args is null',     $$ select awa.enqueue('k', null) $$),
  ('null metadata',              'null',             $$ select awa.enqueue('k', metadata => null) $$),
  ('metadata that is an array',  'array',            $$ select awa.enqueue('k', metadata => '[]') $$),
  ('metadata that is a string',  'string',           $$ select awa.enqueue('k', metadata => '"m"') $$),
  ('metadata that is JSON null', 'null',             $$ select awa.enqueue('k', metadata => 'null') $$),
  ('a mask of 3 bits',           '3 bits',           $$ select awa.enqueue('k', unique_key => 'u', unique_states => b'111') $$),
  ('a mask of 9 bits, no key',   '9 bits',           $$ select awa.enqueue('k', unique_states => b'111110000') $$),
  ('a key of 2001 bytes',        '2001',             $$ select awa.enqueue('k', unique_key => convert_to(repeat('u', 2001), 'UTF8')) $$)
) as v (title, named, sql);
select is_empty($$ select * from awa.claim('default', 10) $$, 'a refused job is not added');

select lives_ok($$ select awa.enqueue('k', queue => 'tap/10/edge', priority => 1, max_attempts => 1,
    tags => array_fill('t'::text, array[20])) $$,
  'priority 1, one attempt and 20 tags are within the limits');
select lives_ok($$ select awa.enqueue('k', queue => 'tap/10/edge', priority => 4, max_attempts => 1000, tags => null) $$,
  'priority 4, 1000 attempts and null tags are within the limits');
select results_eq($$ select max_attempts, cardinality(tags) from awa.claim('tap/10/edge', 10) $$,
  $$ values (1::smallint, 20), (1000::smallint, 0) $$, 'values at the limits are kept; null tags are no tags');

-- Time

create temp table later as
select awa.enqueue('later', '{"a": 1}', queue => 'tap/10/later', priority => 3, run_at => now() + interval '1 hour', max_attempts => 3,
  tags => array['t'], metadata => '{"m": 1}', unique_key => '\x01', unique_states => B'11110000', ordering_key => 'o',
  deadline => interval '1 minute') as id;
select is_empty($$ select * from awa.claim('tap/10/later', 10) $$, 'a job with run_at in the future cannot be claimed');
select results_eq(
  $$ select d.state, d.run_at, d.created_at, d.run_lease, d.attempt, d.max_attempts, d.kind, d.args, d.metadata, d.tags,
       d.unique_key, d.unique_states, d.ordering_key, d.deadline
     from awa.deferred_jobs as d join later as l on d.job_id = l.id $$,
  $$ values ('scheduled'::awa.job_state, now() + interval '1 hour', now(), 1, 1::smallint, 3::smallint, 'later',
       '{"a": 1}'::jsonb, '{"m": 1}'::jsonb, array['t'], '\x01'::bytea, B'11110000'::bit(8), 'o', interval '1 minute') $$,
  'it waits as scheduled, with all it was given');
select results_eq($$ select available, scheduled, terminal from awa.queue_counts('tap/10/later') $$,
  'values (0::bigint, 1::bigint, 0::bigint)', 'it counts as scheduled, not as available');
select lives_ok($$ select awa.enqueue('k', queue => 'tap/10/infinity', run_at => '-infinity'), awa.enqueue('k', queue => 'tap/10/infinity', run_at => 'infinity') $$,
  'infinite times are times');
select results_eq($$ select available, scheduled from awa.queue_counts('tap/10/infinity') $$,
  'values (1::bigint, 1::bigint)', '-infinity is due, infinity never');

-- Large arguments

create temporary table large as
select awa.enqueue('k', to_jsonb(repeat('0123456789', 10000)), 'tap/10/large', run_at => r.run_at) as id
from (values (null), (now() + interval '1 hour')) as r (run_at);
select is(array(select length(j.args #>> '{}') from awa.jobs as j join large as l on l.id = j.id), array[100000, 100000],
  'arguments of 100 kB come back whole');
select is(
  array(select pg_column_compression(r.args) from awa.ready_entries as r join large as l on l.id = r.job_id
        union all
        select pg_column_compression(d.args) from awa.deferred_jobs as d join large as l on l.id = d.job_id),
  array_fill((select case when 'lz4' = any (s.enumvals) then 'lz4' else 'pglz' end
              from pg_settings as s where s.name = 'default_toast_compression'), array[2]),
  'compressed the fastest way that the server has');

-- A producer that rolls back

savepoint undone;
select awa.enqueue('k', queue => 'tap/10/undone') \g /dev/null
rollback to undone;
select results_eq($$ select available, scheduled from awa.queue_counts('tap/10/undone') $$,
  'values (0::bigint, 0::bigint)', 'a job whose savepoint rolled back was never there');
select is_empty($$ select * from awa.queue_lanes where queue = 'tap/10/undone' $$, 'nor was its lane');

select is_empty('select * from awa.check()', 'the storage is sound after all of this');

-- Size: what nobody could claim, or merge with more

create temp table heavy as select jsonb_agg(1e131071) || to_jsonb(repeat('x', 65000)) as args from generate_series(1, 2100);
create temp table compressed (args jsonb);
insert into compressed select l.args from heavy as l;
select ok(pg_column_size(c.args) < 65000, 'a value that is small as it is stored') from compressed as c;
select throws_ok($$ select awa.enqueue('k', c.args, 'tap/10/size') from compressed as c $$, 'AW006', null, 'is looked at all the same');
select throws_ok($$ select awa.enqueue('k', (c.args - 0) || c.args[0], 'tap/10/size') from compressed as c $$, 'AW006', null, 'args that no row holds');
-- As deep as can nearly not be read: how deep that is depends on the server's build.
create function pg_temp.deep() returns jsonb language plpgsql as $$
begin
  for n in reverse 60000 .. 2000 by 500 loop
    begin
      perform (repeat('{"":', n) || '1' || repeat('}', n))::jsonb;
      return (repeat('{"":', n - 1000) || '1' || repeat('}', n - 1000))::jsonb;
    exception when program_limit_exceeded then
    end;
  end loop;
end $$;
select throws_ok($$ select awa.enqueue('k', queue => 'tap/10/size', metadata => pg_temp.deep()) $$,
  'AW006', null, 'metadata that nothing can be merged with');
select throws_ok($$ select awa.enqueue('k', queue => 'tap/10/size', ordering_key => repeat('x', 300000000)) $$, 'AW006', null, 'an endless ordering key');
select throws_ok($$ select awa.enqueue_many('k', array['{}', c.args], 'tap/10/size') from compressed as c $$, 'AW006', null, 'in an array');
select throws_ok($$ select awa.enqueue_many(jsonb_build_array(j, j, j, j), 'tap/10/size')
  from compressed as c cross join lateral (select jsonb_build_object('kind', 'k', 'args', c.args) as j) as j $$, 'AW006', null, 'and in a list of jobs');
select lives_ok($$ select awa.enqueue('k', to_jsonb(repeat('x', 1000000)), 'tap/10/size',
  metadata => (repeat('{"":', 4000) || '1' || repeat('}', 4000))::jsonb) $$, 'what is only large is taken');
select is(octet_length(c.args::text), 1000002, 'and claimed') from awa.claim('tap/10/size') as c;

select * from finish();
rollback;
