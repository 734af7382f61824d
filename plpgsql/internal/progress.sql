-- Progress: what an attempt last reported, handed on to the next one.

-- An attempt's newest progress: its own, or what it was handed.
create or replace function {{ .schema }}._progress_of (p_slot smallint, p_job_id bigint, p_run_lease integer)
  returns jsonb
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  -- That segment alone, because a finish is not inside the gate.
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    return coalesce(
      (select p.progress from progress_entries_{{ $i }} as p
       where p.job_id = p_job_id and p.run_lease = p_run_lease
       order by p.at desc limit 1),
      (select r.progress from ready_entries_{{ $i }} as r
       where r.job_id = p_job_id and r.run_lease = p_run_lease));
{{ end }}
  end case;
end;
$$;

-- Whether any attempt of a segment reported progress. A function, and volatile, so that a call
-- that waited within its statement sees what was reported meanwhile.
create or replace function {{ .schema }}._any_progress (p_slot smallint)
  returns boolean
  language plpgsql
  volatile
as $$
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    return exists (select from progress_entries_{{ $i }});
{{ end }}
  end case;
end;
$$;

-- A report on top of an earlier one.
create or replace function {{ .schema }}._progress (p_before jsonb, p_percent integer, p_message text, p_metadata jsonb)
  returns jsonb
  language plpgsql
  stable
as $$
declare
  v_metadata jsonb := coalesce(p_before -> 'metadata', '{}') || coalesce(p_metadata, '{}');
begin
  perform _check_size('{}', v_metadata, null, null);
  return jsonb_strip_nulls(jsonb_build_object('percent', least(greatest(p_percent, 0), 100), 'message', left(p_message, 1000)))
    || case when v_metadata = '{}' then '{}' else jsonb_build_object('metadata', v_metadata) end;
end;
$$;

-- Adds a report to an open attempt, or without a percent repeats the newest one. False when the
-- attempt is not open. Each row of an attempt has the next number in at, so of two calls that
-- saw the same newest row one waits for the other's commit, and then builds on it.
create or replace function {{ .schema }}._report (p_receipt {{ .schema }}.receipt, p_percent integer, p_message text, p_metadata jsonb)
  returns boolean
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_open   receipt;
  v_at     timestamptz;
  v_before jsonb;
begin
  loop
    select o.* into v_open from _open_receipts(array[p_receipt]) as o;
    if not found then
      return false;
    end if;
    select p.at, p.progress into v_at, v_before
    from progress_entries as p
    where p.ready_slot = v_open.ready_slot and p.job_id = v_open.job_id and p.run_lease = v_open.run_lease
    order by p.at desc
    limit 1;
    v_before := coalesce(v_before, _progress_of(v_open.ready_slot, v_open.job_id, v_open.run_lease::integer));
    insert into progress_entries (job_id, run_lease, at, ready_slot, progress)
    values (v_open.job_id, v_open.run_lease, coalesce(v_at, 'epoch') + interval '1 microsecond', v_open.ready_slot,
      case when p_percent is null then v_before else _progress(v_before, p_percent, p_message, p_metadata) end)
    on conflict do nothing;
    exit when found;
  end loop;
  return true;
end;
$$;
