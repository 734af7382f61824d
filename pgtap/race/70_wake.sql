-- Waiting for jobs: whoever waits for a queue is notified, whatever its name is.
\ir sessions.psql
select pg_temp.forget('race/70') \g /dev/null
select plan(35);
select pg_temp.open(s) from unnest(array['producer', 'worker']) as s \g /dev/null

create table pg_temp.names (n integer primary key, name text);
insert into pg_temp.names values
  (1, 'race/70 it''s "quoted"'), (2, 'race/70 \back\slash $$ %s %L {} ('), (3, E'race/70 a\nb\tc '),
  (4, 'race/70 ' || repeat('x', 192)), (5, 'race/70 ' || repeat('🦔', 192)), (6, 'race/70 Größe 列 ‮'), (7, 'race/70 RACE'), (8, 'race/70 race');

-- The payloads that reached the worker once it got all that were committed: its
-- own notification comes last.
create function pg_temp.heard () returns text[]
  language plpgsql as $$
declare
  v_heard text[] := '{}';
  n record;
begin
  perform pg_temp.run('worker', $q$ select 'x' from pg_notify('awa', 'end of race/70') $q$);
  loop
    for n in select * from dblink_get_notify('worker') loop
      if n.extra = 'end of race/70' then
        return v_heard;
      end if;
      v_heard := v_heard || n.extra;
    end loop;
    perform pg_sleep(0.002);  -- between two looks, not instead of one
  end loop;
end;
$$;
create function pg_temp.enqueue (p_name text) returns text
  language sql as $$ select pg_temp.run('producer', format('select awa.enqueue(%L, queue => %L) > 0', 'k', p_name)) $$;

select pg_temp.tell('worker', 'listen awa') \g /dev/null

select pg_temp.run('worker', format('select awa.start_waiting(array[%L])', name)) from pg_temp.names order by n \g /dev/null
select is(pg_temp.enqueue(name), 'true', format('name %s can be enqueued to', n)) from pg_temp.names order by n;
select is(h.nth_name, e.name, format('and notified: name %s', e.n))
from pg_temp.names as e
left join (select u.name as nth_name, u.nth from unnest(pg_temp.heard()) with ordinality as u (name, nth)) as h on h.nth = e.n
order by e.n;
select is(pg_temp.run('worker', format('select c.job_id > 0 from awa.claim(%L) as c', name)), 'true', format('and claimed: name %s', n)) from pg_temp.names order by n;
select pg_temp.run('worker', format('select awa.stop_waiting(array[%L])', name)) from pg_temp.names order by n \g /dev/null

-- Others

select is(pg_temp.enqueue('race/70 race'), 'true', 'a job while nobody waits');
select is(pg_temp.heard(), '{}', 'notifies nobody');
select pg_temp.run('worker', $q$ select awa.start_waiting(array['race/70 race']) $q$) \g /dev/null
select pg_temp.tell('producer', 'begin'), pg_temp.enqueue('race/70 race'), pg_temp.enqueue('race/70 race'), pg_temp.tell('producer', 'rollback') \g /dev/null
select is(pg_temp.heard(), '{}', 'nor does one that is rolled back');
select is((select count(*) from pg_locks as l where l.locktype = 'advisory' and l.pid = (select s.pid from pg_temp.sessions as s where s.name = 'producer')), 0::bigint,
  'a producer keeps no lock of the wait');

-- A pause

select pg_temp.run('producer', $q$ select awa.pause_queue('race/70 race')::text $q$), pg_temp.heard() \g /dev/null
select pg_temp.run('producer', $q$ select awa.resume_queue('race/70 race')::text $q$) \g /dev/null
select is(pg_temp.heard(), '{race/70 race}', 'the end of a pause lets jobs go, so it notifies');
select pg_temp.run('producer', $q$ select awa.resume_queue('race/70 race')::text $q$) \g /dev/null
select is(pg_temp.heard(), '{}', 'where there is none it does not');
select pg_temp.run('producer', $q$ select awa.configure_queue('race/70 race', '{"notify": false}')::text $q$),
  pg_temp.run('producer', $q$ select awa.pause_queue('race/70 race')::text $q$),
  pg_temp.run('producer', $q$ select awa.resume_queue('race/70 race')::text $q$) \g /dev/null
select is(pg_temp.heard(), '{}', 'nor for a queue that notifies nobody');

-- Calls that are cancelled, at any moment

select pg_temp.tell('producer', 'set search_path = awa', $q$ set statement_timeout = '5ms' $q$) \g /dev/null
select is((
    select string_agg(distinct dblink_exec('producer', $q$ do $do$ begin loop perform _wake('race/70 cancelled'); end loop; end $do$ $q$, false), ' ')
    from generate_series(1, 60)), 'ERROR', 'sixty calls of a producer end half-way');
select is((select count(*) from pg_locks as l where l.locktype = 'advisory' and l.pid = (select s.pid from pg_temp.sessions as s where s.name = 'producer')), 0::bigint,
  'and keep no lock of the wait either');
select pg_temp.run('worker', $q$ select awa.start_waiting(array['race/70 a']) $q$), pg_temp.tell('worker', $q$ set statement_timeout = '20ms' $q$),
  pg_advisory_lock(awa._lock_class(2), awa._queue_key('race/70 b')) \g /dev/null
select is(dblink_exec('worker', $q$ do $do$ begin perform awa.start_waiting(array['race/70 c', 'race/70 a', null, 'race/70 b', 'race/70 d']); end $do$ $q$, false), 'ERROR',
  'a worker gives up while it waits to wait');
select bag_eq(
  $$ select l.objid::bigint from pg_locks as l
     where l.locktype = 'advisory' and l.pid = (select s.pid from pg_temp.sessions as s where s.name = 'worker')
       and l.classid::bigint = awa._lock_class(2)::bigint & 4294967295 $$,
  $$ select awa._queue_key(q)::bigint & 4294967295 from unnest(array['race/70 a', 'race/70 race']) as q $$,
  'and waits for no queue but those that it did before');
select pg_advisory_unlock(awa._lock_class(2), awa._queue_key('race/70 b')) \g /dev/null

select pg_temp.forget('race/70') \g /dev/null
select * from finish();
