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

-- Due jobs whose unique key counts only once they are available. One whose key
-- another job has by then is cancelled. Waits for nobody: the rest is promoted
-- in any case and these come another time.
create or replace function {{ .schema }}._promote_keyed (p_max integer)
  returns bigint
  language plpgsql
  volatile
  set lock_timeout = '50ms'
as $$
declare
  k      record;
  d      deferred_jobs;
  v_jobs bigint := 0::bigint;
begin
  for k in
    select e.job_id, e.unique_key, e.unique_states
    from deferred_jobs as e
    where e.run_at <= clock_timestamp() and _gains_key(e)
    order by e.unique_key, e.run_at, e.job_id
    limit p_max
  loop
    begin
      if _take_key(k.unique_key, k.unique_states, k.job_id, 'available') = k.job_id then
        delete from deferred_jobs as e where e.job_id = k.job_id returning e.* into d;
        if found then
          perform _requeue(d);
          v_jobs := v_jobs + 1;
        else
          perform _release_absent(array[k.job_id]);
        end if;
      else
        delete from deferred_jobs as e where e.job_id = k.job_id returning e.* into d;
        if found then
          perform _file_closed(d, 'x', jsonb_build_object('error', 'another job has its unique key', 'at', clock_timestamp()));
        end if;
      end if;
    exception when lock_not_available then
      null;
    end;
  end loop;
  return v_jobs;
end;
$$;

create or replace function {{ .schema }}._gains_key (p_job {{ .schema }}.deferred_jobs)
  returns boolean
  language sql
  immutable
as $$
  select p_job.unique_key is not null
    and {{ .schema }}._in_mask('available'::{{ .schema }}.job_state, p_job.unique_states) and not {{ .schema }}._in_mask(p_job.state, p_job.unique_states)
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
    where d.run_at <= clock_timestamp() and (d.unique_key is null or not _gains_key(d))
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
  return v_jobs + _promote_keyed(p_max);
end;
$$;
