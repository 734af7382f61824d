-- Leases, slots, dependencies and follow-ups together: through a prune, in one
-- transaction, undone to a savepoint, after rebase.
begin;
select plan(38);
-- Alone: turns the ring.
do $$ begin perform pg_advisory_xact_lock(hashtext('awa pgtap')); end $$;
select awa.reset() \g /dev/null

\ir prune.psql
-- What the jobs of some queues are up to, by kind.
create function pg_temp.states (p_queues text) returns text
  language sql as $$
  select string_agg(j.kind || ' ' || j.state, ', ' order by j.id) from awa.jobs as j where j.queue like p_queues
$$;
-- Whether queue_counts tells what the rows of a queue are.
create function pg_temp.counted (p_queue text) returns boolean
  language sql as $$
  select (c.available, c.scheduled, c.retryable, c.running, c.waiting_external, c.completed, c.failed, c.cancelled)
    = (select count(*) filter (where j.state = 'available'), count(*) filter (where j.state = 'scheduled'),
         count(*) filter (where j.state = 'retryable'), count(*) filter (where j.state = 'running'),
         count(*) filter (where j.state = 'waiting_external'), count(*) filter (where j.state = 'completed'),
         count(*) filter (where j.state = 'failed'), count(*) filter (where j.state = 'cancelled')
       from awa.jobs as j where j.queue = p_queue)
  from awa.queue_counts(p_queue) as c
$$;
create function pg_temp.sound (p_title text) returns text
  language sql as $$ select is_empty('select * from awa.check()', p_title) $$;

-- Through a prune.
select awa.configure_queue('tap/87', '{"concurrency_limit": 1}') \g /dev/null
create temp table jobs (kind text, id bigint);
insert into jobs select 'leased', awa.enqueue('leased', queue => 'tap/87/l', unique_key => 'tap/87', unique_states => b'11111001');
create temp table got as select * from awa.claim('tap/87/l');
select awa.register_callback(g.receipt, '1 hour') as leased from got as g \gset
insert into jobs select 'running', awa.enqueue('running', queue => 'tap/87', concurrency_key => 'x');
insert into jobs select 'parked', awa.enqueue('parked', queue => 'tap/87', concurrency_key => 'x');
insert into got select * from awa.claim('tap/87', 9);
insert into jobs select 'waiting', awa.enqueue('waiting', queue => 'tap/87', concurrency_key => 'y');
insert into got select * from awa.claim('tap/87', 9);
select awa.register_callback(g.receipt, '1 hour') as waiting from got as g where g.kind = 'waiting' \gset
insert into jobs select 'after', awa.enqueue('after', queue => 'tap/87/a', after => array(
  select j.id from jobs as j where j.kind in ('leased', 'waiting') order by j.id));
insert into jobs select 'failing', awa.enqueue('failing', queue => 'tap/87/f', max_attempts => 1, follow_ups => '{"exhausted": [{"kind": "follows"}]}');
select awa.fail(c.receipt, 'boom') from awa.claim('tap/87/f') as c \g /dev/null
select awa.enqueue_many('rest', array_fill('1'::jsonb, array[400]), queue => 'tap/87/rest') \g /dev/null
select awa.complete_many(array(select c.receipt from awa.claim('tap/87/rest', 400) as c)) \g /dev/null
select is(awa.rotate() || ' ' || pg_temp.prune(), 'rotated pruned', 'a segment is pruned');
select results_eq('select relocated, carried from awa.segment_prunes', 'values (2::bigint, 1::bigint)', 'with an attempt, a job that waits and a failed one to keep');
select is(pg_temp.states('tap/87%'),
  'leased waiting_external, running running, parked scheduled, waiting waiting_external, after scheduled, failing failed, follows available',
  'nobody''s state changes');
select pg_temp.sound('the storage is sound');
select is((select count(*) from awa.claim('tap/87', 9)), 0::bigint, 'the slot of the relocated attempt is taken');
insert into jobs select 'second', awa.enqueue('second', queue => 'tap/87', concurrency_key => 'y');
select is((select count(*) from awa.claim('tap/87', 9)), 0::bigint, 'and that of the one that waits');
select is(awa.enqueue('other', queue => 'tap/87/l', unique_key => 'tap/87', unique_states => b'11111001'),
  (select j.id from jobs as j where j.kind = 'leased'), 'a waiting job has its unique key still');
select ok(awa.resume_callback(:'leased', '{"n": 1}'), 'it is resumed');
select results_eq('select s.callback_id, s.payload from got as g cross join awa.callback_status(g.receipt) as s where g.kind = ''leased''',
  $$ values (null::uuid, '{"n": 1}'::jsonb) $$, 'its worker is told by its old receipt');
select ok(awa.complete(g.receipt), 'and finishes by it') from got as g where g.kind = 'leased';
select ok(awa.complete_callback(:'waiting'), 'the other is answered');
select ok(awa.complete(g.receipt), 'the relocated attempt is finished') from got as g where g.kind = 'running';
select results_eq($$ select m.outcome, m.affected from awa.maintain() as m where m.task = 'dependents' $$,
  $$ values ('released', 1::bigint) $$, 'who came after them is released');
select bag_eq($$ select c.kind from awa.claim('tap/87', 9) as c $$, array['parked', 'second'], 'both slots are free');
select ok(awa.retry(j.id), 'the failed job is retried') from jobs as j where j.kind = 'failing';
select bag_eq($$ select c.kind, awa.fail(c.receipt, 'again')::text from awa.claim('tap/87/f', 9) as c $$,
  $$ values ('follows', 'retryable'), ('failing', 'failed') $$, 'fails again');
