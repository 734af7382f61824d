-- The ring over committed rows: windows, cursors, stragglers and open
-- transactions across rotations and prunes.
\ir sessions.psql
select pg_temp.forget('race/40') \g /dev/null
select plan(81);
select pg_temp.open(s) from unnest(array['a', 'b', 'd', 'ring']) as s \g /dev/null
select count(*) as segments from pg_inherits where inhparent = 'awa.ready_entries'::regclass \gset

create function pg_temp.adding (p_queue text, p_name text) returns text
  language sql as $$
  select format('select awa.enqueue(%L, to_jsonb(%L::text), queue => %L)', 'k', p_name, p_queue)
$$;
create function pg_temp.claim (p_queue text, p_max integer default 100) returns text
  language sql as $$
  select pg_temp.run('d', format('select c.args #>> ''{}'' from awa.claim(%L, %s) as c', p_queue, p_max))
$$;
-- Seals the current segment once it holds finished work.
create function pg_temp.rotate (p_jobs integer default 1) returns text
  language sql as $$
  select pg_temp.run('ring', format('select awa.enqueue_many(%L, array_fill(%L::jsonb, array[%s]), queue => %L)', 'k', '1', p_jobs, 'race/40/filler'));
  select pg_temp.run('ring', format('select awa.complete_many(array_agg(c.receipt)) from awa.claim(%L, 10000) as c', 'race/40/filler'));
  select pg_temp.seal('ring', 'race/40/filler')
$$;
-- Busy while autovacuum looks at the segment; p_patience bounds that.
create function pg_temp.prune (p_patience integer default 100) returns text
  language plpgsql as $$
declare
  v_answer text;
begin
  for i in 1 .. p_patience loop
    v_answer := pg_temp.run('ring', 'select awa.prune()');
    exit when v_answer <> 'busy';
  end loop;
  return v_answer;
end;
$$;
create function pg_temp.settle () returns text
  language plpgsql as $$
declare
  v_answer text;
begin
  loop
    v_answer := pg_temp.prune();
    exit when v_answer <> 'pruned';
  end loop;
  return v_answer;
end;
$$;
create function pg_temp.turn (p_times integer) returns text
  language plpgsql as $$
declare
  v_answers text[] := '{}';
begin
  for i in 1 .. p_times loop
    v_answers := v_answers || pg_temp.rotate(400) || pg_temp.settle();
  end loop;
  return (select string_agg(distinct a, ' ') from unnest(v_answers) as a);
end;
$$;
create function pg_temp.figures (p_queue text) returns text
  language sql as $$
  select concat_ws(' ', available, running, completed, failed, pruned_terminal) from awa.queue_counts(p_queue)
$$;

select is(pg_temp.turn(2), 'empty rotated', 'the ring turns');

-- A lane that is idle while the ring turns

select pg_temp.run('a', pg_temp.adding('race/40/idle', n)) from unnest(array['i1', 'i2', 'i3']) as n \g /dev/null
create temp table idle as select c.args #>> '{}' as name, c.receipt from awa.claim('race/40/idle', 3) as c;
select count(awa.complete(receipt)) from idle \g /dev/null
select is(pg_temp.figures('race/40/idle'), '0 0 3 0 0', 'three jobs done');
select is(pg_temp.turn(2 * :segments), 'empty rotated', 'the whole ring turns twice');
select is(pg_temp.figures('race/40/idle'), '0 0 0 0 3', 'they are history''s totals now');
select is(pg_temp.claim('race/40/idle'), null, 'none of them comes back');
select pg_temp.run('a', pg_temp.adding('race/40/idle', 'i4')) \g /dev/null
select is(pg_temp.claim('race/40/idle'), 'i4', 'the lane goes on where it was');
select is(pg_temp.claim('race/40/idle'), null, 'once');
select is_empty('select * from awa.check()', 'the storage is sound');

-- A lane that nobody has claimed from while the ring wants to turn

