-- An attempt's newest progress: its own, or what it was handed.
create or replace function {{ .schema }}._progress_of (p_slot smallint, p_job_id bigint, p_run_lease integer)
  returns jsonb
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  return coalesce(
    (select p.progress from progress_entries as p
     where p.ready_slot = p_slot and p.job_id = p_job_id and p.run_lease = p_run_lease
     order by p.at desc limit 1),
    (select r.progress from ready_entries as r
     where r.ready_slot = p_slot and r.job_id = p_job_id and r.run_lease = p_run_lease));
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