select is((select count(*) from awa.jobs as j where j.kind = 'follows'), 2::bigint, 'and is followed again');
select pg_temp.sound('the storage is sound in the end');
select is((select array_agg(q.queue) from (select distinct l.queue from awa.queue_lanes as l) as q where not pg_temp.counted(q.queue) and q.queue <> 'tap/87/rest'),
  null, 'and counts what is there');

-- One transaction, which this file is: wait and answer, follow, come after.
insert into jobs select 'own', awa.enqueue('own', queue => 'tap/87/o', follow_ups => '{"completed": [{"kind": "own-f"}]}');
select awa.register_callback(c.receipt, '1 hour') as own from awa.claim('tap/87/o') as c \gset
select ok(awa.complete_callback(:'own', '1'), 'its own job''s callback is answered');
insert into jobs select 'own-1', awa.enqueue('own-1', queue => 'tap/87/o');
insert into jobs select 'own-2', awa.enqueue('own-2', queue => 'tap/87/o', after => array[(select j.id from jobs as j where j.kind = 'own-1')]);
insert into jobs select 'own-3', awa.enqueue('own-3', queue => 'tap/87/o', after => array(select j.id from jobs as j where j.kind in ('own-1', 'own-2')));
select bag_eq($$ select c.kind, awa.complete(c.receipt) from awa.claim('tap/87/o', 9) as c $$, $$ values ('own-f', true), ('own-1', true) $$,
  'what follows is claimed at once');
select awa.maintain() \g /dev/null
select results_eq($$ select c.kind, awa.complete(c.receipt) from awa.claim('tap/87/o', 9) as c $$, $$ values ('own-2', true) $$, 'a pass releases the next');
select awa.maintain() \g /dev/null
select results_eq($$ select c.kind, awa.complete(c.receipt) from awa.claim('tap/87/o', 9) as c $$, $$ values ('own-3', true) $$, 'and the next pass the last');
select ok(pg_temp.counted('tap/87/o'), 'all are counted');

-- Undone: as if it had not been.
insert into jobs select 's1', awa.enqueue('s1', queue => 'tap/87/s', max_attempts => 1, concurrency_key => 'k', follow_ups => '{"completed": [{"kind": "sf"}], "exhausted": [{"kind": "sx"}]}');
insert into jobs select 's2', awa.enqueue('s2', queue => 'tap/87/s', concurrency_key => 'k');
insert into jobs select 's3', awa.enqueue('s3', queue => 'tap/87/s3', after => array[(select j.id from jobs as j where j.kind = 's1')]);
select awa.configure_queue('tap/87/s', '{"concurrency_limit": 1, "rate_limit": 1000}') \g /dev/null
savepoint s;
select is((select string_agg(c.kind, ' ') from awa.claim('tap/87/s', 9) as c), 's1', 'a claim that is undone');
rollback to savepoint s;
create temp table held as select * from awa.claim('tap/87/s', 9);
select is((select string_agg(h.kind, ' ') from held as h), 's1', 'is made again');
select awa.register_callback(h.receipt, '1 hour') as undone from held as h \gset
create function pg_temp.undone (p_call text) returns text
  language plpgsql as $$
declare v text;
begin
  begin
    execute 'select ' || p_call into v;
    raise exception using errcode = 'ZZ000';
  exception when sqlstate 'ZZ000' then null;
  end;
  return coalesce(v, 'null') || ': ' || pg_temp.states('tap/87/s%');
end;
$$;
select is(pg_temp.undone(c.call), c.answer || ': s1 waiting_external, s2 scheduled, s3 scheduled', c.call)
from (values
  (format('awa.complete_callback(%L)', :'undone'), 'true'),
  (format('awa.fail_callback(%L)', :'undone'), 'true'),
  (format('awa.retry_callback(%L)', :'undone'), 'true'),
  (format('awa.resume_callback(%L)', :'undone'), 'true'),
  (format('awa.fail((select h.receipt from held as h), %L)', 'e'), 'failed'),
  ('awa.snooze((select h.receipt from held as h), ''0'')', 'true'),
  ('awa.cancel((select h.job_id from held as h))', 'true'),
  ('awa.delete_job_compat((select h.job_id from held as h))', 'true'),
  ('(select count(*) from awa.maintain() as m where m.task = ''dependents'')', '0')) as c (call, answer);
select awa.complete(h.receipt) from held as h \g /dev/null
select awa.maintain() \g /dev/null
select is(pg_temp.states('tap/87/s%'), 's1 completed, s2 scheduled, s3 available, sf available', 'what is done at last is done once');

-- After a copy to another cluster.
select awa.enqueue('late', queue => 'tap/87/s3', after => array[(select j.id from awa.jobs as j where j.kind = 's2')]) > 0 \g /dev/null
select awa.rebase() \g /dev/null
select awa.complete(c.receipt) from awa.claim('tap/87/s', 9) as c \g /dev/null
select awa.maintain() \g /dev/null
select is(pg_temp.states('tap/87/s%'), 's1 completed, s2 completed, s3 available, sf completed, late available', 'parked jobs and dependencies go on after rebase');
select pg_temp.sound('and the storage is sound');

select * from finish();
rollback;
