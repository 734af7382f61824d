-- Complete: once, by the holder of the receipt. Anything else is stale, never
-- an error, and changes nothing.
begin;
select plan(48);
do $$ begin perform pg_advisory_xact_lock_shared(hashtext('awa pgtap')); end $$;

select awa.enqueue_many('k', array(select to_jsonb(n) from generate_series(1, 20) as n), queue => 'tap/21') \g /dev/null
create temp table single as select c.* from awa.claim('tap/21', 1, 'w') as c;

select ok(awa.complete(receipt), 'the holder of a receipt completes its job') from single;
select ok(not awa.complete(receipt), 'a second time it is stale') from single;
select results_eq(
  $$ select d.id, d.kind, d.queue, d.args, d.state, d.priority, d.attempt, d.max_attempts, d.attempted_at <= d.finalized_at, d.errors, d.run_lease
     from awa.done_entries as d where d.queue = 'tap/21' $$,
  $$ select job_id, 'k', 'tap/21', '1'::jsonb, 'completed'::awa.job_state, 2::smallint, 1::smallint, 25::smallint, true, '{}'::jsonb[], 1::bigint from single $$,
  'a completed job stands in history with its body');

-- Receipts that are no receipts

create temp table held as select c.*, row_number() over () as n from awa.claim('tap/21', 3, 'w') as c;
select awa.enqueue('k', queue => 'tap/21/foreign') \g /dev/null
create temp table foreign_held as select c.* from awa.claim('tap/21/foreign', 1, 'other') as c;
create temp table unclaimed as select r.ready_slot, r.job_id, r.run_lease from awa.ready_entries as r
  join awa.queue_lanes as l on l.lane = r.lane and l.queue = 'tap/21'
  where not exists (select from awa.claims as c where r.job_id = any (c.job_ids)) order by r.job_id limit 1;

-- Every field of a good receipt, changed.
create temp table wrong (n serial, title text, receipt awa.receipt);
insert into wrong (title, receipt)
select v.title, v.receipt
from held as h, foreign_held as f, unclaimed as u,
lateral (values
  ('an unknown batch',                          row((h.receipt).ready_slot, 1, h.job_id, 1)::awa.receipt),
  ('a negative batch',                          row((h.receipt).ready_slot, -(h.receipt).batch_id, h.job_id, 1)::awa.receipt),
  ('an unknown job',                            row((h.receipt).ready_slot, (h.receipt).batch_id, 9223372036854775807, 1)::awa.receipt),
  ('a job of another batch',                    row((h.receipt).ready_slot, (h.receipt).batch_id, f.job_id, 1)::awa.receipt),
  ('a batch of another job',                    row((f.receipt).ready_slot, (f.receipt).batch_id, h.job_id, 1)::awa.receipt),
  ('a later lease',                             row((h.receipt).ready_slot, (h.receipt).batch_id, h.job_id, 2)::awa.receipt),
  ('lease 0',                                   row((h.receipt).ready_slot, (h.receipt).batch_id, h.job_id, 0)::awa.receipt),
  ('a negative lease',                          row((h.receipt).ready_slot, (h.receipt).batch_id, h.job_id, -1)::awa.receipt),
  ('a lease beyond 32 bits',                    row((h.receipt).ready_slot, (h.receipt).batch_id, h.job_id, 4294967297)::awa.receipt),
  ('an unclaimed job, in a claimed batch',      row(u.ready_slot, (h.receipt).batch_id, u.job_id, 1)::awa.receipt),
  ('an unclaimed job, under a batch of its id', row(u.ready_slot, u.job_id, u.job_id, 1)::awa.receipt),
  ('a null slot and batch',                     row(null, null, h.job_id, 1)::awa.receipt),
  ('a null job',                                row((h.receipt).ready_slot, (h.receipt).batch_id, null, 1)::awa.receipt),
  ('a null lease',                              row((h.receipt).ready_slot, (h.receipt).batch_id, h.job_id, null)::awa.receipt),
  ('four nulls',                                row(null, null, null, null)::awa.receipt),
  ('null',                                      null::awa.receipt),
  ('zeros',                                     row(0, 0, 0, 0)::awa.receipt)
) as v (title, receipt)
where h.n = 1;

-- A null in an array of receipts comes back as a receipt of nulls.
alter table wrong add as_given awa.receipt;
update wrong set as_given = coalesce(receipt, row(null, null, null, null)::awa.receipt);

create function pg_temp.completes (p_receipt awa.receipt) returns text
  language plpgsql as $$
begin
  return awa.complete(p_receipt);
exception when others then
  return sqlstate || ' ' || sqlerrm;
end;
$$;
create function pg_temp.stale_of (p_receipts awa.receipt[]) returns text
  language plpgsql as $$
begin
  return (select array_agg(s order by s) from awa.complete_many(p_receipts) as s);
exception when others then
  return sqlstate || ' ' || sqlerrm;
end;
$$;

select is(pg_temp.completes(receipt), 'false', title || ' is stale') from wrong order by n;
select results_eq($$ select running, completed from awa.queue_counts('tap/21') union all select running, completed from awa.queue_counts('tap/21/foreign') $$,
  'values (3::bigint, 1::bigint), (1::bigint, 0::bigint)', 'no wrong receipt finished anything');

select is(awa.complete(row(slot, (receipt).batch_id, (receipt).job_id, (receipt).run_lease)::awa.receipt), false,
  format('with slot %s, which no ring has, a receipt is stale', slot))
