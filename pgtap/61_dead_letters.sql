-- Dead letters: the ways in, the ways back and the ways out, with the counts of each.
begin;
select plan(131);
-- Alone: calls maintain.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;

\ir counters.psql
\ir done.psql

-- A queue with dlq_enabled: a failure for good goes there at once

select awa.configure_queue('tap/61/a', '{"dlq_enabled": true}') \g /dev/null
select awa.enqueue('work', '{"n": 1}', queue => 'tap/61/a', priority => 3, max_attempts => 2, tags => array['t'], metadata => '{"m": 1}',
  unique_key => '\x6101', unique_states => b'11111100', ordering_key => 'o', deadline => '1 hour') as id \gset
create temp table attempts as select * from awa.claim('tap/61/a', 1, 'w');
select awa.fail(receipt, 'first', retry_after => '0') from attempts \g /dev/null
select is_empty('select * from awa.dlq_depth(''tap/61/a'')', 'a failure that is retried is no dead letter');
select count(*) from awa.maintain() \g /dev/null
insert into attempts select * from awa.claim('tap/61/a', 1, 'w');
create temp table body as select * from awa.jobs where id = :id;
create temp table still as select pg_temp.deltas() as deltas, pg_temp.removals() as removals, clock_timestamp() as t;
select is(awa.fail(receipt, 'second'), 'failed', 'the last attempt of a job fails') from attempts where attempt = 2;
select pg_temp.figures_are('tap/61/a', '0/0/0/1', 'the job is dead in the same statement and never was in history');
select is((pg_temp.deltas(), pg_temp.removals()), (deltas, removals), 'so the terminal counters have nothing to take back') from still;
select results_eq(
  'select id, kind, queue, args, state, priority, attempt, max_attempts, run_at, created_at, attempted_at, metadata, tags, unique_key, unique_states, run_lease, original_run_lease, ordering_key, deadline from awa.dlq_entries where queue = ''tap/61/a''',
  $$ select id, kind, queue, args, 'failed'::awa.job_state, priority, 2::smallint, max_attempts, run_at, created_at, attempted_at, metadata, tags, unique_key, unique_states, 2::bigint, 2::bigint, 'o', interval '1 hour' from body $$,
  'the letter has the whole job, with the attempt and lease that it died of');
select ok(dlq_reason = 'max_attempts_exhausted' and dlq_at between t and clock_timestamp() and finalized_at between t and clock_timestamp(), 'why and when')
from awa.dlq_entries, still where queue = 'tap/61/a';
select is((select array_agg(e ->> 'error' || ' ' || (e ->> 'attempt') order by n) from awa.dlq_entries, unnest(errors) with ordinality as u (e, n) where id = :id), array['first 1', 'second 2'],
  'and every error');
select is_empty(format('select * from awa.jobs where id = %s', :id), 'it is not in jobs');
select is(awa.fail(receipt, 'again'), null, 'a second failure is stale') from attempts where attempt = 2;
select is(awa.complete(receipt), false, 'so is a completion') from attempts where attempt = 2;
select results_eq('select running, failed, terminal, dlq from awa.queue_counts(''tap/61/a'')', 'values (0::bigint, 0::bigint, 0::bigint, 1::bigint)', 'queue_counts has it as dead only');

select awa.enqueue('k', queue => 'tap/61/a') as terminal \gset
select is(awa.fail(c.receipt, 'no use', terminal => true), 'failed', 'a terminal failure') from awa.claim('tap/61/a') as c;
select is(dlq_reason, 'terminal_error', 'is a dead letter for that reason') from awa.dlq_entries where id = :terminal;
select awa.configure_queue('tap/61/many', '{"dlq_enabled": true}'), awa.enqueue_many('k', array_fill('1'::jsonb, array[6]), queue => 'tap/61/many') \g /dev/null
create temp table many as select *, row_number() over () as n from awa.claim('tap/61/many', 6);
select is((select count(*) from awa.fail_many((select array_agg(receipt) from many where n <= 4), terminal => true) where state = 'failed'), 4::bigint, 'four of a batch fail in one call');
select awa.complete(receipt) from many where n = 5 \g /dev/null
select awa.cancel(job_id) from many where n = 6 \g /dev/null
select pg_temp.figures_are('tap/61/many', '1/0/1/4', 'only failed jobs become dead letters');
select awa.configure_queue('tap/61/many', '{"dlq_enabled": false}') \g /dev/null
select pg_temp.done('tap/61/many', 1, 'f') \g /dev/null
select pg_temp.figures_are('tap/61/many', '1/1/1/4', 'a queue that has it disabled again keeps failures in history');
select is_empty('select * from pg_temp.drift', 'no key drifts');

