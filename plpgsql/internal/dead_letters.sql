-- Dead letters: how jobs come there, leave and expire.

create or replace function {{ .schema }}._dead_letter (
  p_job {{ .schema }}.deferred_jobs, p_reason text, p_attempted_at timestamptz
)
  returns void
  language plpgsql
  volatile
as $$
begin
  insert into dlq_entries (
    id, kind, queue, args, priority, attempt, max_attempts, run_at, attempted_at, finalized_at, created_at, errors,
    metadata, tags, unique_key, unique_states, run_lease, progress, dlq_reason, dlq_at, original_run_lease, ordering_key,
    deadline)
  select p_job.job_id, p_job.kind, l.queue, p_job.args, l.priority, p_job.attempt, p_job.max_attempts, p_job.run_at,
    p_attempted_at, _now(), p_job.created_at, coalesce(p_job.errors, '{}'),
    coalesce(p_job.metadata, '{}'), coalesce(p_job.tags, '{}'), p_job.unique_key, p_job.unique_states,
    p_job.run_lease, p_job.progress, p_reason, _now(), p_job.run_lease, p_job.ordering_key, p_job.deadline
  from queue_lanes as l
  where l.lane = p_job.lane
  limit 1;
end;
$$;

-- Moves failed jobs of the history: those that nobody else takes first.
create or replace function {{ .schema }}._move_to_dlq (
  p_job_ids bigint[], p_reason text, p_queue text default null, p_kind text default null, p_max integer default null
)
  returns bigint
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_jobs bigint;
begin
  perform _refuse_stale('move to the dead letters');
  insert into dlq_entries (
    id, kind, queue, args, priority, attempt, max_attempts, run_at, attempted_at, finalized_at, created_at, errors,
    metadata, tags, unique_key, unique_states, run_lease, progress, dlq_reason, dlq_at, original_run_lease, ordering_key,
    deadline)
  select r.job_id, r.kind, l.queue, r.args, l.priority, r.attempt, r.max_attempts, r.run_at,
    k.claimed_at, k.finalized_at, r.created_at,
    case when k.error is null then coalesce(r.errors, '{}') else _bounded_errors(r.errors, k.error) end,
    coalesce(r.metadata, '{}'), coalesce(r.tags, '{}'), r.unique_key, r.unique_states,
    r.run_lease, coalesce(n.progress, r.progress), p_reason, _now(), r.run_lease, r.ordering_key, r.deadline
  from _take_terminal(p_job_ids, array['f']::"char"[], p_queue, p_kind, p_max) as k
  cross join lateral (
    select e.* from ready_entries as e
    where e.ready_slot = k.ready_slot and e.job_id = k.job_id and e.run_lease = k.run_lease
    offset 0
  ) as r
  left join lateral (
    select p.progress from progress_entries as p
    where p.ready_slot = k.ready_slot and p.job_id = k.job_id and p.run_lease = k.run_lease
    order by p.at desc
    limit 1
  ) as n on true
  cross join lateral (select q.queue, q.priority from queue_lanes as q where q.lane = r.lane limit 1) as l;
  get diagnostics v_jobs = row_count;
  return v_jobs;
end;
$$;

-- Whether a job for p_run_at is deferred. Decided once per call, so that its key and its place
-- follow from the same answer.
create or replace function {{ .schema }}._comes_later (p_run_at timestamptz)
  returns boolean
  language plpgsql
  volatile
as $$
begin
  perform pg_current_xact_id();  -- before the ring is read, see enqueue
  return p_run_at > _now() is true or _snapshot_is_stale();
end;
$$;

-- Puts letters back into their queues, or the given place: those that nobody took first. With
-- p_later they wait to be promoted. The caller has taken their keys, where these count.
create or replace function {{ .schema }}._retry_dead (
  p_ids bigint[], p_queue text, p_priority integer, p_run_at timestamptz, p_later boolean
)
  returns bigint
  language plpgsql
  volatile
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_nestloop = off
as $$
declare
  v_ids   bigint[] := array(select e.id from dlq_entries as e where e.id = any (p_ids) order by e.id for update);
  v_now   timestamptz := _now();
  v_xid   xid8;
  v_slot  smallint;
  v_lanes bigint[];
