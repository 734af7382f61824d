-- Jobs are taken out of where they wait or run: deferred, leased, in their lanes, claimed.

-- Takes deferred jobs out, in the order of their ids, and parked ones off their list.
create or replace function {{ .schema }}._take_deferred (p_job_ids bigint[])
  returns setof {{ .schema }}.deferred_jobs
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_ids    bigint[];
  v_parked bigint[];
  v_lanes  bigint[];
  v_keys   text[];
begin
  -- No id at all is taken to imply whatever a partial index wants, and all of it is read.
  if p_job_ids = '{}' then
    return;
  end if;
  select array_agg(d.job_id), array_agg(d.job_id) filter (where d.parked), array_agg(d.lane) filter (where d.parked),
    array_agg(d.metadata ->> 'awa:concurrency_key') filter (where d.parked)
  into v_ids, v_parked, v_lanes, v_keys
  from (
    select e.job_id, e.lane, e.run_at = 'infinity' as parked, e.metadata
    from deferred_jobs as e
    where e.job_id = any (p_job_ids)
    order by e.job_id
    for update
  ) as d;
  if v_ids is null then
    return;
  end if;
  perform _forget_parked_of(v_lanes, v_keys, v_parked);
  return query delete from deferred_jobs as e where e.job_id = any (v_ids) returning e.*;
end;
$$;

-- Takes jobs out of the leases, in the order of their ids, and tells their workers why.
create or replace function {{ .schema }}._take_leased (p_job_ids bigint[], p_reason text)
  returns setof {{ .schema }}.leases
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  l leases;
begin
  for l in
    delete from leases as e
    where e.job_id = any (array(
      select h.job_id from leases as h where h.job_id = any (p_job_ids) order by h.job_id for update))
    returning e.*
  loop
    perform _notify_leased(l, p_reason);
    return next l;
  end loop;
end;
$$;

-- Closes the running attempts of jobs, in the ring, and tells their workers why. Returns
-- the jobs whose attempts it closed.
create or replace function {{ .schema }}._close_running (
  p_job_ids bigint[], p_outcome "char", p_reason text, p_errors jsonb default null
)
  returns bigint[]
  language plpgsql
  volatile
as $$
declare
  v_open   receipt[];
  v_closed receipt[];
begin
  select array_agg(row(l.ready_slot, l.batch_id, l.job_id, l.run_lease)::receipt) into v_open
  from _locate(p_job_ids) as l
  where l.batch_id is not null and l.outcome is null;
  if v_open is null then
    return array[]::bigint[];
  end if;
  v_closed := array(select c from _close_in_order(v_open, array_fill(p_outcome, array[cardinality(v_open)]), p_errors) as c);
  perform _notify_workers(v_closed, p_reason);
  return array(select c.job_id from unnest(v_closed) as c);
end;
$$;

-- Takes jobs that wait in their lanes before their turn and closes them, each
-- with p_outcome and its error of p_errors, if any. Lanes are met in the order
-- of their keys. Returns what it took; a job that no longer waits is not in it.
create or replace function {{ .schema }}._take_waiting (p_job_ids bigint[], p_outcome "char", p_errors jsonb default null)
  returns setof {{ .schema }}.receipt
  language plpgsql
  volatile
as $$
declare
  g record;
begin
  for g in
    select l.lane, l.own, array_agg(l.job_id) as job_ids
    from _locate(p_job_ids) as l
    where l.batch_id is null
    group by l.lane, l.own
    order by _lane_rank(l.lane), l.lane, l.own
  loop
    return query select t.* from _take_from_lane(g.lane, g.own, g.job_ids, p_outcome, p_errors) as t;
  end loop;
end;
$$;

-- One lane of _take_waiting: a claim of its own under the lane's lock, so that
-- it and a claimer exclude each other. Keeps the lock only if it took some.
create or replace function {{ .schema }}._take_from_lane (
  p_lane bigint, p_own boolean, p_job_ids bigint[], p_outcome "char", p_errors jsonb
)
  returns setof {{ .schema }}.receipt
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_now     timestamptz := _now();
  v_slots   smallint[];
  v_batches bigint[];
  v_ids     bigint[];
  v_leases  integer[];
