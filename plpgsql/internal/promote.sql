-- Deferred jobs: back into their lane when due.

-- The newest entries of a job's error history.
create or replace function {{ .schema }}._bounded_errors (p_errors jsonb[], p_entry jsonb)
  returns jsonb[]
  language sql
  immutable
  parallel safe
as $$
  select (p_errors || p_entry)[greatest(1, coalesce(pg_catalog.cardinality(p_errors), 0) + 1 - 49):]
$$;

create or replace function {{ .schema }}._promote (p_max integer)
  returns bigint
  language plpgsql
  volatile
as $$
declare
  v_xid  xid8;
  v_slot smallint;
  v_jobs bigint;
begin
  if not exists (select from deferred_jobs as d where d.run_at <= clock_timestamp()) then
    return 0::bigint;
  end if;
  v_xid := pg_current_xact_id();  -- before the ring is read, see enqueue
  if _snapshot_is_stale() then
    return 0::bigint;
  end if;
  select r.slot into v_slot from segment_rotations as r order by r.generation desc limit 1;
  with due as materialized (
    select d.job_id
    from deferred_jobs as d
    where d.run_at <= clock_timestamp()
    order by d.run_at, d.job_id
    limit p_max
    for update skip locked
  ),
  taken as (
    delete from deferred_jobs as d
    using due as u
    where d.job_id = u.job_id
    returning d.*
  )
  insert into ready_entries (
    lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
    metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline)
  select t.lane, v_xid, t.job_id, t.run_at, t.created_at, t.run_lease, v_slot, t.attempt, t.max_attempts,
    t.kind, t.args, t.metadata, t.tags, t.errors, t.progress, t.unique_key, t.unique_states, t.ordering_key, t.deadline
  from taken as t;
  get diagnostics v_jobs = row_count;
  return v_jobs;
end;
$$;
