-- Where an attempt stands, found from its ready row by index alone.

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
        o.errors, coalesce(array_position(o.job_ids, p_job_id), v_nth),
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
        error := v_errors[v_nth];
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