select pg_temp.run('a', pg_temp.adding('race/40/new', n)) from unnest(array['n1', 'n2']) as n \g /dev/null
select is(pg_temp.rotate(), 'rotated', 'a segment with two waiting jobs is sealed');
select pg_temp.run('a', pg_temp.adding('race/40/new', 'n3')) \g /dev/null
select is(pg_temp.claim('race/40/new', 1), 'n1', 'jobs are claimed across segments, in order');
select is(pg_temp.rotate(), 'rotated', 'another turn');
select pg_temp.run('a', pg_temp.adding('race/40/new', 'n4')) \g /dev/null
select is(pg_temp.claim('race/40/new', 2), 'n2 n3', 'and another claim');
select is(pg_temp.claim('race/40/new', 2), 'n4', 'to the last');
select is(pg_temp.claim('race/40/new', 2), null, 'once');

-- A waiting remainder moves to a later segment and keeps its place in the lane

select pg_temp.run('a', 'select awa.enqueue_many(''k'', (select array_agg(to_jsonb(n)) from generate_series(1, 400) as n), queue => ''race/40/rest'')') \g /dev/null
create temp table rest as select (c.args #>> '{}')::integer as n, c.receipt from awa.claim('race/40/rest', 398) as c;
select pg_temp.run('a', (select format('select awa.complete_many(%L::awa.receipt[])', array_agg(receipt)) from rest where n <> 17)) \g /dev/null
select is(pg_temp.rotate(), 'rotated', 'a segment with one running and two waiting jobs of 400 is sealed');
select pg_temp.run('a', pg_temp.adding('race/40/rest', 'after')) \g /dev/null
create temp table sealed as select max(generation) - 1 as generation from awa.segment_rotations;
select is(pg_temp.run('d', $$ select awa.complete_many(array_agg(row(c.ready_slot, c.batch_id, j, 1)::awa.receipt)) from awa.claims as c
    join (select distinct lane, queue from awa.queue_lanes) as l on l.lane = c.lane and l.queue in ('race/40/new', 'race/40/idle'), unnest(c.job_ids) as j $$), null, 'others are finished');
select pg_temp.settle() \g /dev/null
select ok((select generation from sealed) <= (select max(generation) from awa.segment_prunes), 'it is pruned');
select is(pg_temp.figures('race/40/rest'), '3 1 0 0 397', 'no job of it is lost');
select is_empty('select * from awa.check()', 'the storage is sound');
select is(pg_temp.claim('race/40/rest'), '399 400 after', 'the remainder is handed out, before what came after it');
select is(pg_temp.claim('race/40/rest'), null, 'once');
select is(pg_temp.run('b', (select format('select awa.complete(%L::awa.receipt)', receipt) from rest where n = 17)), 'true', 'the running one''s receipt is good');
select is(pg_temp.run('b', (select format('select awa.complete(%L::awa.receipt)', receipt) from rest where n = 17)), 'false', 'once');

-- Lanes that nobody works: one with an open window, one whose window is drained, one without a cursor

create temp table left_alone as select unnest(array['race/40/open window', 'race/40/drained', 'race/40/untouched']) as queue;
select pg_temp.run('a', pg_temp.adding(queue, n)) from left_alone, unnest(array['l1', 'l2', 'l3']) as n \g /dev/null
select is(pg_temp.claim('race/40/open window', 1), 'l1', 'one of three jobs is claimed');
select is(pg_temp.claim('race/40/drained'), 'l1 l2 l3', 'in another queue all');
select is(pg_temp.claim('race/40/drained'), null, 'and no other job is there');
select is(pg_temp.rotate(1200), 'rotated', 'the segment is sealed');
select pg_temp.run('a', pg_temp.adding(queue, n)) from left_alone, unnest(array['l4', 'l5', 'l6']) as n \g /dev/null
-- Its counters are in a checkpoint already, to which the jobs that are moved add.
select pg_temp.run('ring', 'select awa.checkpoint_terminal_counters()') \g /dev/null
select is(pg_temp.settle(), 'empty', 'and pruned, once three more jobs came');
select is_empty('select * from awa.check()', 'the storage is sound');
select is_empty('select * from awa.rebuild_terminal_counters()', 'and its counters are right');
select is(pg_temp.figures('race/40/open window'), '5 1 0 0 0', 'no job is lost');
select is(pg_temp.claim('race/40/open window', 2), 'l2 l3', 'the jobs are claimed in their order');
select is(pg_temp.claim('race/40/open window', 9), 'l4 l5 l6', 'to the last');
select is(pg_temp.claim('race/40/drained', 2), 'l4 l5', 'in the other queue');
select is(pg_temp.claim('race/40/drained'), 'l6', 'as well');
select pg_temp.turn(2 * :segments) \g /dev/null
select is(pg_temp.claim('race/40/untouched', 4), 'l1 l2 l3 l4', 'and, the ring having turned twice, in the one that nobody has ever worked');
select is(pg_temp.claim('race/40/untouched'), 'l5 l6', 'all of them');
select is_empty('select * from awa.check()', 'the storage is sound');
select pg_temp.run('d', $$ select awa.complete_many(array_agg(row(c.ready_slot, c.batch_id, j, 1)::awa.receipt)) from awa.claims as c
    join (select distinct lane, queue from awa.queue_lanes) as l on l.lane = c.lane and l.queue like 'race/40/%', unnest(c.job_ids) as j $$) \g /dev/null
select is(pg_temp.settle(), 'empty', 'once they are finished the ring empties');

-- A queue that is left alone with more jobs than prune moves at any time

create function pg_temp.fill (p_jobs integer) returns text
  language sql as $$
  select pg_temp.run('ring', format('select awa.enqueue_many(%L, array_fill(%L::jsonb, array[%s]), queue => %L)', 'k', '1', p_jobs, 'race/40/filler'));
  select pg_temp.run('ring', format('select awa.complete_many(array_agg(c.receipt)) from awa.claim(%L, 10000) as c', 'race/40/filler'));
  select pg_temp.run('ring', 'select awa.checkpoint_terminal_counters()');
$$;
update awa.storage_settings set straggler_limit = 3, segment_max_age = '0';
select pg_temp.run('a', 'select awa.enqueue_many(''k'', (select array_agg(to_jsonb(n)) from generate_series(1, 22) as n), queue => ''race/40/asleep'')') \g /dev/null
select is(pg_temp.claim('race/40/asleep', 2), '1 2', 'two of 22 jobs are claimed');
select pg_temp.run('d', 'select awa.pause_queue(''race/40/asleep'')') \g /dev/null
select is((select string_agg(distinct pg_temp.run('ring', 'select awa.rotate()'), ' ') from generate_series(2, :segments) as n where pg_temp.fill(1) is not null), 'rotated', 'the ring fills up');
select is(pg_temp.prune(), 'blocked', 'nobody pays for moving 22 jobs');
select pg_temp.fill(10) \g /dev/null
select is(pg_temp.run('ring', 'select awa.rotate()'), 'blocked', 'until no slot is left');
select is(pg_temp.prune(), 'blocked', 'nor do a few jobs of others');
select pg_temp.fill(20) \g /dev/null
update awa.storage_settings set segment_max_age = '1 day';
select is(pg_temp.prune(), 'blocked', 'nor do many while somebody works there');
update awa.storage_settings set segment_max_age = '0';
select pg_temp.run('d', 'select awa.resume_queue(''race/40/asleep'')') \g /dev/null
select pg_temp.tell('d', format('set awa.now = %L', now() + interval '1 day')) \g /dev/null
select is(pg_temp.claim('race/40/asleep', 2), '3 4', 'two more are claimed, by a clock that is set back later');
select pg_temp.tell('d', 'reset awa.now') \g /dev/null
select is(pg_temp.prune(), 'blocked', 'nor while more run than are moved');
select pg_temp.run('d', 'select awa.pause_queue(''race/40/asleep'')') \g /dev/null
select pg_temp.run('d', $$ select awa.complete_many(array_agg(row(c.ready_slot, c.batch_id, j, 1)::awa.receipt)) from awa.claims as c
    join (select distinct lane, queue from awa.queue_lanes) as l on l.lane = c.lane and l.queue = 'race/40/asleep', unnest(c.job_ids) as j $$) \g /dev/null
select is(pg_temp.prune(), 'pruned', 'otherwise they do');
select is(pg_temp.rotate(), 'rotated', 'and the ring goes on');
select is(pg_temp.figures('race/40/asleep'), '18 0 0 0 4', 'no job is lost');
select pg_temp.run('d', 'select awa.resume_queue(''race/40/asleep'')') \g /dev/null
select is(pg_temp.claim('race/40/asleep'), (select string_agg(n::text, ' ' order by n) from generate_series(5, 22) as n), 'nor its place');
select is_empty('select * from awa.check()', 'the storage is sound');
update awa.storage_settings set straggler_limit = default, segment_max_age = default;
select pg_temp.run('d', $$ select awa.complete_many(array_agg(row(c.ready_slot, c.batch_id, j, 1)::awa.receipt)) from awa.claims as c
    join (select distinct lane, queue from awa.queue_lanes) as l on l.lane = c.lane and l.queue = 'race/40/asleep', unnest(c.job_ids) as j $$) \g /dev/null
select is(pg_temp.settle(), 'empty', 'once they are finished the ring empties');

-- An open producer in a segment that is sealed

select pg_temp.tell('a', 'begin'), pg_temp.run('a', pg_temp.adding('race/40/open', 'o1')) \g /dev/null
select pg_temp.run('b', pg_temp.adding('race/40/open', 'o2')) \g /dev/null
select is(pg_temp.claim('race/40/open'), 'o2', 'a producer is open while another''s job is claimed');
create temp table with_open as select max(generation) as generation from awa.segment_rotations;
select is(pg_temp.rotate(400), 'rotated', 'its segment is sealed');
select is(pg_temp.rotate(400), 'rotated', 'the ring goes on');
select is((select pg_temp.prune(1) from generate_series(1, :segments) as n order by n desc limit 1) = 'pruned', false, 'its segment stops the prune');
select ok((select generation from with_open) > (select max(generation) from awa.segment_prunes), 'as an open transaction may still write there');
select pg_temp.run('a', pg_temp.adding('race/40/open', 'o3')) \g /dev/null
select is(pg_temp.tell('a', 'commit'), 'ok', 'the producer commits');
select is(pg_temp.claim('race/40/open'), 'o1 o3', 'both of its jobs are handed out');
select is(pg_temp.claim('race/40/open'), null, 'once');
select is_empty('select * from awa.check()', 'the storage is sound');

-- A reader in the way

select pg_temp.run('d', $$ select awa.complete_many(array_agg(row(c.ready_slot, c.batch_id, j, 1)::awa.receipt)) from awa.claims as c
    join (select distinct lane, queue from awa.queue_lanes) as l on l.lane = c.lane and l.queue like 'race/40/%', unnest(c.job_ids) as j $$) \g /dev/null
select is(pg_temp.settle(), 'empty', 'every sealed segment is pruned');
select is(pg_temp.rotate(), 'rotated', 'one more is sealed');
select pg_temp.tell('a', 'begin'), pg_temp.run('a', 'select count(*) from awa.done_entries') \g /dev/null
select is(pg_temp.prune(1), 'busy', 'a transaction that has read history holds prune off; it does not wait for long');
select is(pg_temp.run('b', pg_temp.adding('race/40/open', 'o4')) ~ '^\d+$', true, 'producers are not held off');
select is(pg_temp.claim('race/40/open'), 'o4', 'nor are claimers');
select pg_temp.tell('a', 'commit') \g /dev/null
select is(pg_temp.prune(), 'pruned', 'once it has ended the segment is pruned');

-- Poison that was committed does not reach the rollups

select pg_temp.run('a', 'select awa.enqueue_many(''k'', array_fill(''1''::jsonb, array[30]), queue => ''race/40/poison'')') \g /dev/null
select pg_temp.run('a', $$ select awa.complete_many(array_agg(c.receipt)) from awa.claim('race/40/poison', 30) as c $$) \g /dev/null
select awa.checkpoint_terminal_counters() \g /dev/null
update awa.terminal_count_checkpoints as c set completed = c.completed + 1000 from awa.queue_lanes as l where l.lane = c.lane and l.queue = 'race/40/poison';
select is((select completed from awa.queue_counts('race/40/poison')), 1030::bigint, 'a counter is poisoned');
select pg_temp.run('d', $$ select awa.complete_many(array_agg(row(c.ready_slot, c.batch_id, j, 1)::awa.receipt)) from awa.claims as c
    join awa.queue_lanes as l on l.lane = c.lane and l.queue = 'race/40/open', unnest(c.job_ids) as j $$) \g /dev/null
select is(pg_temp.turn(1), 'empty rotated', 'its segment is sealed and pruned');
select results_eq($$ select pruned_terminal_count, pruned_completed_count from awa.queue_terminal_rollups where queue = 'race/40/poison' $$,
  'values (30::bigint, 30::bigint)', 'the rollup holds what history held');
select is(pg_temp.figures('race/40/poison'), '0 0 0 0 30', 'the poison is gone');

-- Lanes of one queue: which comes first, and which are drained

create function pg_temp.in_lane (p_name text, p_priority integer, p_waited interval default '0') returns text
  language sql as $$
  select format('select awa.enqueue(%L, to_jsonb(%L::text), queue => %L, priority => %s, run_at => now() - interval %L)',
    'k', p_name, 'race/40/lanes', p_priority, p_waited)
$$;
select pg_temp.run('b', pg_temp.in_lane('old', 4, '2 hours')), pg_temp.run('b', pg_temp.in_lane('first', 1)) \g /dev/null
select is(pg_temp.rotate(), 'rotated', 'four lanes, of which two have jobs of before a rotation');
select pg_temp.run('b', pg_temp.in_lane('new', 4)), pg_temp.run('b', pg_temp.in_lane('second', 1)) \g /dev/null
select is((select string_agg(pg_temp.claim('race/40/lanes', 1), ' ' order by i) from generate_series(1, 5) as i),
  'old first second new', 'a lane is as old as its first job, whatever came after a rotation');

select pg_temp.run('b', pg_temp.in_lane(n, 1)), pg_temp.claim('race/40/lanes') from unnest(array['x1', 'x2']) as n \g /dev/null
select pg_temp.tell('a', 'begin'), pg_temp.run('a', pg_temp.in_lane('late', 1)), pg_temp.run('b', pg_temp.in_lane('x3', 1)) \g /dev/null
select is(pg_temp.claim('race/40/lanes'), 'x3', 'a claim beside a producer');
select is(pg_temp.claim('race/40/lanes'), null, 'after which its lane is drained');
select pg_temp.tell('a', 'commit') \g /dev/null
select is(pg_temp.claim('race/40/lanes'), 'late', 'until that producer commits');

-- A failed prune leaves nothing half done

select is((select count(*) from awa.queue_terminal_rollups where pruned_terminal_count < 0), 0::bigint, 'no rollup is negative');
select is_empty('select * from awa.check()', 'the storage is sound after all of this');
select is_empty('select * from awa.rebuild_terminal_counters()', 'a rebuild finds nothing to heal');
select pg_temp.forget('race/40') \g /dev/null
select is_empty('select * from awa.check()', 'and after these queues have left');
select * from finish();
