-- Transactions that keep one snapshot: they get correct rows or 40001, never a
-- second hand-out, a wrong answer or another error.
\ir sessions.psql
select pg_temp.forget('race/30') \g /dev/null
select plan(63);
select pg_temp.open(s) from unnest(array['rr', 'rc', 'ring']) as s \g /dev/null
-- Whatever others left undone.
select count(*) from awa.maintain() \g /dev/null

create function pg_temp.claiming (p_queue text, p_max integer) returns text
  language sql as $$
  select format('select c.args #>> ''{}'' from awa.claim(%L, %s) as c', p_queue, p_max)
$$;
create function pg_temp.adding (p_queue text, p_name text) returns text
  language sql as $$
  select format('select awa.enqueue(%L, to_jsonb(%L::text), queue => %L)', 'k', p_name, p_queue)
$$;
-- Begins at that level and takes the snapshot.
create function pg_temp.start (p_level text) returns text
  language sql as $$
  select pg_temp.tell('rr', 'begin isolation level ' || p_level) || pg_temp.run('rr', 'select txid_current_if_assigned()')
$$;
-- Jobs claimed by another session, as receipts.
create table pg_temp.held (name text, receipt awa.receipt);
create function pg_temp.hold (p_queue text, p_max integer) returns bigint
  language sql as $$
  insert into pg_temp.held
  select c.name, c.receipt from dblink('rc', format('select c.args #>> ''{}'', c.receipt from awa.claim(%L, %s) as c', p_queue, p_max)) as c (name text, receipt awa.receipt);
  select count(*) from pg_temp.held
$$;
-- Seals and prunes until everything older than this call has moved.
create function pg_temp.turn () returns text
  language plpgsql as $$
declare
  v_current bigint := (select max(generation) from awa.segment_rotations);
  v_answer  text;
begin
  -- Enough finished jobs for a few running ones to be stragglers.
  perform pg_temp.run('ring', format('select awa.enqueue_many(%L, array_fill(%L::jsonb, array[2000]), queue => %L)', 'k', '1', 'race/30/filler'));
  perform pg_temp.run('ring', format('select awa.complete_many(array_agg(c.receipt)) from awa.claim(%L, 10000) as c', 'race/30/filler'));
  v_answer := pg_temp.seal('ring', 'race/30/filler');
  while v_current > (select coalesce(max(generation), -1) from awa.segment_prunes) loop
    -- Busy while autovacuum looks at the segment.
    v_answer := pg_temp.run('ring', 'select awa.prune()');
    if v_answer not in ('pruned', 'busy') then
      return v_answer;
    end if;
  end loop;
  return 'turned';
end;
$$;
-- Whether a statement of rr gave one of the answers that are right.
create function pg_temp.one_of (p_answer text, variadic p_right text[]) returns text
  language sql as $$
  select case when p_answer is null and 'null' = any (p_right) or p_answer = any (p_right) then 'right' else format('%s', coalesce(p_answer, 'null')) end
$$;

-- Each level, the same story.
create function pg_temp.story (p_level text) returns setof text
  language plpgsql as $$
declare
  q text := 'race/30/' || p_level;
