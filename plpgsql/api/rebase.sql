-- Rebase: after a dump was restored or copied logically into another cluster,
-- whose transaction ids mean something else.

create or replace function {{ .schema }}.rebase ()
  returns bigint
{{ template "internal/public.sql" . -}}
  -- Tables that were not analyzed yet may look empty to the planner.
  set enable_nestloop = off
as $$
declare
  v_wait    text := current_setting('lock_timeout');
  v_until   timestamptz := _shut_until();
  v_own     xid8 := pg_current_xact_id();
  v_snap    pg_snapshot;
  v_current segment_rotations;
  v_rows    bigint;
begin
  perform _require_read_committed('rebase');
  -- Locked as in reset: workers poll and producers add rows whatever the ids.
  loop
    begin
      perform _shut_ring();
      lock table ready_entries, claims, attempt_outcomes, outcome_removals, lane_cursors,
        terminal_count_deltas, checkpoint_snapshots, terminal_count_checkpoints, segment_rotations,
        deferred_jobs, workers, worker_notices, promotion_points, watched_claims, watch_points, cron_fires, cron_points,
        job_dependencies, dependency_points, job_departures, primaries
        in access exclusive mode;
      truncate checkpoint_snapshots, terminal_count_checkpoints, worker_notices, promotion_points, watch_points, cron_points,
        dependency_points;
      exit;
    exception when lock_not_available or deadlock_detected then
      perform _shut_again('rebase', v_until);
    end;
  end loop;
  perform set_config('lock_timeout', v_wait, true);
  v_snap := _hide_own(pg_current_snapshot());
  select r.* into v_current from segment_rotations as r order by r.generation desc limit 1;

  -- 1 is below every window and above 0: seen by all, and still counted.
  update segment_rotations as r set xid = '1';
  update attempt_outcomes as o set xid = '1';
  update outcome_removals as m set xid = '1';
  update terminal_count_deltas as d set xid = '1';
  update claims as c set bypassed_by = '1' where c.bypassed_by is not null;
  -- Unnested once: joined as arrays, each job would be searched for in all claims of its lane.
  with claimed as materialized (
    select c.ready_slot, c.lane, j.job_id, coalesce(j.run_lease, 1) as run_lease
    from claims as c
    cross join lateral unnest(c.job_ids, c.run_leases) as j (job_id, run_lease)
  )
  update ready_entries as r set xid = '1'
  from claimed as k
  where r.xid > '0' and k.ready_slot = r.ready_slot and k.lane = r.lane and k.job_id = r.job_id and k.run_lease = r.run_lease;
  -- Waiting jobs are offered as if this transaction had enqueued them.
  update ready_entries as r set xid = v_own where r.xid > '1' and r.xid <> v_own;
  get diagnostics v_rows = row_count;
  -- As _deferred_touched has it.
  update deferred_jobs as d set xid = v_own;
  update workers as w set seen = '1:1:';
  -- Workers could not be heard while the copy was made; they find the server here from now on.
  insert into primaries (n, timeline, since)
  select coalesce(max(p.n), 0) + 1, coalesce((array_agg(p.timeline order by p.n desc))[1], 1), _now() from primaries as p;
  update watched_claims as w set xid = '1';
  update cron_fires as f set xid = '1';
  update job_dependencies as k set xid = '1';
  update job_departures as d set xid = '1';

  insert into lane_cursors (
    lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid, settled_segment, settled_xid,
    claimed_total, ready_slot, skips, drained, s_prev, s_cur)
  select c.lane, c.generation + 1, v_current.generation, v_current.generation,
    greatest(v_current.generation - {{ sub (int .segments) 1 }}, 0), '0', -1, '0', null, null,
    c.claimed_total, v_current.slot, 2, true, v_snap, v_snap
  from (
    select distinct on (k.lane) k.* from lane_cursors as k order by k.lane, k.generation desc
  ) as c;

  -- Logical replication leaves sequences where they were. An id that is given out again would
  -- be two jobs, and a fire with a lower number than those before it would be forgotten.
  perform setval(i.sequence, i.last)
  from (
    values
      ('job_id_seq'::regclass, (
        select max(j.id)
        from (
          select max(r.job_id) as id from ready_entries as r
          union all
          select max(d.job_id) from deferred_jobs as d
          union all
          select max(l.job_id) from leases as l
          union all
          select max(q.id) from dlq_entries as q
        ) as j)),
      ('schedules_id_seq', (select max(s.id) from schedules as s)),
      ('cron_point_seq', (select max(f.point) from cron_fires as f)),
      ('batch_operations_id_seq', (select max(b.id) from batch_operations as b))
  ) as i (sequence, last)
  where i.last > coalesce(pg_sequence_last_value(i.sequence), 0);
  return v_rows;
end;
$$;

comment on function {{ .schema }}.rebase is
  'Corrects stored transaction ids after a restore from another cluster: waiting jobs are offered anew in the order of their ids; history and counters stay, and new jobs get ids beyond all that are there. Returns the number of waiting jobs. Locks everything against other sessions and rewrites what is retained. Waits for open transactions that used the queues, for lock_timeout or a minute, and then raises 55P03. Raises 25001 outside READ COMMITTED.';
