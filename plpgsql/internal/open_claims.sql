-- Claims that may be open, as far as rescue has come (ADR 0008). Functions here are stable: they
-- see what the statement sees that calls them, so a job cannot pass between the two unseen.

-- Per lane its newest rescue point and cursor.
create or replace function {{ .schema }}._lane_points ()
  returns setof {{ .schema }}.lane_point
  language plpgsql
  stable
as $$
begin
  return query
  select l.lane, coalesce(p.point, 0), coalesce(p.checked, 0), coalesce(p.marked, 0), coalesce(p.marked_at, '-infinity'),
    coalesce(p.open_batches, '{}'), coalesce(c.generation, 0)
  from (select distinct q.lane from queue_lanes as q) as l
  left join lateral (
    select k.generation from lane_cursors as k where k.lane = l.lane order by k.generation desc limit 1
  ) as c on true
  left join lateral (
    select n.* from rescue_points as n where n.lane = l.lane order by n.point desc limit 1
  ) as p on true;
end;
$$;

-- Which of the batches have an open attempt. Each is looked up: a join that was planned while a
-- segment was small would read all claims of a grown one.
create or replace function {{ .schema }}._open_batches (p_batches bigint[])
  returns setof bigint
  language plpgsql
  stable
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
  set plan_cache_mode = force_generic_plan
as $$
begin
  return query
  select c.batch_id
  from (select distinct u.batch_id from unnest(p_batches) as u (batch_id)) as u
  cross join lateral (select k.* from claims as k where k.batch_id = u.batch_id offset 0) as c
  where cardinality(c.job_ids) > coalesce((
    select sum(o.jobs) from attempt_outcomes as o where o.ready_slot = c.ready_slot and o.batch_id = c.batch_id), 0);
end;
$$;

-- The claims that may be open in the ring: what the newest points list, and what was
-- claimed since.
create or replace function {{ .schema }}._open_claims ()
  returns setof {{ .schema }}.claims
  language plpgsql
  stable
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
  set plan_cache_mode = force_generic_plan
as $$
declare
  v_watch   watch_points;
  v_batches bigint[];
begin
  select w.* into v_watch from watch_points as w order by w.point desc limit 1;
  v_batches := array(
    select b.batch_id
    from _lane_points() as p
    cross join lateral (
      select u.batch_id from unnest(p.open_batches) as u (batch_id)
      union all
      select c.batch_id from lane_cursors as c where c.lane = p.lane and c.generation > p.checked and c.batch_id is not null
    ) as b
    union all
    select u.batch_id from unnest(v_watch.open_batches) as u (batch_id)
    union all
    select w.batch_id from watched_claims as w
    where w.xid >= coalesce(pg_snapshot_xmin(v_watch.seen), '0') and not coalesce(pg_visible_in_snapshot(w.xid, v_watch.seen), false));
  return query
  select c.*
  from _open_batches(v_batches) as o (batch_id)
  cross join lateral (select k.* from claims as k where k.batch_id = o.batch_id offset 0) as c;
end;
$$;

-- The open attempts of these claims, in some lanes (null: in all).
create or replace function {{ .schema }}._open_in_ring (p_lanes bigint[])
  returns table (ready_slot smallint, job_id bigint, run_lease integer)
  language plpgsql
  stable
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
  set plan_cache_mode = force_generic_plan
as $$
begin
  return query
  select c.ready_slot, j.job_id, j.run_lease
  from _open_claims() as c
  -- Outcomes are read once per batch, as in _due_attempts.
  cross join lateral (
    select u.job_id, coalesce(max(u.run_lease), 1) as run_lease
    from (
      select unnest(c.job_ids) as job_id, unnest(c.run_leases) as run_lease, false as closed
      union all
      select unnest(o.job_ids), null, true
      from attempt_outcomes as o
      where o.ready_slot = c.ready_slot and o.batch_id = c.batch_id
    ) as u
    group by u.job_id
    having not bool_or(u.closed)
  ) as j
  where p_lanes is null or c.lane = any (p_lanes);
end;
$$;
