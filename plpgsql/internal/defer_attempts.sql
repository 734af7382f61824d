-- Failures and snoozes of which all jobs come back: closed and deferred at once.

-- The state in which a job comes back, by p_how of _fail_attempts.
create or replace function {{ .schema }}._state_after (p_how "char")
  returns {{ .schema }}.job_state
  language sql
  immutable
  parallel safe
as $$
  select case when p_how = 's' then 'scheduled'::{{ .schema }}.job_state else 'retryable'::{{ .schema }}.job_state end
$$;

-- Up to 50 attempts of one batch that all come back, without a unique key. Their errors go with
-- the jobs, not into the outcome. Returns false, with nothing done, when one of them is closed,
-- is its job's last attempt, has a unique key, is given twice or is not where its receipt says,
-- or when it lost the race for the next outcome.
create or replace function {{ .schema }}._defer_part (
  p_receipts {{ .schema }}.receipt[], p_errors text[], p_retry_after interval, p_how "char"
)
  returns boolean
  language plpgsql
  volatile
  set enable_nestloop = off
  set plan_cache_mode = force_generic_plan
as $$
declare
  v_now     timestamptz := _now();
  v_state   job_state := _state_after(p_how);
  v_xid     xid8 := pg_current_xact_id();
  v_slot    smallint;
  v_batch   bigint;
  v_one     boolean;
  v_ids     bigint[];
  v_leases  integer[];
  v_errors  text[];
  v_first   jsonb[];
  v_lane    bigint;
  v_seq     integer;
  v_jobs    bigint := 0::bigint;
begin
  if cardinality(p_receipts) > 50 or (p_receipts[1]).batch_id <> (p_receipts[cardinality(p_receipts)]).batch_id then
    return false;
  end if;
  select min(u.ready_slot), min(u.batch_id),
    min(u.ready_slot) = max(u.ready_slot) and min(u.batch_id) = max(u.batch_id) and count(distinct u.job_id) = count(*),
    array_agg(u.job_id), array_agg(_as_lease(u.run_lease)), array_agg(u.error)
  into v_slot, v_batch, v_one, v_ids, v_leases, v_errors
  from (
    select u.*
    from unnest(p_receipts, p_errors) as u (ready_slot, batch_id, job_id, run_lease, error)
    order by u.job_id
  ) as u;
  if v_one is not true then
    return false;
  end if;
  -- Attempts that fail together mostly fail for the same reason, and for the first time: their
  -- errors are built once.
  v_first := array[_failure(v_errors[1], 1, v_now)];
  case v_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    select c.lane, s.seq into v_lane, v_seq
{{ template "internal/open_few.sql" (dict "slot" $i "batch" "v_batch" "ids" "v_ids" "leases" "v_leases") }}    ;
    if not found then
      return false;
    end if;
    with coming as materialized (
      select r.*, g.error
      from unnest(v_ids, v_leases, v_errors) as g (job_id, run_lease, error)
      cross join lateral (
        select e.job_id, e.created_at, e.run_lease, e.attempt, e.max_attempts, e.kind, e.args, e.metadata, e.tags,
          e.errors, e.progress, e.unique_states, e.ordering_key, e.deadline
        from ready_entries_{{ $i }} as e
        where e.job_id = g.job_id and e.run_lease = g.run_lease
          and e.unique_key is null and (p_how = 's' or e.attempt < e.max_attempts)
        offset 0
      ) as r
    ),
    closed as (
      insert into attempt_outcomes_{{ $i }} (
        batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, job_ids, run_leases)
      select v_batch, v_lane, v_xid, v_now, v_seq, cardinality(v_ids), {{ $i }}, p_how, v_ids,
        case when 1 <> any (v_leases) then v_leases end
      where (select count(*) from coming) = cardinality(v_ids)
      on conflict (batch_id, seq) do nothing
      returning jobs
    )
    insert into deferred_jobs (
      job_id, lane, state, run_at, created_at, run_lease, attempt, max_attempts, kind, args,
      metadata, tags, errors, progress, unique_states, ordering_key, deadline, xid)
    select n.job_id, v_lane, v_state, v_now + coalesce(p_retry_after, _backoff(n.attempt)), n.created_at, n.run_lease + 1,
      n.attempt + (p_how <> 's')::integer, n.max_attempts, n.kind, n.args, n.metadata, n.tags,
      case
        when p_how = 's' then n.errors
        when n.attempt = 1 and n.errors is null and n.error is not distinct from v_errors[1] then v_first
        else _bounded_errors(n.errors, _failure(n.error, n.attempt, v_now), 49)
      end,
      case when (select _any_progress({{ $i }}::smallint)) then _progress_of({{ $i }}::smallint, n.job_id, n.run_lease) else n.progress end,
      n.unique_states, n.ordering_key, n.deadline, v_xid
    from coming as n
    -- The batch is won before anything else is written, because the loser waits there.
    where exists (select from closed);
    get diagnostics v_jobs = row_count;
{{ end }}
  else
    null;
  end case;
  return v_jobs > 0;
