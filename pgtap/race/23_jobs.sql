-- Random calls of several sessions, some of them in transactions that stay open, and
-- turns of the ring: the view jobs tells of many jobs what looking each up by its key
-- tells. Begins and ends with an empty ring.
\ir sessions.psql
select awa.reset() \g /dev/null
select plan(3);
select pg_temp.open(s) from unnest(array['p1', 'p2', 'c', 'o', 'v']) as s \g /dev/null
select pg_temp.tell('v', 'set search_path = pg_catalog, awa', 'set jit = off') \g /dev/null
select floor(random() * 1000000)::integer as seed \gset
select diag('seed: ' || :seed);

-- How jobs differs from the jobs looked up by their keys, read so often by one plan that
-- it has met many before the last time.
select $$
  with many as materialized (
    select j.* from generate_series(1, 100) as n (pass) cross join lateral (select k.* from jobs as k where n.pass > 0 offset 0) as j
    where n.pass + j.id * 0 = 100
  )
  select d::text from ((table many except all table _jobs_by_key) union all (table _jobs_by_key except all table many)) as d
$$ as difference \gset
create temp table differences as select :'difference' as query;

create temp table held (receipt awa.receipt);
create temp table callbacks (id text);
create temp table answers (states text[], differences text);

create procedure pg_temp.play (p_seed integer, p_steps integer)
  language plpgsql as $$
declare
  v_die       double precision;
  v_session   text;
  v_open      text[] := '{}';
  v_receipts  awa.receipt[];
  v_ids       text[] := '{}';
begin
  perform setseed(p_seed / 1000000.0);
  for i in 1 .. p_steps loop
    v_die := random();
    select coalesce(array_agg(k.receipt), '{}') into v_receipts from (
      select h.receipt from held as h order by random() limit 1 + floor(random() * 4)) as k;
    if v_die < 0.2 then
      v_session := 'p' || (1 + floor(random() * 2));
      if v_session <> all (v_open) and random() < 0.3 then
        perform pg_temp.tell(v_session, 'begin');
        v_open := v_open || v_session;
      end if;
      perform pg_temp.run(v_session, format(
        'select awa.enqueue(%L, queue => %L, priority => %s, run_at => %s, max_attempts => %s, tags => %L, metadata => %L, deadline => %s, follow_ups => %L)
         from generate_series(1, %s)',
        'k', 'race/23/' || floor(random() * 2), 2 + floor(random() * 2),
        case when random() < 0.3 then 'clock_timestamp() + interval ''1 hour''' else 'null' end, 1 + floor(random() * 3), '{a}', '{"m": 1}',
        case when random() < 0.3 then '''1 hour''' else 'null' end,
        case when random() < 0.1 then '{"completed": [{"kind": "next", "queue": "race/23/1"}]}' else '{}' end, 1 + floor(random() * 8)));
    elsif v_die < 0.28 then
      foreach v_session in array v_open loop
        perform pg_temp.tell(v_session, case when random() < 0.2 then 'rollback' else 'commit' end);
      end loop;
      v_open := '{}';
    elsif v_die < 0.45 then
      insert into held select r.receipt
      from dblink('c', format('select receipt from awa.claim(%L, %s, worker => %s, lease => %L)', 'race/23/' || floor(random() * 2),
          1 + floor(random() * 12), case when random() < 0.5 then 'null' else '''race/23''' end,
          case when random() < 0.1 then '1 millisecond' else '1 hour' end))
        as r (receipt awa.receipt);
    elsif v_die < 0.50 then
      perform pg_temp.run('c', format('select awa.complete_many(%L::awa.receipt[])', v_receipts));
    elsif v_die < 0.53 then
      -- A whole batch.
      perform pg_temp.run('c', format('select awa.complete_many(%L::awa.receipt[])', array(
        select h.receipt from held as h where (h.receipt).batch_id = (v_receipts[1]).batch_id)));
    elsif v_die < 0.62 then
      perform pg_temp.run('c', format('select awa.fail_many(%L::awa.receipt[], %L, %s, %s)', v_receipts, array_fill('boom'::text, array[cardinality(v_receipts)]),
        (array['null', '''0''', '''1 hour'''])[1 + floor(random() * 3)], random() < 0.5));
    elsif v_die < 0.65 then
      perform pg_temp.run('c', format('select awa.snooze_many(%L::awa.receipt[], %L)', v_receipts, case when random() < 0.5 then '0' else '1 hour' end));
    elsif v_die < 0.69 then
      perform pg_temp.run('c', format('select awa.set_progress(%L::awa.receipt, %s)', v_receipts[1], floor(random() * 100)));
    elsif v_die < 0.73 then
      insert into callbacks select pg_temp.run('c', format('select awa.register_callback(%L::awa.receipt, %L)', v_receipts[1], '1 hour'));
    elsif v_die < 0.76 then
      perform pg_temp.run('c', format('select awa.%s(%L)', (array['complete_callback', 'resume_callback', 'fail_callback', 'retry_callback'])[1 + floor(random() * 4)], k.id))
      from (select b.id from callbacks as b order by random() limit 1) as k;
    elsif v_die < 0.90 then
      v_ids := string_to_array(pg_temp.run('v', $q$ select j.id from jobs as j where j.queue like 'race/23%' order by random() limit 3 $q$), ' ');
      perform pg_temp.run('o', format((array[
          'select awa.cancel(%s)', 'select awa.cancel(%s, ''why'')', 'select awa.retry(%s)', 'select awa.delete_job_compat(%s)',
          'select awa.move_failed_to_dlq(%s)', 'select awa.retry_from_dlq(q.id) from awa.dlq_entries as q where q.id > %s - 9 and q.queue like ''race/23%%''',
          'with u as (update awa.jobs set priority = 4 where id = %s returning id) select id from u',
          'with u as (update awa.jobs set queue = ''race/23/1'' where id = %s returning id) select id from u'])[1 + floor(random() * 8)], n.id))
      from unnest(v_ids) as n (id);
    elsif v_die < 0.93 then
      perform pg_temp.run('o', 'select count(*) from awa.maintain()');
    elsif v_die < 0.95 then
      perform pg_temp.run('o', 'select awa.rotate()');
    else
      perform pg_temp.run('o', 'select awa.prune()');
    end if;
    if i % 40 = 0 then
      insert into answers
      select string_to_array(pg_temp.run('v', 'select distinct j.state from jobs as j where j.queue like ''race/23%'''), ' '),
        pg_temp.run('v', (select d.query from differences as d));
    end if;
  end loop;
  foreach v_session in array v_open loop
    perform pg_temp.tell(v_session, 'commit');
  end loop;
