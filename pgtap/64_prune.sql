-- Prune: what reaches the rollups, what is carried on, and that whatever was moved
-- goes every way that a job can go.
begin;
select plan(91);
-- Alone: turns the ring, poisons counters.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
select awa.reset() \g /dev/null

\ir counters.psql
\ir done.psql
\ir prune.psql
create function pg_temp.turn () returns text
  language sql as $$ select awa.rotate() || ' ' || pg_temp.prune() $$;
-- Makes this transaction's waiting jobs of a queue look like those that
-- another one committed long ago, as well as its rotations, so that claims
-- move the lane's cursor.
create function pg_temp.settle (p_queue text) returns void
  language sql as $$
  update awa.segment_rotations as g set xid = '5' where g.xid = pg_current_xact_id();
  update awa.ready_entries as r set xid = '5'
  where r.xid = pg_current_xact_id() and r.lane in (select l.lane from awa.queue_lanes as l where l.queue = p_queue)
$$;
create temp view rollups as
select queue, priority, enqueue_shard, pruned_completed_count as completed, pruned_failed_count as failed, pruned_cancelled_count as cancelled, pruned_terminal_count as terminal
from awa.queue_terminal_rollups;
create temp view history as
select d.queue, d.priority, d.enqueue_shard, count(*) filter (where d.state = 'completed') as completed, count(*) filter (where d.state = 'failed') as failed,
  count(*) filter (where d.state = 'cancelled') as cancelled, count(*) as terminal
from awa.done_entries as d group by d.queue, d.priority, d.enqueue_shard;

-- What left history before does not reach the rollups

select awa.configure_queue('tap/64/a', '{"failed_retention": "0", "enqueue_shards": 2}'), awa.configure_queue('tap/64/b', '{"failed_retention": "0"}') \g /dev/null
select pg_temp.done(q, n, o, 'k', p) from (values ('tap/64/a', 10, 'c'::"char", 1), ('tap/64/a', 8, 'f', 2), ('tap/64/a', 6, 'x', 3), ('tap/64/b', 5, 'f', 4), ('tap/64/b', 3, 'c', 4)) as v (q, n, o, p) \g /dev/null
select awa.retry(id) from (select id from awa.done_entries where queue = 'tap/64/a' and state = 'failed' order by id limit 2) as j \g /dev/null
select awa.retry(id) from (select id from awa.done_entries where queue = 'tap/64/a' and state = 'cancelled' order by id limit 1) as j \g /dev/null
delete from awa.jobs where id in (select id from awa.done_entries where queue = 'tap/64/a' and state = 'completed' order by id limit 3);
select awa.bulk_move_failed_to_dlq('tap/64/b', max_jobs => 2) \g /dev/null
select awa.enqueue('k', queue => 'tap/64/b') as early \gset
select awa.cancel(:early) \g /dev/null
select count(awa.complete(c.receipt)) from awa.claim('tap/64/a', 10) as c \g /dev/null
select pg_temp.figures_are('tap/64/a', '10/6/5/0', 'a queue that some have left: ten completed, six failed, five cancelled');
select pg_temp.figures_are('tap/64/b', '3/3/1/2', 'and one with dead letters and a job that never ran');
create temp table truth as select * from history;
create temp table letters as select * from awa.dlq_entries;
-- Counters that are wrong: a checkpoint and a delta that nobody earned.
insert into awa.checkpoint_snapshots (checkpoint, ready_slot, source, snapshot) values (1, 0, 'checkpoint', '1:1:');
insert into awa.terminal_count_checkpoints (lane, checkpoint, enqueued, closed, completed, failed, cancelled, ready_slot)
select lane, 1, 7, 7, 1000, -500, 20, 0 from (select distinct lane from awa.queue_lanes) as l;
insert into awa.terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
select lane, pg_current_xact_id(), 0, 3, -70, 30, 1 from (select distinct lane from awa.queue_lanes) as l;
select isnt_empty('select * from pg_temp.drift', 'the counters are poisoned');
select isnt_empty($$ select * from awa.check() where invariant = 'terminal counters equal history' $$, 'as check says');
select is(pg_temp.turn(), 'rotated pruned', 'the segment is pruned all the same');
select bag_eq('select * from rollups', 'select * from truth', 'the rollups are what history was, per key and state: nothing removed, nothing poisoned');
select pg_temp.figures_are('tap/64/a', '0/0/0/0', 'history and counters are empty');
select pg_temp.figures_are('tap/64/b', '0/0/0/2', 'but for the dead letters');
select bag_eq('select * from awa.dlq_entries', 'select * from letters', 'which prune does not touch');
select is((select pruned_terminal from awa.queue_counts('tap/64/a')), 21::bigint, 'queue_counts knows what was pruned');
select results_eq('select generation, slot::integer, ready_rows, terminal_jobs, relocated, carried from awa.segment_prunes', 'select 0::bigint, 0, 36::bigint, 28::bigint, 0::bigint, 0::bigint', 'and so does the ledger');
select is_empty('select * from awa.check()', 'the storage is sound');

