-- Maintain: each task when it is due, and a row that says so.
begin;
select plan(29);
-- Alone: turns the ring.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
select awa.reset() \g /dev/null
select count(*) as segments from pg_inherits where inhparent = 'awa.ready_entries'::regclass \gset

create temp view shape as select * from awa.maintain();
select is((select array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) order by a.attnum) from pg_attribute as a
    where a.attrelid = 'pg_temp.shape'::regclass and a.attnum > 0),
  array['task text', 'outcome text', 'affected bigint', 'detail text'], 'maintain returns the documented columns');
select is_empty('select * from awa.maintain() where affected <> 0', 'with nothing to do nothing is done');
select is((select count(*) from awa.segment_rotations), 1::bigint, 'the ring stands still');

-- Promotion

select awa.enqueue('k', to_jsonb(n), queue => 'tap/41', run_at => now() + interval '1 hour') from generate_series(1, 3) as n \g /dev/null
select is((select affected from awa.maintain() where task = 'promote'), 0::bigint, 'what is not due is not promoted');
update awa.deferred_jobs set run_at = now() - make_interval(secs => (args #>> '{}')::integer) where args < '3';
select results_eq($$ select outcome, affected from awa.maintain() where task = 'promote' $$, $$ values ('promoted', 2::bigint) $$, 'what is due is promoted');
select results_eq($$ select available, scheduled from awa.queue_counts('tap/41') $$, 'values (2::bigint, 1::bigint)', 'and counts as available');
select is((select affected from awa.maintain() where task = 'promote'), 0::bigint, 'once');
select bag_eq($$ select args, run_at < now(), attempt from awa.claim('tap/41', 10) $$, $$ values ('1'::jsonb, true, 1::smallint), ('2', true, 1) $$,
  'promoted jobs are claimed, with their own run_at and their first attempt');
select awa.enqueue_many('k', array_fill('1'::jsonb, array[2500]), queue => 'tap/41/bulk', run_at => now() + interval '1 hour') \g /dev/null
update awa.deferred_jobs set run_at = now() where run_at < now() + interval '2 hours' and args = '1';
create function pg_temp.drain (p_calls integer) returns bigint
  language plpgsql as $$
declare
  v_promoted bigint := 0;
begin
  for i in 1 .. p_calls loop
    v_promoted := v_promoted + (select m.affected from awa.maintain() as m where m.task = 'promote');
  end loop;
  return v_promoted;
end;
$$;
select cmp_ok(pg_temp.drain(1), '<', 2500::bigint, 'a call promotes a bite of a large number');
select is((select scheduled + available from awa.queue_counts('tap/41/bulk')), 2500::bigint, 'nothing is lost in between');
select cmp_ok(pg_temp.drain(20), '>', 0::bigint, 'further calls');
select results_eq($$ select available, scheduled from awa.queue_counts('tap/41/bulk') $$, 'values (2500::bigint, 0::bigint)', 'promote the rest');

-- Rotation by age

select is((select count(*) from awa.maintain() where task = 'rotate'), 0::bigint, 'a young segment is not sealed');
update awa.segment_rotations set rotated_at = now() - interval '1 day';
select results_eq($$ select outcome, affected from awa.maintain() where task = 'rotate' $$, $$ values ('rotated', 1::bigint) $$, 'an old one is');
select is((select count(*) from awa.maintain() where task = 'rotate'), 0::bigint, 'the next one is young');

-- Rotation by size

select awa.enqueue('k', to_jsonb(repeat('x', 100)), queue => 'tap/41/size') from generate_series(1, 100) \g /dev/null
update awa.storage_settings set segment_max_bytes = 1;
select results_eq($$ select outcome, affected from awa.maintain() where task = 'rotate' $$, $$ values ('rotated', 1::bigint) $$, 'a segment that grew too large is sealed');
update awa.storage_settings set segment_max_bytes = 1000000000;

-- Prune by age, and when the ring needs the slot

select awa.complete_many(array_agg(c.receipt)) from (
  select * from awa.claim('tap/41/bulk', 10000) union all select * from awa.claim('tap/41/size', 10000)) as c \g /dev/null
select awa.complete_many(array_agg(row(c.ready_slot, c.batch_id, j, 1)::awa.receipt)) from awa.claims as c, unnest(c.job_ids) as j \g /dev/null
select is((select count(*) from awa.maintain() where task = 'prune'), 0::bigint, 'young history is not pruned');
update awa.segment_rotations set rotated_at = now() - interval '1 day' where generation < 2;
select results_eq($$ select outcome, affected from awa.maintain() where task = 'prune' $$, $$ values ('pruned', 1::bigint) $$, 'old history is');
select is((select max(generation) from awa.segment_prunes), 0::bigint, 'the oldest segment first');
create function pg_temp.fill (p_turns integer) returns void
  language plpgsql as $$
begin
  for i in 1 .. p_turns loop
    perform awa.enqueue('k', queue => 'tap/41/fill');
    perform awa.complete(c.receipt) from awa.claim('tap/41/fill') as c;
    perform awa.rotate();
  end loop;
end;
$$;
select pg_temp.fill(:segments - 1) \g /dev/null
update awa.segment_rotations set rotated_at = now();
select results_eq($$ select outcome, affected from awa.maintain() where task = 'prune' $$, $$ values ('pruned', 1::bigint) $$,
  'young history is pruned when the ring runs out of slots');

-- A prune that cannot be

select pg_temp.fill(1) \g /dev/null
select awa.enqueue('k', queue => 'tap/41/soon', run_at => now() + interval '1 hour') \g /dev/null
update awa.deferred_jobs set run_at = now() where lane in (select l.lane from awa.queue_lanes as l where l.queue = 'tap/41/soon');
alter table awa.segment_prunes add constraint no_room check (generation < 0) not valid;
create temp table round as select * from awa.maintain();
select results_eq($$ select outcome, affected, detail ~ '^segment [0-9]+: .*"no_room"' from pg_temp.round where task = 'prune' $$,
  $$ values ('failed', 0::bigint, true) $$, 'a prune that fails says why');
select is((select affected from pg_temp.round where task = 'promote'), 1::bigint, 'and undoes none of the other tasks');
alter table awa.segment_prunes drop constraint no_room;
select results_eq($$ select outcome, affected from awa.maintain() where task = 'prune' $$, $$ values ('pruned', 1::bigint) $$, 'the next one is tried');

-- Lanes that two producers registered at once

insert into awa.queue_lanes select l.* from awa.queue_lanes as l where l.queue = 'tap/41';
select results_eq($$ select available, scheduled, running from awa.queue_counts('tap/41') $$, 'values (0::bigint, 1::bigint, 0::bigint)',
  'a lane that is registered twice counts once');
select is((select count(*) from awa.maintain() where task = 'lanes'), 0::bigint, 'a call that prunes does nothing else');
select is((select affected from awa.maintain() where task = 'lanes' and outcome = 'folded'), 1::bigint, 'the next one folds it');
select is((select max(n) from (select count(*) as n from awa.queue_lanes group by lane) as s), 1::bigint, 'into one row');

-- Checkpoints are for committed rows: see race/31.

select is((select array_agg(task) @> array['promote', 'checkpoint'] from awa.maintain()), true, 'promotion and checkpoint are reported on every call');
select is_empty('select * from awa.check()', 'the storage is sound after all of this');

select * from finish();
rollback;