begin
  truncate pg_temp.held;

  -- Alone
  perform pg_temp.run('rc', pg_temp.adding(q, n)) from unnest(array['a', 'b', 'c']) as n;
  perform pg_temp.start(p_level);
  return next is(pg_temp.run('rr', pg_temp.claiming(q, 2)), 'a b', p_level || ': a claim of what its snapshot shows');
  return next is(pg_temp.run('rr', pg_temp.adding(q, 'own')) ~ '^\d+$', true, p_level || ': enqueues');
  return next is(pg_temp.run('rr', pg_temp.claiming(q, 10)), 'c own', p_level || ': claims the rest and its own job');
  return next is(pg_temp.tell('rr', 'commit'), 'ok', p_level || ': commits');
  return next is(pg_temp.run('rc', pg_temp.claiming(q, 10)), null, p_level || ': nothing is handed out twice');

  -- Another claimer after the snapshot, of the jobs it shows
  perform pg_temp.run('rc', pg_temp.adding(q, n)) from unnest(array['d', 'e', 'f']) as n;
  perform pg_temp.start(p_level);
  return next is(pg_temp.run('rc', pg_temp.claiming(q, 1)), 'd', p_level || ': another claimer is first');
  return next is(pg_temp.run('rr', pg_temp.claiming(q, 10)), '40001', p_level || ': a claim of jobs that another took since is refused with 40001');
  perform pg_temp.tell('rr', 'rollback');
  return next is(pg_temp.run('rc', pg_temp.claiming(q, 10)), 'e f', p_level || ': the others are still there');

  -- Another claimer after the snapshot, of jobs it does not show; own jobs
  perform pg_temp.start(p_level);
  perform pg_temp.run('rr', pg_temp.adding(q, 'mine'));
  perform pg_temp.run('rc', pg_temp.adding(q, 'unseen'));
  perform pg_temp.run('rc', pg_temp.claiming(q, 10));
  return next is(pg_temp.one_of(pg_temp.run('rr', pg_temp.claiming(q, 10)), 'mine', '40001'), 'right',
    p_level || ': its own job, or 40001, when another claimed meanwhile');
  perform pg_temp.tell('rr', 'rollback');

  -- A claimer that is still open
  perform pg_temp.run('rc', pg_temp.adding(q, n)) from unnest(array['g', 'h']) as n;
  perform pg_temp.tell('rc', 'begin'), pg_temp.run('rc', pg_temp.claiming(q, 1));
  perform pg_temp.start(p_level);
  -- It may wait or be refused at once, but what it sees is the past.
  perform pg_temp.waits('rr', pg_temp.claiming(q, 10));
  perform pg_temp.tell('rc', 'commit');
  return next is(pg_temp.answer('rr'), '40001', p_level || ': beside an open claimer a claim ends in 40001');
  perform pg_temp.tell('rr', 'rollback');
  return next is(pg_temp.run('rc', pg_temp.claiming(q, 10)), 'h', p_level || ': the job is still there');

  -- Finishers
  perform pg_temp.run('rc', pg_temp.adding(q, n)) from unnest(array['i', 'j', 'k', 'l']) as n;
  perform pg_temp.hold(q, 4);
  perform pg_temp.start(p_level);
  return next is(pg_temp.run('rr', (select format('select awa.complete(%L::awa.receipt)', receipt) from pg_temp.held where name = 'i')), 'true',
    p_level || ': completes what its snapshot shows');
  return next is(pg_temp.tell('rr', 'commit'), 'ok', p_level || ': and commits');
  perform pg_temp.start(p_level);
  perform pg_temp.run('rc', (select format('select awa.complete(%L::awa.receipt)', receipt) from pg_temp.held where name = 'j'));
  return next is(pg_temp.one_of(pg_temp.run('rr', (select format('select awa.complete(%L::awa.receipt)', receipt) from pg_temp.held where name = 'j')), '40001', 'false'), 'right',
    p_level || ': a job that another finished since is stale or 40001');
  perform pg_temp.tell('rr', 'rollback');
  perform pg_temp.start(p_level);
  perform pg_temp.run('rc', (select format('select awa.complete(%L::awa.receipt)', receipt) from pg_temp.held where name = 'k'));
  return next is(pg_temp.one_of(pg_temp.run('rr', (select format('select awa.complete_many(array[%L]::awa.receipt[])', receipt) from pg_temp.held where name = 'l')), '40001', 'null'), 'right',
    p_level || ': a batch mate of it is done, or 40001');
  perform pg_temp.tell('rr', 'rollback');

  -- A receipt of a claim that its snapshot does not show
  perform pg_temp.start(p_level);
  perform pg_temp.run('rc', pg_temp.adding(q, 'm')), pg_temp.hold(q, 1);
  return next is(pg_temp.one_of(pg_temp.run('rr', (select format('select awa.complete(%L::awa.receipt)', receipt) from pg_temp.held where name = 'm')), '40001', 'true'), 'right',
    p_level || ': a good receipt of a later claim is not called stale');
  perform pg_temp.tell('rr', 'rollback');
  perform pg_temp.start(p_level);
  perform pg_temp.run('rc', pg_temp.adding(q, 'o')), pg_temp.hold(q, 1);
  return next is(pg_temp.one_of(pg_temp.run('rr', (select format('select awa.fail(%L::awa.receipt, %L)', receipt, 'e') from pg_temp.held where name = 'o')), '40001', 'retryable'), 'right',
    p_level || ': nor by fail');
  perform pg_temp.tell('rr', 'rollback');
  perform pg_temp.run('rc', (select format('select awa.complete_many(%L::awa.receipt[])', array_agg(receipt)) from pg_temp.held));

  -- After a rotation
  perform pg_temp.start(p_level);
  perform pg_temp.run('rc', pg_temp.adding(q, 'p'));
  return next is(pg_temp.seal('ring', 'race/30/filler'), 'rotated', p_level || ': the ring moves on');
  return next is(pg_temp.run('rr', pg_temp.claiming(q, 10)), '40001', p_level || ': a claim in an old snapshot is refused with 40001');
  perform pg_temp.tell('rr', 'rollback');
  return next is(pg_temp.run('rc', pg_temp.claiming(q, 10)), 'p', p_level || ': nothing is lost by that');

  perform pg_temp.start(p_level);
  return next is(pg_temp.seal('ring', 'race/30/filler'), 'rotated', p_level || ': it moves again');
  return next is(pg_temp.run('rr', pg_temp.adding(q, 'late')) ~ '^\d+$', true, p_level || ': a producer in an old snapshot is not refused');
  return next is(pg_temp.tell('rr', 'commit'), 'ok', p_level || ': and commits');
  perform pg_temp.run('rc', 'select task from awa.maintain()');
  return next is(pg_temp.run('rc', pg_temp.claiming(q, 10)), 'late', p_level || ': its job is handed out after maintain');

  -- After a prune
  perform pg_temp.run('rc', $sql$
    select awa.complete_many(array_agg(row(c.ready_slot, c.batch_id, j, 1)::awa.receipt))
    from awa.claims as c join awa.queue_lanes as l on l.lane = c.lane and l.queue like 'race/30%', unnest(c.job_ids) as j $sql$);
  truncate pg_temp.held;
  perform pg_temp.run('rc', pg_temp.adding(q, n)) from unnest(array['1', '2', '3']) as n;
  perform pg_temp.hold(q, 3);
  perform pg_temp.start(p_level);
  return next is(pg_temp.turn(), 'turned', p_level || ': the segment of three running jobs is pruned');
  return next is(pg_temp.one_of(pg_temp.run('rr', (select format('select awa.complete(%L::awa.receipt)', receipt) from pg_temp.held where name = '1')), '40001', 'true'), 'right',
    p_level || ': their receipts are not called stale in an old snapshot');
  perform pg_temp.tell('rr', 'rollback');
  perform pg_temp.start(p_level);
  perform pg_temp.run('rc', (select format('select awa.complete(%L::awa.receipt)', receipt) from pg_temp.held where name = '1'));
  return next is(pg_temp.run('rr', 'select max(generation) > 0 from awa.segment_rotations'), 'true', p_level || ': a new snapshot');
  return next is(pg_temp.run('rr', (select format('select awa.fail(%L::awa.receipt, %L)', receipt, 'e') from pg_temp.held where name = '2')) in ('retryable', '40001'), true,
    p_level || ': serves them');
  perform pg_temp.tell('rr', 'rollback');
  return next is(pg_temp.run('rc', (select format('select awa.complete_many(%L::awa.receipt[])', array_agg(receipt)) from pg_temp.held where name <> '1')), null,
    p_level || ': and they can be finished');
  return next is_empty('select * from awa.check()', p_level || ': the storage is sound');
end;
$$;

select * from pg_temp.story('repeatable read');
select * from pg_temp.story('serializable');

-- A rotation that rolled back does not lock anybody out for good.

select pg_temp.run('rc', pg_temp.adding('race/30/undone', 'a')) \g /dev/null
begin;
select awa.rotate() \g /dev/null
rollback;
select pg_temp.start('repeatable read') \g /dev/null
select is(pg_temp.one_of(pg_temp.run('rr', pg_temp.claiming('race/30/undone', 1)), 'a', '40001'), 'right', 'after a rotation that rolled back a claim is served, or 40001');
select pg_temp.tell('rr', 'rollback') \g /dev/null
select pg_temp.run('rc', 'select task from awa.maintain()') \g /dev/null
select pg_temp.start('repeatable read') \g /dev/null
select is(pg_temp.run('rr', pg_temp.claiming('race/30/undone', 1)), 'a', 'after the next maintain it is served');
select pg_temp.tell('rr', 'rollback') \g /dev/null

select pg_temp.forget('race/30') \g /dev/null
select is_empty('select * from awa.check()', 'the storage is sound after all of this');
select * from finish();
