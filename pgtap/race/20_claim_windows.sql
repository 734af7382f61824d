-- Windows: what commits late is handed out once, after what was there before.
\ir sessions.psql
select pg_temp.forget('race/20') \g /dev/null
select plan(56);
select pg_temp.open(s) from unnest(array['a', 'b', 'c', 'd']) as s \g /dev/null

create function pg_temp.enqueue (p_session text, p_name text, p_queue text default 'race/20', p_priority integer default 2) returns text
  language sql as $$
  select pg_temp.run(p_session, format('select awa.enqueue(%L, to_jsonb(%L::text), queue => %L, priority => %s)', 'k', p_name, p_queue, p_priority))
$$;
-- In a transaction of its own, as workers do.
create function pg_temp.claim (p_max integer, p_queue text default 'race/20', p_session text default 'd') returns text
  language sql as $$
  select pg_temp.run(p_session, format('select c.args #>> ''{}'' from awa.claim(%L, %s) as c', p_queue, p_max))
$$;

-- Committed by others: first in, first out

select pg_temp.enqueue('a', 'x' || n) from generate_series(1, 5) as n \g /dev/null
select is(pg_temp.claim(2), 'x1 x2', 'committed jobs are handed out in order');
select is(pg_temp.claim(2), 'x3 x4', 'across claims');
select is(pg_temp.claim(2), 'x5', 'to the last');
select is(pg_temp.claim(2), null, 'and no further');

-- With its deadline, and no null where there is nothing: one job that opens a window, the next one of it, and several

select pg_temp.run('a', $$ select awa.configure_queue('race/20/limit', '{"concurrency_limit": 1}') $$) \g /dev/null
select pg_temp.run('a', format('select awa.enqueue(''k'', queue => %L, deadline => ''1 hour'') from generate_series(1, 4)', q))
from unnest(array['race/20', 'race/20/limit']) as q \g /dev/null
select is(pg_temp.run('d', format('select (c.deadline_at - c.lease_expires_at, c.tags, c.metadata, c.errors, c.progress) from awa.claim(%L, %s, lease => ''10 minutes'') as c', q, n)),
  repeat('(00:50:00,{},{},{},) ', n - 1) || '(00:50:00,{},{},{},)', format('%s of %s: a deadline is counted from the claim, as the lease is', n, q))
from unnest(array['race/20', 'race/20/limit']) as q, unnest(array[1, 1, 2]) as n;

-- One producer stays open while another commits

select pg_temp.tell('a', 'begin'), pg_temp.enqueue('a', 'late1') \g /dev/null
select pg_temp.enqueue('b', 'early1'), pg_temp.enqueue('b', 'early2') \g /dev/null
select is(pg_temp.claim(10), 'early1 early2', 'an open producer does not hold back what others committed');
select is(pg_temp.claim(10), null, 'its own jobs are not seen');
select pg_temp.enqueue('b', 'early3') \g /dev/null
select is(pg_temp.claim(10), 'early3', 'later jobs pass it again');
select pg_temp.enqueue('a', 'late2') \g /dev/null
select is(pg_temp.tell('a', 'commit'), 'ok', 'when it commits');
select is(pg_temp.claim(10), 'late1 late2', 'its jobs are handed out, in order');
select is(pg_temp.claim(10), null, 'once');

-- Late jobs and new ones in one window, claimed one at a time

select pg_temp.tell('a', 'begin'), pg_temp.tell('b', 'begin') \g /dev/null
select pg_temp.enqueue('a', 'a1'), pg_temp.enqueue('b', 'b1'), pg_temp.enqueue('a', 'a2'), pg_temp.enqueue('b', 'b2') \g /dev/null
select pg_temp.enqueue('c', 'c1') \g /dev/null
select is(pg_temp.claim(10), 'c1', 'two open producers, and one that committed');
select pg_temp.tell('b', 'commit'), pg_temp.tell('a', 'commit') \g /dev/null
select pg_temp.enqueue('c', 'c2') \g /dev/null
select is(string_agg(coalesce(pg_temp.claim(1), 'none'), ' ' order by n), 'a1 a2 b1 b2 c2 none', 'one by one: by producer, each producer''s in order, what is new comes last')
from generate_series(1, 6) as n;

