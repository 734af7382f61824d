-- Where an attempt stands, found from its ready row by index alone. A batch may be
-- large: its arrays are searched as seldom as possible.

-- The batch that claimed an attempt and the outcome that closed it. A batch
-- is named after its highest job id, so the search starts at the job's own id
-- and ends at the first batch of the lane that holds it; only an attempt whose
-- turn has passed is searched for. batch_id is null when nothing claimed it,
-- claimed_at also when it was closed before its turn.
create or replace function {{ .schema }}._attempt_of (
  p_slot integer, p_lane bigint, p_job_id bigint, p_run_lease integer, p_passed boolean,
  out batch_id bigint, out claimed_at timestamptz,
  out outcome "char", out finalized_at timestamptz, out removed boolean, out error jsonb,
  out progress jsonb, out worker text
)
  language plpgsql
  stable
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
    select k.batch_id, nullif(k.claimed_at, k.lease_expires_at), k.worker
    into batch_id, claimed_at, worker
    from claims_{{ $i }} as k
    where k.batch_id >= (p_job_id * 16) << 13
      and k.lane = p_lane
      and p_job_id = any (k.job_ids)
      and coalesce(k.run_leases[array_position(k.job_ids, p_job_id)], 1) = p_run_lease
    order by k.batch_id
    limit 1;
    if batch_id is not null then
      select o.outcome, o.finalized_at,
        exists (
          select from outcome_removals_{{ $i }} as m
          where m.job_id = p_job_id and m.run_lease = p_run_lease),
        o.errors, array_position(o.job_ids, p_job_id),
        case when o.outcome <> 'c' then (
          select p.progress from progress_entries_{{ $i }} as p
          where p.job_id = p_job_id and p.run_lease = p_run_lease
          order by p.at desc
          limit 1) end
      into outcome, finalized_at, removed, v_errors, v_nth, progress
      from attempt_outcomes_{{ $i }} as o
      where o.batch_id = _attempt_of.batch_id and (o.job_ids is null or p_job_id = any (o.job_ids))
      order by o.batch_id, o.seq
      limit 1;
      if v_errors is not null then
        error := v_errors[coalesce(v_nth, (
          select array_position(k.job_ids, p_job_id) from claims_{{ $i }} as k where k.batch_id = _attempt_of.batch_id))];
      end if;
      if outcome is null then
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

-- The batch of an attempt alone. Costly in the planner's eyes, so that a query of many
-- jobs looks for another way. One that is claimed is most often found at once; the lane is
-- asked only before a search to the end of the segment.
create or replace function {{ .schema }}._claim_of (
  p_slot integer, p_lane bigint, p_job_id bigint, p_run_lease integer, p_xid xid8, out batch_id bigint
)
  language plpgsql
  stable
  cost 2000
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_sort = off
  set plan_cache_mode = force_generic_plan
as $$
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    batch_id := (
      select k.batch_id
      from (
        select c.* from claims_{{ $i }} as c
        where c.batch_id >= (p_job_id * 16) << 13
        order by c.batch_id
        limit 100
      ) as k
      where k.lane = p_lane
        and p_job_id = any (k.job_ids)
        and coalesce(k.run_leases[array_position(k.job_ids, p_job_id)], 1) = p_run_lease
      limit 1);
    if batch_id is not null then
      return;
    end if;
    if exists (select from ready_tombstones_{{ $i }} as t where t.job_id = p_job_id and t.run_lease = p_run_lease)
      or (
        select _passed({{ $i }}::smallint, p_xid, p_job_id, c)
        from lane_cursors as c
        where c.lane = p_lane
        order by c.generation desc
        limit 1)
      or p_xid = '0'
    then
      batch_id := (
{{ template "internal/claim_search.sql" (dict "slot" $i "column" "batch_id") }});
    end if;
{{ end }}
  end case;
end;
$$;

-- When a completed attempt was claimed.
create or replace function {{ .schema }}._claimed_at (
  p_slot integer, p_lane bigint, p_job_id bigint, p_run_lease integer, out claimed_at timestamptz
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
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    claimed_at := (
{{ template "internal/claim_search.sql" (dict "slot" $i "column" "claimed_at") }});
{{ end }}
  end case;
end;
$$;

-- When a completed attempt was closed.
create or replace function {{ .schema }}._completed_at (
  p_slot integer, p_lane bigint, p_job_id bigint, p_run_lease integer, out finalized_at timestamptz
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
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    finalized_at := (
      select o.finalized_at
      from attempt_outcomes_{{ $i }} as o
      where o.batch_id = (
{{ template "internal/claim_search.sql" (dict "slot" $i "column" "batch_id") }})
        and o.outcome = 'c' and (o.job_ids is null or p_job_id = any (o.job_ids))
      order by o.batch_id, o.seq
      limit 1);
{{ end }}
  end case;
end;
$$;

-- What an attempt reported last.
create or replace function {{ .schema }}._reported (p_slot integer, p_job_id bigint, p_run_lease integer, out progress jsonb)
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
  set enable_seqscan = off
  set enable_bitmapscan = off
  set plan_cache_mode = force_generic_plan
as $$
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    progress := (
      select p.progress from progress_entries_{{ $i }} as p
      where p.job_id = p_job_id and p.run_lease = p_run_lease
      order by p.at desc
      limit 1);
{{ end }}
  end case;
end;
$$;

-- Whether a batch has attempts that no outcome closes.
create or replace function {{ .schema }}._is_open (p_slot integer, p_batch_id bigint, p_jobs integer, out open boolean)
  language plpgsql
  stable
  cost 10
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    open := p_jobs > coalesce((select sum(o.jobs) from attempt_outcomes_{{ $i }} as o where o.batch_id = p_batch_id), 0);
{{ end }}
  end case;
end;
$$;
