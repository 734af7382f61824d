-- Enqueue many: one call, in order, all or nothing.
begin;
select plan(102);
do $$ begin perform pg_advisory_xact_lock_shared(hashtext('awa pgtap')); end $$;

\ir refused.psql

-- From an array of args

create temp table bulk as
select awa.enqueue_many('k', array(select to_jsonb(n) from generate_series(1, 500) as n), queue => 'tap/11/array', priority => 3,
  run_at => now() - interval '1 day', max_attempts => 9, tags => array['t'], metadata => '{"m": 1}', deadline => '1 minute') as ids;
create temp table bulk_got as select c.*, row_number() over () as n from awa.claim('tap/11/array', 1000) as c;

select is((select cardinality(ids) from bulk), 500, 'one id per element of args');
select results_eq('select ids from bulk', 'select array(select unnest(ids) order by 1) from bulk', 'ids ascend in the order of args');
select results_eq('select job_id, args from bulk_got order by n',
  'select u.id, to_jsonb(u.n) from bulk cross join unnest(ids) with ordinality as u (id, n) order by u.n',
  'each id carries its own args, and the claim follows the order');
select results_eq(
  'select distinct kind, queue, priority, attempt, max_attempts, run_at, tags, metadata, deadline_at is not null from bulk_got',
  $$ values ('k', 'tap/11/array', 3::smallint, 1::smallint, 9::smallint, now() - interval '1 day', array['t'], '{"m": 1}'::jsonb, true) $$,
  'the other arguments hold for all of them');

select is(awa.enqueue_many('k', '{}'::jsonb[], queue => 'tap/11/none'), '{}'::bigint[], 'no args: no job and no id');
select is_empty($$ select * from awa.claim('tap/11/none', 10) $$, 'an empty array adds nothing');

select lives_ok($$ select awa.enqueue_many('k', array['1', '2']::jsonb[], queue => 'tap/11/later', run_at => now() + interval '1 hour') $$,
  'a bulk can be scheduled');
select results_eq($$ select available, scheduled from awa.queue_counts('tap/11/later') $$, 'values (0::bigint, 2::bigint)',
  'a bulk with run_at in the future waits as a whole');

select is((select (r.state, r.hinted, r.message like '%' || named || '%') from pg_temp.refused(sql) as r),
  ('AW006'::text, true, true), format('array form: %s is refused with AW006, %s in the message and a hint', title, named))
from (values
  ('null args',              'null',    $$ select awa.enqueue_many('k', null::jsonb[], queue => 'tap/11/refused') $$),
  ('a null element',         '2',       $$ select awa.enqueue_many('k', array['1', null, '3']::jsonb[], queue => 'tap/11/refused') $$),
  ('two dimensions',         'args has 2 dimensions',    $$ select awa.enqueue_many('k', array[['1', '2'], ['3', '4']]::jsonb[], queue => 'tap/11/refused') $$),
  ('a null kind',            'is null', $$ select awa.enqueue_many(null, array['1']::jsonb[], queue => 'tap/11/refused') $$),
  ('a long kind',            '201',     $$ select awa.enqueue_many(repeat('k', 201), array['1']::jsonb[], queue => 'tap/11/refused') $$),
  ('a long queue',           '201',     $$ select awa.enqueue_many('k', array['1']::jsonb[], queue => repeat('q', 201)) $$),
  ('priority 5',             '5',       $$ select awa.enqueue_many('k', array['1']::jsonb[], queue => 'tap/11/refused', priority => 5) $$),
  ('max_attempts 0',         '0',       $$ select awa.enqueue_many('k', array['1']::jsonb[], queue => 'tap/11/refused', max_attempts => 0) $$),
  ('21 tags',                '21',      $$ select awa.enqueue_many('k', array['1']::jsonb[], queue => 'tap/11/refused', tags => array_fill('t'::text, array[21])) $$),
  ('metadata of an array',   'array',   $$ select awa.enqueue_many('k', array['1']::jsonb[], queue => 'tap/11/refused', metadata => '[1]') $$),
  ('a bad value for no job', '5',       $$ select awa.enqueue_many('k', '{}'::jsonb[], queue => 'tap/11/refused', priority => 5) $$)
) as v (title, named, sql);