-- A second segment adds to them

select pg_temp.done('tap/64/a', 4, 'c', 'k', 1), pg_temp.done('tap/64/a', 2, 'x', 'k', 1) \g /dev/null
truncate truth;
insert into truth
select queue, priority, enqueue_shard, sum(completed), sum(failed), sum(cancelled), sum(terminal) from (select * from rollups union all select * from history) as s group by queue, priority, enqueue_shard;
select is(pg_temp.turn(), 'rotated pruned', 'a second segment');
select bag_eq('select * from rollups', 'select * from truth', 'adds its own to the rollups, key by key');
select is((select pruned_terminal from awa.queue_counts('tap/64/a')), 27::bigint, 'and to the queue''s figure');
select is(awa.retry(id), false, 'what was pruned cannot be retried') from (values (:early)) as v (id);
select is(awa.delete_job_compat(:early), false, 'nor deleted');
select is_empty(format('select * from awa.jobs where id = %s', :early), 'nor seen');

-- Failed jobs inside their retention, from a batch of which others left

select awa.configure_queue('tap/64/keep', '{"failed_retention": "1 hour"}'), awa.configure_queue('tap/64/drop', '{"failed_retention": "0"}') \g /dev/null
-- Others failed before them.
select pg_temp.done('tap/64/drop', 3, 'f') \g /dev/null
select awa.enqueue('keep64', to_jsonb(n), queue => 'tap/64/keep', priority => 3, max_attempts => 2, tags => array['t' || n], unique_key => decode(lpad(to_hex(n), 2, '0'), 'hex'), unique_states => b'11111111',
  ordering_key => 'o') from generate_series(1, 9) as n \g /dev/null
create temp table batch as select *, row_number() over () as n from awa.claim('tap/64/keep', 9);
select awa.fail_many(array_agg(receipt order by n), array_agg('error ' || n order by n), terminal => true) from batch where n % 2 = 1 \g /dev/null
select awa.complete_many(array_agg(receipt)) from batch where n in (2, 4) \g /dev/null
select awa.cancel(job_id) from batch where n = 6 \g /dev/null
select awa.fail(receipt, 'error 8', retry_after => '1 day') from batch where n = 8 \g /dev/null
select awa.retry(job_id, run_at => now() + interval '1 day') from batch where n = 1 \g /dev/null
-- Beside jobs that are in other places, as every queue may have them.
select awa.register_callback(c.receipt, '1 day') from awa.enqueue('k', queue => 'tap/64/else') as id, awa.claim('tap/64/else') as c \g /dev/null
select pg_temp.figures_are('tap/64/keep', '2/4/1/0', 'four failed jobs of a batch are in history');
create temp table kept as select id, kind, args, state, priority, attempt, max_attempts, run_at, attempted_at, finalized_at, created_at, errors, metadata, tags, unique_key, unique_states, run_lease, enqueue_shard
from awa.done_entries where queue = 'tap/64/keep' and state = 'failed';
select is(pg_temp.turn(), 'rotated pruned', 'their segment is pruned');
select bag_eq($$ select id, kind, args, state, priority, attempt, max_attempts, run_at, attempted_at, finalized_at, created_at, errors, metadata, tags, unique_key, unique_states, run_lease, enqueue_shard
  from awa.done_entries where queue = 'tap/64/keep' $$, 'select * from kept', 'they survive, each with its own error, the rest of the batch does not');
