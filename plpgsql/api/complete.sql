-- Complete: the attempt succeeded.

create or replace function {{ .schema }}.complete (receipt {{ .schema }}.receipt)
  returns boolean
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
as $$
declare
  v_batch_id bigint := (complete.receipt).batch_id;
  v_job_id   bigint := (complete.receipt).job_id;
  v_lease    bigint := (complete.receipt).run_lease;
begin
  case (complete.receipt).ready_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    -- The highest job of a batch gives it its name: only there may it be the
    -- sole one, whose first outcome is its last.
    if v_batch_id >> 17 = v_job_id then
      insert into attempt_outcomes_{{ $i }} (batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome)
      select c.batch_id, c.lane, pg_current_xact_id(), _now(), 0, 1, {{ $i }}, 'c'
      from claims_{{ $i }} as c
      where c.batch_id = v_batch_id
        and c.job_ids = array[v_job_id]
        and coalesce(c.run_leases[1], 1) = v_lease
        and c.follows is null
      on conflict (batch_id, seq) do nothing;
      if found then
        return true;
      end if;
    end if;
    -- A concurrent outcome of the batch takes the same seq: the unique index
    -- makes this wait for it and then add nothing.
    insert into attempt_outcomes_{{ $i }} (
      batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, job_ids, run_leases)
    select c.batch_id, c.lane, pg_current_xact_id(), _now(), s.seq, 1, {{ $i }}, 'c',
      case when cardinality(c.job_ids) > 1 then array[v_job_id] end,
      case when cardinality(c.job_ids) > 1 and v_lease > 1 then array[v_lease::integer] end
    from claims_{{ $i }} as c
    cross join lateral (
      select coalesce(max(o.seq) + 1, 0) as seq,
        coalesce(bool_or(o.job_ids is null or v_job_id = any (o.job_ids)), false) as closed
      from attempt_outcomes_{{ $i }} as o
      where o.batch_id = c.batch_id
    ) as s
    where c.batch_id = v_batch_id
      and array_position(c.job_ids, v_job_id) is not null
      and coalesce(c.run_leases[array_position(c.job_ids, v_job_id)], 1) = v_lease
      and not s.closed
      and c.follows is null
    on conflict (batch_id, seq) do nothing;
{{ end }}
  else
    return false;
  end case;
  if found then
    return true;
  end if;
  return not exists (select from _complete_attempts(array[complete.receipt]));
end;
$$;

comment on function {{ .schema }}.complete is
  'Closes an attempt as completed. True when this call did it, false when the receipt is stale: closed before, rescued, or never issued. Waits only for a concurrent finish of the same batch. Raises 40001 under a stale REPEATABLE READ snapshot.';

create or replace function {{ .schema }}.complete_many (receipts {{ .schema }}.receipt[])
  returns setof {{ .schema }}.receipt
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
as $$
begin
  return query
  select s.ready_slot, s.batch_id, s.job_id, s.run_lease from _complete_attempts(complete_many.receipts) as s;
end;
$$;

comment on function {{ .schema }}.complete_many is
  'Closes attempts as completed, one row per claim batch. Returns the stale receipts; no row means all were accepted. Waits only for concurrent finishes of the same batches, in batch order. Raises 40001 under a stale REPEATABLE READ snapshot.';