-- From JSON

create temp table mixed as
select awa.enqueue_many('[
  {"kind": "b", "priority": 3, "args": {"n": 1}},
  {"kind": "a", "queue": "tap/11/own"},
  {"kind": "c", "priority": 1, "args": [3], "max_attempts": 3, "tags": ["x", "y"], "metadata": {"m": 1}, "run_at": "2001-02-03T04:05:06Z",
   "deadline": "2 minutes", "ordering_key": "o", "unique_key": "\\x0102", "unique_states": "11110000"},
  {"kind": "d", "run_at": "2999-01-01T00:00:00Z"}
]', queue => 'tap/11/json') as ids;
create temp table mixed_got as
select * from awa.claim('tap/11/json', 10) union all select * from awa.claim('tap/11/own', 10);

select is((select cardinality(ids) from mixed), 4, 'JSON form: one id per object');
select results_eq('select job_id, kind, queue, priority, args from mixed_got',
  $$ select ids[3], 'c', 'tap/11/json', 1::smallint, '[3]'::jsonb from mixed
     union all select ids[1], 'b', 'tap/11/json', 3::smallint, '{"n": 1}'::jsonb from mixed
     union all select ids[2], 'a', 'tap/11/own', 2::smallint, '{}'::jsonb from mixed $$,
  'JSON form: ids are in order; an object''s queue wins over the call''s, absent keys take the defaults of enqueue');
select results_eq(
  $$ select g.max_attempts, g.tags, g.metadata, g.run_at, r.deadline, r.ordering_key, r.unique_key, r.unique_states
     from mixed_got as g join awa.ready_entries as r on r.job_id = g.job_id where g.kind = 'c' $$,
  $$ values (3::smallint, array['x', 'y'], '{"m": 1}'::jsonb, '2001-02-03T04:05:06Z'::timestamptz, interval '2 minutes', 'o',
       '\x0102'::bytea, B'11110000'::bit(8)) $$,
  'JSON form: every key of enqueue is understood');
select results_eq($$ select d.kind, d.state, d.job_id from awa.deferred_jobs as d, mixed as m where d.job_id = any (m.ids) $$,
  $$ select 'd', 'scheduled'::awa.job_state, ids[4] from mixed $$, 'JSON form: a future run_at schedules that one');
select is(awa.enqueue_many('[]'), '{}'::bigint[], 'JSON form: an empty array gives no ids');
select results_eq($$ select kind, queue from unnest(awa.enqueue_many('[{"kind": "dflt"}]')) as u (id) join lateral awa.claim('default') on true $$,
  $$ values ('dflt', 'default') $$, 'JSON form: the queue is default when nobody names one');

select is((select (r.state, r.hinted, r.message like '%' || named || '%') from pg_temp.refused(sql) as r),
  ('AW006'::text, true, true), format('JSON form: %s is refused with AW006, %s in the message and a hint', title, named))