select pg_temp.figures_are('tap/64/keep', '0/4/0/0', 'and count as live');
select results_eq($$ select c.scheduled, c.retryable from awa.queue_counts('tap/64/keep') as c $$, 'values (1::bigint, 1::bigint)', 'those that come back later count as well');
select pg_temp.figures_are('tap/64/drop', '0/0/0/0', 'a queue that keeps no failures has none');
select results_eq($$ select failed from rollups where queue = 'tap/64/drop' $$, 'values (3::bigint)', 'they are in the rollup');
select results_eq($$ select completed, failed, cancelled from rollups where queue = 'tap/64/keep' $$, 'values (2::bigint, 0::bigint, 1::bigint)', 'of the queue that keeps them only the others are');
select is((select carried from awa.segment_prunes order by generation desc limit 1), 4::bigint, 'the ledger says that four were carried');
select is((select count(*) from awa.job_unique_claims), 6::bigint, 'the keys of carried and deferred jobs stay, the others went');
select is(awa.enqueue('k', unique_key => '\x03'), (select job_id from batch where n = 3), 'a carried job still holds its key');
select is_empty('select * from pg_temp.drift', 'no key drifts');
select is_empty('select * from awa.check()', 'the storage is sound');

-- Each way out of history works on a carried job

create temp table still as select pg_temp.deltas() as deltas, pg_temp.removals() as removals;
select is(awa.retry(job_id), true, 'a carried job is retried') from batch where n = 3;
select pg_temp.figures_are('tap/64/keep', '0/3/0/0', 'and out of history');
select results_eq($$ select args, attempt, errors[1] ->> 'error', cardinality(errors), tags, (receipt).run_lease from awa.claim('tap/64/keep', 10) $$,
  $$ values ('3'::jsonb, 1::smallint, 'error 3', 1, array['t3'], 2::bigint) $$, 'it is claimed with its error');
select is(awa.move_failed_to_dlq(job_id, 'late'), true, 'one is moved to the dead letters') from batch where n = 5;
select results_eq($$ select args, errors[1] ->> 'error', attempted_at, finalized_at, unique_key, run_lease, original_run_lease, ordering_key, dlq_reason from awa.dlq_entries where queue = 'tap/64/keep' $$,
  $$ select args, 'error 5', attempted_at, finalized_at, unique_key, 1::bigint, 1::bigint, 'o', 'late' from kept where args = '5' $$, 'with its error and times');
select is(awa.delete_job_compat(job_id), true, 'one is deleted') from batch where n = 7;
select is(awa.discard_failed_by_kind('keep64'), 1::bigint, 'the last is discarded');
select pg_temp.figures_are('tap/64/keep', '0/0/0/1', 'history has none left');
select is((pg_temp.deltas() - deltas, pg_temp.removals() - removals), (4::bigint, 4::bigint), 'each with a removal and a delta') from still;
select is_empty('select * from pg_temp.drift', 'no key drifts');
select count(awa.complete(row(c.ready_slot, c.batch_id, j.job_id, j.lease)::awa.receipt)) from awa.claims as c, unnest(c.job_ids, c.run_leases) as j (job_id, lease), batch as b where b.n = 3 and j.job_id = b.job_id and j.lease = 2 \g /dev/null
select is(pg_temp.turn(), 'rotated pruned', 'the segment that they had been carried to is pruned');
select results_eq($$ select completed, failed, cancelled from rollups where queue = 'tap/64/keep' $$, 'values (3::bigint, 0::bigint, 1::bigint)', 'none of them is in the rollup as failed');
select is_empty('select * from awa.check()', 'the storage is sound');

