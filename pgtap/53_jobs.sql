-- Reading many jobs from the view jobs does not search for each.
begin;
select plan(6);
set local track_functions = 'all';
set local jit = off;

select awa.enqueue_many('k', array_fill('{}'::jsonb, array[4000]), queue => 'tap/53') \g /dev/null
select awa.complete_many((array_agg(c.receipt))[1:3900]) from awa.claim('tap/53', 3950) as c \g /dev/null
select awa.fail(c.receipt, 'boom', terminal => true) from awa.claim('tap/53', 10) as c \g /dev/null
select awa.cancel(j.id) from awa.list_jobs('tap/53', state => 'available', max_jobs => 5) as j \g /dev/null

-- How often p_query looks a job up.
create function pg_temp.searches (p_query text) returns bigint
  language plpgsql as $$
declare
  v_before bigint;
begin
  v_before := pg_temp.searched();
  execute p_query;
  return pg_temp.searched() - v_before;
end;
$$;
create function pg_temp.searched () returns bigint
  language sql volatile as $$
  select coalesce(sum(f.calls), 0)::bigint from pg_stat_xact_user_functions as f
  where f.schemaname = 'awa' and f.funcname in ('_attempt_of', '_claim_of', '_claimed_at', '_completed_at', '_reported')
$$;

select results_eq($$ select j.state::text, count(*) from awa.jobs as j where j.queue = 'tap/53' group by j.state order by j.state $$,
  $$ values ('available', 35::bigint), ('running', 50), ('completed', 3900), ('failed', 10), ('cancelled', 5) $$, 'states are counted');
-- Nothing is known of these tables yet.
select cmp_ok(pg_temp.searches($$ select j.state, count(*) from awa.jobs as j where j.queue = 'tap/53' group by j.state $$), '<', 16000::bigint,
  'with no more than a few searches for each, whatever the planner knows');
select cmp_ok(pg_temp.searches($$ select * from awa.jobs as j where j.queue = 'tap/53' and j.state = 'failed' order by j.id desc limit 20 $$), '<', 100::bigint,
  'a page of failed jobs takes one for each that failed');
select cmp_ok(pg_temp.searches(format('select * from awa.jobs as j where j.id = %s', j.id)), '<', 200::bigint, 'one job takes some')
from awa.list_jobs('tap/53', state => 'failed', max_jobs => 1) as j;
analyze awa.ready_entries, awa.claims, awa.attempt_outcomes, awa.queue_lanes;
select cmp_ok(pg_temp.searches($$ select j.state, count(*) from awa.jobs as j where j.queue = 'tap/53' group by j.state $$), '<', 300::bigint,
  'states are counted with a search for few jobs, once the tables are analyzed');
select cmp_ok(pg_temp.searches($$ select * from awa.jobs as j where j.queue = 'tap/53' and j.state = 'completed' order by j.id desc limit 20 $$), '<', 300::bigint,
  'a page of completed ones takes some for each that it shows');

select * from finish();
rollback;
