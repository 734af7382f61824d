-- Jobs are parked, and come back once their queue has no limit.

-- Jobs that a claim met in their lane while their key had no slot: set aside. The cursor
-- passes them, so they are a batch of their own, p_batch_id or a new one, which is closed
-- at once.
create or replace function {{ .schema }}._park_jobs (
  p_queue text, p_round integer, p_slot smallint, p_lane bigint, p_job_ids bigint[], p_run_leases integer[], p_batch_id bigint, p_worker text, p_lease interval
)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_now timestamptz := _now();
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    with job as materialized (
      select r.*
      from unnest(p_job_ids, p_run_leases) as u (job_id, run_lease)
      cross join lateral (
        select e.* from ready_entries_{{ $i }} as e where e.job_id = u.job_id and e.run_lease = u.run_lease limit 1
      ) as r
    ),
    batch as materialized (
      select coalesce(p_batch_id, _batch_id({{ $i }}, max(j.job_id * 16 + j.run_lease % 16), max(j.run_lease))) as batch_id, count(*) as jobs
      from job as j
    ),
    claimed as (
      insert into claims_{{ $i }} (batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, worker)
      select b.batch_id, p_lane, v_now, v_now + p_lease, {{ $i }}, p_job_ids, case when 1 <> any (p_run_leases) then p_run_leases end, p_worker
      from batch as b
      where p_batch_id is null
    ),
    closed as (
      insert into attempt_outcomes_{{ $i }} (batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome)
      select b.batch_id, p_lane, pg_current_xact_id(), v_now, 0, b.jobs, {{ $i }}, 'm'
      from batch as b
    ),
    deferred as (
      insert into deferred_jobs (
        job_id, lane, state, run_at, created_at, run_lease, attempt, max_attempts, kind, args,
        metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline, xid)
      select j.job_id, p_lane, 'scheduled', 'infinity', j.created_at, j.run_lease + 1, j.attempt, j.max_attempts, j.kind, j.args,
        j.metadata || jsonb_build_object('awa:run_at', j.run_at), j.tags, j.errors, j.progress, j.unique_key, j.unique_states,
        j.ordering_key, j.deadline, pg_current_xact_id()
      from job as j
    )
    insert into parked_jobs (queue, round, key, job_id)
    select p_queue, p_round, _concurrency_key(j.metadata), j.job_id from job as j
    on conflict do nothing;
{{ end }}
  end case;
end;
$$;

-- Parked jobs of a queue whose limit is gone go back into their lanes. The jobs are locked
-- before they leave the list, as a claim and a move do. One that was parked since may be in the
-- hands of a claim that wants its place on the list: it is left to _unpark_unlimited.
create or replace function {{ .schema }}._unpark_queue (p_queue text)
  returns void
  language plpgsql
  volatile
  -- A custom plan knows how many are held, and does not hash very many.
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
declare
  v_held bigint[] := array(
    select e.job_id from deferred_jobs as e
    where e.job_id = any (array(select p.job_id from parked_jobs as p where p.queue = p_queue)) and _is_parked(e)
    order by e.job_id
    for update);
  v_ids  bigint[];
begin
  for v_ids in
    with unlisted as (
      delete from parked_jobs as p
      -- Not a join, which may be planned as a walk through all of them for each.
      where p.queue = p_queue and (p.job_id in (select h.job_id from unnest(v_held) as h (job_id))) is true
      returning p.job_id
    )
    select array_agg(n.job_id order by n.nth)
    from (select u.job_id, row_number() over (order by u.job_id) as nth from unlisted as u) as n
    group by (n.nth - 1) / 1000
    order by (n.nth - 1) / 1000
  loop
    perform _bring_back(v_ids, true);
  end loop;
end;
$$;

-- Parked jobs of queues whose limit is gone, up to p_max of each: a claim that read the limit
-- before may park after _unpark_queue looked, and no other claim comes for these jobs. Waits
-- for nobody: what somebody holds comes with another pass.
create or replace function {{ .schema }}._unpark_unlimited (p_max integer)
  returns bigint
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_jobs  bigint := 0::bigint;
  v_queue text;
  v_round integer;
  v_keys  text[];
  v_ids   bigint[];
  v_held  bigint[];
begin
  for v_queue, v_round in
    select m.queue, m.parked_round from queue_meta as m
    where m.concurrency_limit is null and m.concurrency_slots is not null
      and (select true from parked_jobs as p where p.queue = m.queue and p.round = m.parked_round limit 1)
  loop
    select array_agg(n.key), array_agg(n.job_id) into v_keys, v_ids
    from (
      select p.key, p.job_id from parked_jobs as p
      where p.queue = v_queue and p.round = v_round
      order by p.key, p.job_id
      limit p_max
      for update skip locked
    ) as n;
    v_held := array(
      select e.job_id from deferred_jobs as e
      where e.job_id = any (v_ids) and _is_parked(e)
      order by e.job_id
      for update skip locked);
    v_jobs := v_jobs + _bring_back(v_held, true);
    -- Those that left otherwise leave the list as well.
    perform _forget_parked(v_queue, v_round, array_agg(u.key), array_agg(u.job_id))
    from unnest(v_ids, v_keys) as u (job_id, key)
    where u.job_id = any (v_held)
      or (select true from deferred_jobs as d where d.job_id = u.job_id and _is_parked(d)) is null;
  end loop;
  return v_jobs;
end;
$$;