-- A window is half taken when more commits

select pg_temp.tell('a', 'begin'), pg_temp.enqueue('a', 'a3') \g /dev/null
select pg_temp.enqueue('c', 'c' || n) from generate_series(3, 6) as n \g /dev/null
select is(pg_temp.claim(2), 'c3 c4', 'half of a window');
select pg_temp.tell('a', 'commit') \g /dev/null
select is(pg_temp.claim(2), 'c5 c6', 'its rest comes first');
select is(pg_temp.claim(2), 'a3', 'what committed meanwhile comes with the next window');
select is(pg_temp.claim(2), null, 'once');

-- An hour of other traffic passes an open producer

select pg_temp.tell('a', 'begin'), pg_temp.enqueue('a', 'old') \g /dev/null
select is(string_agg(pg_temp.claim(10), ' ' order by n), string_agg('n' || n, ' ' order by n), 'many windows pass an open producer')
from generate_series(1, 30) as n, lateral pg_temp.enqueue('b', 'n' || n) as e where e is not null;
select pg_temp.tell('a', 'commit') \g /dev/null
select is(pg_temp.claim(10), 'old', 'its job is handed out in the end');
select is(pg_temp.claim(10), null, 'once');

-- Rollbacks and savepoints

select pg_temp.tell('a', 'begin'), pg_temp.enqueue('a', 'gone') \g /dev/null
select pg_temp.enqueue('b', 'stays') \g /dev/null
select is(pg_temp.claim(10), 'stays', 'while a producer is open');
select pg_temp.tell('a', 'rollback') \g /dev/null
select is(pg_temp.claim(10), null, 'what it rolls back is never handed out');
select pg_temp.tell('a', 'begin'), pg_temp.enqueue('a', 's1'), pg_temp.tell('a', 'savepoint s'), pg_temp.enqueue('a', 's2'),
  pg_temp.tell('a', 'rollback to s'), pg_temp.enqueue('a', 's3'), pg_temp.tell('a', 'savepoint t'), pg_temp.enqueue('a', 's4'), pg_temp.tell('a', 'release t') \g /dev/null
select pg_temp.enqueue('b', 'between') \g /dev/null
select is(pg_temp.claim(10), 'between', 'a producer with savepoints is open');
select pg_temp.tell('a', 'commit') \g /dev/null
select is(pg_temp.claim(10), 's1 s3 s4', 'of its savepoints only those that stayed are handed out');

-- A claimer that rolls back

select pg_temp.enqueue('b', 'r1'), pg_temp.enqueue('b', 'r2'), pg_temp.enqueue('b', 'r3') \g /dev/null
select pg_temp.tell('c', 'begin') \g /dev/null
select is(pg_temp.claim(2, p_session => 'c'), 'r1 r2', 'a claim');
select pg_temp.tell('c', 'rollback') \g /dev/null
select is(pg_temp.claim(10), 'r1 r2 r3', 'that rolls back gives its jobs back, in their places');
select is(pg_temp.claim(10), null, 'once');

-- Two claims in one transaction, and one that also enqueues

select pg_temp.enqueue('b', 't' || n) from generate_series(1, 4) as n \g /dev/null
select pg_temp.tell('c', 'begin') \g /dev/null
select is(pg_temp.claim(1, p_session => 'c'), 't1', 'first claim of a transaction');
select is(pg_temp.claim(2, p_session => 'c'), 't2 t3', 'second claim of that transaction');
select pg_temp.enqueue('c', 'own') \g /dev/null
select pg_temp.enqueue('b', 't5') \g /dev/null
select is(pg_temp.claim(10, p_session => 'c'), 't4 t5 own', 'third: what others committed, then what it enqueued itself');
select pg_temp.enqueue('c', 'more') \g /dev/null
select pg_temp.tell('c', 'commit') \g /dev/null
select is(pg_temp.claim(10), 'more', 'what it enqueued and did not claim is handed out to others, the rest is not');
select is(pg_temp.claim(10), null, 'once');