-- move_failed_to_dlq

select awa.enqueue('k', '{"n": 2}', queue => 'tap/61/move', priority => 4, max_attempts => 2, tags => array['t'], metadata => '{"m": 2}', ordering_key => 'o', deadline => '1 hour') as moved \gset
select awa.fail(c.receipt, 'first', retry_after => '0') from awa.claim('tap/61/move') as c \g /dev/null
select count(*) from awa.maintain() \g /dev/null
select awa.fail(c.receipt, 'second') from awa.claim('tap/61/move') as c \g /dev/null
select (pg_temp.done('tap/61/move', 1, 'c'))[1] as completed, (pg_temp.done('tap/61/move', 1, 'x'))[1] as cancelled, (pg_temp.done('tap/61/move', 1, 'r'))[1] as busy \gset
select awa.enqueue('k', queue => 'tap/61/move') as waits, awa.enqueue('k', queue => 'tap/61/move', run_at => now() + interval '1 day') as deferred \gset
select pg_temp.figures_are('tap/61/move', '1/1/1/0', 'a failed job in history');
create temp table body2 as select * from awa.done_entries where id = :moved;
update still set deltas = pg_temp.deltas(), removals = pg_temp.removals();
select is(awa.move_failed_to_dlq(:moved, 'by hand'), true, 'is moved to the dead letters');
select pg_temp.figures_are('tap/61/move', '1/0/1/1', 'the counters follow');
select is(pg_temp.deltas() - deltas, 1::bigint, 'with one delta') from still;
select is_empty('select * from pg_temp.drift', 'no key drifts');
select results_eq(
  format('select kind, queue, args, state, priority, attempt, max_attempts, run_at, created_at, attempted_at, finalized_at, errors, metadata, tags, run_lease, original_run_lease, ordering_key, deadline, dlq_reason from awa.dlq_entries where id = %s', :moved),
  $$ select kind, queue, args, state, priority, attempt, max_attempts, run_at, created_at, attempted_at, finalized_at, errors, metadata, tags, run_lease, 2::bigint, 'o', interval '1 hour', 'by hand' from body2 $$,
  'the letter is the job as history had it, with the reason given');
select is(cardinality(errors), 2, 'both errors with it') from awa.dlq_entries where id = :moved;
update still set deltas = pg_temp.deltas(), removals = pg_temp.removals();
select is(awa.move_failed_to_dlq(id), false, format('a %s job is not moved', what))
from (values (:moved, 'dead'), (:completed, 'completed'), (:cancelled, 'cancelled'), (:busy, 'running'), (:waits, 'waiting'), (:deferred, 'scheduled'), (9223372036854775807, 'unknown'), (null, 'null')) as v (id, what);
select pg_temp.figures_are('tap/61/move', '1/0/1/1', 'nothing has changed');
select is((pg_temp.deltas(), pg_temp.removals()), (deltas, removals), 'and nothing was written') from still;
select is(awa.move_failed_to_dlq((pg_temp.done('tap/61/move2', 1, 'f'))[1]), true, 'a move needs no reason');
select is((select dlq_reason from awa.dlq_entries where queue = 'tap/61/move2'), null, 'then there is none');

-- bulk_move_failed_to_dlq

