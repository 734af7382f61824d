-- Jobs that wait for other jobs. A finish does not know who waits for its job: a
-- pass of maintain meets what closed since the last one, so a completion costs the
-- same however many wait.

-- What became of jobs that others wait for: completed, failed for good (or cancelled,
-- dead-lettered or gone), or null while they may still complete.
create or replace function {{ .schema }}._standing (p_ids bigint[])
  returns table (job_id bigint, standing text)
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_ids    bigint[];
  v_states text[];
begin
  select array_agg(l.job_id),
    array_agg(case l.outcome when 'c' then 'completed' when 'f' then 'failed' when 'x' then 'cancelled' end)
  into v_ids, v_states
  from _locate(p_ids) as l;
  return query select u.id, u.state from unnest(v_ids, v_states) as u (id, state);
  return query
  select u.id,
    case
      -- _locate looked before this, so a job that moved since is found here. Not by exists, as
      -- in _holds_key.
      when (select count(*) from _jobs_by_key as j where j.id = u.id) > 0 then null
      when exists (select from dlq_entries as q where q.id = u.id) then 'a dead letter'
      else 'gone'
    end
  from unnest(_less(p_ids, coalesce(v_ids, '{}'))) as u (id);
end;
$$;

-- The same for jobs that wait already: a predecessor that completed counts as completed, even
-- if it was deleted from history since.
create or replace function {{ .schema }}._lasting_standing (p_ids bigint[])
  returns table (job_id bigint, standing text)
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  select s.job_id,
    case
      when s.standing = 'gone' and exists (select from outcome_removals as m where m.job_id = s.job_id and m.outcome = 'c')
        then 'completed'
      else s.standing
    end
  from _standing(p_ids) as s;
end;
$$;

-- Jobs that others wait for and that transactions below p_until closed since p_seen.
create or replace function {{ .schema }}._closed_between (p_seen pg_snapshot, p_until xid8)
  returns table (after_id bigint, standing text)
  language plpgsql
  volatile
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
as $$
begin
  return query
  select distinct j.job_id,
    case o.outcome when 'c' then 'completed' when 'f' then 'failed' when 'x' then 'cancelled' when 'q' then 'a dead letter' else 'gone' end
  from (
    select x.* from attempt_outcomes as x where x.xid >= pg_snapshot_xmax(p_seen) and x.xid < p_until
    union all
    select x.*
    from pg_snapshot_xip(p_seen) as late (xid)
    cross join lateral (select y.* from attempt_outcomes as y where y.xid = late.xid offset 0) as x
  ) as o
  cross join lateral unnest(coalesce(o.job_ids, (
    select c.job_ids from claims as c where c.ready_slot = o.ready_slot and c.batch_id = o.batch_id))) as j (job_id)
  where o.outcome in ('c', 'f', 'x', 'q', 'd')
    -- Looked up, not joined with all that wait.
    and (select true from job_dependencies as d where d.after_id = j.job_id limit 1);
end;
$$;

-- p_cur, or so much of it as shows about p_max closed jobs that p_seen does not. It is cut off
-- at a transaction id, so that no transaction is shown in part.
create or replace function {{ .schema }}._part_after (p_seen pg_snapshot, p_cur pg_snapshot, p_max integer)
  returns pg_snapshot
  language plpgsql
  stable
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
as $$
declare
  v_end xid8;
begin
  select (min(n.xid)::text::numeric + 1)::text::xid8 into v_end
  from (
    select o.xid, sum(o.jobs) over (order by o.xid) as jobs
    from (
      select x.xid, x.jobs from attempt_outcomes as x where x.xid >= pg_snapshot_xmax(p_seen) order by x.xid limit p_max
    ) as o
  ) as n
  where n.jobs >= p_max;
  if v_end is null or v_end >= pg_snapshot_xmax(p_cur) then
    return p_cur;
  end if;
  return (
    select format('%s:%s:%s', coalesce(min(x.xid), v_end), v_end, string_agg(x.xid::text, ',' order by x.xid))::pg_snapshot
    from pg_snapshot_xip(p_cur) as x (xid)
    where x.xid < v_end);
