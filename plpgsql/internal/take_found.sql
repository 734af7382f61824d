{{- /* Takes the terminal jobs of found out of history and counts that. Returns those that nobody
took first. */}}
  gone as (
    insert into outcome_removals (job_id, lane, xid, run_lease, ready_slot, outcome)
    select f.job_id, f.lane, pg_current_xact_id(), f.run_lease, f.ready_slot, f.outcome
    from found as f
    on conflict do nothing
    returning ready_slot, lane, job_id, run_lease, outcome
  ),
  counted as materialized (
    select _count_removed(k.lane, k.ready_slot, k.outcome, k.jobs)
    from (select g.lane, g.ready_slot, g.outcome, count(*) as jobs from gone as g group by g.lane, g.ready_slot, g.outcome) as k
  )
  select f.*
  from gone as g
  join found as f on f.job_id = g.job_id and f.run_lease = g.run_lease and f.ready_slot = g.ready_slot
  where (select count(*) from counted) > 0;