select pg_temp.done(q, n, how, kind, p) from (values ('tap/61/b1', 4, 'f'::"char", 'one61', 1), ('tap/61/b1', 3, 'f', 'two61', 2), ('tap/61/b1', 2, 'f', 'two61', 1), ('tap/61/b1', 1, 'c', 'one61', 1),
  ('tap/61/b2', 5, 'f', 'one61', 1)) as v (q, n, how, kind, p) \g /dev/null
update still set deltas = pg_temp.deltas(), removals = pg_temp.removals();
select is(awa.bulk_move_failed_to_dlq(queue => 'tap/61/none'), 0::bigint, 'a queue without failures moves nothing');
select is(awa.bulk_move_failed_to_dlq(queue => 'tap/61/b1', max_jobs => 0), 0::bigint, 'nor does max_jobs 0');
select throws_ok('select awa.bulk_move_failed_to_dlq(max_jobs => -1)', 'AW006', null, 'a negative max_jobs is refused');
select is((pg_temp.deltas(), pg_temp.removals()), (deltas, removals), 'and nothing was written') from still;
create temp table oldest as select id from awa.done_entries where queue = 'tap/61/b1' and state = 'failed' order by id limit 2;
select is(awa.bulk_move_failed_to_dlq(queue => 'tap/61/b1', reason => 'sweep', max_jobs => 2), 2::bigint, 'with max_jobs 2 two are moved');
select bag_eq($$ select id, dlq_reason from awa.dlq_entries where queue = 'tap/61/b1' $$, $$ select id, 'sweep' from oldest $$, 'those of the lowest ids, for the reason given');
select pg_temp.figures_are('tap/61/b1', '1/7/0/2', 'the counters follow');
select is(awa.bulk_move_failed_to_dlq(queue => 'tap/61/b1', kind => 'two61'), 5::bigint, 'queue and kind restrict together');
select pg_temp.figures_are('tap/61/b1', '1/2/0/7', 'the other kind stays');
update still set deltas = pg_temp.deltas(), removals = pg_temp.removals();
select is(awa.bulk_move_failed_to_dlq(kind => 'one61'), 7::bigint, 'a kind alone takes it from every queue');
select is(pg_temp.deltas() - deltas, 2::bigint, 'one delta per key') from still;
select pg_temp.figures_are('tap/61/b1', '1/0/0/9', 'of the first queue all failed ones are dead');
select pg_temp.figures_are('tap/61/b2', '0/0/0/5', 'of the second as well');
select is_empty('select * from pg_temp.drift', 'no key drifts');
select pg_temp.done('tap/61/bites', 5, 'f') \g /dev/null
create temp table bites as select n, awa.bulk_move_failed_to_dlq('tap/61/bites', max_jobs => 2) as moved from generate_series(1, 4) as n;
select is((select array_agg(b.moved order by b.n) from bites as b), '{2,2,1,0}', 'in bites each call goes on after those that were moved');
select awa.purge_dlq('tap/61/bites') \g /dev/null
select pg_temp.done('tap/61/b3', 300, 'f', 'three61') \g /dev/null
select is(awa.bulk_move_failed_to_dlq('tap/61/b3'), 300::bigint, 'three hundred are moved in one call');
select pg_temp.figures_are('tap/61/b3', '0/0/0/300', 'and counted');
select is((select count(*) from awa.dlq_entries where queue = 'tap/61/b3' and errors[1] ->> 'error' = 'boom' and attempted_at is not null), 300::bigint, 'each with its error');

-- dlq_depth

select bag_eq($$ select queue, depth from awa.dlq_depth() where queue like 'tap/61/b%' $$, $$ values ('tap/61/b1', 9::bigint), ('tap/61/b2', 5), ('tap/61/b3', 300) $$, 'dlq_depth counts per queue');
select results_eq($$ select queue, depth from awa.dlq_depth('tap/61/b1') $$, $$ values ('tap/61/b1', 9::bigint) $$, 'or for one');
select is_empty($$ select * from awa.dlq_depth('tap/61/none') $$, 'a queue without letters has no row');

-- retry_from_dlq