end;
$$;

-- Takes up to p_max of the jobs that wait for p_ids, which stand as p_states says: releases
-- those whose last predecessor completed, and cancels those with one that will not. met is how
-- many were looked at; settled tells that no job is left that waits for one of p_ids.
create or replace function {{ .schema }}._release_waiting (
  p_ids bigint[], p_states text[], p_max integer, out met integer, out released bigint, out settled boolean
)
  language plpgsql
  volatile
as $$
declare
  v_next bigint[];
  v_held bigint[];
  v_done bigint[];
  b      record;
  d      deferred_jobs;
begin
  met := 0;
  released := 0;
  settled := true;
  if p_ids is null then
    return;
  end if;
  -- From here on rows are looked up by their jobs: "is true" and scalar subqueries keep
  -- other indexes and joins out, which may be planned over all that are left.
  v_next := array(
    select distinct n.job_id
    from unnest(p_ids) as u (id)
    cross join lateral (
      -- In the order of the primary key, without an order by, for which the index of all jobs
      -- might be read.
      select k.job_id from job_dependencies as k where k.after_id = u.id limit p_max
    ) as n
    order by n.job_id
    limit p_max);
  met := cardinality(v_next);
  -- One that somebody holds comes another time.
  v_held := array(
    select e.job_id
    from deferred_jobs as e
    where e.job_id = any (v_next) and (e.run_at = 'infinity') is true
    order by e.job_id
    for update skip locked);
  -- A job that no longer waits needs none of its rows.
  delete from job_dependencies as k
  where k.job_id = any (v_next)
    and (select true from deferred_jobs as e where e.job_id = k.job_id and (e.run_at = 'infinity') is true) is null;

  for b in
    select k.job_id, min(k.after_id) as after_id, min(u.standing) as standing
    from unnest(p_ids, p_states) as u (id, standing)
    join (select n.* from job_dependencies as n where n.job_id = any (v_held) offset 0) as k on k.after_id = u.id
    where u.standing <> 'completed'
    group by k.job_id
    order by k.job_id
  loop
    delete from job_dependencies as k where k.job_id = b.job_id;
    delete from deferred_jobs as e where e.job_id = b.job_id returning e.* into d;
    perform _file_closed(_unpark(d), 'x', jsonb_build_object(
      'error', format('job %s, which it waits for, is %s', b.after_id, b.standing), 'at', _now()));
    released := released + 1;
  end loop;

  v_done := array(select u.id from unnest(p_ids, p_states) as u (id, standing) where u.standing = 'completed');
  delete from job_dependencies as k where k.job_id = any (v_held) and (k.after_id = any (v_done)) is true;
  released := released + _bring_back(array(
    select e.job_id from deferred_jobs as e
    where e.job_id = any (v_held)
      and (select true from job_dependencies as k where k.job_id = e.job_id limit 1) is null), false);
  settled := not exists (
    select from unnest(p_ids) as u (id)
    where (select true from job_dependencies as k where k.after_id = u.id limit 1));
end;
$$;

-- One pass over what closed, part by part. settled is false when some were left for the next
-- pass, which begins after the last part that was done: from the beginning, each pass would
-- spend its time on the same parts.
create or replace function {{ .schema }}._release_dependents (p_max integer, out released bigint, out settled boolean)
  language plpgsql
  volatile
  set plan_cache_mode = force_custom_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
as $$
declare
  p         dependency_points;
  v_now     pg_snapshot;
  v_seen    pg_snapshot;
  v_known   pg_snapshot;
  v_older   boolean;
  v_last    boolean;
  v_below   xid8;
  v_settled boolean := true;
  v_until   timestamptz := clock_timestamp() + interval '1 second';
  v_new     bigint[];
  v_ids     bigint[];
  v_states  text[];
  r         record;