-- The newest cursor of each lane

select awa.enqueue_many('k', array_fill('1'::jsonb, array[6]), queue => q, priority => p) from unnest(array['tap/64/idle', 'tap/64/busy']) as q, generate_series(1, 2) as p \g /dev/null
select pg_temp.settle(q) from unnest(array['tap/64/idle', 'tap/64/busy']) as q \g /dev/null
select count(awa.complete(c.receipt)) from unnest(array['tap/64/idle', 'tap/64/busy']) as q, generate_series(1, 4) as n, lateral (select c.* from awa.claim(q, 2 + 0 * n) as c) as c \g /dev/null
create temp view cursors as
select distinct on (c.lane) c.lane, c.generation, c.segment, c.last_segment, c.base_segment, c.pos_xid, c.pos_job_id, c.floor_xid, c.settled_segment, c.settled_xid, c.claimed_total, c.skips, c.drained,
  c.s_prev::text as s_prev, c.s_cur::text as s_cur from awa.lane_cursors as c order by c.lane, c.generation desc;
select cmp_ok((select count(*) from cursors), '>=', 4::bigint, 'four lanes have cursors');
select awa.rotate() \g /dev/null
select awa.enqueue_many('k', array_fill('1'::jsonb, array[2]), queue => 'tap/64/busy', priority => 1) \g /dev/null
select awa.cancel(id) from awa.jobs where queue = 'tap/64/busy' and state = 'available' and priority = 2 \g /dev/null
select count(awa.complete(c.receipt)) from awa.claim('tap/64/busy', 100) as c \g /dev/null
select count(awa.complete(c.receipt)) from awa.claim('tap/64/idle', 100) as c \g /dev/null
create temp table cursors_before as select * from cursors;
create temp table figures_before as select q, c.* from unnest(array['tap/64/idle', 'tap/64/busy']) as q, lateral awa.queue_counts(q) as c;
select is(pg_temp.prune(), 'pruned', 'the segment with cursors is pruned');
select bag_eq('select * from cursors', 'select * from cursors_before', 'the newest cursor of every lane is as it was');
select is((select count(*) from awa.lane_cursors as c where not exists (select from cursors as n where n.lane = c.lane and n.generation = c.generation) and c.generation > 1000), 0::bigint, 'no other cursor came along');
select is_empty(
  $$ select f.q from figures_before as f, lateral awa.queue_counts(f.q) as c where (c.available, c.running, c.terminal + c.pruned_terminal) <> (f.available, f.running, f.terminal + f.pruned_terminal) $$,
  'and so are the figures of the queues');
select is(pg_temp.turn(), 'rotated pruned', 'a second turn');
select bag_eq('select * from cursors', 'select * from cursors_before', 'carries them on');
select awa.enqueue('k', queue => 'tap/64/idle', priority => 2) as after \gset
select results_eq($$ select job_id from awa.claim('tap/64/idle', 10) $$, format('values (%s::bigint)', :after), 'the next job of an idle lane is claimed, and no old one');
select is_empty('select * from awa.check()', 'the storage is sound');
delete from awa.jobs where id = :after;

-- Stragglers: each way that a job can go from where it was moved to