create temp table letter as select * from awa.dlq_entries where id = :id;
update still set deltas = pg_temp.deltas(), removals = pg_temp.removals();
select is(awa.retry_from_dlq(:id), true, 'a dead letter is retried');
select pg_temp.figures_are('tap/61/a', '0/0/0/1', 'one letter is left in its queue, its job is not in history');
select is((pg_temp.deltas(), pg_temp.removals()), (deltas, removals), 'the terminal counters were not touched') from still;
select results_eq(format('select state, attempt, run_lease, cardinality(errors), unique_key, unique_states from awa.jobs where id = %s', :id),
  $$ values ('available'::awa.job_state, 0::smallint, 2::bigint, 2, '\x6101'::bytea, b'11111100'::bit(8)) $$, 'it waits with no attempt begun and its errors kept');
select is(awa.retry_from_dlq(:id), false, 'a second retry finds no letter');
truncate attempts;
insert into attempts select * from awa.claim('tap/61/a', 10);
select results_eq('select job_id, kind, args, priority, attempt, max_attempts, tags, metadata, created_at, (receipt).run_lease, deadline_at is not null from attempts',
  'select id, kind, args, priority, 1::smallint, max_attempts, tags, metadata, created_at, 3::bigint, true from letter', 'it is claimed as its first attempt, with everything it was enqueued with');
select is(awa.fail(receipt, 'third', terminal => true), 'failed', 'when it fails again') from attempts;
select is((select array_agg(e ->> 'error' || ' ' || (e ->> 'attempt') order by n) from awa.dlq_entries, unnest(errors) with ordinality as u (e, n) where id = :id),
  array['first 1', 'second 2', 'third 1'], 'it comes back with its whole history');
select results_eq(format('select attempt, run_lease, original_run_lease, ordering_key, deadline, dlq_reason from awa.dlq_entries where id = %s', :id),
  $$ values (1::smallint, 3::bigint, 3::bigint, 'o', interval '1 hour', 'terminal_error') $$, 'as a letter of the new attempt');

select (pg_temp.done('tap/61/a', 1, 'f'))[1] as over \gset
select is(awa.retry_from_dlq(:over, queue => 'tap/61/to', priority => 1, run_at => now() + interval '1 day'), true, 'a letter is retried elsewhere and later');
select results_eq(format('select queue, priority::integer, state, run_at from awa.jobs where id = %s', :over), $$ select 'tap/61/to', 1, 'scheduled'::awa.job_state, now() + interval '1 day' $$,
  'in the queue, priority and time given');