from (values
  ('SQL null',                    'null',     $$ select awa.enqueue_many(null::jsonb, queue => 'tap/11/refused') $$),
  ('an object',                   'object',   $$ select awa.enqueue_many('{"kind": "k"}', queue => 'tap/11/refused') $$),
  ('a JSON null',                 'null',     $$ select awa.enqueue_many('null', queue => 'tap/11/refused') $$),
  ('a null element',              'null',     $$ select awa.enqueue_many('[{"kind": "k"}, null]', queue => 'tap/11/refused') $$),
  ('an element that is text',     'word',     $$ select awa.enqueue_many('[{"kind": "k"}, "word"]', queue => 'tap/11/refused') $$),
  ('an unknown key',              'colour',   $$ select awa.enqueue_many('[{"kind": "k"}, {"kind": "k", "colour": "red"}]', queue => 'tap/11/refused') $$),
  ('an object without kind',      'is null',  $$ select awa.enqueue_many('[{"kind": "k"}, {"args": {}}]', queue => 'tap/11/refused') $$),
  ('a later priority 9',          '9',        $$ select awa.enqueue_many('[{"kind": "k"}, {"kind": "k", "priority": 9}]', queue => 'tap/11/refused') $$),
  ('a later max_attempts 0',      '0',        $$ select awa.enqueue_many('[{"kind": "k"}, {"kind": "k", "max_attempts": 0}]', queue => 'tap/11/refused') $$),
  ('a later long queue',          '201',      format($$ select awa.enqueue_many('[{"kind": "k"}, {"kind": "k", "queue": "%s"}]', queue => 'tap/11/refused') $$, repeat('q', 201))),
  ('a later list as metadata',    'array',    $$ select awa.enqueue_many('[{"kind": "k"}, {"kind": "k", "metadata": []}]', queue => 'tap/11/refused') $$),
  ('a priority that is a word',   'high',     $$ select awa.enqueue_many('[{"kind": "k"}, {"kind": "k", "priority": "high"}]', queue => 'tap/11/refused') $$),
  ('a run_at that is no time',    'someday',  $$ select awa.enqueue_many('[{"kind": "k"}, {"kind": "k", "run_at": "someday"}]', queue => 'tap/11/refused') $$),
  ('a deadline in parts',         'deadline', $$ select awa.enqueue_many('[{"kind": "k"}, {"kind": "k", "deadline": {"hours": 1}}]', queue => 'tap/11/refused') $$),
  ('one among many',              'deadline', $$ select awa.enqueue_many(
    (select jsonb_agg(jsonb_build_object('kind', 'k')) from generate_series(1, 20)) || '[{"kind": "k", "deadline": [60]}]', queue => 'tap/11/refused') $$),
  ('a kind that is no text',      'kind',     $$ select awa.enqueue_many('[{"kind": "k"}, {"kind": {"name": "k"}}]', queue => 'tap/11/refused') $$),
  ('such a queue among many',     'queue',    $$ select awa.enqueue_many(
    (select jsonb_agg(jsonb_build_object('kind', 'k')) from generate_series(1, 20)) || '[{"kind": "k", "queue": ["tap/11/refused"]}]', queue => 'tap/11/refused') $$),
  ('such a concurrency key',      'concurrency_key', $$ select awa.enqueue_many('[{"kind": "k", "concurrency_key": {"tenant": 1}}]', queue => 'tap/11/refused') $$),
  ('such a unique key',           'unique_key', $$ select awa.enqueue_many('[{"kind": "k", "unique_key": ["a", 1]}]', queue => 'tap/11/refused') $$),
  ('tags that are no list',       'x',        $$ select awa.enqueue_many('[{"kind": "k"}, {"kind": "k", "tags": "x"}]', queue => 'tap/11/refused') $$),
  ('a key that is no bytea',      'later',    $$ select awa.enqueue_many('[{"kind": "k", "unique_key": "u"}, {"kind": "later", "unique_key": "\\x012"}]', queue => 'tap/11/refused') $$),
  ('a null queue for all',        'is null',  $$ select awa.enqueue_many('[{"kind": "k"}]', queue => null) $$),
  ('a long key beside another',   '9000',     format($$ select awa.enqueue_many('[{"kind": "k", "unique_key": "u"}, {"kind": "k", "unique_key": "%s"}]', queue => 'tap/11/refused') $$, (
    select string_agg(md5(n::text), '') || repeat('u', 40) from generate_series(1, 280) as n)))
) as v (title, named, sql);
select results_eq($$ select available, scheduled, terminal from awa.queue_counts('tap/11/refused') $$,
  'values (0::bigint, 0::bigint, 0::bigint)', 'a refused call adds none of its jobs');

-- Together or one by one

-- What was added for each id, but for what differs from call to call.
create function pg_temp.added (p_ids bigint[]) returns table (n bigint, job jsonb)
  language sql as $$
  select u.n, coalesce(
    (select to_jsonb(r) - 'job_id' from awa.ready_entries as r where r.job_id = u.id),
    (select to_jsonb(d) - 'job_id' from awa.deferred_jobs as d where d.job_id = u.id), 'null')
  from unnest(p_ids) with ordinality as u (id, n)
$$;
-- A list of one is too short to be added as a whole.
create function pg_temp.one_by_one (p_jobs jsonb, p_queue text) returns bigint[]
  language plpgsql as $$
declare
  v_ids bigint[] := '{}';
  v_job jsonb;
