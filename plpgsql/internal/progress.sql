-- An attempt's newest progress: its own, or what it was handed.
create or replace function {{ .schema }}._progress_of (p_slot smallint, p_job_id bigint, p_run_lease integer)
  returns jsonb
  language plpgsql
  stable
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
