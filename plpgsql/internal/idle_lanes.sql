-- Lanes where nothing waits, and nobody claimed since a rotation. A claim over several lanes
-- recognises an empty lane by a cursor in the current segment, and searches the others anew
-- each time. So the cursors of these move up to now, once per rotation.
--
-- The newest cursor was read while holding the lane's lock, and no job that the snapshot shows
-- waits, so all that it shows counts as consumed. Its xmin is not below a number that some
-- claim drew after it had read the ring, so whatever comes later is in that claim's segment or
-- newer (ADR 0001). This transaction's own number is not good enough: it may have been drawn
-- before a rotation.
create or replace function {{ .schema }}._move_idle_lanes (p_max integer)
  returns bigint
  language plpgsql
  volatile
  set enable_seqscan = off
  -- The newest cursor is the first of its index, not one of all.
  set enable_bitmapscan = off
  set enable_sort = off
as $$
declare
  v_ring  segment_rotations;
  v_from  bigint := ((random() - 0.5) * 18446744073709551615)::bigint;
  v_floor xid8;
  v_lanes bigint[];
  v_snap  pg_snapshot;
  v_moved bigint;
begin
  select r.* into v_ring from segment_rotations as r order by r.generation desc limit 1;
  -- A hundred or two at a time, from a random place, since a queue's lanes are neighbours, and
  -- lanes that cannot move must not keep others from moving.
  select (array_agg(u.floor order by u.floor) filter (where u.floor is not null))[1],
    (array_agg(u.lane order by random())
      filter (where u.base is distinct from v_ring.generation
        and exists (select from queue_lanes as o where o.queue = u.queue and o.lane <> u.lane)))[1:p_max]
  into v_floor, v_lanes
  from (
    select l.lane, l.queue, k.base_segment as base,
      case v_ring.generation when k.base_segment then k.floor_xid when k.settled_segment then k.settled_xid end as floor
    from (
      (select q.lane, q.queue from queue_lanes as q where q.lane >= v_from order by q.lane limit 100)
      union
      (select q.lane, q.queue from queue_lanes as q where q.lane < v_from order by q.lane limit 100)
    ) as l
    left join lateral (
      select c.base_segment, c.floor_xid, c.settled_segment, c.settled_xid
      from lane_cursors as c
      where c.lane = l.lane and c.ready_slot = v_ring.slot
      order by c.generation desc
      limit 1
    ) as k on true
  ) as u;
  v_snap := _hide_own(pg_current_snapshot());
  if v_lanes is null or v_floor is null or v_floor > pg_snapshot_xmin(v_snap) then
    return 0::bigint;
  end if;

  v_lanes := array(select u.lane from unnest(v_lanes) as u (lane) except select h.lane from _lane_heads(v_lanes) as h);
  v_lanes := array(
    select u.lane from unnest(v_lanes) as u (lane)
    where case when exists (select from lane_cursors as c where c.lane = u.lane)
      then pg_try_advisory_xact_lock(_lock_class(1), _lane_key(u.lane)) end);
  if v_lanes = '{}' then
    return 0::bigint;
  end if;
  perform set_config('{{ .schema }}.lane', 'held', true);
  -- Before they are searched once more, now that nobody else moves them.
  v_snap := _hide_own(pg_current_snapshot());
  insert into lane_cursors (
    lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid, settled_segment, settled_xid,
    claimed_total, ready_slot, skips, drained, s_prev, s_cur)
  select c.lane, c.generation + 1, v_ring.generation, v_ring.generation, v_ring.generation, '0', -1, v_floor, null, null,
    c.claimed_total, v_ring.slot, greatest(c.skips - 1, 0), true, v_snap, v_snap
  from (select u.lane from unnest(v_lanes) as u (lane) except select h.lane from _lane_heads(v_lanes) as h) as u
  cross join lateral (
    select o.* from lane_cursors as o where o.lane = u.lane order by o.generation desc limit 1
  ) as c
  where c.base_segment < v_ring.generation;
  get diagnostics v_moved = row_count;
  return v_moved;
end;
$$;