-- Own jobs and a savepoint that takes the claim back

select pg_temp.tell('c', 'begin'), pg_temp.enqueue('c', 'o1'), pg_temp.enqueue('c', 'o2'), pg_temp.tell('c', 'savepoint s') \g /dev/null
select is(pg_temp.claim(1, p_session => 'c'), 'o1', 'an own job claimed in a savepoint');
select pg_temp.tell('c', 'rollback to s'), pg_temp.tell('c', 'commit') \g /dev/null
select is(pg_temp.claim(10), 'o1 o2', 'that rolls back is there for others, in order');

-- Two sessions of which each is another's late producer

select pg_temp.tell('a', 'begin'), pg_temp.enqueue('a', 'p1'), pg_temp.tell('b', 'begin'), pg_temp.enqueue('b', 'q1') \g /dev/null
select is(pg_temp.claim(10), null, 'nothing is committed');
select pg_temp.tell('b', 'commit') \g /dev/null
select is(pg_temp.claim(10), 'q1', 'the later one commits first');
select pg_temp.tell('b', 'begin'), pg_temp.enqueue('b', 'q2') \g /dev/null
select pg_temp.tell('a', 'commit') \g /dev/null
select is(pg_temp.claim(10), 'p1', 'then the earlier one, while another is open');
select pg_temp.tell('b', 'commit') \g /dev/null
select is(pg_temp.claim(10), 'q2', 'then that');
select is(pg_temp.claim(10), null, 'each once');

-- Priorities

select pg_temp.enqueue('b', 'low' || n, p_priority => 4) from generate_series(1, 3) as n \g /dev/null
select pg_temp.enqueue('b', 'high' || n, p_priority => 1) from generate_series(1, 3) as n \g /dev/null
select pg_temp.tell('a', 'begin'), pg_temp.enqueue('a', 'urgent', p_priority => 1) \g /dev/null
select is(pg_temp.claim(4), 'high1 high2 high3 low1', 'committed jobs come by priority');
select pg_temp.tell('a', 'commit') \g /dev/null
select is(pg_temp.claim(10), 'urgent low2 low3', 'an urgent job that commits late overtakes');
select is(pg_temp.claim(10), null, 'then both lanes are empty');

-- An empty poll writes nothing

create function pg_temp.ledger () returns text
  language sql as $$
  select count(*) || ' ' || coalesce(max(c.generation), 0) from awa.lane_cursors as c join awa.queue_lanes as l on l.lane = c.lane where l.queue = 'race/20'
$$;
create temp table ledger as select pg_temp.ledger() as before;
select pg_temp.claim(10) from generate_series(1, 5) \g /dev/null
select is((select before from ledger), pg_temp.ledger(), 'an empty poll writes no cursor');
select is(pg_temp.run('d', $$ select count(*) || ' ' || (pg_current_xact_id_if_assigned() is null) from awa.claim('race/20', 10) $$), '0 true', 'nor anything else: its transaction has no id');

-- Claims and finishes of committed jobs, to the end

select is((select available from awa.queue_counts('race/20')), 0::bigint, 'nothing is left');
select is(pg_temp.run('d', $$ select awa.complete_many(array_agg(row(c.ready_slot, c.batch_id, j, 1)::awa.receipt)) from awa.claims as c
    join (select distinct lane, queue from awa.queue_lanes) as l on l.lane = c.lane and l.queue = 'race/20', unnest(c.job_ids) as j $$), null, 'all of them are finished');
select is((select running from awa.queue_counts('race/20')), 0::bigint, 'none runs');
select is_empty($$ select id from awa.done_entries where queue = 'race/20' group by id having count(*) > 1 $$, 'none was finished twice');
select is((select count(*) from awa.done_entries where queue = 'race/20'), (select completed from awa.queue_counts('race/20')), 'counters equal history');
select is_empty('select * from awa.check()', 'the storage is sound');
select pg_temp.forget('race/20') \g /dev/null
select is_empty('select * from awa.check()', 'and after these queues have left');
select * from finish();
