-- Claims of jobs that the claiming transaction enqueued.

-- Jobs of a lane that this very transaction enqueued, in their order. Index entries of
-- those that it took stay until it ends, so they are looked for after the last of them;
-- only if that yields too few also before it, where a retried job may be.
create or replace function {{ .schema }}._own_jobs (p_lane bigint, p_max integer)
  returns table (ready_slot smallint, job_id bigint, run_lease integer, metadata jsonb)
  language plpgsql
  stable
as $$
#variable_conflict use_column
declare
  v_own  xid8 := pg_current_xact_id_if_assigned();
  -- Lane and job id, until commit.
  v_last text[] := string_to_array(current_setting('{{ .schema }}.own', true), ' ');
  v_from bigint := case when v_last[1] = p_lane::text then v_last[2]::bigint else -1::bigint end;
begin
  return query
  -- By a range: in the order of ids alone it may be planned as a walk through all jobs.
  (select r.ready_slot, r.job_id, r.run_lease, r.metadata
   from ready_entries as r
   where r.lane = p_lane and (r.xid, r.job_id) > (v_own, v_from) and r.xid <= v_own
   order by r.xid, r.job_id
   limit p_max)
  union all
  -- Read when those were too few.
  (select r.ready_slot, r.job_id, r.run_lease, r.metadata
   from ready_entries as r
   where r.lane = p_lane and r.xid >= v_own and (r.xid, r.job_id) <= (v_own, v_from)
   order by r.xid, r.job_id
   limit p_max)
  limit p_max;
end;
$$;

-- Claims jobs that this very transaction enqueued: up to p_max, or p_only. No window may
-- show them, for the transaction may still add more; they are taken by restamping them below
-- every window. Nobody else sees them, so no lane lock is needed and no
-- cursor moves: the claim is counted by a delta instead.
create or replace function {{ .schema }}._claim_own (
  p_queue text, p_lane bigint, p_priority smallint, p_max integer, p_worker text, p_lease interval, p_only bigint[] default null
)
  returns setof {{ .schema }}.claimed_job
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_own xid8 := pg_current_xact_id_if_assigned();
  v_now timestamptz := _now();
begin
  if v_own is null then
    return;
  end if;
  perform _enter_ring();
  if not exists (select from _own_jobs(p_lane, 1)) then
    return;
  end if;
  return query
  with got as materialized (
    select o.ready_slot, o.job_id, o.run_lease from _own_jobs(p_lane, case when p_only is null then p_max else 0 end) as o
    union all
    select r.ready_slot, r.job_id, r.run_lease
    from unnest(p_only) as u (job_id)
    cross join lateral (select e.* from ready_entries as e where e.job_id = u.job_id and e.xid = v_own offset 0) as r
  ),
  restamped as (
    update ready_entries as r
    set xid = '0'
    -- By their ids and neither by a join nor another index, whatever the statistics say. A job
    -- has one row that nobody took.
    where r.job_id = any (array(select g.job_id from got as g)) and (r.xid = v_own) is true
    returning r.*
  ),
  batch as materialized (
    select s.ready_slot, _batch_id(s.ready_slot, max(s.job_id * 16 + s.run_lease % 16), max(s.run_lease)) as batch_id,
      count(*)::integer as jobs,
      min(s.deadline) as deadline,
      bool_or(s.metadata ? 'awa:follow_ups') as follows,
      array_agg(s.job_id order by s.job_id) as job_ids,
      array_agg(s.run_lease order by s.job_id) as run_leases
    from restamped as s
    group by s.ready_slot
  ),
  claimed as (
    insert into claims (
      batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, worker, deadline_at, bypassed_by, follows)
    select b.batch_id, p_lane, v_now, v_now + p_lease, b.ready_slot, b.job_ids,
      case when 1 = all (b.run_leases) then null else b.run_leases end, p_worker, v_now + b.deadline, v_own,
      nullif(b.follows, false)
    from batch as b
  ),
  counted as (
    insert into terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
    select p_lane, v_own, b.ready_slot, -b.jobs, 0, 0, 0
    from batch as b
  ),
  watched as (
    insert into watched_claims (batch_id, lane, ready_slot, look_at)
    select b.batch_id, p_lane, b.ready_slot, v_now + least(p_lease, b.deadline)
    from batch as b
  ),
  noted as materialized (
    select set_config('{{ .schema }}.own', p_lane || ' ' || max(s.job_id), true) from restamped as s
  )
  select row(b.ready_slot, b.batch_id, s.job_id, s.run_lease)::receipt,
    s.job_id, s.kind, s.args, p_queue, p_priority, s.attempt, s.max_attempts, s.run_at, s.created_at,
    coalesce(s.tags, '{}'), coalesce(s.metadata, '{}'), s.progress, coalesce(s.errors, '{}'),
    v_now + s.deadline, v_now + p_lease
  from restamped as s
  join batch as b on b.ready_slot = s.ready_slot
  cross join noted
  order by s.job_id;
end;
$$;
