-- Every queue at a glance.

-- Per lane its counters in the caller's snapshot, without leases, and what was enqueued and
-- closed over about the last minute. The caller is inside the gate.
create or replace function {{ .schema }}._lane_counts ()
  returns table (
    lane bigint, queue text, available bigint, scheduled bigint, retryable bigint, running bigint, completed bigint, failed bigint,
    cancelled bigint, pruned bigint, lately_enqueued bigint, lately_closed bigint)
  language plpgsql
  stable
as $$
#variable_conflict use_column
begin
  return query
  with lanes as materialized (
    select distinct q.lane, q.queue from queue_lanes as q
  ),
  slots as materialized (
    select s.slot::smallint as slot,
      coalesce(n.snapshot, '1:1:') as snapshot,
      -- The newest checkpoint from a minute ago, for the rates.
      (select k.checkpoint from checkpoint_snapshots as k
       where k.ready_slot = s.slot and _is_past(k.taken_at, clock_timestamp(), '1 minute')
       order by k.checkpoint desc limit 1) as minute_ago
    from generate_series(0, {{ sub (int .segments) 1 }}) as s (slot)
    left join lateral (
      select k.snapshot from checkpoint_snapshots as k where k.ready_slot = s.slot order by k.checkpoint desc limit 1
    ) as n on true
  ),
  counted as (
    select t.lane, sum(t.enqueued) as enqueued, sum(t.closed) as closed, sum(t.completed) as completed,
      sum(t.failed) as failed, sum(t.cancelled) as cancelled, sum(t.scheduled) as scheduled, sum(t.retryable) as retryable,
      sum(t.enqueued - t.enqueued_before) as lately_enqueued, sum(t.closed - t.closed_before) as lately_closed
    from (
      select l.lane, b.enqueued, b.closed, b.completed, b.failed, b.cancelled, b.scheduled, b.retryable,
        coalesce(a.enqueued, 0) as enqueued_before, coalesce(a.closed, 0) as closed_before
      from lanes as l
      cross join slots as s
      cross join lateral (
        select k.* from terminal_count_checkpoints as k
        where k.ready_slot = s.slot and k.lane = l.lane
        order by k.checkpoint desc limit 1
      ) as b
      left join lateral (
        select k.* from terminal_count_checkpoints as k
        where k.ready_slot = s.slot and k.lane = l.lane and k.checkpoint <= s.minute_ago
        order by k.checkpoint desc limit 1
      ) as a on true
      union all
      select t.lane, t.enqueued, t.closed, t.completed, t.failed, t.cancelled, t.scheduled, t.retryable, 0, 0
      from slots as s
      cross join lateral _segment_tail(s.slot, s.snapshot, null) as t
    ) as t
    group by t.lane
  ),
  rolled as (
    select e.lane, sum(e.ready) as ready, sum(e.closed) as closed, sum(e.completed + e.failed + e.cancelled) as terminal,
      sum(e.scheduled) as scheduled, sum(e.retryable) as retryable
    from terminal_rollup_entries as e
    group by e.lane
  )
  select l.lane, l.queue,
    (coalesce(k.enqueued, 0) + coalesce(r.ready, 0) - coalesce(c.claimed_total, 0))::bigint,
    (coalesce(k.scheduled, 0) + coalesce(r.scheduled, 0))::bigint,
    (coalesce(k.retryable, 0) + coalesce(r.retryable, 0))::bigint,
    (coalesce(c.claimed_total, 0) - coalesce(k.closed, 0) - coalesce(r.closed, 0))::bigint,
    coalesce(k.completed, 0)::bigint, coalesce(k.failed, 0)::bigint, coalesce(k.cancelled, 0)::bigint, coalesce(r.terminal, 0)::bigint,
    coalesce(k.lately_enqueued, 0)::bigint, coalesce(k.lately_closed, 0)::bigint
  from lanes as l
  left join counted as k on k.lane = l.lane
  left join rolled as r on r.lane = l.lane
  left join lateral (
    select n.claimed_total from lane_cursors as n where n.lane = l.lane order by n.generation desc limit 1
  ) as c on true;
end;
$$;

create or replace function {{ .schema }}.queue_overview ()
  returns table (
    queue text, available bigint, scheduled bigint, retryable bigint, running bigint, waiting_external bigint,
    completed bigint, failed bigint, cancelled bigint, terminal bigint, dlq bigint, pruned_terminal bigint,
    oldest_waiting interval, enqueued_per_second double precision, closed_per_second double precision, paused boolean)
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  -- A session may have planned this when there was one lane.
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_nestloop = off
  set max_parallel_workers_per_gather = 0
as $$
#variable_conflict use_column
declare
  v_now timestamptz := _now();
begin
  perform _enter_ring();
  return query
  with counts as materialized (
    select k.* from _lane_counts() as k
  ),
  heads as materialized (
    select h.* from _waiting_heads(array(select k.lane from counts as k where k.available > 0)) as h
  ),
  leased as (
    select e.lane, count(*) filter (where e.state = 'running') as running,
      count(*) filter (where e.state = 'waiting_external') as waiting
    from leases as e
    group by e.lane
  ),
  dead as (
    select e.queue, count(*) as jobs from dlq_entries as e group by e.queue
  ),
  summed as (
    select k.queue, sum(k.available) as available, sum(k.scheduled) as scheduled, sum(k.retryable) as retryable,
      sum(k.running + coalesce(x.running, 0)) as running, sum(coalesce(x.waiting, 0)) as waiting,
      sum(k.completed) as completed, sum(k.failed) as failed, sum(k.cancelled) as cancelled, sum(k.pruned) as pruned,
      sum(k.lately_enqueued) as enqueued, sum(k.lately_closed) as closed,
      min(h.run_at) as head
    from counts as k
    left join heads as h on h.lane = k.lane
    left join leased as x on x.lane = k.lane
    group by k.queue
  )
  select coalesce(s.queue, m.queue, x.queue),
    coalesce(s.available, 0)::bigint, coalesce(s.scheduled, 0)::bigint, coalesce(s.retryable, 0)::bigint,
    coalesce(s.running, 0)::bigint, coalesce(s.waiting, 0)::bigint, coalesce(s.completed, 0)::bigint, coalesce(s.failed, 0)::bigint,
    coalesce(s.cancelled, 0)::bigint, (coalesce(s.completed, 0) + coalesce(s.failed, 0) + coalesce(s.cancelled, 0))::bigint,
    coalesce(x.jobs, 0), coalesce(s.pruned, 0)::bigint,
    case when isfinite(s.head) then greatest(v_now - s.head, '0') end,
    coalesce(s.enqueued, 0)::double precision / 60,
    -- Attempts that the transaction which enqueued them claimed count as closed -1 until they are.
    greatest(s.closed, 0)::double precision / 60,
    coalesce(m.paused, false)
  from summed as s
  full join queue_meta as m on m.queue = s.queue
  full join dead as x on x.queue = coalesce(s.queue, m.queue)
  order by 1;
  perform _refuse_torn('overview');
end;
$$;

comment on function {{ .schema }}.queue_overview is
  'The figures of queue_counts for every queue, with how long its first claimable job has waited, the attempts enqueued and closed per second over about the last minute (from the checkpoints that maintain() writes), and whether it is paused. Never blocks. Raises 40001 under a snapshot older than a prune.';
