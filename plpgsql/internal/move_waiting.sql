-- Jobs that wait in a segment which is pruned go to a later one.

-- They keep their xid, and with it their place: a lane is read one segment after the other, each
-- by xid and id. So they go no farther than to the next segment that has rows of their lane, or
-- where a transaction from before a rotation is open that may have added some, or may be about to.
-- Nor do they go to a segment that this transaction opened, if there is another: until it commits,
-- others add to the one before, and what they add comes after these. Returns which segment that is
-- for each lane.
create or replace function {{ .schema }}._move_waiting (
  p_generation bigint, p_lanes bigint[], p_jobs bigint[], p_leases integer[], out lanes bigint[], out segments bigint[]
)
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_from smallint := (p_generation % {{ .segments }})::smallint;
  v_last bigint := (
    select coalesce(max(g.generation) filter (where g.generation > p_generation and g.xid is distinct from pg_current_xact_id()), max(g.generation))
    from segment_rotations as g);
  -- The segments that other transactions have added to, or wait to.
  v_used bigint[] := array(
    select distinct t.slot - 1
    from unnest(array[
{{- range $i := until (int .segments) }}{{ if $i }}, {{ end }}'{{ $.schema }}.ready_entries_{{ $i }}'::regclass{{ end }}]) with ordinality as t (name, slot)
    join pg_locks as k on k.relation = t.name
    where k.locktype = 'relation' and k.mode = 'RowExclusiveLock' and k.pid is distinct from pg_backend_pid()
      and k.database = (select d.oid from pg_database as d where d.datname = current_database()));
  -- The oldest of those that have read the ring, and may be about to add to the segment that was
  -- the newest for them. A number beyond the snapshot was drawn after the last rotation's.
  v_about xid8 := (
    select min(coalesce(x.xid, pg_snapshot_xmax(pg_current_snapshot())))
    from pg_locks as k
    join pg_locks as w on w.virtualtransaction = k.virtualtransaction and w.locktype = 'transactionid' and w.granted
    left join pg_snapshot_xip(pg_current_snapshot()) as x (xid) on x.xid::xid = w.transactionid
    where k.locktype = 'relation' and k.relation = '{{ .schema }}.segment_rotations'::regclass and k.pid is distinct from pg_backend_pid()
      and k.database = (select d.oid from pg_database as d where d.datname = current_database()));