begin
  for v_job in select j.value from jsonb_array_elements(p_jobs) with ordinality as j (value, n) order by j.n loop
    v_ids := v_ids || awa.enqueue_many(jsonb_build_array(v_job), queue => p_queue);
  end loop;
  return v_ids;
end;
$$;

select awa.configure_queue('tap/11/shards', '{"enqueue_shards": 7}'), awa.configure_queue('tap/11/still', '{"notify": false}') \g /dev/null
create temp table alike as
select jsonb_agg(jsonb_strip_nulls(jsonb_build_object('kind', 'k' || n)
    || (array['{}', '{"priority": 1}', '{"priority": 4}', '{"priority": null}']::jsonb[])[1 + n % 4]
    || (array['{}', '{"args": 7}', '{"args": [null, "x"]}', '{"args": {"a": {"b": "c"}}}', '{"args": "t"}']::jsonb[])[1 + n % 5]
    || (array['{"queue": "tap/11/shards", "ordering_key": "o"}', '{"queue": "tap/11/still"}', '{}']::jsonb[])[1 + n % 3]
    || jsonb_build_object('ordering_key', 'o' || n)
    || (array['{}', '{"run_at": "2001-02-03T04:05:06Z"}', '{"run_at": "2999-01-01"}', '{"run_at": "infinity"}', '{"run_at": "-infinity"}', '{"run_at": null}']::jsonb[])[1 + n % 6]
    || (array['{}', '{"max_attempts": 1}', '{"max_attempts": "1000"}']::jsonb[])[1 + n / 3 % 3]
    || (array['{}', '{"tags": []}', '{"tags": ["a", "b"]}', '{"tags": "{c}"}', '{"tags": null}']::jsonb[])[1 + n / 2 % 5]
    || (array['{}', '{"metadata": {}}', '{"metadata": {"m": [1]}}', '{"metadata": null}']::jsonb[])[1 + n / 5 % 4]
    || (array['{}', '{"deadline": "90 seconds"}', '{"deadline": "100 years"}']::jsonb[])[1 + n / 7 % 3])) as jobs
from generate_series(1, 360) as n;
-- Nulls that are written count as absent, in any case.
update alike set jobs = jobs || '[{"kind": "n", "args": null, "queue": null, "priority": null, "run_at": null, "max_attempts": null, "tags": null,
  "metadata": null, "ordering_key": null, "deadline": null}]';
create temp table ways as
select awa.enqueue_many(jobs, queue => 'tap/11/alike') as together, pg_temp.one_by_one(jobs, 'tap/11/alike') as single from alike;
select results_eq('select a.* from ways as w, lateral pg_temp.added(w.together) as a', 'select a.* from ways as w, lateral pg_temp.added(w.single) as a',
  'jobs that are added together are as they are one by one');
select is_empty($$ select a.n from ways as w, lateral pg_temp.added(w.together) as a where a.job = 'null' $$, 'none of them is missing');
set local search_path = awa, public;
select is((select cardinality(awa._enqueue_plain(jobs, 'tap/11/alike')) from alike), 361, 'all of them fit into one statement');
reset search_path;
select results_eq('select unnest(together) from ways', 'select unnest(together) from ways order by 1', 'their ids ascend in their order');
select set_eq($$ select q.enqueue_shard from awa.queue_lanes as q where q.queue = 'tap/11/shards' $$, 'select n::smallint from generate_series(0, 6) as n', 'an ordering key finds its shard');

create temp table odd as
select jsonb_agg(jsonb_build_object('kind', 'k' || n, 'queue', 'tap/11/odd') || case n
  when 3 then jsonb_build_object('concurrency_key', 'c')
  when 20 then '{"follow_ups": {"completed": [{"kind": "f"}]}}'
  when 21 then jsonb_build_object('after', to_jsonb((select array[together[1]] from ways)))
  when 40 then '{"unique_states": "11110000"}'
  else case when n in (5, 6) then '{"unique_key": "\\x1101"}' else '{}' end::jsonb end) as jobs