select awa.configure_queue('tap/64/s', '{"failed_retention": "0"}'), awa.configure_queue('tap/64/s2', '{"failed_retention": "0"}') \g /dev/null
select awa.enqueue_many('s64', array(select to_jsonb(n) from generate_series(1, 400) as n), queue => 'tap/64/s', max_attempts => 3) \g /dev/null
select awa.enqueue_many('s64', array(select to_jsonb(n) from generate_series(401, 800) as n), queue => 'tap/64/s2') \g /dev/null
select pg_temp.settle(q) from unnest(array['tap/64/s', 'tap/64/s2']) as q \g /dev/null
create temp table ran as select *, args::integer as n from awa.claim('tap/64/s', 400, 'w', lease => '1 hour');
select awa.complete_many(array_agg(receipt)) from ran where n <= 396 \g /dev/null
select awa.complete_many(array_agg(c.receipt)) from awa.claim('tap/64/s2', 396) as c \g /dev/null
select results_eq($$ select (select running from awa.queue_counts('tap/64/s')), (select available from awa.queue_counts('tap/64/s2')) $$, 'values (4::bigint, 4::bigint)', 'four jobs run and four wait');
create temp table before as select * from awa.jobs where kind = 's64' and state in ('available', 'running');
select is(pg_temp.turn(), 'rotated pruned', 'eight of eight hundred do not hold the segment');
select is((select relocated from awa.segment_prunes order by generation desc limit 1), 8::bigint, 'they were moved, as the ledger says');
select bag_eq($$ select id, args, state, attempt, run_at, created_at, attempted_at, run_lease from awa.jobs where kind = 's64' $$, 'select id, args, state, attempt, run_at, created_at, attempted_at, run_lease from before',
  'jobs shows them as before');
select results_eq($$ select (select running from awa.queue_counts('tap/64/s')), (select available from awa.queue_counts('tap/64/s2')) $$, 'values (4::bigint, 4::bigint)', 'they are counted as before');
select is_empty('select * from awa.check()', 'the storage is sound');
select is(awa.complete(receipt), true, 'a receipt from before completes one') from ran where n = 397;
select is(awa.fail(receipt, 'late', retry_after => '1 day'), 'retryable', 'another fails one') from ran where n = 398;
select is(awa.cancel(job_id), true, 'one is cancelled') from ran where n = 399;
select is(awa.complete(receipt), false, 'its receipt is stale then') from ran where n = 399;
select is(awa.delete_job_compat(job_id), true, 'one is deleted') from ran where n = 400;
select is(awa.fail(receipt, 'e'), null, 'its receipt is stale as well') from ran where n = 400;
select is(awa.complete(receipt), false, 'those of finished batch mates have been all along') from ran where n = 1;
select results_eq($$ select args, attempt::integer, cardinality(errors) from awa.jobs where queue = 'tap/64/s' and state = 'retryable' $$, $$ values ('398'::jsonb, 1, 1) $$, 'the failed one waits for its second attempt');
select pg_temp.figures_are('tap/64/s', '1/0/1/0', 'history has the completed and the cancelled one');
select is(awa.delete_job_compat((select id from awa.jobs where args = '797' and kind = 's64')), true, 'of the waiting ones one is deleted');
select is(awa.cancel((select id from awa.jobs where args = '798' and kind = 's64')), true, 'one cancelled');
update awa.jobs set priority = 1 where args = '800' and kind = 's64';
select results_eq($$ select args, priority::integer, attempt::integer, awa.complete(receipt) from awa.claim('tap/64/s2', 10) $$, $$ values ('799'::jsonb, 2, 1, true), ('800', 1, 1, true) $$,
  'the others are claimed, one of them in its new priority, and last since this transaction put it there');
select is_empty($$ select * from awa.claim('tap/64/s2', 10) $$, 'once');
select pg_temp.figures_are('tap/64/s2', '2/0/1/0', 'history has those that ended');
select is_empty('select * from awa.check()', 'the storage is sound');
select is(pg_temp.turn(), 'rotated pruned', 'then this segment can go as well');
select results_eq($$ select sum(completed), sum(failed), sum(cancelled) from rollups where queue in ('tap/64/s', 'tap/64/s2') $$, 'values (795::numeric, 0::numeric, 2::numeric)', 'every job of the eight hundred that ended is in the rollups, once');

-- What holds a segment is told, and an extra closure does not

