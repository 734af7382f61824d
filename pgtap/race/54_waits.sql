-- Calls that say that they never block, beside a transaction that has in hand what they are about.
\ir sessions.psql
select pg_temp.forget('race/54') \g /dev/null
select plan(18);
select pg_temp.open(s) from unnest(array['holder', 'caller']) as s \g /dev/null

select awa.configure_queue('race/54', '{"dlq_enabled": true, "max_depth": 100, "concurrency_limit": 50}'),
  awa.register_worker('race/54') \g /dev/null
select awa.enqueue('k', queue => 'race/54', unique_key => ('race/54 ' || n)::bytea) from generate_series(1, 4) as n \g /dev/null
select awa.fail(c.receipt, 'e', terminal => true) from awa.claim('race/54') as c \g /dev/null
select c.receipt as waits from awa.claim('race/54', worker => 'race/54') as c \gset
select c.receipt as runs from awa.claim('race/54', worker => 'race/54') as c \gset
select awa.register_callback(:'waits', '1 hour') as callback \gset
select awa.enqueue('k', queue => 'race/54', run_at => now() + interval '1 hour') as later \gset
select awa.start_batch_operation('reprioritize', '{"queue": "race/54"}', '{"priority": 3}') as operation \gset

select pg_temp.tell('holder', 'begin') \g /dev/null
select pg_temp.run('holder', q.call)
from unnest(array[
  format('select awa.resume_callback(%L)', :'callback'),
  format('select awa.cancel((%L::awa.receipt).job_id)', :'runs'),
  format('select awa.cancel(%s)', :'later'),
  $q$ select awa.purge_dlq('race/54') $q$,
  $q$ select awa.register_worker('race/54') $q$,
  $q$ select awa.configure_queue('race/54', '{"max_depth": 101}') $q$,
  $q$ select awa.enqueue('k', queue => 'race/54', unique_key => 'race/54 5') $q$,
  $q$ select count(*) from awa.claim('race/54', 10) $q$,
  format('select count(*) from awa.run_batch_operation(%s)', :'operation')]) as q (call) \g /dev/null

create table pg_temp.calls (name text primary key, call text);
insert into pg_temp.calls values
  ('callback_status', format('awa.callback_status(%L)', :'waits')),
  ('stop_waiting', $q$ awa.stop_waiting('{}') $q$),
  ('register_worker', $q$ awa.register_worker('race/54') $q$),
  ('heartbeat', $q$ awa.heartbeat('race/54') $q$),
  ('purge_dlq', $q$ awa.purge_dlq('race/54') $q$),
  ('start_batch_operation', $q$ awa.start_batch_operation('cancel', '{"queue": "race/54"}') $q$),
  ('count_batch_jobs', $q$ awa.count_batch_jobs('cancel', '{"queue": "race/54"}') $q$),
  ('get_batch_operation', format('awa.get_batch_operation(%s)', :'operation')),
  ('list_batch_operations', 'awa.list_batch_operations()'),
  ('get_job', format('awa.get_job(%s)', :'later')),
  ('list_jobs', $q$ awa.list_jobs('race/54') $q$),
  ('queue_counts', $q$ awa.queue_counts('race/54') $q$),
  ('queue_overview', 'awa.queue_overview()'),
  ('queue_settings', $q$ awa.queue_settings('race/54') $q$),
  ('list_workers', 'awa.list_workers()');
select set_eq(
  $$ select p.proname::text from pg_proc as p
     where p.pronamespace = 'awa'::regnamespace and obj_description(p.oid, 'pg_proc') ~ 'Never blocks[.;]' $$,
  'select name from pg_temp.calls', 'every function that says so is called here');
select isnt(pg_temp.run('caller', 'select 1 from ' || c.call), '55P03', c.name || ' waits for nobody')
from pg_temp.calls as c order by c.name;

select is(pg_temp.waits('caller', format('select awa.extend_lease(array[%L]::awa.receipt[])', :'waits')), true,
  'extend_lease says that it waits for an answer, and does');
select pg_temp.tell('holder', 'commit') \g /dev/null
select is(pg_temp.answer('caller'), null, 'until that is committed');

select awa.cancel_batch_operation(o.id) from awa.list_batch_operations() as o where o.filter ->> 'queue' = 'race/54' \g /dev/null
delete from awa.job_unique_claims as u where u.unique_key in (select ('race/54 ' || n)::bytea from generate_series(1, 5) as n);
delete from awa.leases as l where l.lane in (select q.lane from awa.queue_lanes as q where q.queue = 'race/54');
delete from awa.workers as w where w.worker = 'race/54';
select pg_temp.forget('race/54') \g /dev/null
select * from finish();