begin
  if v_ids = '{}' then
    return 0::bigint;
  end if;
  v_xid := pg_current_xact_id();  -- before the ring is read, see enqueue
  v_slot := _current_slot();
  with gone as (
    delete from dlq_entries as e where e.id = any (v_ids) returning e.*
  ),
  letter as materialized (
    select g.*, q.to_queue, coalesce(p_priority, g.priority) as to_priority, _shard(g.ordering_key, q.shards) as shard
    from gone as g
    join (
      select n.queue, coalesce(p_queue, n.queue) as to_queue,
        coalesce((select m.enqueue_shards from queue_meta as m where m.queue = coalesce(p_queue, n.queue)), 1) as shards
      from (select distinct o.queue from gone as o) as n
    ) as q on q.queue = g.queue
  ),
  target as materialized (
    select t.*, _register_lane(t.to_queue, t.to_priority, t.shard) as lane
    from (select distinct l.to_queue, l.to_priority, l.shard from letter as l) as t
  ),
  job as materialized (
    select l.id, t.lane, coalesce(p_run_at, v_now) as due_at, l.created_at, l.run_lease + 1 as run_lease, l.max_attempts, l.kind, l.args,
      nullif(l.metadata, '{}') as notes, nullif(l.tags, '{}') as labels, nullif(l.errors, '{}') as errors,
      l.unique_key, l.unique_states, l.ordering_key, l.deadline
    from letter as l
    join target as t on t.to_queue = l.to_queue and t.to_priority = l.to_priority and t.shard = l.shard
    order by l.id
  ),
  deferred as (
    insert into deferred_jobs
    select j.id, j.lane, 'scheduled', j.due_at, j.created_at, j.run_lease, 1, j.max_attempts, j.kind, j.args,
      j.notes, j.labels, j.errors, null, j.unique_key, j.unique_states, j.ordering_key, j.deadline, v_xid
    from job as j
    where p_later
  ),
  back as (
    insert into ready_entries (
      lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
      metadata, tags, errors, unique_key, unique_states, ordering_key, deadline)
    select j.lane, v_xid, j.id, j.due_at, j.created_at, j.run_lease, v_slot, 1, j.max_attempts, j.kind, j.args,
      j.notes, j.labels, j.errors, j.unique_key, j.unique_states, j.ordering_key, j.deadline
    from job as j
    where not p_later
  )
  select array_agg(t.lane) into v_lanes from target as t;
  if not p_later then
    perform _wake_lanes(v_lanes);
  end if;
  return cardinality(v_ids)::bigint;
end;
$$;

-- Dead letters that are older than their queue keeps them.
create or replace function {{ .schema }}._expired_letters (p_max integer)
  returns bigint[]
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  return array(
    select e.id
    from queue_meta as m
    cross join lateral (
      select d.id from dlq_entries as d where d.queue = m.queue and d.dlq_at < _now() - m.dlq_retention offset 0
    ) as e
    where m.dlq_retention is not null
    limit p_max);
end;
$$;

-- Deletes letters and gives their keys back. Never waits: a letter that another session holds,
-- or whose key it decides about, is left for the next time.
create or replace function {{ .schema }}._purge_dead (p_ids bigint[])
  returns bigint
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_held bigint[];
  v_busy bigint[];
  v_gone bigint[];
begin
  if p_ids = '{}' then
    return 0::bigint;
  end if;
  -- Sets, not conditions on each row: there may be more than can be hashed for those.
  v_held := array(select u.job_id from job_unique_claims as u where u.job_id = any (p_ids) for update skip locked);
  v_busy := _less(array(select u.job_id from job_unique_claims as u where u.job_id = any (p_ids)), v_held);
  with gone as (
    delete from dlq_entries as e
    where e.id = any (array(
      select d.id from dlq_entries as d where d.id = any (_less(p_ids, v_busy)) for update skip locked))
    returning e.id
  )
  select coalesce(array_agg(g.id), '{}') into v_gone from gone as g;
  perform _release_keys(v_gone);
  return cardinality(v_gone)::bigint;
end;
$$;
