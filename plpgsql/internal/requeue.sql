-- Adding an attempt: a body goes to the current segment, or waits until due.

create or replace function {{ .schema }}._requeue (p_job {{ .schema }}.deferred_jobs)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_xid  xid8 := pg_current_xact_id();  -- before the ring is read, see enqueue
  v_slot smallint := _current_slot();
begin
  -- A job that became due only after its key was checked may have a key that counts from now
  -- on; promotion takes that.
  if p_job.run_at > _now() or _snapshot_is_stale() or (_gains_key(p_job) and not _has_key(p_job.unique_key, p_job.job_id)) then
    p_job.xid := v_xid;
    insert into deferred_jobs select p_job.*;
    return;
  end if;
  insert into ready_entries (
    lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
    metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline)
  values (p_job.lane, v_xid, p_job.job_id, p_job.run_at, p_job.created_at, p_job.run_lease, v_slot,
    p_job.attempt, p_job.max_attempts, p_job.kind, p_job.args, p_job.metadata, p_job.tags, p_job.errors, p_job.progress,
    p_job.unique_key, p_job.unique_states, p_job.ordering_key, p_job.deadline);
  perform _wake_lanes(array[p_job.lane]);
end;
$$;

-- A ready row's body as a deferred job, for its next attempt.
create or replace function {{ .schema }}._body (p_slot smallint, p_job_id bigint, p_run_lease integer)
  returns {{ .schema }}.deferred_jobs
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  return (select row(r.job_id, r.lane, 'scheduled', r.run_at, r.created_at, r.run_lease, r.attempt, r.max_attempts, r.kind, r.args,
    r.metadata, r.tags, r.errors, r.progress, r.unique_key, r.unique_states, r.ordering_key, r.deadline, null)::deferred_jobs
  from ready_entries as r
  where r.ready_slot = p_slot and r.job_id = p_job_id and r.run_lease = p_run_lease);
end;
$$;

-- The lane for a queue and priority that may differ from the ones a job has;
-- registered, and chosen by the ordering key again when it changes.
create or replace function {{ .schema }}._move_lane (p_lane bigint, p_queue text, p_priority integer, p_ordering_key text)
  returns bigint
  language plpgsql
  volatile
as $$
declare
  v_old      queue_lanes;
  v_queue    text;
  v_priority integer;
  v_shard    integer;
begin
  if p_queue is null and p_priority is null then
    return p_lane;
  end if;
  select l.* into v_old from queue_lanes as l where l.lane = p_lane limit 1;
  v_queue := coalesce(p_queue, v_old.queue);
  v_priority := coalesce(p_priority, v_old.priority);
  if (v_queue, v_priority) = (v_old.queue, v_old.priority::integer) then
    return p_lane;
  end if;
  perform _check_place(v_queue, v_priority);
  v_shard := _shard(p_ordering_key, coalesce((select m.enqueue_shards from queue_meta as m where m.queue = v_queue), 1));
  return _register_lane(v_queue, v_priority, v_shard);
end;
$$;