select is(awa.retry_from_dlq(x), false, format('there is no letter of %s job', what)) from (values (9223372036854775807, 'an unknown'), (null, 'a null'), (:completed, 'a completed'), (:waits, 'a waiting')) as v (x, what);
select throws_ok(format('select awa.retry_from_dlq(%s, %s)', :terminal, override), 'AW006', null, format('%s is refused', what))
from (values ('queue => ''''', 'an empty queue name'), ('queue => repeat(''q'', 201)', 'a queue name that is too long'), ('priority => 0', 'priority 0'), ('priority => 5', 'priority 5')) as v (override, what);
select throws_ok('select awa.retry_from_dlq(-1, priority => 9)', 'AW006', null, 'also for no letter');
select isnt_empty(format('select * from awa.dlq_entries where id = %s', :terminal), 'the letter then stays');

select awa.enqueue('k', queue => 'tap/61/key', unique_key => '\x6102') as loser \gset
select awa.fail(c.receipt, 'e', terminal => true) from awa.claim('tap/61/key') as c \g /dev/null
select awa.move_failed_to_dlq(:loser) \g /dev/null
select awa.enqueue('k', queue => 'tap/61/key', unique_key => '\x6102') as winner \gset
select throws_ok(format('select awa.retry_from_dlq(%s)', :loser), 'AW004', format('job %s: its unique key is held by job %s', :loser, :winner), 'a letter whose key another job holds is refused');
select pg_temp.figures_are('tap/61/key', '0/0/0/1', 'and stays');
select is(awa.bulk_retry_from_dlq(queue => 'tap/61/key'), 0::bigint, 'a bulk retry passes it over');
select pg_temp.figures_are('tap/61/key', '0/0/0/1', 'so that it stays as well');
select awa.delete_job_compat(:winner) \g /dev/null
select is(awa.bulk_retry_from_dlq(queue => 'tap/61/key'), 1::bigint, 'once the holder is gone it is retried');
select is((select job_id from awa.job_unique_claims where unique_key = '\x6102'), :loser::bigint, 'and has its key again');

-- bulk_retry_from_dlq

select awa.enqueue('k', queue => 'tap/61/twins', unique_key => '\x6103') as older \gset
select awa.fail(c.receipt, 'e', terminal => true) from awa.claim('tap/61/twins') as c \g /dev/null
select awa.enqueue('k', queue => 'tap/61/twins', unique_key => '\x6103') as younger \gset
select awa.fail(c.receipt, 'e', terminal => true) from awa.claim('tap/61/twins') as c \g /dev/null
select is(awa.bulk_move_failed_to_dlq('tap/61/twins'), 2::bigint, 'two letters of one unique key');
select is(awa.bulk_retry_from_dlq('tap/61/twins'), 1::bigint, 'only one of them can come back');
select results_eq($$ select id from awa.jobs where queue = 'tap/61/twins' $$, format('values (%s::bigint)', :older), 'the older one does');
select results_eq($$ select id from awa.dlq_entries where queue = 'tap/61/twins' $$, format('values (%s::bigint)', :younger), 'the younger one stays dead');

-- b00100000: the key counts while a job runs, so none is needed to wait.
select awa.enqueue('k', queue => 'tap/61/loose', unique_key => '\x6104', unique_states => b'00100000') from generate_series(1, 2) \g /dev/null
select awa.fail(c.receipt, 'e', terminal => true) from awa.claim('tap/61/loose', 2) as c \g /dev/null
select is(awa.bulk_move_failed_to_dlq('tap/61/loose'), 2::bigint, 'two letters of a key that does not count where they go');
select is(awa.bulk_retry_from_dlq('tap/61/loose'), 2::bigint, 'both come back, as by retry_from_dlq');

select awa.enqueue('tagged61', queue => 'tap/61/r', tags => array['red', 'blue']), awa.enqueue('tagged61', queue => 'tap/61/r', tags => array['blue']), awa.enqueue('plain61', queue => 'tap/61/r', priority => 1),
  awa.enqueue('plain61', queue => 'tap/61/r2') \g /dev/null
select awa.fail_many(array_agg(c.receipt), terminal => true) from (select * from awa.claim('tap/61/r', 10) union all select * from awa.claim('tap/61/r2', 10)) as c \g /dev/null
select awa.bulk_move_failed_to_dlq(queue => q) from unnest(array['tap/61/r', 'tap/61/r2']) as q \g /dev/null
update still set deltas = pg_temp.deltas(), removals = pg_temp.removals();
select throws_ok('select awa.bulk_retry_from_dlq(max_jobs => -1)', 'AW006', null, 'a negative max_jobs is refused');
select is(awa.bulk_retry_from_dlq('tap/61/r', max_jobs => 0), 0::bigint, 'max_jobs 0 retries nothing');
select is(awa.bulk_retry_from_dlq('tap/61/r', tag => 'green'), 0::bigint, 'nor does a tag that no letter has');
select is(awa.bulk_retry_from_dlq('tap/61/r', tag => 'red'), 1::bigint, 'a tag selects');
select is(awa.bulk_retry_from_dlq('tap/61/r', kind => 'plain61'), 1::bigint, 'a kind selects');
select is(awa.bulk_retry_from_dlq(kind => 'plain61'), 1::bigint, 'without a queue all queues are meant');
select pg_temp.figures_are('tap/61/r', '0/0/0/1', 'one letter is left');
select bag_eq($$ select kind, priority::integer, attempt::integer, tags, cardinality(errors) from awa.claim('tap/61/r', 10) $$,
  $$ values ('tagged61', 2, 1, array['red', 'blue'], 1), ('plain61', 1, 1, '{}', 1) $$, 'those retried are claimed again, in their old priorities');
select is((pg_temp.deltas(), pg_temp.removals()), (deltas, removals), 'the terminal counters were not touched') from still;
create temp table lowest as select id from awa.dlq_entries where queue = 'tap/61/b3' order by id limit 100;
select is(awa.bulk_retry_from_dlq('tap/61/b3', max_jobs => 100), 100::bigint, 'a hundred of three hundred');
select bag_eq($$ select id from awa.jobs where queue = 'tap/61/b3' $$, 'select id from lowest', 'are those of the lowest ids');
select results_eq('select available, dlq from awa.queue_counts(''tap/61/b3'')', 'values (100::bigint, 200::bigint)', 'and are counted as available');

-- Of many places in one call.
select awa.configure_queue('tap/61/s', '{"enqueue_shards": 4, "dlq_enabled": true}'), awa.configure_queue('tap/61/s2', '{"dlq_enabled": true}') \g /dev/null
select awa.enqueue_many('spread61', array_fill('1'::jsonb, array[60]), queue => 'tap/61/s'),
  awa.enqueue_many('spread61', array_fill('2'::jsonb, array[20]), queue => 'tap/61/s', priority => 1, ordering_key => 'o', metadata => '{"m": 1}', deadline => '1 hour'),
  awa.enqueue_many('spread61', array_fill('3'::jsonb, array[10]), queue => 'tap/61/s2', priority => 4, tags => array['t']) \g /dev/null
select awa.set_progress(c.receipt, 70), awa.fail(c.receipt, 'e', terminal => true)
from (select * from awa.claim('tap/61/s', 100) union all select * from awa.claim('tap/61/s', 100) union all select * from awa.claim('tap/61/s2', 100)) as c \g /dev/null
create temp table spread as select * from awa.dlq_entries where kind = 'spread61';
select results_eq($$ select count(*), count(*) filter (where progress ->> 'percent' = '70') from spread $$, 'values (90::bigint, 90::bigint)', 'ninety letters, each with the progress of its attempt');
select is(awa.bulk_retry_from_dlq(kind => 'spread61'), 90::bigint, 'come back by one call');
select results_eq(
  $$ select l.queue, l.priority::integer, count(distinct l.enqueue_shard) > 1, count(*), bool_and(l.enqueue_shard = awa._shard(r.ordering_key, 4) or r.ordering_key is null)
     from awa.ready_entries as r join (select distinct q.lane, q.queue, q.priority, q.enqueue_shard from awa.queue_lanes as q) as l on l.lane = r.lane
     where r.kind = 'spread61' and r.run_lease = 2 group by 1, 2 order by 1, 2 $$,
  $$ values ('tap/61/s', 1, false, 20::bigint, true), ('tap/61/s', 2, true, 60, true), ('tap/61/s2', 4, false, 10, true) $$,
  'each into its queue and priority, those without an ordering key over the shards');
select results_eq(
  $$ select id, args, tags, metadata, created_at, errors[1] ->> 'error', attempt::integer, run_lease from awa.jobs where kind = 'spread61' order by id $$,
  $$ select id, args, tags, metadata, created_at, 'e', 0, 1::bigint from spread order by id $$, 'as they were');
select is((select count(*) from awa.ready_entries as r join spread as s on s.id = r.job_id
  where r.run_lease = 2 and (r.ordering_key, r.deadline, r.max_attempts) is not distinct from (s.ordering_key, s.deadline, s.max_attempts)), 90::bigint, 'to the last value');

-- Purge

update awa.dlq_entries set dlq_at = clock_timestamp() - interval '10 days' where queue = 'tap/61/b1' and kind = 'one61';
update still set deltas = pg_temp.deltas(), removals = pg_temp.removals();
select throws_ok('select awa.purge_dlq(max_jobs => -1)', 'AW006', null, 'a negative max_jobs is refused');
select is(awa.purge_dlq('tap/61/none'), 0::bigint, 'a queue without letters purges nothing');
select throws_ok(format($$ select awa.purge_dlq('tap/61/b1', older_than => %L) $$, age), 'AW006', format('older_than is %s', age::interval), 'an age of ' || age || ' is refused')
from unnest(array['-1 hour', '10000 years']) as age;
select is(awa.purge_dlq('tap/61/b1', older_than => '11 days'), 0::bigint, 'nor does an age that no letter has');
select is(awa.purge_dlq('tap/61/b1', older_than => '9 days', max_jobs => 1), 1::bigint, 'an age selects, up to max_jobs');
select is(awa.purge_dlq('tap/61/b1', older_than => '9 days'), 3::bigint, 'or all of it');
select is(awa.purge_dlq('tap/61/b1', kind => 'two61', max_jobs => 2), 2::bigint, 'a kind selects');
select pg_temp.figures_are('tap/61/b1', '1/0/0/3', 'three letters are left');
select is(awa.purge_dlq('tap/61/r', tag => 'blue'), 1::bigint, 'a tag selects');
select is(awa.purge_dlq('tap/61/b3'), 200::bigint, 'a queue alone takes all of it');
select is((pg_temp.deltas(), pg_temp.removals()), (deltas, removals), 'the terminal counters were not touched') from still;
select is_empty($$ select * from awa.dlq_entries where queue in ('tap/61/r', 'tap/61/b3') $$, 'purged letters are gone');

-- Retention

select awa.configure_queue('tap/61/b2', '{"dlq_retention": "5 days"}') \g /dev/null
update awa.dlq_entries set dlq_at = clock_timestamp() - interval '6 days' where id in (select id from awa.dlq_entries where queue = 'tap/61/b2' order by id limit 3);
update awa.dlq_entries set dlq_at = clock_timestamp() - interval '6 days' where queue = 'tap/61/b1';
select results_eq($$ select outcome, affected from awa.maintain() where task = 'dlq' $$, $$ values ('purged', 3::bigint) $$, 'maintain deletes letters older than dlq_retention');
select pg_temp.figures_are('tap/61/b2', '0/0/0/2', 'younger ones stay');
select pg_temp.figures_are('tap/61/b1', '1/0/0/3', 'as do those of a queue without retention');
select is_empty($$ select * from awa.maintain() where task = 'dlq' $$, 'then there is nothing to delete');
select set_config('awa.now', (clock_timestamp() + interval '10 days')::text, true) \g /dev/null
select awa.configure_queue('tap/61/clock', '{"dlq_enabled": true, "dlq_retention": "5 days"}') \g /dev/null
select awa.enqueue_many('clock61', array['1', '2']::jsonb[], queue => 'tap/61/clock', max_attempts => 1) \g /dev/null
select awa.fail(receipt) from awa.claim('tap/61/clock') \g /dev/null
select awa.configure_queue('tap/61/clock', '{"dlq_enabled": false}') \g /dev/null
select awa.fail(receipt) from awa.claim('tap/61/clock') \g /dev/null
select is(awa.bulk_move_failed_to_dlq('tap/61/clock'), 1::bigint, 'a letter is as old as the clock of tests says, whichever way it came');
select is(awa.purge_dlq('tap/61/clock', older_than => '1 hour'), 0::bigint, 'none is old yet');
select awa.maintain() \g /dev/null
select pg_temp.figures_are('tap/61/clock', '0/0/0/2', 'so maintain deletes none');
select set_config('awa.now', (clock_timestamp() + interval '16 days')::text, true) \g /dev/null
select awa.maintain() \g /dev/null
select set_config('awa.now', '', true) \g /dev/null
select pg_temp.figures_are('tap/61/clock', '0/0/0/0', 'and once they are, maintain deletes them');

select is_empty('select * from awa.queue_terminal_live_counts where least(live_terminal_count, completed, failed, cancelled) < 0', 'no count is below zero');
select is_empty('select * from pg_temp.drift', 'no key drifts');
select is_empty('select * from awa.check()', 'the storage is sound after all of this');

select * from finish();
rollback;