end;
$$;
call pg_temp.play(:seed, 500);
-- And one of each state for sure.
select pg_temp.run('c', format('select awa.enqueue(%L, queue => %L) from generate_series(1, 7)', 'k', 'race/23/2')) \g /dev/null
select pg_temp.run('c', $$ select awa.enqueue('k', queue => 'race/23/2', run_at => clock_timestamp() + interval '1 hour') $$) \g /dev/null
create temp table last as
select r.receipt, row_number() over () as n
from dblink('c', $$ select receipt from awa.claim('race/23/2', 5) $$) as r (receipt awa.receipt);
select pg_temp.run('c', format(c.call, l.receipt))
from last as l
join (values (1, 'select awa.complete(%L)'), (2, 'select awa.fail(%L, ''boom'', terminal => true)'), (3, 'select awa.fail(%L, retry_after => ''1 hour'')'),
  (4, 'select awa.register_callback(%L, ''1 hour'')')) as c (n, call) on c.n = l.n \g /dev/null
select pg_temp.run('c', $$ select awa.cancel(j.id) from awa.list_jobs('race/23/2', state => 'available', max_jobs => 1) as j $$) \g /dev/null
insert into answers
select string_to_array(pg_temp.run('v', 'select distinct j.state from jobs as j where j.queue = ''race/23/2'''), ' '),
  pg_temp.run('v', :'difference');
select is_empty('select differences from answers where differences is not null', 'jobs is what looking up each job gives');
select bag_eq('select distinct s.state from answers as a, unnest(a.states) as s (state) where s.state is not null',
  'select s::text from unnest(enum_range(null::awa.job_state)) as s', 'in every state');
select is_empty('select * from awa.check()', 'the storage is sound');

select awa.reset() \g /dev/null
select * from finish();
