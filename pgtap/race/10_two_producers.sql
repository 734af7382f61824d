-- Producers never wait for each other, nor anybody for them.
\ir sessions.psql
select pg_temp.forget('race/10') \g /dev/null
select plan(26);
select pg_temp.open(s) from unnest(array['a', 'b', 'c']) as s \g /dev/null

-- One new queue, two open producers

create temp table relations as select oid from pg_class where relnamespace not in (select oid from pg_namespace where nspname ~ '^pg_');
select is(pg_temp.tell('a', 'begin'), 'ok', 'a producer opens a transaction');
select matches(pg_temp.run('a', $$ select awa.enqueue('k', '"a1"', queue => 'race/10/new') $$), '^\d+$', 'and makes a queue that nobody knew');
select matches(pg_temp.run('b', $$ select awa.enqueue('k', '"b1"', queue => 'race/10/new') $$), '^\d+$', 'another producer of that queue does not wait');
select matches(pg_temp.run('b', $$ select awa.enqueue_many('k', array['"b2"']::jsonb[], queue => 'race/10/new') $$), '^{\d+}$', 'nor does a bulk');
select matches(pg_temp.run('b', $$ select awa.enqueue_many('[{"kind": "k", "args": "b3", "queue": "race/10/new"}]') $$), '^{\d+}$', 'nor one from JSON');
select is_empty(
  $$ select l.locktype, l.mode, l.relation::regclass from pg_locks as l join pg_temp.sessions as s on s.pid = l.pid and s.name = 'a'
     where not (l.locktype = 'relation' and l.mode in ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock'))
       and not (l.locktype in ('virtualxid', 'transactionid') and l.mode = 'ExclusiveLock') $$,
  'an open producer holds no lock that another producer, a claimer or a reader could wait for');
select is_empty($$ select c.oid::regclass from pg_class as c where c.relnamespace = 'awa'::regnamespace and c.oid not in (select oid from relations) $$,
  'a new queue is no new relation');
select is(pg_temp.run('c', $$ select c.args #>> '{}' from awa.claim('race/10/new', 10) as c $$), 'b1 b2 b3', 'a claimer gets what is committed, without waiting');
select is(pg_temp.tell('a', 'commit'), 'ok', 'the first producer commits');
select is(pg_temp.run('c', $$ select c.args #>> '{}' from awa.claim('race/10/new', 10) as c $$), 'a1', 'then its job is handed out');
select is(pg_temp.run('c', $$ select c.args #>> '{}' from awa.claim('race/10/new', 10) as c $$), null, 'once');
select results_eq($$ select available, running from awa.queue_counts('race/10/new') $$, 'values (0::bigint, 4::bigint)',
  'a lane that two producers registered at once counts once');

-- Two lanes in opposite order

select is(pg_temp.tell('a', 'begin') || pg_temp.tell('b', 'begin'), 'okok', 'two producers');
select matches(pg_temp.run('a', $$ select awa.enqueue('k', '"a"', queue => 'race/10/cross', priority => 1) $$), '^\d+$', 'one goes to the first lane');
select matches(pg_temp.run('b', $$ select awa.enqueue('k', '"b"', queue => 'race/10/cross', priority => 4) $$), '^\d+$', 'the other to the second');
select matches(pg_temp.run('a', $$ select awa.enqueue('k', '"a"', queue => 'race/10/cross', priority => 4) $$), '^\d+$', 'the one to the second');
select matches(pg_temp.run('b', $$ select awa.enqueue('k', '"b"', queue => 'race/10/cross', priority => 1) $$), '^\d+$', 'the other to the first: no deadlock');
select is(pg_temp.tell('b', 'commit') || pg_temp.tell('a', 'commit'), 'okok', 'both commit');
select is(pg_temp.run('c', $$ select c.priority || (c.args #>> '{}') from awa.claim('race/10/cross', 10) as c $$), '1a 1b 4a 4b',
  'all four are handed out, by priority and then by producer');

-- A producer that rolls back

select pg_temp.tell('a', 'begin'), pg_temp.run('a', $$ select awa.enqueue('k', queue => 'race/10/undone') $$),
  pg_temp.run('a', $$ select awa.enqueue('k', queue => 'race/10/undone', run_at => now() + interval '1 day') $$),
  pg_temp.run('a', $$ select awa.enqueue_many('k', array['1']::jsonb[], queue => 'race/10/undone') $$), pg_temp.tell('a', 'rollback') \g /dev/null
select is(pg_temp.run('c', $$ select c.args from awa.claim('race/10/undone', 10) as c $$), null, 'of a producer that rolled back nothing is handed out');
select results_eq($$ select available, scheduled from awa.queue_counts('race/10/undone') $$, 'values (0::bigint, 0::bigint)', 'nothing counts');
select is_empty($$ select * from awa.queue_lanes where queue = 'race/10/undone' $$, 'and the queue was never there');

-- An open producer and the ring

select awa.enqueue('k', queue => 'race/10/ring') \g /dev/null
select count(awa.complete(c.receipt)) from awa.claim('race/10/ring') as c \g /dev/null
select is(pg_temp.seal('b', 'race/10/filler'), 'rotated', 'a segment is sealed');
select pg_temp.tell('a', 'begin'), pg_temp.run('a', $$ select awa.enqueue('k', '"late"', queue => 'race/10/ring') $$) \g /dev/null
select is(pg_temp.seal('b', 'race/10/filler'), 'rotated', 'while a producer has the next one open, that is sealed too');
select pg_temp.tell('a', 'commit') \g /dev/null
select is(pg_temp.run('c', $$ select c.args #>> '{}' from awa.claim('race/10/ring', 10) as c $$), 'late', 'what it commits into a sealed segment is handed out');

select pg_temp.forget('race/10') \g /dev/null
select is_empty('select * from awa.check()', 'the storage is sound after all of this');
select * from finish();
