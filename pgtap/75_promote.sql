-- Promotion: one job that cannot be promoted keeps nobody else.
begin;
select plan(11);
-- Alone: calls maintain.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;

create temp table job as
select awa.enqueue('k', queue => 'tap/75', run_at => clock_timestamp() + n * interval '1 minute') as id, n
from generate_series(1, 3) as n;
create function pg_temp.id (p_n integer) returns bigint
  language sql as $$ select j.id from job as j where j.n = p_n $$;

-- An attempt of the second is ready already, where no claim looks: its promotion
-- breaks a key.
insert into awa.ready_entries (lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args)
select 1, d.xid, d.job_id, d.run_at, d.created_at, d.run_lease, (select s.slot from awa.segment_rotations as s order by s.generation desc limit 1), d.attempt, d.max_attempts, d.kind, d.args
from awa.deferred_jobs as d where d.job_id = pg_temp.id(2);

select set_config('awa.now', (now() + interval '1 hour')::text, true) \g /dev/null
-- A pass does not wait long for a lock that somebody holds; the next one goes on.
create temp table pass (affected bigint, detail text);
do $$ begin
  for v_try in 1 .. 50 loop
    insert into pass select m.affected, m.detail from awa.maintain() as m where m.task = 'promote';
    exit when (select sum(p.affected) from pass as p) >= 2;
  end loop;
end $$;
select is((select sum(p.affected) from pass as p), 2::numeric, 'the others are promoted');
select ok(exists (select from pass as p where p.detail ~ ('^job ' || pg_temp.id(2) || ': ')), 'the one that cannot be is named');
select ok(exists (select from awa.deferred_jobs as d where d.job_id = pg_temp.id(2)), 'and stays');
select results_eq(
  $$ select c.job_id from awa.claim('tap/75', 1) as c union all select c.job_id from awa.claim('tap/75', 1) as c $$,
  $$ select unnest(array[pg_temp.id(1), pg_temp.id(3)]) $$, 'in due order');

delete from awa.ready_entries as r where r.job_id = pg_temp.id(2);
select is((select m.affected from awa.maintain() as m where m.task = 'promote'), 1::bigint, 'healed, it comes with the next pass');
select is((select c.job_id from awa.claim('tap/75') as c), pg_temp.id(2), 'and is claimed');
-- So many that cannot be, slowly, that a pass ends before it met them all
select set_config('awa.now', '', true) \g /dev/null
select awa.enqueue('refused', queue => 'tap/75', run_at => now() + interval '20 minutes') from generate_series(1, 20) \g /dev/null
select awa.enqueue('k', queue => 'tap/75', run_at => now() + interval '59 minutes') as behind \gset
select set_config('awa.now', (now() + interval '1 hour')::text, true) \g /dev/null
create sequence pg_temp.met;
create function pg_temp.refuse () returns trigger
  language plpgsql as $$
begin
  perform nextval('pg_temp.met'), pg_sleep(0.1);
  raise 'refused';
end;
$$;
create trigger tap_75 before insert on awa.ready_entries for each row when (new.kind = 'refused') execute function pg_temp.refuse();
do $$ begin
  for v_try in 1 .. 50 loop
    exit when (select m.affected from awa.maintain() as m where m.task = 'promote') > 0;
    perform setval('pg_temp.met', 1);
  end loop;
end $$;
select cmp_ok((select m.last_value from pg_temp.met as m), '<', 20::bigint, 'a pass does not go on for long with those that cannot be promoted');
select is((select c.job_id from awa.claim('tap/75') as c), :behind::bigint, 'and they do not keep those behind them for ever');
drop trigger tap_75 on awa.ready_entries;

-- What came since the last pass and is due later is told by the index: of ten times as
-- many, no more rows are read, nor entries of what was promoted before.
create function pg_temp.pass_reads (p_new integer, out rows_read bigint, out entries bigint)
  language plpgsql as $$
begin
  perform awa.enqueue_many('k', array_fill('1'::jsonb, array[p_new]), queue => 'tap/75', run_at => now() + interval '1 day');
  rows_read := pg_stat_get_xact_tuples_fetched('awa.deferred_jobs_xid_idx'::regclass);
  entries := pg_stat_get_xact_tuples_returned('awa.deferred_jobs_due_idx'::regclass) + pg_stat_get_xact_tuples_returned('awa.deferred_jobs_pkey'::regclass);
  perform awa.maintain();
  rows_read := pg_stat_get_xact_tuples_fetched('awa.deferred_jobs_xid_idx'::regclass) - rows_read;
  entries := pg_stat_get_xact_tuples_returned('awa.deferred_jobs_due_idx'::regclass) + pg_stat_get_xact_tuples_returned('awa.deferred_jobs_pkey'::regclass) - entries;
end;
$$;
-- As vacuum finds the table when all were promoted: plans are made for an empty one.
update pg_class as c set reltuples = 0, relpages = 1
where c.oid = 'awa.deferred_jobs'::regclass or c.oid in (select i.indexrelid from pg_index as i where i.indrelid = 'awa.deferred_jobs'::regclass);
select awa.enqueue_many('k', array_fill('1'::jsonb, array[500]), queue => 'tap/75', run_at => now() + interval '61 minutes') \g /dev/null
select set_config('awa.now', (now() + interval '62 minutes')::text, true) \g /dev/null
do $$ begin
  for v_try in 1 .. 50 loop
    perform awa.maintain();
    exit when not exists (select from awa.deferred_jobs as d where d.run_at <= awa._now());
  end loop;
end $$;
create temp table reads as select 100 as n, r.* from pg_temp.pass_reads(100) as r;
insert into reads select 1000, r.* from pg_temp.pass_reads(1000) as r;
select cmp_ok((select r.rows_read from reads as r where r.n = 1000), '<=', (select r.rows_read from reads as r where r.n = 100) + 50,
  'a pass reads no row of what came since the last one and is due later');
select cmp_ok((select max(r.entries) from reads as r), '<', 400::bigint, 'nor walks what was promoted before, or is due later');

select is_empty($$ select * from awa.check() $$, 'check() finds nothing');

select * from finish();
rollback;
