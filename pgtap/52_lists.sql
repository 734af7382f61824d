-- Lists of jobs: every page of every filter, and what a page reads.
begin;
select plan(19);

-- 6000 jobs in and out of time, by turns; one in 500 is another queue's, one in 700
-- another kind's. Of a third queue one in 18 waits for its time, and a single one does not:
-- it is among its newest hundred, and not among the newest thousand that can be claimed.
-- Some jobs have come back, so that they have two attempts.
select awa.enqueue_many(jsonb_agg(jsonb_build_object(
    'kind', case when n % 700 = 0 then 'rare' else 'plain' end,
    'queue', case when n % 500 = 0 then 'tap/52/few' when n % 18 = 0 or n = 4402 then 'tap/52/late' else 'tap/52/many' end)
  || case when n % 3 = 0 then jsonb_build_object('run_at', now() + interval '1 hour') else '{}' end order by n))
from generate_series(1, 6000) as n;
select awa.complete_many((array_agg(c.receipt))[1:10]) from awa.claim('tap/52/many', 20) as c;
select awa.snooze_many(array_agg(c.receipt), '0') from awa.claim('tap/52/many', 20) as c;
select awa.fail(c.receipt, retry_after => '1 hour') from awa.claim('tap/52/few', 2) as c;
select awa.register_callback(c.receipt, '1 hour') from awa.claim('tap/52/many', 3) as c;
select awa.enqueue_many(jsonb_agg(jsonb_build_object('kind', case when n % 2 = 0 then 'even' when n % 100 = 1 then 'rare' else 'plain' end) order by n), 'tap/52/failed')
from generate_series(1, 4000) as n;
select count(awa.fail(c.receipt, terminal => true)) from awa.claim('tap/52/failed', 10) as c;
select count(*) from awa.fail_many(array(select c.receipt from awa.claim('tap/52/failed', 3990) as c), null, terminal => true);

-- Every page of a listing, one after the other.
create function pg_temp.paged (queue text, kind text, state awa.job_state, page integer)
  returns bigint[]
  language plpgsql
as $$
declare
  v_ids bigint[] := '{}';
  v_new bigint[];
begin
  loop
    v_new := array(select j.id from awa.list_jobs(paged.queue, paged.kind, paged.state, v_ids[cardinality(v_ids)], paged.page) as j);
    exit when v_new = '{}';
    v_ids := v_ids || v_new;
  end loop;
  return v_ids;
end;
$$;

select is(pg_temp.paged(c.queue, c.kind, c.state::awa.job_state, c.page),
  array(
    select j.id from awa.jobs as j
    where (c.queue is null or j.queue = c.queue) and (c.kind is null or j.kind = c.kind)
      and (c.state is null or j.state = c.state::awa.job_state)
    order by j.id desc),
  format('the pages of queue %s, kind %s, state %s are its jobs, the newest first', c.queue, c.kind, c.state))
from (values
  (null, null, null, 900),
  ('tap/52/many', null, null, 900),
  ('tap/52/few', null, null, 7),
  ('tap/52/late', null, null, 100),
  (null, 'rare', null, 2),
  ('tap/52/few', null, 'available', 3),
  (null, 'rare', 'available', 100),
  ('tap/52/few', null, 'scheduled', 1),
  (null, 'rare', 'scheduled', 4),
  (null, null, 'retryable', 1),
  (null, null, 'waiting_external', 2),
  (null, 'rare', 'failed', 1),
  (null, 'plain', 'failed', 40)
) as c (queue, kind, state, page);

set local track_functions = 'all';
create function pg_temp.asked () returns bigint
  language sql volatile as $$
  select coalesce(sum(f.calls), 0)::bigint from pg_stat_xact_user_functions as f where f.schemaname = 'awa' and f.funcname = '_candidates'
$$;
select pg_temp.asked() as asked \gset
select is(array(select distinct l.kind from awa.list_jobs(kind => 'even', state => 'failed', max_jobs => 100) as l), '{even}', 'a page of failed jobs of a kind');
select is(pg_temp.asked() - :asked, 1::bigint, 'is looked for once');

create function pg_temp.searched () returns bigint
  language sql volatile as $$
  select sum(t.idx_scan)::bigint from pg_stat_xact_user_tables as t where t.schemaname = 'awa' and t.relname ~ '^ready_entries'
$$;
select pg_temp.searched() as searched \gset
select awa.list_jobs(kind => 'rare', state => 'failed', max_jobs => 10) \g /dev/null
select cmp_ok(pg_temp.searched() - :searched, '<', 500::bigint, 'of a rare kind too, without a search for each job that failed');

select awa.enqueue('k', queue => 'tap/52/again') \g /dev/null
select awa.fail(c.receipt, terminal => true), awa.retry(c.job_id) from awa.claim('tap/52/again') as c \g /dev/null
select awa.fail(c.receipt, terminal => true) from awa.claim('tap/52/again') as c \g /dev/null
select results_eq($$ select l.run_lease from awa.list_jobs('tap/52/again', state => 'failed') as l $$, 'values (2::bigint)',
  'a job that failed twice is listed once');

-- Of a queue whose jobs are not among the newest: one that waits for its time, and above it 80
-- that were retried. They have two rows each, so as many rows as a page has are 50 of them.
select awa.enqueue('k', queue => 'tap/52/old', run_at => now() + interval '1 hour') \g /dev/null
select awa.enqueue_many('k', array_fill('1'::jsonb, array[80]), queue => 'tap/52/old') \g /dev/null
select awa.fail_many(array(select c.receipt from awa.claim('tap/52/old', 80) as c), terminal => true) \g /dev/null
select awa.retry(j.id) from awa.jobs as j where j.queue = 'tap/52/old' and j.state = 'failed' \g /dev/null
select awa.enqueue_many('k', array_fill('1'::jsonb, array[1000]), queue => 'tap/52/new') \g /dev/null
select is(pg_temp.paged('tap/52/old', null, null, 100), array(select j.id from awa.jobs as j where j.queue = 'tap/52/old' order by j.id desc),
  'a page leaves out no job, although others have several attempts');

select is_empty($$ select awa.list_jobs('tap/52/none') $$, 'a queue that nobody used has no jobs');

select * from finish();
rollback;
