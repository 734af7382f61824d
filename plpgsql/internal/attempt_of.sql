-- The states of attempts: of one, found from its ready row by index alone, and of all at once
-- (ADR 0019).

-- The batch that claimed an attempt and the outcome that closed it. A batch is named after its
-- highest job id, so the search starts at the job's own id and ends at the first batch of the
-- lane that holds it; call this only for an attempt whose turn has passed. batch_id is null
-- when nothing claimed it; claimed_at is null also when it was closed before its turn.
create or replace function {{ .schema }}._attempt_of (
  p_slot integer, p_lane bigint, p_job_id bigint, p_run_lease integer, p_passed boolean,
  out batch_id bigint, out claimed_at timestamptz,
  out outcome "char", out finalized_at timestamptz, out removed boolean, out error jsonb,
  out progress jsonb, out worker text
)
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_sort = off
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_errors jsonb[];
  v_nth    integer;
begin
  if p_passed is not true then
    return;
  end if;
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    select k.batch_id, nullif(k.claimed_at, k.lease_expires_at), k.worker, array_position(k.job_ids, p_job_id)
    into batch_id, claimed_at, worker, v_nth
    from claims_{{ $i }} as k
    where k.batch_id >= (p_job_id * 16) << 13
      and k.lane = p_lane
      and array_position(k.job_ids, p_job_id) is not null
      and coalesce(k.run_leases[array_position(k.job_ids, p_job_id)], 1) = p_run_lease
    order by k.batch_id
    limit 1;
    if batch_id is not null then
      select o.outcome, o.finalized_at,
        exists (
          select from outcome_removals_{{ $i }} as m
          where m.job_id = p_job_id and m.run_lease = p_run_lease),
        o.errors, coalesce(array_position(o.job_ids, p_job_id), v_nth)
      into outcome, finalized_at, removed, v_errors, v_nth
      from attempt_outcomes_{{ $i }} as o
      where o.batch_id = _attempt_of.batch_id and (o.job_ids is null or p_job_id = any (o.job_ids))
      order by o.batch_id, o.seq
      limit 1;
      if v_errors is not null then
        error := v_errors[v_nth];
      end if;
      if outcome is distinct from 'c' then
        progress := (
          select p.progress from progress_entries_{{ $i }} as p
          where p.job_id = p_job_id and p.run_lease = p_run_lease
          order by p.at desc
          limit 1);
      end if;
    end if;
{{ end }}
  end case;
end;
$$;

-- Arrays that the view jobs reads once a query has met many jobs, ordered by (job id, run
-- lease, code): the completed attempts with their times, or all other claimed ones and those
-- removed from history. Codes: 0 running or completed, 1 failed, 2 cancelled, 3 removed, which
-- comes last for its attempt. '-infinity' stands for no time, because finding the nth element
-- of an array with nulls is a search. All null when there are too many.
create or replace function {{ .schema }}._claimed (
  p_completed boolean, out keys bigint[], out claimed_at timestamptz[], out finalized_at timestamptz[]
)
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
  set plan_cache_mode = force_custom_plan
  set enable_seqscan = on
  set enable_hashjoin = on
  set enable_nestloop = off
  set enable_mergejoin = off
  set work_mem = '64MB'
  set jit = off
as $$
begin
  if (select sum(o.jobs) from attempt_outcomes as o where (o.outcome = 'c') = p_completed) > 4000000 then
    return;
  end if;
  -- Arrays as in _locate_many.
  with
  ended as (
    select o.ready_slot, unnest(coalesce(o.job_ids, c.job_ids)) as job_id,
      unnest(case when o.job_ids is null then c.run_leases else o.run_leases end) as run_lease,
      o.outcome, nullif(c.claimed_at, c.lease_expires_at) as claimed_at, o.finalized_at
    from attempt_outcomes as o
    join claims as c on c.ready_slot = o.ready_slot and c.batch_id = o.batch_id
    where (o.outcome = 'c') = p_completed
  ),
  closed as (
    select o.ready_slot, o.batch_id, sum(o.jobs) as jobs from attempt_outcomes as o group by o.ready_slot, o.batch_id
  ),
  running as (
    select j.job_id, j.run_lease
    from (
      select c.ready_slot, c.batch_id, unnest(c.job_ids) as job_id, unnest(c.run_leases) as run_lease
      from claims as c
      left join closed as o on o.ready_slot = c.ready_slot and o.batch_id = c.batch_id
      where not p_completed and cardinality(c.job_ids) > coalesce(o.jobs, 0)
    ) as j
    where not exists (
      select from (select o.ready_slot, o.batch_id, unnest(o.job_ids) as job_id from attempt_outcomes as o) as i
      where i.ready_slot = j.ready_slot and i.batch_id = j.batch_id and i.job_id = j.job_id)
  ),
  found as (
    select e.job_id, e.run_lease, case e.outcome when 'c' then 0 when 'f' then 1 when 'x' then 2 else 3 end as code,
      e.claimed_at, e.finalized_at
    from ended as e
    union all
    select r.job_id, r.run_lease, 0, null, null from running as r
    union all
    select m.job_id, m.run_lease, 3, null, null from outcome_removals as m where not p_completed
  )
  select coalesce(array_agg(f.key), '{}'), array_agg(coalesce(f.claimed_at, '-infinity')), array_agg(coalesce(f.finalized_at, '-infinity'))
  into keys, _claimed.claimed_at, _claimed.finalized_at
  from (
    select (f.job_id << 18 | coalesce(f.run_lease, 1)) << 2 | f.code as key, f.claimed_at, f.finalized_at
    from found as f
    where f.job_id < 1::bigint << 43 and coalesce(f.run_lease, 1) < 1 << 18
    order by 1
  ) as f;
end;
$$;

-- The newest cursor of each lane that has one, in the order of lanes.
create or replace function {{ .schema }}._newest_cursors (out lanes bigint[], out newest {{ .schema }}.lane_cursors[])
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
  set enable_seqscan = off
  set enable_bitmapscan = off
  set plan_cache_mode = force_generic_plan
as $$
begin
  select array_agg(n.lane), array_agg(n.newest) into lanes, newest
  from (
    select l.lane, c.newest
    from (select distinct q.lane from queue_lanes as q) as l
    cross join lateral (
      select k::lane_cursors as newest from lane_cursors as k where k.lane = l.lane order by k.generation desc limit 1
    ) as c
    order by l.lane
  ) as n;
end;
$$;

-- How many attempts to look up by their keys before reading all pays off: so many for each page
-- of claims and outcomes.
create or replace function {{ .schema }}._by_key_at_most (out jobs bigint)
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
as $$
begin
  jobs := 4 * (0
{{- range $i := until (int .segments) }}
    + pg_table_size('{{ $.schema }}.claims_{{ $i }}') + pg_table_size('{{ $.schema }}.attempt_outcomes_{{ $i }}')
{{- end }}
  ) / 8192;
end;
$$;