begin
  select array_agg(l.lane), array_agg(coalesce((
      select s.generation
      from generate_series(p_generation + 1, v_last) as s (generation)
      where s.generation % {{ .segments }} = any (v_used)
        -- It missed a rotation that was committed only after it drew its number. The next one's is higher.
        or s.generation = v_last - 1 and v_about is not null
        or (select r.xid from segment_rotations as r where r.generation = s.generation + 2) > v_about
        or (select true from ready_entries as e where e.ready_slot = s.generation % {{ .segments }} and e.lane = l.lane and e.xid > '0' limit 1)
      order by s.generation
      limit 1), v_last))
  into lanes, segments
  from (select distinct u.lane from unnest(p_lanes) as u (lane)) as l;

  with moved as (
    insert into ready_entries (
      lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
      metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline)
    select r.lane, r.xid, r.job_id, r.run_at, r.created_at, r.run_lease, l.segment % {{ .segments }}, r.attempt, r.max_attempts, r.kind, r.args,
      r.metadata, r.tags, r.errors, r.progress, r.unique_key, r.unique_states, r.ordering_key, r.deadline
    from unnest(p_lanes, p_jobs, p_leases) as w (lane, job_id, run_lease)
    join unnest(lanes, segments) as l (lane, segment) on l.lane = w.lane
    cross join lateral (
      select e.* from ready_entries as e
      where e.ready_slot = v_from and e.job_id = w.job_id and e.run_lease = w.run_lease
      limit 1
    ) as r
    returning lane, xid, ready_slot
  ),
  head as materialized (
    select c.ready_slot, c.checkpoint, c.snapshot
    from (select distinct u.segment from unnest(segments) as u (segment)) as s
    cross join lateral (
      select n.* from checkpoint_snapshots as n where n.ready_slot = s.segment % {{ .segments }} order by n.checkpoint desc limit 1
    ) as c
  ),
  -- A snapshot that shows a row's xid says that the checkpoint has counted the row. The others
  -- are in the tail.
  missed as materialized (
    select m.ready_slot, m.lane, count(*) as jobs
    from moved as m
    join head as h on h.ready_slot = m.ready_slot
    where pg_visible_in_snapshot(m.xid, h.snapshot)
    group by m.ready_slot, m.lane
  ),
  dated as (
    insert into checkpoint_snapshots (checkpoint, ready_slot, source, snapshot)
    select h.checkpoint + 1, h.ready_slot, 'checkpoint', h.snapshot
    from head as h
    where exists (select from missed as m where m.ready_slot = h.ready_slot)
  )
  insert into terminal_count_checkpoints (
    lane, checkpoint, enqueued, closed, completed, failed, cancelled, scheduled, retryable, ready_slot)
  select m.lane, h.checkpoint + 1, coalesce(b.enqueued, 0) + m.jobs, coalesce(b.closed, 0), coalesce(b.completed, 0),
    coalesce(b.failed, 0), coalesce(b.cancelled, 0), coalesce(b.scheduled, 0), coalesce(b.retryable, 0), m.ready_slot
  from missed as m
  join head as h on h.ready_slot = m.ready_slot
  left join lateral (
    select n.* from terminal_count_checkpoints as n
    where n.ready_slot = m.ready_slot and n.lane = m.lane
    order by n.checkpoint desc
    limit 1
  ) as b on true;
end;
$$;

-- The windows to come find the moved jobs, since these read the whole ring from some segment on.
-- An open window ends with the segment that was the current one when it was opened: if it may show
-- a job that went farther, the lane's cursor moves with it, under the lane's lock. To the segment
-- that this transaction opened nobody reads until it commits: a claim of before would take for
-- consumed what it misses, so there is none meanwhile.
--
-- Others wait for these lanes until the caller commits.
create or replace function {{ .schema }}._extend_windows (p_generation bigint, p_current smallint, p_lanes bigint[], p_segments bigint[])
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_lane    bigint;
  v_segment bigint;
begin
  for v_lane, v_segment in
    select l.lane, l.segment
    from unnest(p_lanes, p_segments) as l (lane, segment)
    left join lateral (
      select o.drained, o.last_segment from lane_cursors as o where o.lane = l.lane order by o.generation desc limit 1
    ) as c on true
    where (not c.drained and c.last_segment < l.segment) is true
      or (select r.xid from segment_rotations as r where r.generation = l.segment) = pg_current_xact_id()
  loop
    if not pg_try_advisory_xact_lock(_lock_class(1), _lane_key(v_lane)) then
      raise lock_not_available;
    end if;
    perform set_config('{{ .schema }}.lane', 'held', true);
    -- Read again, now that nobody else moves it.
    insert into lane_cursors (
      lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid, settled_segment, settled_xid,
      claimed_total, ready_slot, skips, drained, s_prev, s_cur)
    select c.lane, c.generation + 1, m.segment, v_segment, c.base_segment,
      case when m.segment = c.segment then c.pos_xid else '0' end, case when m.segment = c.segment then c.pos_job_id else -1 end,
      c.floor_xid, c.settled_segment, c.settled_xid, c.claimed_total, p_current, c.skips, false, c.s_prev, c.s_cur
    from (select o.* from lane_cursors as o where o.lane = v_lane order by o.generation desc limit 1) as c
    cross join greatest(c.segment, p_generation + 1) as m (segment)
    where not c.drained and c.last_segment < v_segment;
  end loop;
end;
$$;