end;
$$;

-- Attempts of one segment that all come back, without a unique key: closed and deferred in one
-- statement. Returns false, with nothing done, when one of them is closed, is its job's last
-- attempt, has a unique key, is not where its receipt says, or lost the race for its batch: the
-- caller then sorts them out one by one.
create or replace function {{ .schema }}._defer_together (
  p_slot smallint, p_receipts {{ .schema }}.receipt[], p_errors text[], p_retry_after interval, p_how "char"
)
  returns boolean
  language plpgsql
  volatile
  set enable_nestloop = off
  set plan_cache_mode = force_generic_plan
as $$
declare
  v_now      timestamptz := _now();
  v_state    job_state := _state_after(p_how);
  v_xid      xid8 := pg_current_xact_id();
  -- As in _defer_part.
  v_first    jsonb := _failure(p_errors[1], 1, v_now);
  v_jobs     bigint;
  v_outcomes bigint;
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    with given as materialized (
      select u.batch_id, array_agg(u.job_id) as job_ids, array_agg(u.run_lease) as run_leases, array_agg(u.error) as errors
      from (
        select n.batch_id, n.job_id, _as_lease(n.run_lease) as run_lease, n.error
        from unnest(p_receipts, p_errors) as n (ready_slot, batch_id, job_id, run_lease, error)
        order by n.batch_id, n.job_id
      ) as u
      group by u.batch_id
    ),
    batch as materialized (
      select g.*, b.lane, b.seq
      from given as g
      cross join lateral (
        select c.lane, s.seq
{{ template "internal/open_few.sql" (dict "slot" $i "batch" "g.batch_id" "ids" "g.job_ids" "leases" "g.run_leases") }}        offset 0
      ) as b
    ),
    coming as materialized (
      select b.batch_id, r.*,
        case
          when p_how = 's' then null
          when r.attempt = 1 and u.error is not distinct from p_errors[1] then v_first
          else _failure(u.error, r.attempt, v_now)
        end as entry
      from batch as b
      cross join lateral unnest(b.job_ids, b.run_leases, b.errors) as u (job_id, run_lease, error)
      cross join lateral (
        select e.* from ready_entries_{{ $i }} as e where e.job_id = u.job_id and e.run_lease = u.run_lease offset 0
      ) as r
      where r.unique_key is null and (p_how = 's' or r.attempt < r.max_attempts)
    ),
    closed as (
      insert into attempt_outcomes_{{ $i }} (
        batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, job_ids, run_leases)
      select b.batch_id, b.lane, v_xid, v_now, b.seq, cardinality(k.job_ids), {{ $i }}, p_how, k.job_ids, k.run_leases
      from (
        select n.batch_id, array_agg(n.job_id) as job_ids,
          case when max(n.run_lease) > 1 then array_agg(n.run_lease) end as run_leases
        from (select m.batch_id, m.job_id, m.run_lease from coming as m order by m.batch_id, m.job_id) as n
        group by n.batch_id
      ) as k
      join batch as b on b.batch_id = k.batch_id
      order by b.batch_id
      on conflict (batch_id, seq) do nothing
      returning jobs
    ),
    deferred as (
      insert into deferred_jobs (
        job_id, lane, state, run_at, created_at, run_lease, attempt, max_attempts, kind, args,
        metadata, tags, errors, progress, unique_states, ordering_key, deadline, xid)
      select n.job_id, n.lane, v_state, v_now + coalesce(p_retry_after, _backoff(n.attempt)), n.created_at, n.run_lease + 1,
        n.attempt + (p_how <> 's')::integer, n.max_attempts, n.kind, n.args, n.metadata, n.tags,
        case when p_how = 's' then n.errors else _bounded_errors(n.errors, n.entry, 49) end,
        case when (select _any_progress({{ $i }}::smallint)) then _progress_of({{ $i }}::smallint, n.job_id, n.run_lease) else n.progress end,
        n.unique_states, n.ordering_key, n.deadline, v_xid
      from coming as n
      -- Batches are won before anything else is written, because the loser waits there.
      where (select sum(c.jobs) from closed as c) = cardinality(p_receipts)
      order by n.job_id
      returning job_id
    )
    select (select count(*) from deferred), (select sum(c.jobs) from closed as c) into v_jobs, v_outcomes;
{{ end }}
  else
    null;
  end case;
  if v_jobs = cardinality(p_receipts) and v_outcomes = v_jobs then
    return true;
  end if;
  raise exception using errcode = 'AW000', message = 'undo';
exception
  -- The same receipt twice is a second row of one job.
  when sqlstate 'AW000' or unique_violation then
    return false;
end;
$$;