select pg_temp.done('tap/64/hold', 3, 'c') \g /dev/null
select (pg_temp.done('tap/64/hold', 1, 'r'))[1] as holds \gset
select awa.enqueue('k', queue => 'tap/64/hold2') \g /dev/null
select is(pg_temp.turn(), 'rotated blocked', 'a running and a waiting job hold a small segment');
select results_eq($$ select waiting, running, reason from awa.storage_status() where reason is not null $$, $$ values (1::bigint, 1::bigint, '1 waiting and 1 running jobs hold it') $$, 'storage_status says so');
select is((select waiting + running from awa.storage_status() where phase = 'sealed'), 2::bigint, 'of that segment');
select is_empty('select * from awa.check()', 'a held segment is not unsound');
savepoint twice;
insert into awa.attempt_outcomes (batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome)
select o.batch_id, o.lane, pg_current_xact_id(), now(), 5, o.jobs, o.ready_slot, 'c' from awa.attempt_outcomes as o join awa.queue_lanes as l on l.lane = o.lane where l.queue = 'tap/64/hold' limit 1;
select isnt_empty($$ select * from awa.check() where invariant = 'an attempt closes once' $$, 'an attempt that closed twice is reported');
select is(awa.delete_job_compat(:holds), true, 'the running job goes');
select count(awa.complete(c.receipt)) from awa.claim('tap/64/hold2') as c \g /dev/null
select results_eq($$ select waiting, running, reason from awa.storage_status() where reason is not null $$, $$ values (0::bigint, 0::bigint, 'ready to prune') $$, 'nothing holds the segment then');
select is(pg_temp.prune(), 'pruned', 'and the second closure does not either');
rollback to twice;
select is(awa.delete_job_compat(:holds), true, 'without it');
select count(awa.complete(c.receipt)) from awa.claim('tap/64/hold2') as c \g /dev/null
select is(pg_temp.prune(), 'pruned', 'it is the same');
select is_empty('select * from awa.check()', 'the storage is sound after all of this');

-- Rollups over the years: of jobs that never were, so check would complain

select coalesce(max(p.generation) + 1, 0) as next from awa.segment_prunes as p \gset
select 'tap/64/years/' || n as years from generate_series(1, 10000) as n
where (hashint8(awa._lane('tap/64/years/' || n, 2, 0)) - :next) % 16 = 0 limit 1 \gset
select 'tap/64/years/' || n as later from generate_series(1, 10000) as n
where (hashint8(awa._lane('tap/64/years/' || n, 2, 0)) - :next) % 16 = 1 limit 1 \gset
select pg_temp.done(q, 1, 'c') from unnest(array[:'years', :'later']) as q \g /dev/null
insert into awa.terminal_rollup_entries (lane, generation, ready, closed, completed, failed, cancelled, scheduled, retryable)
select l.lane, g, 6, 6, 3, 2, 1, g, -g from awa.queue_lanes as l, generate_series(-70, -1) as g where l.queue in (:'years', :'later');
create temp view years as
select l.queue, count(*) as rows, sum(e.ready) as ready, sum(e.closed) as closed, sum(e.completed) as completed, sum(e.failed) as failed,
  sum(e.cancelled) as cancelled, sum(e.scheduled) as scheduled, sum(e.retryable) as retryable
from awa.terminal_rollup_entries as e join awa.queue_lanes as l on l.lane = e.lane
where l.queue in (:'years', :'later') group by l.queue;
select awa.rotate() \g /dev/null
select is(pg_temp.prune(), 'pruned', 'a prune long after the first');
select results_eq($$ select ready, closed, completed, failed, cancelled, scheduled, retryable from years $$,
  $$ select 420::numeric, 420::numeric, 211::numeric, 140::numeric, 70::numeric, -2485::numeric, 2485::numeric from generate_series(1, 2) $$, 'changes no total of a lane');
select results_eq(format('select rows from years order by queue = %L', :'later'), 'values (2::bigint), (71)', 'makes the rows of every 16th lane one, and adds its own');
select is((select c.pruned_terminal from awa.queue_counts(:'years') as c), 421::bigint, 'and counts');

select * from finish();
rollback;