begin
  if not p_own then
    if not pg_try_advisory_xact_lock(_lock_class(1), _lane_key(p_lane)) and not _await_lane(p_lane, true) then
      perform _serialization_failure(
        format('job %s: another session is claiming from its lane, and this one holds a later one', p_job_ids[1]));
    end if;
    if _snapshot_is_stale() then
      perform _stale_snapshot(format('job %s', p_job_ids[1]));
    end if;
  end if;
  select array_agg(l.ready_slot), array_agg(l.job_id), array_agg(l.run_lease)
  into v_slots, v_ids, v_leases
  from _locate(p_job_ids) as l
  where l.batch_id is null and l.lane = p_lane and l.own = p_own;
  if v_ids is null then
    raise exception using errcode = 'AW000', message = 'undo';
  end if;

  if p_own then
    -- This transaction's own: below every window, counted as _claim_own does.
    update ready_entries as e set xid = '0'
    from unnest(v_slots, v_ids, v_leases) as u (ready_slot, job_id, run_lease)
    where e.ready_slot = u.ready_slot and e.job_id = u.job_id and e.run_lease = u.run_lease;
    perform _count_bypassed(p_lane, u.ready_slot, count(*))
    from unnest(v_slots) as u (ready_slot)
    group by u.ready_slot;
  else
    if _keeps_snapshot() then
      perform _probe_cursor(p_lane, coalesce((
        select k.generation from lane_cursors as k where k.lane = p_lane order by k.generation desc limit 1), 0) + 1);
    end if;
    insert into ready_tombstones (job_id, run_lease, ready_slot)
    select u.job_id, u.run_lease, u.ready_slot from unnest(v_slots, v_ids, v_leases) as u (ready_slot, job_id, run_lease);
    insert into lane_cursors (
      lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid, settled_segment, settled_xid,
      claimed_total, ready_slot, skips, drained, s_prev, s_cur)
    select p_lane, coalesce(c.generation, 0) + 1,
      coalesce(c.segment, g.generation), coalesce(c.last_segment, g.generation),
      coalesce(c.base_segment, greatest(g.generation - {{ sub (int .segments) 1 }}, 0)),
      coalesce(c.pos_xid, '0'), coalesce(c.pos_job_id, -1), coalesce(c.floor_xid, '0'),
      c.settled_segment, c.settled_xid,
      coalesce(c.claimed_total, 0) + cardinality(v_ids), g.slot, 2,
      coalesce(c.drained, true), coalesce(c.s_prev, '1:1:'), coalesce(c.s_cur, '1:1:')
    from (select n.generation, n.slot from segment_rotations as n order by n.generation desc limit 1) as g
    left join (select k.* from lane_cursors as k where k.lane = p_lane order by k.generation desc limit 1) as c on true;
  end if;

  -- A lease that ends when it begins marks an attempt that never ran.
  with part as (
    select u.*, (row_number() over (partition by u.ready_slot order by u.job_id) - 1)
      / case when p_errors is null then 1000 else 50 end as part
    from unnest(v_slots, v_ids, v_leases) as u (ready_slot, job_id, run_lease)
  ),
  batch as materialized (
    select p.ready_slot, _batch_id(p.ready_slot, max(p.job_id * 16 + p.run_lease % 16), max(p.run_lease)) as batch_id,
      array_agg(p.job_id order by p.job_id) as job_ids,
      case when max(p.run_lease) > 1 then array_agg(p.run_lease order by p.job_id) end as run_leases
    from part as p
    group by p.ready_slot, p.part
  ),
  claimed as (
    insert into claims (batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, bypassed_by)
    select b.batch_id, p_lane, v_now, v_now, b.ready_slot, b.job_ids, b.run_leases,
      case when p_own then pg_current_xact_id() end
    from batch as b
  ),
  closed as (
    insert into attempt_outcomes (batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, errors)
    select b.batch_id, p_lane, pg_current_xact_id(), v_now, 0, cardinality(b.job_ids), b.ready_slot, p_outcome,
      _errors_of(b.job_ids, p_errors)
    from batch as b
  )
  select array_agg(b.ready_slot), array_agg(b.batch_id), array_agg(j.job_id), array_agg(coalesce(j.run_lease, 1))
  into v_slots, v_batches, v_ids, v_leases
  from batch as b
  cross join lateral unnest(b.job_ids, b.run_leases) as j (job_id, run_lease);
  return query
  select u.ready_slot, u.batch_id, u.job_id, u.run_lease::bigint
  from unnest(v_slots, v_batches, v_ids, v_leases) as u (ready_slot, batch_id, job_id, run_lease);
exception
  when sqlstate 'AW000' then
    return;
  when unique_violation then
    -- Only under a transaction-long snapshot can there be a cursor that it does not see.
    perform _stale_snapshot(format('job %s', p_job_ids[1]));
end;
$$;
