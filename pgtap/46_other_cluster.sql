-- Transaction ids of another cluster, as a dump brings them: claim refuses what it can
-- tell by, and rebase makes it good.
begin;
select plan(12);
-- Alone: rewrites what is retained.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
select awa.reset() \g /dev/null
select awa.configure_queue('tap/46/limit', '{"concurrency_limit": 1}') \g /dev/null

-- Whatever queue is claimed from: one lane, several, and with a limit of concurrency.
create table pg_temp.given (queue text, priority integer, id bigint);
insert into pg_temp.given
select q.queue, q.priority, awa.enqueue('k', queue => q.queue, priority => q.priority, concurrency_key => 'c')
from (values ('tap/46/one', 2), ('tap/46/two', 1), ('tap/46/two', 2), ('tap/46/limit', 2)) as q (queue, priority);
create function pg_temp.outcome (queue text, jobs integer) returns text language plpgsql as $$
begin
  perform awa.claim(queue, jobs);
  return 'accepted';
exception when sqlstate 'AW005' then
  return sqlerrm;
end;
$$;
create function pg_temp.refused (queue text, jobs integer, what text, description text) returns text language sql as $$
  select alike(pg_temp.outcome(queue, jobs), format('queue %L: ', queue) || what, description)
$$;

-- Rows that are ahead, in lanes without a cursor.
update awa.ready_entries set xid = '4000000000000';
create table pg_temp.what as
select 'waiting jobs are of transactions that this cluster has not reached' as rows,
  'stored snapshot 4000000000000:4000000000000: is ahead of this cluster''s %' as cursor;

select pg_temp.refused('tap/46/one', 1, w.rows, 'jobs that are ahead are no empty queue') from pg_temp.what as w;
select pg_temp.refused('tap/46/one', 10, w.rows, 'nor to a claim of many') from pg_temp.what as w;
select pg_temp.refused('tap/46/two', 10, w.rows, 'nor in one of several lanes') from pg_temp.what as w;
select pg_temp.refused('tap/46/limit', 1, w.rows, 'nor with a limit of concurrency') from pg_temp.what as w;
select is(awa.rebase(), 4::bigint, 'rebase finds them');
create temp view claimed as
select c.job_id from (select distinct g.queue from pg_temp.given as g) as q cross join lateral awa.claim(q.queue, 10) as c;
select bag_eq('select * from pg_temp.claimed', 'select id from pg_temp.given', 'and each is handed out');

-- Cursors that are ahead, of lanes where nothing waited.
select awa.reset(keep_config => true) \g /dev/null
insert into awa.lane_cursors (lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid,
  claimed_total, ready_slot, drained, s_prev, s_cur)
select awa._lane(g.queue, g.priority, 0), 1, 0, 0, 0, '0', -1, '0', 0, 0, true, '1:1:', '4000000000000:4000000000000:'
from pg_temp.given as g;
update pg_temp.given as g set id = awa.enqueue('k', queue => g.queue, priority => g.priority, concurrency_key => 'c');
update awa.ready_entries set xid = '3';

select pg_temp.refused('tap/46/one', 1, w.cursor, 'a cursor that is ahead has consumed nothing') from pg_temp.what as w;
select pg_temp.refused('tap/46/one', 10, w.cursor, 'nor for a claim of many') from pg_temp.what as w;
select pg_temp.refused('tap/46/two', 10, w.cursor, 'nor in one of several lanes') from pg_temp.what as w;
select pg_temp.refused('tap/46/limit', 1, w.cursor, 'nor with a limit of concurrency') from pg_temp.what as w;
select is(awa.rebase(), 4::bigint, 'rebase finds the jobs behind them');
select bag_eq('select * from pg_temp.claimed', 'select id from pg_temp.given', 'and each is handed out');

select * from finish();
rollback;