from generate_series(1, 40) as n;
create temp table odd_ways as select awa.enqueue_many(jobs) as together from odd;
create temp table odd_added as select a.* from odd_ways as w, lateral pg_temp.added(w.together) as a;
select is((select together[6] from odd_ways), (select together[5] from odd_ways), 'among others, the second of a unique key is its holder');
select results_eq('select distinct id from (select unnest(together) from odd_ways) as u (id) order by 1',
  'select id from (select unnest(together[:5] || together[7:]) from odd_ways) as u (id)', 'ids ascend through jobs of all sorts');
select is((select awa.delete_job_compat(together[5]) from odd_ways), true, 'once the key is free');
select results_eq('select * from odd_added', 'select a.* from odd as o, lateral pg_temp.added(pg_temp.one_by_one(o.jobs, null)) as a',
  'a list of all sorts is added as one by one');

select is((select row(r.*)::text from pg_temp.refused(format('select awa.enqueue_many(%L, queue => %L)', l.jobs, 'tap/11/refused')) as r),
  (select row(r.*)::text from pg_temp.refused(format('select awa.enqueue_many(%L, queue => %L)', jsonb_build_array(b.job), 'tap/11/refused')) as r),
  format('the same is said of %s in a list of %s others as alone', left(b.job::text, 60), case when another then 'good and bad' else 'good' end))
from (values ('7'::jsonb), ('null'), ('[]'), ('{"kind": "k", "colour": 1}'), ('{}'), ('{"kind": ""}'), ('{"kind": "k", "priority": 0}'), ('{"kind": "k", "priority": 1e12}'),
  ('{"kind": "k", "tags": [["a"]]}'), ('{"kind": "k", "tags": [null]}'), ('{"kind": "k", "tags": 3}'), ('{"kind": "k", "max_attempts": 1001}'), ('{"kind": "k", "metadata": 3}'),
  ('{"kind": "k", "deadline": "0"}'), ('{"kind": "k", "deadline": "101 years"}'), ('{"kind": "k", "deadline": "soon"}'), ('{"kind": "k", "run_at": "x"}'),
  ('{"kind": "k", "queue": ""}')) as b (job)
cross join (values (false), (true)) as a (another)
cross join lateral (
  select jsonb_agg(x.job) as jobs from (
    select '{"kind": "k"}'::jsonb from generate_series(1, 6) union all select b.job
    union all select '{"kind": "k", "priority": 5}' where a.another union all select '{"kind": "k"}' from generate_series(1, 6)) as x (job)
) as l;

select awa.configure_queue('tap/11/full', '{"max_depth": 6}') \g /dev/null
select is((select r.state from pg_temp.refused(format($$ select awa.enqueue_many((select jsonb_agg('{"kind": "k"}'::jsonb) from generate_series(1, %s)), queue => 'tap/11/full') $$, n)) as r),
  state, format('%s jobs for a queue with room for six: %s', n, state))
from (values (7, 'AW007'), (6, 'accepted')) as v (n, state);
select is((select available from awa.queue_counts('tap/11/full')), 6::bigint, 'it is full then, and no fuller');
select throws_ok($$ select awa.enqueue_many((select jsonb_agg(jsonb_build_object('kind', 'k', 'queue', 'tap/11/' || q)) from unnest(array['room', 'full']) as q, generate_series(1, 5))) $$,
  'AW007', 'queue ''tap/11/full'' holds 6 waiting jobs, its max_depth is 6', 'one queue that is full refuses the call');
select is((select available from awa.queue_counts('tap/11/room')), 0::bigint, 'and no other gets its jobs');

-- Calls that mix

select lives_ok($$ select awa.enqueue_many(jsonb_agg(jsonb_build_object('kind', 'k' || n, 'priority', 1 + n % 4)), queue => 'tap/11/lanes')
    from generate_series(1, 40) as n $$, 'one call may fill several lanes');
select results_eq(
  $$ select priority, count(*), array_agg(job_id order by n) = array_agg(job_id order by job_id)
     from (select c.*, row_number() over () as n from awa.claim('tap/11/lanes', 100) as c) as c group by priority order by min(n) $$,
  'select p::smallint, 10::bigint, true from generate_series(1, 4) as p',
  'they are claimed by priority, and in order of ids inside one');

select is_empty('select * from awa.check()', 'the storage is sound after all of this');

select * from finish();
rollback;
