-- Of many jobs the view jobs does not look up each; of a few it does, whatever the planner
-- believes.
begin;
select plan(17);
set local track_functions = 'all';
set local jit = off;

select awa.enqueue_many('k', array_fill('{}'::jsonb, array[4000]), queue => 'tap/53') \g /dev/null
select awa.complete_many((array_agg(c.receipt))[1:3900]) from awa.claim('tap/53', 3950) as c \g /dev/null
select awa.fail(c.receipt, 'boom', terminal => true) from awa.claim('tap/53', 10) as c \g /dev/null
select awa.cancel(j.id) from awa.list_jobs('tap/53', state => 'available', max_jobs => 5) as j \g /dev/null
create temp table few as select j.id from awa.list_jobs('tap/53', max_jobs => 20) as j;
select min(s.id) as id from few as s \gset

-- How often p_query calls a function.
create function pg_temp.calls (p_function text, p_query text) returns bigint
  language plpgsql as $$
declare
  v_before bigint := pg_temp.called(p_function);
begin
  execute p_query;
  return pg_temp.called(p_function) - v_before;
end;
$$;
create function pg_temp.called (p_function text) returns bigint
  language sql volatile as $$
  select coalesce(sum(f.calls), 0)::bigint from pg_stat_xact_user_functions as f where f.schemaname = 'awa' and f.funcname = p_function
$$;

select results_eq($$ select j.state::text, count(*) from awa.jobs as j where j.queue = 'tap/53' group by j.state order by j.state $$,
  $$ values ('available', 35::bigint), ('running', 50), ('completed', 3900), ('failed', 10), ('cancelled', 5) $$, 'states are counted');

-- Also by the calls that change jobs, which read all outcomes where they are given many.
select awa.bulk_move_failed_to_dlq('tap/53', max_jobs => 4) \g /dev/null
create temp table tenth as select r.job_id as id from awa.ready_entries as r where r.lane in (select l.lane from awa.queue_lanes as l where l.queue = 'tap/53')
  and (r.job_id % 10 = 0 or r.job_id > (select max(d.id) - 20 from awa.dlq_entries as d where d.queue = 'tap/53'));
set local search_path = awa, public;
select bag_eq('select l.* from awa._locate_many(array(select t.id from tenth as t)) as l',
  'select l.* from tenth as t cross join lateral awa._locate(array[t.id]) as l', 'a job is found among many as it is alone');
set local search_path to default;

prepare one (bigint) as select * from awa.jobs as j where j.id = $1;
prepare several (bigint[]) as select * from awa.jobs as j where j.id = any ($1);
create temp view asked as
select * from (values
  ('one job', 1, format('select * from awa.jobs as j where j.id = %s', :id)),
  ('one job by a parameter', 1, format('execute one (%s)', :id)),
  ('some jobs in a list', 20, format('execute several (%L)', (select array_agg(s.id) from few as s))),
  ('some jobs one by one', 20, 'select * from few as s cross join lateral (select * from awa.jobs as j where j.id = s.id offset 0) as j')
) as q (name, jobs, query);

-- Nothing is known of these tables yet.
set local plan_cache_mode = force_generic_plan;
select is(pg_temp.calls('_attempt_of', q.query), q.jobs::bigint, format('%s: a search for each, while nothing is known of the tables', q.name)) from asked as q;
select is(pg_temp.calls('_claimed', string_agg(q.query, '; ')), 0::bigint, 'without reading the others') from asked as q;
analyze awa.ready_entries, awa.claims, awa.attempt_outcomes, awa.queue_lanes;
set local plan_cache_mode = force_custom_plan;
select is(pg_temp.calls('_attempt_of', q.query), q.jobs::bigint, format('%s: a search for each, with statistics', q.name)) from asked as q;

-- The tables may hold what others left.
select cmp_ok(pg_temp.calls('_attempt_of', q.query), '<', awa._by_key_at_most() + 400, q.name)
from (values
  ('states are counted with few searches', $$ select j.state, count(*) from awa.jobs as j where j.queue = 'tap/53' group by j.state $$),
  ('a page of failed jobs takes few', $$ select * from awa.jobs as j where j.queue = 'tap/53' and j.state = 'failed' order by j.id desc limit 20 $$),
  ('and one of completed ones', $$ select * from awa.jobs as j where j.queue = 'tap/53' and j.state = 'completed' order by j.id desc limit 20 $$),
  ('and jobs that are joined', $$ select * from awa.jobs as j where j.id in (select s.id from few as s) $$),
  ('and the newest of all', $$ select * from awa.jobs as j order by j.id desc limit 20 $$)
) as q (name, query);

-- What is joined with it is then looked up as well.
create function pg_temp.planned (p_query text) returns numeric
  language plpgsql as $$
declare
  v_plan json;
begin
  execute 'explain (format json) ' || p_query into v_plan;
  return v_plan -> 0 -> 'Plan' ->> 'Plan Rows';
end;
$$;
analyze few;
select is(pg_temp.planned('select * from few as s cross join lateral awa.get_job(s.id) as j'), 20::numeric, 'get_job is planned as one job');

select * from finish();
rollback;
