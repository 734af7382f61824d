-- Storage status: each slot of the ring and what holds it.
begin;
select plan(31);
-- Alone: turns the ring.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
select awa.reset() \g /dev/null
select count(*) as segments from pg_inherits where inhparent = 'awa.ready_entries'::regclass \gset

\ir prune.psql

select is((select array_agg(slot::integer order by slot) from awa.storage_status()), (select array_agg(n order by n) from generate_series(0, :segments - 1) as n),
  'there is one row per slot');
select results_eq('select slot::integer, generation, phase from awa.storage_status() where phase <> ''empty''', $$ values (0, 0::bigint, 'current') $$,
  'in a fresh ring the first slot is the current one, all others are empty');
select is_empty('select * from awa.storage_status() where bytes is null or bytes < 0', 'every slot has a size');
create temp table small as select bytes from awa.storage_status() where slot = 0;

select awa.enqueue_many('k', array_fill(to_jsonb(repeat('x', 200)), array[500]), queue => 'tap/42') \g /dev/null
select cmp_ok((select bytes from awa.storage_status() where slot = 0), '>', (select bytes from small), 'the size grows with jobs');
create temp table held as select c.receipt, row_number() over () as n from awa.claim('tap/42', 300) as c;
select is_empty($$ select * from awa.storage_status() where waiting is not null or running is not null or reason is not null $$,
  'the current segment is not examined');

select awa.rotate() \g /dev/null
select results_eq('select slot::integer, generation, phase, waiting, running from awa.storage_status() where phase <> ''empty'' order by slot',
  $$ values (0, 0::bigint, 'sealed', 200::bigint, 300::bigint), (1, 1, 'current', null, null) $$,
  'of the oldest sealed segment it tells how many jobs wait and run');
select ok((select reason like '%200%' and reason like '%300%' from awa.storage_status() where slot = 0), 'and says so in words');
select is(pg_temp.prune(), 'blocked', 'which is why prune is blocked');

select awa.complete_many(array_agg(receipt)) from held \g /dev/null
select results_eq('select waiting, running from awa.storage_status() where slot = 0', 'values (200::bigint, 0::bigint)', 'finished jobs do not hold it');
select awa.complete_many(array_agg(c.receipt)) from awa.claim('tap/42', 500) as c \g /dev/null
select results_eq('select waiting, running, reason from awa.storage_status() where slot = 0', $$ values (0::bigint, 0::bigint, 'ready to prune') $$,
  'once nothing holds it, it is ready to prune');
select pg_temp.prune() \g /dev/null
select results_eq('select phase, reason from awa.storage_status() where slot = 0', $$ values ('empty', null) $$, 'after that it is empty');

-- A second sealed segment

create function pg_temp.work () returns text
  language plpgsql as $$
begin
  perform awa.complete(c.receipt) from awa.enqueue('k', queue => 'tap/42') as id, awa.claim('tap/42') as c;
  return awa.rotate();
end;
$$;
select pg_temp.work(), pg_temp.work() \g /dev/null
select results_eq('select slot::integer, phase, waiting from awa.storage_status() where phase <> ''empty'' order by generation',
  $$ values (1, 'sealed', 0::bigint), (2, 'sealed', null), (3, 'current', null) $$, 'only the oldest sealed segment is examined');
select is_empty('select * from awa.check()', 'the storage is sound after all of this');

-- Settings

select is(awa.configure_storage('{"history_retention": "6 hours", "straggler_limit": 5}') -> 'straggler_limit', '5', 'settings are changed');
select results_eq('select history_retention, straggler_limit, worker_silence from awa.storage_settings',
  $$ values (interval '6 hours', 5, interval '90 seconds') $$, 'those that are named');
select is(awa.configure_storage('{"history_retention": null}') ->> 'history_retention', '01:00:00', 'null resets one');
select is(awa.configure_storage('{}') -> 'straggler_limit', '5', 'nothing changes nothing');
select throws_ok(format('select awa.configure_storage(%L)', s), 'AW006', null, 'refused: ' || coalesce(s, 'null'))
from unnest(array[null, '[]', '{"segments": 4}', '{"worker_silence": "0"}', '{"straggler_limit": "many"}', '{"history_retention": {"hours": 5}}',
  '{"segment_max_age": "1 month -29 days"}', '{"history_retention": "1 month -29 days"}']) as s;

-- No transition

select is(awa.active_queue_storage_schema(), 'awa', 'the storage in use is this one');
select is((select t.state from awa.storage_transition_state as t), 'active', 'from its install on');
select throws_ok(f, 'AW003', null, f || ' has nothing to do')
from unnest(array['select awa.storage_prepare(''x'')', 'select awa.storage_enter_mixed_transition()', 'select awa.storage_finalize()']) as f;
select lives_ok('select awa.storage_abort()', 'nor has an abort');

select * from finish();
rollback;
