-- Jobs come to history without an attempt of the ring, and are taken out of it again.

-- Puts a job that is nowhere in the ring straight into history: a body that
-- no window offers, its claim and its outcome. One that ran was claimed when
-- p_claimed_at says.
create or replace function {{ .schema }}._file_closed (
  p_job {{ .schema }}.deferred_jobs, p_outcome "char", p_error jsonb, p_claimed_at timestamptz default null
)
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_xid   xid8 := pg_current_xact_id();  -- before the ring is read, see enqueue
  v_now   timestamptz := _now();
  v_slot  smallint := _current_slot();
  v_batch bigint := _batch_id(v_slot, p_job.job_id * 16 + p_job.run_lease % 16, p_job.run_lease);
begin
  insert into ready_entries (
    lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
    metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline)
  values (p_job.lane, '0', p_job.job_id, p_job.run_at, p_job.created_at, p_job.run_lease, v_slot,
    p_job.attempt, p_job.max_attempts, p_job.kind, p_job.args, p_job.metadata, p_job.tags, p_job.errors, p_job.progress,
    p_job.unique_key, p_job.unique_states, p_job.ordering_key, p_job.deadline);
  insert into claims (batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, bypassed_by)
  values (v_batch, p_job.lane, coalesce(p_claimed_at, v_now),
    case when p_claimed_at >= v_now then p_claimed_at + interval '1 microsecond' else v_now end, v_slot, array[p_job.job_id],
    case when p_job.run_lease > 1 then array[p_job.run_lease] end, v_xid);
  perform _count_bypassed(p_job.lane, v_slot, 1);
  insert into attempt_outcomes (
    batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, errors)
  values (v_batch, p_job.lane, v_xid, v_now, 0, 1, v_slot, p_outcome,
    case when p_error is not null then array[p_error] end);
end;
$$;

-- _take_terminal for more jobs than are worth an index lookup each: reads all outcomes and
-- joins by hash. No arrays of them are built, so what does not fit into work_mem goes to disk.
create or replace function {{ .schema }}._take_many (
  p_job_ids bigint[], p_outcomes "char"[], p_queue text, p_kind text, p_max integer
)
  returns setof {{ .schema }}.taken_job
  language plpgsql
  volatile
  set plan_cache_mode = force_custom_plan
  set enable_seqscan = on
  set enable_nestloop = off
  set enable_mergejoin = off
  set work_mem = '64MB'
as $$
begin
  return query
  -- As in _locate_many.
  with closed as (
    select o.ready_slot, o.lane, o.outcome, nullif(c.claimed_at, c.lease_expires_at) as claimed_at, o.finalized_at,
      unnest(coalesce(o.job_ids, c.job_ids)) as job_id,
      unnest(case when o.job_ids is null then c.run_leases else o.run_leases end) as run_lease,
      unnest(o.errors) as error
    from attempt_outcomes as o
    join claims as c on c.ready_slot = o.ready_slot and c.batch_id = o.batch_id
    where o.outcome = any (p_outcomes)
      and (p_queue is null or o.lane in (select l.lane from queue_lanes as l where l.queue = p_queue))
  ),
  found as materialized (
    select j.ready_slot, j.lane, j.job_id, coalesce(j.run_lease, 1) as run_lease, j.outcome, j.error, j.claimed_at, j.finalized_at
    from closed as j
    where (p_job_ids is null or j.job_id in (select u.job_id from unnest(p_job_ids) as u (job_id)))
      and (p_kind is null or exists (
        select from ready_entries as r
        where r.ready_slot = j.ready_slot and r.job_id = j.job_id and r.run_lease = coalesce(j.run_lease, 1) and r.kind = p_kind))
      and not exists (
        select from outcome_removals as m
        where m.ready_slot = j.ready_slot and m.job_id = j.job_id and m.run_lease = coalesce(j.run_lease, 1))
    order by j.job_id, 4
    limit p_max
  ),
{{ template "internal/take_found.sql" . }}end;
$$;

-- Takes terminal jobs out of history, with one delta per key and outcome. Of several calls that
-- want a job the first gets it; the unique index makes the others wait, in the order of ids,
-- and then add nothing. p_job_ids null means all that match. Returns those it took.
create or replace function {{ .schema }}._take_terminal (
  p_job_ids bigint[], p_outcomes "char"[], p_queue text default null, p_kind text default null, p_max integer default null
)
  returns setof {{ .schema }}.taken_job
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  if p_job_ids is null or (cardinality(p_job_ids) > 200 and cardinality(p_job_ids) > _by_key_at_most()) then
    return query select t.* from _take_many(p_job_ids, p_outcomes, p_queue, p_kind, p_max) as t;
    return;
  end if;
  -- Each statement finds and takes at once: it locks the segments before its
  -- snapshot, so no prune comes between.
  return query
  with found as materialized (
    select r.ready_slot, r.lane, r.job_id, r.run_lease, k.outcome, k.error, k.claimed_at, k.finalized_at
    from (select distinct u.job_id from unnest(p_job_ids) as u (job_id)) as u
    -- Not a join: where the table is believed to be empty that may walk all of it for each.
    cross join lateral (select e.* from ready_entries as e where e.job_id = u.job_id offset 0) as r
    cross join lateral _attempt_of(r.ready_slot, r.lane, r.job_id, r.run_lease, true) as k
    where k.outcome = any (p_outcomes) and not k.removed
    order by r.job_id, r.run_lease
  ),
{{ template "internal/take_found.sql" . }}end;
$$;
