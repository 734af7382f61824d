-- Check: every invariant of the storage.

create or replace function {{ .schema }}.check ()
  returns table (invariant text, detail text, expected bigint, actual bigint)
{{ template "internal/public.sql" . -}}
  set work_mem = '64MB'
  -- Everything is read: what is believed to be empty, not once for each row of something else.
  set enable_nestloop = off
as $$
#variable_conflict use_column
begin
  perform _enter_ring();
  return query
  with
  lanes as materialized (
    select distinct q.lane, q.queue, q.priority, q.enqueue_shard from queue_lanes as q
  ),
  claimed as materialized (
    select c.ready_slot, c.batch_id, c.lane, j.job_id, coalesce(j.run_lease, 1) as run_lease
    from claims as c
    cross join lateral unnest(c.job_ids, c.run_leases) as j (job_id, run_lease)
  ),
  closed as materialized (
    select o.ready_slot, o.batch_id, o.lane, o.outcome, j.job_id, coalesce(j.run_lease, 1) as run_lease
    from attempt_outcomes as o
    left join claims as c on c.ready_slot = o.ready_slot and c.batch_id = o.batch_id
    cross join lateral unnest(
      coalesce(o.job_ids, c.job_ids),
      case when o.job_ids is null then c.run_leases else o.run_leases end) as j (job_id, run_lease)
  ),
  ready as materialized (
    select r.ready_slot, r.lane, r.xid, r.job_id, r.run_lease from ready_entries as r
  ),
  -- Batches on the lists of rescue, taken apart once: a list may be as long as there are claims.
  listed as materialized (
    select unnest(p.open_batches) as batch_id
    from (select distinct on (n.lane) n.* from rescue_points as n order by n.lane, n.point desc) as p
    union all
    select unnest(w.open_batches) from (select n.* from watch_points as n order by n.point desc limit 1) as w
  ),
  cursors as materialized (
    select distinct on (c.lane) c.* from lane_cursors as c order by c.lane, c.generation desc
  ),
  history as materialized (
    select d.ready_slot, d.queue, d.priority, d.enqueue_shard, d.state, count(*) as jobs
    from done_entries as d
    group by d.ready_slot, d.queue, d.priority, d.enqueue_shard, d.state
  ),
  counted as materialized (
    select n.ready_slot, n.queue, n.priority, n.enqueue_shard, s.state, s.jobs
    from queue_terminal_live_counts as n
    cross join lateral unnest(array['completed', 'failed', 'cancelled']::job_state[], array[n.completed, n.failed, n.cancelled]) as s (state, jobs)
  ),
  placed as materialized (
    select r.*, coalesce(
{{ template "internal/row_passed.sql" . }}      , false) as passed, coalesce(c.skips, 0) as skips
    from ready as r
    left join cursors as c on c.lane = r.lane
  ),
  waiting as (
    select r.lane, count(*) as jobs
    from ready as r
    where r.xid > '0'
      and not exists (select from claimed as c where c.job_id = r.job_id and c.run_lease = r.run_lease)
    group by r.lane
  ),
  open as (
    select c.lane, count(*) as jobs
    from claimed as c
    where not exists (select from closed as x where x.job_id = c.job_id and x.run_lease = c.run_lease)
    group by c.lane
  ),
  -- Jobs outside the ring, each with its last attempt.
  outside as materialized (
    select d.job_id, d.run_lease - 1 as run_lease from deferred_jobs as d
    union all
    select l.job_id, l.receipt_lease from leases as l
    union all
    select q.id, q.run_lease from dlq_entries as q
  ),
  told as materialized (
    select k.queue, sum(k.available)::bigint as available, sum(k.running)::bigint as running,
      coalesce(sum(w.jobs), 0)::bigint as waiting, coalesce(sum(o.jobs), 0)::bigint as open
    from _lane_counts() as k
    left join waiting as w on w.lane = k.lane
    left join open as o on o.lane = k.lane
    group by k.queue
  )
  select 'terminal counters equal history',
    format('slot %s queue %L priority %s shard %s %s', coalesce(h.ready_slot, n.ready_slot), coalesce(h.queue, n.queue),
      coalesce(h.priority, n.priority), coalesce(h.enqueue_shard, n.enqueue_shard), coalesce(h.state, n.state)),
    coalesce(h.jobs, 0), coalesce(n.jobs, 0)
  from history as h
  full join counted as n
    on n.ready_slot = h.ready_slot and n.queue = h.queue and n.priority = h.priority and n.enqueue_shard = h.enqueue_shard
      and n.state = h.state
  where coalesce(h.jobs, 0) <> coalesce(n.jobs, 0)
  union all
  select 'an attempt closes once', format('job %s lease %s', x.job_id, x.run_lease), 1, count(*)
  from closed as x
  group by x.job_id, x.run_lease
  having count(*) > 1
  union all
  select 'an attempt is claimed once', format('job %s lease %s', c.job_id, c.run_lease), 1, count(*)
  from claimed as c
  group by c.job_id, c.run_lease
  having count(*) > 1
  union all
  select 'every outcome has its claim', format('slot %s batch %s job %s', x.ready_slot, x.batch_id, x.job_id), 1, 0
  from closed as x
  where not exists (
    select from claimed as c
    where c.ready_slot = x.ready_slot and c.batch_id = x.batch_id and c.lane = x.lane
      and c.job_id = x.job_id and c.run_lease = x.run_lease)
  union all
  select 'every outcome counts its jobs', format('slot %s batch %s seq %s', o.ready_slot, o.batch_id, o.seq),
    cardinality(coalesce(o.job_ids, c.job_ids)), o.jobs
  from attempt_outcomes as o
  left join claims as c on c.ready_slot = o.ready_slot and c.batch_id = o.batch_id
  where o.jobs is distinct from cardinality(coalesce(o.job_ids, c.job_ids))
  union all
  select 'an outcome is of a known kind', format('slot %s batch %s seq %s', o.ready_slot, o.batch_id, o.seq), 1, 0
  from attempt_outcomes as o
  where o.outcome not in ('c', 'f', 'x', 'r', 's', 'e', 'm', 'q', 'd')
  union all
  select 'every claim has its ready rows', format('slot %s batch %s job %s', c.ready_slot, c.batch_id, c.job_id), 1, 0
  from claimed as c
  where not exists (
    select from ready as r
    where r.ready_slot = c.ready_slot and r.lane = c.lane and r.job_id = c.job_id and r.run_lease = c.run_lease)
  union all
  select 'every removal has its outcome', format('slot %s job %s', m.ready_slot, m.job_id), 1, 0
  from outcome_removals as m
  where not exists (
    select from closed as x
    where x.ready_slot = m.ready_slot and x.lane = m.lane and x.job_id = m.job_id and x.run_lease = m.run_lease and x.outcome = m.outcome)
  union all
  -- Its next attempt, or a note that it was taken out before that. Either is in the segment of
  -- the outcome or a later one, or in a slot that was emptied meanwhile, so it does not go first.
  select 'a job goes on after an attempt that did not end it', format('job %s lease %s', x.job_id, x.run_lease), 1, 0
  from closed as x
  where x.outcome in ('r', 's', 'e', 'm')
    and not exists (select from ready as r where r.job_id = x.job_id and r.run_lease > x.run_lease)
    and not exists (select from outside as o where o.job_id = x.job_id and o.run_lease >= x.run_lease)
    and not exists (select from (select unnest(g.job_ids) as job_id from job_departures as g) as d where d.job_id = x.job_id)
  union all
  select 'a job is in one place', format('job %s', p.job_id), 1, count(*)
  from (
    select r.job_id from ready as r
    where not exists (select from closed as x where x.job_id = r.job_id and x.run_lease = r.run_lease)
    union all
    select e.id from done_entries as e
    union all
    select o.job_id from outside as o
  ) as p
  group by p.job_id
  having count(*) > 1
  union all
  select 'new jobs get new ids', format('job %s', j.last), j.last, s.last_value
  from (
    select max(i.job_id) as last from (select r.job_id from ready as r union all select o.job_id from outside as o) as i
  ) as j
  cross join job_id_seq as s
  where j.last > s.last_value
  union all
  select 'a tombstone stands for a claim', format('slot %s job %s', t.ready_slot, t.job_id), 1, 0
  from ready_tombstones as t
  where not exists (
    select from claimed as c
    where c.ready_slot = t.ready_slot and c.job_id = t.job_id and c.run_lease = t.run_lease)
  union all
  select 'a unique key belongs to a job', format('key %s job %s', encode(u.unique_key, 'hex'), u.job_id), 1, 0
  from job_unique_claims as u
  -- One condition, because of several the planner expects that no row is left, and then looks
  -- through all jobs for each key.
  where not exists (
    select from (
      select r.job_id from ready as r
      union all
      select o.job_id from outside as o
    ) as h
    where h.job_id = u.job_id)
  union all
  select 'a waiting job holds its unique key', format('job %s', w.job_id), w.job_id,
    (select u.job_id from job_unique_claims as u where u.unique_key = w.unique_key)
  from (
    -- Except one that a claim set aside and that needs none in its lane, until it is back there.
    select d.job_id, d.unique_key from deferred_jobs as d
    where d.unique_key is not null and _in_mask(d.state, d.unique_states)
      and (d.state = 'retryable' or _in_mask('available', d.unique_states) or d.run_at > _now() and (d.run_at < 'infinity'
        or exists (select from job_dependencies as k where k.job_id = d.job_id)))
    union all
    select r.job_id, r.unique_key from ready_entries as r
    where r.unique_key is not null and _in_mask('available', r.unique_states)
      and not exists (select from claimed as c where c.job_id = r.job_id and c.run_lease = r.run_lease)
  ) as w
  where not exists (select from job_unique_claims as u where u.unique_key = w.unique_key and u.job_id = w.job_id)
  union all
  -- A row whose window has passed must be in a claim.
  select 'a row that was offered was claimed', format('slot %s job %s lease %s', o.ready_slot, o.job_id, o.run_lease), 1, 0
  from placed as o
  where o.passed
    and not exists (select from claimed as c where c.job_id = o.job_id and c.run_lease = o.run_lease)
  union all
  -- A claim would hand it out once more.
  select 'a row that was taken is not offered', format('slot %s job %s lease %s', o.ready_slot, o.job_id, o.run_lease), 1, 0
  from placed as o
  left join ready_tombstones as t on t.ready_slot = o.ready_slot and t.job_id = o.job_id and t.run_lease = o.run_lease
  where not o.passed and (o.skips = 0 or t.job_id is null)
    and exists (select from claimed as c where c.job_id = o.job_id and c.run_lease = o.run_lease)
  union all
  -- A waiting row is where its window will look: in the rest of the open one,
  -- from the base segment on, or of a transaction below the floor, which makes
  -- the next claim search the whole ring.
  select 'a waiting row is within reach', format('slot %s job %s lease %s', r.ready_slot, r.job_id, r.run_lease), 1, 0
  from ready as r
  join cursors as c on c.lane = r.lane
  cross join lateral (
    select max(g.generation) as segment from segment_rotations as g where g.slot = r.ready_slot
  ) as s
  cross join lateral (
    select case when c.settled_xid <= pg_snapshot_xmax(c.s_cur) then c.settled_segment else c.base_segment end as segment,
      case when c.settled_xid <= pg_snapshot_xmax(c.s_cur) then c.settled_xid else c.floor_xid end as floor
  ) as b
  where r.xid > '0'
    and not exists (select from claimed as k where k.job_id = r.job_id and k.run_lease = r.run_lease)
    and not pg_visible_in_snapshot(r.xid, c.s_prev)
    and case when not c.drained and pg_visible_in_snapshot(r.xid, c.s_cur)
      then s.segment not between c.segment and c.last_segment
      else s.segment < b.segment and r.xid >= b.floor
      end
  union all
  select 'an open claim is within reach of rescue', format('slot %s batch %s', c.ready_slot, c.batch_id), 1, 0
  from claims as c
  left join lateral (
    select p.checked from rescue_points as p where p.lane = c.lane order by p.point desc limit 1
  ) as p on true
  left join (select n.* from watch_points as n order by n.point desc limit 1) as v on true
  where exists (
      select from claimed as k
      where k.batch_id = c.batch_id and k.ready_slot = c.ready_slot
        and not exists (select from closed as x where x.job_id = k.job_id and x.run_lease = k.run_lease))
    and not exists (select from listed as l where l.batch_id = c.batch_id)
    and not exists (
      select from lane_cursors as k
      where k.lane = c.lane and k.generation > coalesce(p.checked, 0) and k.batch_id = c.batch_id)
    and not exists (
      select from watched_claims as w
      where w.batch_id = c.batch_id and (v.seen is null or not pg_visible_in_snapshot(w.xid, v.seen)))
  union all
  select 'a deferred job is within reach of promotion', format('job %s', d.job_id), 1, 0
  from deferred_jobs as d
  join (select n.* from promotion_points as n order by n.point desc limit 1) as p
    on (d.run_at, d.job_id) <= (p.run_at, p.job_id) and pg_visible_in_snapshot(d.xid, p.seen)
  union all
  select 'a job that was set aside is listed', format('job %s', d.job_id), 1, 0
  from deferred_jobs as d
  where _is_parked(d)
    and not exists (select from job_dependencies as k where k.job_id = d.job_id)
    and not exists (
      select from parked_jobs as p
      join lanes as l on l.queue = p.queue
      join queue_meta as m on m.queue = p.queue and m.parked_round = p.round
      where p.job_id = d.job_id and l.lane = d.lane and p.key = _concurrency_key(d.metadata))
  union all
  select 'a job waits for one that may complete', format('job %s after job %s', k.job_id, k.after_id), 1, 0
  from job_dependencies as k
  join (select n.* from dependency_points as n order by n.point desc limit 1) as p on true
  where exists (select from deferred_jobs as d where d.job_id = k.job_id)
    and not exists (select from ready as r where r.job_id = k.after_id)
    and not exists (select from outside as o where o.job_id = k.after_id)
    and pg_visible_in_snapshot(k.xid, p.seen)
    and not exists (
      select from (select g.xid, unnest(g.job_ids) as job_id from job_departures as g) as d
      where d.job_id = k.after_id and d.xid >= pg_snapshot_xmin(p.seen) and not pg_visible_in_snapshot(d.xid, p.seen))
  union all
  select 'a schedule knows its next fire', format('schedule %L', s.name), 1, 0
  from schedules as s
  where not exists (select from cron_fires as f where f.schedule_id = s.id)
  union all
  select 'a due schedule is within reach', format('schedule %L', s.name), 1, 0
  from schedules as s
  cross join lateral (
    select f.* from cron_fires as f where f.schedule_id = s.id order by f.point desc limit 1
  ) as f
  join (select n.* from cron_points as n order by n.point desc limit 1) as p
    on (f.look_at, f.point) <= (p.look_at, p.fire_point) and (not f.changed or pg_visible_in_snapshot(f.xid, p.seen))
  where s.paused_at is null and s.id <> all (p.held || p.troubled)
  union all
  select 'cursors stay inside their snapshots', format('lane %s generation %s', c.lane, c.generation), 1, 0
  from cursors as c
  where pg_snapshot_xmax(c.s_prev) > pg_snapshot_xmax(c.s_cur)
    or pg_snapshot_xmax(c.s_cur) > pg_snapshot_xmax(pg_current_snapshot())
    or c.pos_xid >= pg_snapshot_xmax(c.s_cur)
    or c.segment > c.last_segment
  union all
  select 'available equals ready rows without a claim', format('queue %L', t.queue), t.waiting, t.available
  from told as t
  where t.waiting <> t.available
  union all
  select 'running equals claims without an outcome', format('queue %L', t.queue), t.open, t.running
  from told as t
  where t.open <> t.running
  union all
  select 'deferred counters equal deferred jobs', format('lane %s', d.lane), d.scheduled + d.retryable,
    d.counted_scheduled + d.counted_retryable
  from _deferred_drift() as d
  union all
  select 'the storage has its settings', 'storage_settings', 1, 0
  where not exists (select from storage_settings)
  union all
  select 'the ring has a free segment', format('segment %s: %s', s.generation, s.reason), 0, s.waiting + s.running
  from storage_status() as s
  where s.waiting + s.running > (select n.straggler_limit from storage_settings as n)
    and s.generation + {{ sub (int .segments) 1 }} <= (select max(r.generation) from segment_rotations as r)
  union all
  select 'rollups are not negative', format('lane %s segment %s', e.lane, e.generation), 0,
    least(e.ready, e.completed, e.failed, e.cancelled)
  from terminal_rollup_entries as e
  where least(e.ready, e.completed, e.failed, e.cancelled) < 0
  union all
  select 'the ring ledger has no gap', format('segment %s in slot %s', r.generation, r.slot), r.n - 1, r.generation
  from (
    select r.*, row_number() over (order by r.generation) as n from segment_rotations as r
  ) as r
  where r.generation <> r.n - 1 or r.slot <> r.generation % {{ .segments }}
  union all
  select 'pruned segments are the oldest', format('segment %s', p.generation), p.n - 1, p.generation
  from (
    select p.generation, row_number() over (order by p.generation) as n from segment_prunes as p
  ) as p
  where p.generation <> p.n - 1 or p.generation >= (select max(r.generation) from segment_rotations as r)
  union all
  select 'the ring has a slot for every segment', 'unpruned segments', {{ .segments }},
    (select max(r.generation) from segment_rotations as r) - (select coalesce(max(p.generation), -1) from segment_prunes as p)
  where (select max(r.generation) from segment_rotations as r) - (select coalesce(max(p.generation), -1) from segment_prunes as p) > {{ .segments }}
  union all
  select 'a job is in a lane of a queue', format('lane %s', j.lane), 0, count(*)
  from (
    select r.lane from ready as r
    union all
    select d.lane from deferred_jobs as d
    union all
    select l.lane from leases as l
  ) as j
  where not exists (select from lanes as l where l.lane = j.lane)
  group by j.lane
  union all
  select 'a lane belongs to one queue', format('lane %s', l.lane), 1, count(*)
  from lanes as l
  group by l.lane
  having count(*) > 1;
  perform _refuse_torn('check');
end;
$$;

comment on function {{ .schema }}.check is
  'Checks every invariant of the storage and returns the violations; no row means healthy. Reads everything that is retained, so it takes seconds per million jobs. Exact while others write, and blocks only prune. Raises 40001 under a snapshot older than a prune.';