from foreign_held, unnest(array[999, -1, 32767, -32768]) as slot;
select results_eq($$ select running, completed from awa.queue_counts('tap/21/foreign') $$, 'values (1::bigint, 0::bigint)', 'and its job still runs');

-- Many

select is(pg_temp.stale_of((select array_agg(receipt order by n) from wrong)), (select array_agg(as_given order by as_given)::text from wrong),
  'complete_many returns every wrong receipt, each as it was given');
select is(pg_temp.stale_of((select array_agg(receipt order by n) from wrong where title <> 'a lease beyond 32 bits')),
  (select array_agg(as_given order by as_given)::text from wrong where title <> 'a lease beyond 32 bits'),
  'also without a lease beyond 32 bits');
select is(pg_temp.stale_of((select array[row((h.receipt).ready_slot, (h.receipt).batch_id, h.job_id, 4294967297),
    row((f.receipt).ready_slot, (f.receipt).batch_id, f.job_id, 4294967297)]::awa.receipt[] from held as h, foreign_held as f where h.n = 1)),
  (select array[row((h.receipt).ready_slot, (h.receipt).batch_id, h.job_id, 4294967297),
    row((f.receipt).ready_slot, (f.receipt).batch_id, f.job_id, 4294967297)]::awa.receipt[]::text from held as h, foreign_held as f where h.n = 1),
  'leases beyond 32 bits in two batches are stale, not an error');
select is(pg_temp.stale_of(null), null, 'a null array finishes nothing');
select is(pg_temp.stale_of('{}'), null, 'nor does an empty one');

select results_eq(
  $$ select s from awa.complete_many(array[(select receipt from wrong where n = 1), (select receipt from held where n = 2),
       (select receipt from single), null, (select receipt from held where n = 1)]) as s order by s $$,
  $$ select r from unnest(array[(select receipt from wrong where n = 1), (select receipt from single), null]) as r order by r $$,
  'of a mixed call the stale ones come back exactly, the others are done');
select results_eq($$ select d.args from awa.done_entries as d where d.queue = 'tap/21' order by d.id $$,
  $$ values ('1'::jsonb), ('2'), ('3') $$, 'exactly the good ones of the mixed call are in history');
select results_eq('select s from awa.complete_many((select array_agg(receipt order by n) from held)) as s order by s',
  'select receipt from held where n < 3 order by n', 'the rest of a batch can be finished later; what was finished is stale');
select results_eq('select s from awa.complete_many((select array_agg(receipt order by n) from held)) as s order by s',
  'select receipt from held order by n', 'once a batch is finished all of its receipts are stale');

-- Duplicates

create temp table pair as select c.receipt, row_number() over () as n from awa.claim('tap/21', 2) as c;
select is_empty('select s from pair as p, lateral awa.complete_many(array[p.receipt, p.receipt, p.receipt]) as s where p.n = 1',
  'one receipt thrice in a call is accepted');
select is((select count(*) from awa.done_entries as d join pair as p on d.id = (p.receipt).job_id), 1::bigint, 'and finishes its job once');
select results_eq(
  $$ select s from awa.complete_many(array[(select receipt from pair where n = 2), (select receipt from pair where n = 1),
       (select receipt from pair where n = 2), (select receipt from pair where n = 1)]) as s $$,
  'select receipt from pair, generate_series(1, 2) where n = 1', 'a stale receipt comes back as often as it was given');
select results_eq($$ select running, completed from awa.queue_counts('tap/21') $$, 'values (0::bigint, 6::bigint)', 'the counters count each job once');

-- A whole batch in any order, and several batches at once

create temp table batches as
select c.receipt, 1 as batch from awa.claim('tap/21', 4) as c
union all select c.receipt, 2 from awa.claim('tap/21', 3) as c
union all select c.receipt, 3 from awa.claim('tap/21', 1) as c;
select is_empty('select * from awa.complete_many((select array_agg(receipt order by (receipt).job_id % 3, (receipt).job_id desc) from batches))',
  'receipts of several batches are finished together, in any order');
select is((select count(*) from awa.done_entries as d join batches as b on d.id = (b.receipt).job_id), 8::bigint, 'each of them');
create temp table one_by_one as select c.receipt, row_number() over () as n from awa.claim('tap/21', 5) as c;
select is((select array_agg(awa.complete(receipt) order by n desc) from one_by_one), array[true, true, true, true, true], 'a batch can be finished one by one');
select results_eq($$ select available, running, completed, terminal from awa.queue_counts('tap/21') $$, 'values (1::bigint, 0::bigint, 19::bigint, 19::bigint)',
  'the queue''s figures follow');

-- A finish that rolls back

create temp table last_one as select c.receipt from awa.claim('tap/21', 5) as c;
savepoint finishing;
select ok(awa.complete(receipt), 'a finish in a savepoint') from last_one;
rollback to finishing;
select results_eq($$ select running, completed from awa.queue_counts('tap/21') $$, 'values (1::bigint, 19::bigint)', 'is undone with it');
select ok(awa.complete(receipt), 'and can be made again') from last_one;

select is((select sum(c.live_terminal_count) from awa.queue_terminal_live_counts as c where c.queue = 'tap/21'),
  (select count(*) from awa.done_entries as d where d.queue = 'tap/21')::numeric, 'counters equal history');
select is_empty('select * from awa.check()', 'the storage is sound after all of this');

select * from finish();
rollback;
