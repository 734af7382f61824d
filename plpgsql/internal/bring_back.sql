-- Jobs that were deferred until infinity, parked or after others: when their turn comes.

-- An instant out of metadata; null for what is none.
create or replace function {{ .schema }}._instant (p_text text)
  returns timestamptz
  language plpgsql
  stable
as $$
begin
  return p_text::timestamptz;
exception when data_exception then
  return null;
end;
$$;

-- When a job that was deferred until infinity, parked or after others, is due.
create or replace function {{ .schema }}._due_at (p_metadata jsonb)
  returns timestamptz
  language plpgsql
  volatile
as $$
begin
  return coalesce(_instant(p_metadata ->> 'awa:run_at'), _now());
end;
$$;

-- A job that was deferred until infinity, parked or after others, as it is when its turn comes
-- or it ends. It waits for no other job from then on, also when it comes back.
create or replace function {{ .schema }}._unpark (p_job {{ .schema }}.deferred_jobs)
  returns {{ .schema }}.deferred_jobs
  language plpgsql
  volatile
as $$
begin
  if p_job.run_at = 'infinity' then
    delete from job_dependencies as k where k.job_id = p_job.job_id;
    p_job.run_at := _due_at(p_job.metadata);
    p_job.metadata := nullif(p_job.metadata - 'awa:run_at', '{}');
  end if;
  return p_job;
end;
$$;

-- The same for a parked job, which was due: it is so still if the clock was set back since. Put
-- off again it might need a unique key that it had not in its lane.
create or replace function {{ .schema }}._unparked (p_job {{ .schema }}.deferred_jobs)
  returns {{ .schema }}.deferred_jobs
  language plpgsql
  volatile
as $$
begin
  p_job := _unpark(p_job);
  p_job.run_at := least(p_job.run_at, _now());
  return p_job;
end;
$$;

-- Puts such jobs, which are all parked or all not, where they belong then, and says how many.
-- One whose key counts from then on goes by way of promotion, which sees to the key. By id, for
-- an array of their bodies ends at 1 GB.
create or replace function {{ .schema }}._bring_back (p_ids bigint[], p_parked boolean)
  returns bigint
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_xid   xid8 := pg_current_xact_id();  -- before the ring is read, see enqueue
  v_slot  smallint := _current_slot();
  v_stale boolean := _snapshot_is_stale();
  v_lanes bigint[];
  v_jobs  bigint;
begin
  delete from job_dependencies as k where k.job_id = any (p_ids);
  with gone as (
    delete from deferred_jobs as e where e.job_id = any (p_ids) and (e.run_at = 'infinity') is true returning e.*
  ),
  -- As _unpark and _unparked do, without a look at the rest of a body.
  freed as materialized (
    select g.*, t.due_at, nullif(g.metadata - 'awa:run_at', '{}') as own_metadata,
      v_stale or t.due_at > _now() or _gains_key(g::deferred_jobs) as waits
    from gone as g
    cross join lateral (select least(_due_at(g.metadata), case when p_parked then _now() end) as due_at offset 0) as t
  ),
  later as (
    insert into deferred_jobs (
      job_id, lane, state, run_at, created_at, run_lease, attempt, max_attempts, kind, args,
      metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline, xid)
    select f.job_id, f.lane, f.state, f.due_at, f.created_at, f.run_lease, f.attempt, f.max_attempts, f.kind, f.args,
      f.own_metadata, f.tags, f.errors, f.progress, f.unique_key, f.unique_states, f.ordering_key, f.deadline, v_xid
    from freed as f
    where f.waits
  ),
  ready as (
    insert into ready_entries (
      lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
      metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline)
    select f.lane, v_xid, f.job_id, f.due_at, f.created_at, f.run_lease, v_slot, f.attempt, f.max_attempts, f.kind, f.args,
      f.own_metadata, f.tags, f.errors, f.progress, f.unique_key, f.unique_states, f.ordering_key, f.deadline
    from freed as f
    where not f.waits
    returning lane
  )
  select array_agg(distinct r.lane), (select count(*) from freed) into v_lanes, v_jobs from ready as r;
  perform _wake_lanes(v_lanes);
  return v_jobs;
end;
$$;
