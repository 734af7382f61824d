-- Rate limits and full queues.
begin;
select plan(27);

create function pg_temp.at (p_seconds double precision) returns void
  language sql as $$ select set_config('awa.now', (timestamptz '2030-01-01 00:00 UTC' + p_seconds * interval '1 second')::text, true) $$;
create function pg_temp.claimed (p_queue text, p_max integer default 1000) returns bigint
  language plpgsql as $$ begin return (select count(*) from awa.claim(p_queue, p_max)); end $$;

-- Rate limit

select awa.configure_queue('tap/83', '{"rate_limit": 10, "rate_burst": 5}') \g /dev/null
select awa.enqueue_many('k', array_fill('{}'::jsonb, array[100]), queue => 'tap/83') \g /dev/null
select pg_temp.at(0) \g /dev/null
select is(pg_temp.claimed('tap/83', 2), 2::bigint, 'a full bucket gives what is asked for');
select is(pg_temp.claimed('tap/83'), 3::bigint, 'up to its burst');
select is(pg_temp.claimed('tap/83'), 0::bigint, 'an empty one gives nothing');
select pg_temp.at(0.25) \g /dev/null
select is(pg_temp.claimed('tap/83'), 2::bigint, 'it fills at its rate');
select pg_temp.at(0.3) \g /dev/null
select is(pg_temp.claimed('tap/83'), 1::bigint, 'and keeps fractions');
select pg_temp.at(100) \g /dev/null
select is(pg_temp.claimed('tap/83'), 5::bigint, 'to its burst, no further');
select pg_temp.at(50) \g /dev/null
select is(pg_temp.claimed('tap/83'), 0::bigint, 'a clock that was set back gives nothing');
select awa.configure_queue('tap/83', '{"rate_burst": null}') \g /dev/null
select pg_temp.at(200) \g /dev/null
select is(pg_temp.claimed('tap/83'), 10::bigint, 'the burst of a queue that names none is a second''s worth');
select awa.configure_queue('tap/83', '{"rate_limit": 0.1}') \g /dev/null
select pg_temp.at(210) \g /dev/null
select is(pg_temp.claimed('tap/83'), 1::bigint, 'less than one a second');
select pg_temp.at(215) \g /dev/null
select is(pg_temp.claimed('tap/83'), 0::bigint, 'is kept');
select pg_temp.at(220) \g /dev/null
select is(pg_temp.claimed('tap/83'), 1::bigint, 'exactly');
select count(*) as points from awa.rate_points as p where p.queue = 'tap/83' \gset
select pg_temp.claimed('tap/83') \g /dev/null
select is((select count(*) from awa.rate_points as p where p.queue = 'tap/83'), :points::bigint, 'an empty claim writes nothing');
select awa.configure_queue('tap/83', '{"rate_limit": null}') \g /dev/null
select is(pg_temp.claimed('tap/83'), 75::bigint, 'without a limit the rest comes at once');
select awa.enqueue_many('k', array_fill('{}'::jsonb, array[3]), queue => 'tap/83/own') \g /dev/null
select awa.configure_queue('tap/83/own', '{"rate_limit": 1, "rate_burst": 2}') \g /dev/null
select is(pg_temp.claimed('tap/83/own'), 2::bigint, 'a transaction''s own jobs are limited too');
select set_config('awa.now', '', true) \g /dev/null

-- Full queues

select awa.configure_queue('tap/83/full', '{"max_depth": 3}') \g /dev/null
select lives_ok($$ select awa.enqueue_many('k', array['1', '2']::jsonb[], queue => 'tap/83/full') $$, 'a queue takes jobs');
select lives_ok($$ select awa.enqueue('k', queue => 'tap/83/full', run_at => now() + interval '1 day') $$, 'scheduled ones count');
select throws_ok($$ select awa.enqueue('k', queue => 'tap/83/full') $$, 'AW007', null, 'up to its max_depth');
select throws_ok($$ select awa.enqueue_many('k', array['1']::jsonb[], queue => 'tap/83/full') $$, 'AW007', null, 'in whatever way');
select throws_ok($$ select awa.enqueue_many('[{"kind": "k"}]'::jsonb, 'tap/83/full') $$, 'AW007', null, 'they come');
select throws_ok($$ insert into awa.jobs (kind, queue) values ('k', 'tap/83/full') $$, 'AW007', null, 'INSERT included');
select is((select c.available + c.scheduled from awa.queue_counts('tap/83/full') as c), 3::bigint, 'and nothing is added');
select is(pg_temp.claimed('tap/83/full', 1), 1::bigint, 'what is claimed makes room');
select throws_ok($$ select awa.enqueue_many('k', array['1', '2']::jsonb[], queue => 'tap/83/full') $$, 'AW007', null, 'for one, not for two');
select lives_ok($$ select awa.enqueue('k', queue => 'tap/83/full') $$, 'one fits');
select awa.configure_queue('tap/83/full', '{"on_full": "warn"}') \g /dev/null
set client_min_messages = error;
select lives_ok($$ select awa.enqueue('k', queue => 'tap/83/full') $$, 'a queue may only warn');
reset client_min_messages;
select throws_ok($$ select awa.configure_queue('tap/83/full', '{"on_full": "explode"}') $$, 'AW006', null, 'and nothing else');

select is_empty($$ select * from awa.check() $$, 'check() finds nothing');
select * from finish();
rollback;