begin
  released := 0;
  settled := true;
  if not exists (select from job_dependencies) then
    return;
  elsif not _try_singleton(6) then
    settled := false;
    return;
  end if;
  select n.* into p from dependency_points as n order by n.point desc limit 1;
  p.seen := coalesce(p.seen, '1:1:');
  v_now := _hide_own(pg_current_snapshot());
  loop
    v_older := exists (select from job_dependencies as k where pg_visible_in_snapshot(k.xid, p.seen));
    v_seen := case when v_older then _part_after(p.seen, v_now, 5000) else v_now end;
    v_last := v_seen::text = v_now::text;
    -- The last part includes what this transaction did itself.
    v_below := case when v_last then '9223372036854775807' else pg_snapshot_xmax(v_seen) end;
    -- Dependencies and departures that the last pass did not see: where do they stand?
    v_new := array(
      -- In the order of its index, or all of another may be read, to spare a sort.
      (select k.after_id
       from job_dependencies as k
       where k.xid >= pg_snapshot_xmin(p.seen) and not pg_visible_in_snapshot(k.xid, p.seen)
         and k.xid < v_below
       order by k.xid)
      union
      select i.id
      from job_departures as g
      cross join lateral unnest(g.job_ids) as i (id)
      where g.xid >= pg_snapshot_xmin(p.seen) and not pg_visible_in_snapshot(g.xid, p.seen)
        and g.xid < v_below
        and exists (select from job_dependencies as k where k.after_id = i.id));
    select array_agg(s.job_id), array_agg(s.standing) into v_ids, v_states
    from _lasting_standing(v_new) as s
    where s.standing is not null;
    -- For the others: what closed since?
    if v_older then
      -- A predecessor that failed and was retried since may still complete.
      select v_ids || array_agg(s.after_id) filter (where s.standing = 'completed'),
        v_states || array_agg(s.standing) filter (where s.standing = 'completed'),
        array_agg(s.after_id) filter (where s.standing <> 'completed')
      into v_ids, v_states, v_new
      from _closed_between(p.seen, v_below) as s;
      if v_new is not null then
        select v_ids || array_agg(s.job_id), v_states || array_agg(s.standing) into v_ids, v_states
        from _lasting_standing(v_new) as s
        where s.standing is not null;
      end if;
    end if;

    select w.* into r from _release_waiting(v_ids, v_states, p_max) as w;
    released := released + r.released;
    v_settled := v_settled and r.settled;
    if v_settled then
      v_known := v_seen;
    end if;
    settled := v_settled and v_last;
    -- Once somebody holds a job, no further part counts as done. So only the limits on jobs
    -- end the pass: by the time alone it would end at the same place each time.
    exit when v_last or r.met >= p_max or released >= p_max or (v_settled and clock_timestamp() > v_until);
    p.seen := v_seen;
  end loop;
  if v_known is not null then
    insert into dependency_points (point, ready_slot, seen) values (coalesce(p.point, 0) + 1, _current_slot(), v_known);
  end if;
end;
$$;

-- Records jobs that leave without an outcome, so that a pass finds the jobs that wait for them,
-- also those not yet committed.
create or replace function {{ .schema }}._depart (p_ids bigint[])
  returns void
  language plpgsql
  volatile
as $$
begin
  if p_ids <> '{}' then
    insert into job_departures (xid, ready_slot, job_ids) values (pg_current_xact_id(), _current_slot(), p_ids);
  end if;
end;
$$;

-- Whether everything in a slot that tells of an end was seen by the newest pass.
-- Called under the segment's lock, so by index only.
create or replace function {{ .schema }}._dependents_know (p_slot integer)
  returns boolean
  language plpgsql
  volatile
  set enable_seqscan = off
  set enable_bitmapscan = off
as $$
declare
  v_seen pg_snapshot;
begin
  if not exists (select from job_dependencies) then
    return true;
  end if;
  v_seen := coalesce((select n.seen from dependency_points as n order by n.point desc limit 1), '1:1:');
  return not exists (
      select from attempt_outcomes as o
      where o.ready_slot = p_slot and o.xid >= pg_snapshot_xmin(v_seen) and not pg_visible_in_snapshot(o.xid, v_seen)
        and o.xid <> pg_current_xact_id())
    and not exists (
      select from job_departures as d
      where d.ready_slot = p_slot and d.xid >= pg_snapshot_xmin(v_seen) and not pg_visible_in_snapshot(d.xid, v_seen));
end;
$$;
