-- A queue's figures, exact in one snapshot, at a cost that follows the number
-- of its lanes and the tail since the last checkpoint, not backlog or history.

create or replace function {{ .schema }}.queue_counts (queue text)
  returns setof {{ .schema }}.queue_count
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
  set max_parallel_workers_per_gather = 0
as $$
declare
  v_queue text := queue_counts.queue;
begin
  perform _enter_ring();
  -- Volatile, so that its segments are locked before its snapshot is taken.
  return query
  with lanes as materialized (
    select distinct q.lane from queue_lanes as q where q.queue = v_queue
  ),
  -- What no checkpoint holds, by segment.
  unseen as materialized (
    select u.*, array(select l.lane from lanes as l) as lanes
    from _unseen(array[
{{ range $i := until (int .segments) }}{{ if $i }},
{{ end }}        coalesce((select s.snapshot from checkpoint_snapshots_{{ $i }} as s order by s.checkpoint desc limit 1), '1:1:'){{ end }}
      ], pg_current_snapshot(), pg_current_xact_id_if_assigned(), 8) as u
  ),
  counted as (
    select sum(t.enqueued) as enqueued, sum(t.closed) as closed, sum(t.completed) as completed,
      sum(t.failed) as failed, sum(t.cancelled) as cancelled,
      sum(t.scheduled) as scheduled, sum(t.retryable) as retryable
    from (
{{ range $i := until (int .segments) }}{{ if $i }}      union all
{{ end }}      select b.enqueued, b.closed, b.completed, b.failed, b.cancelled, b.scheduled, b.retryable
      from lanes as l
      cross join lateral (
        select k.* from terminal_count_checkpoints_{{ $i }} as k
        where k.lane = l.lane
        order by k.checkpoint desc
        limit 1
      ) as b
      union all
      select t.enqueued, t.closed, t.completed, t.failed, t.cancelled, t.scheduled, t.retryable
      from unseen as u
      cross join lateral (
        select count(*) as enqueued, 0::bigint as closed, 0::bigint as completed, 0::bigint as failed, 0::bigint as cancelled,
          0::bigint as scheduled, 0::bigint as retryable
        from ready_entries_{{ $i }} as r
        where r.lane = any (u.lanes) and r.xid >= u.lo and r.xid <= u.hi and r.xid > u.after and r.xid < u.before
        union all
        select 0, sum(o.jobs),
          sum(o.jobs) filter (where o.outcome = 'c'),
          sum(o.jobs) filter (where o.outcome = 'f'),
          sum(o.jobs) filter (where o.outcome = 'x'), 0, 0
        from attempt_outcomes_{{ $i }} as o
        where o.xid >= u.lo and o.xid <= u.hi and o.xid > u.after and o.xid < u.before and o.lane = any (u.lanes)
        union all
        select 0, sum(d.closed), sum(d.completed), sum(d.failed), sum(d.cancelled), sum(d.scheduled), sum(d.retryable)
        from terminal_count_deltas_{{ $i }} as d
        where d.xid >= u.lo and d.xid <= u.hi and d.xid > u.after and d.xid < u.before and d.lane = any (u.lanes)
      ) as t
      where u.n = {{ add $i 1 }}
{{ end }}    ) as t
  ),
  rolled as (
    select sum(e.ready) as ready, sum(e.closed) as closed, sum(e.completed + e.failed + e.cancelled) as terminal,
      sum(e.scheduled) as scheduled, sum(e.retryable) as retryable
    from lanes as l
    join terminal_rollup_entries as e on e.lane = l.lane
  ),
  claimed as (
    -- A lane that claimed since the last rotation has its newest cursor in the
    -- current segment; the others are read only for a lane that did not.
    select sum(coalesce(c.claimed_total, (
        select o.claimed_total from lane_cursors as o
        where o.lane = l.lane
        order by o.generation desc
        limit 1))) as total
    from lanes as l
    left join lateral (
      select k.claimed_total from lane_cursors as k
      where k.lane = l.lane
        and k.ready_slot = (select g.slot from segment_rotations as g order by g.generation desc limit 1)
      order by k.generation desc
      limit 1
    ) as c on true
  ),
  leased as (
    select count(*) filter (where e.state = 'running') as running,
      count(*) filter (where e.state = 'waiting_external') as waiting
    from lanes as l
    -- Lane by lane: where the table is believed to be empty a join may walk all of it.
    cross join lateral (select n.state from leases as n where n.lane = l.lane offset 0) as e
  )
  select v_queue,
    (coalesce(k.enqueued, 0) + coalesce(r.ready, 0) - coalesce(c.total, 0))::bigint,
    (coalesce(k.scheduled, 0) + coalesce(r.scheduled, 0))::bigint,
    (coalesce(k.retryable, 0) + coalesce(r.retryable, 0))::bigint,
    (coalesce(c.total, 0) - coalesce(k.closed, 0) - coalesce(r.closed, 0) + x.running)::bigint,
    x.waiting,
    coalesce(k.completed, 0)::bigint,
    coalesce(k.failed, 0)::bigint,
    coalesce(k.cancelled, 0)::bigint,
    (coalesce(k.completed, 0) + coalesce(k.failed, 0) + coalesce(k.cancelled, 0))::bigint,
    (select count(*) from dlq_entries as e where e.queue = v_queue),
    coalesce(r.terminal, 0)::bigint
  from counted as k
  cross join rolled as r
  cross join claimed as c
  cross join leased as x;
  perform _refuse_torn(format('counts of queue %L', v_queue));
end;
$$;

comment on function {{ .schema }}.queue_counts is
  'The exact number of a queue''s jobs per state, of its dead letters and of terminal jobs pruned from history. One row, also for an unknown queue. Reads the tail since the last checkpoint, so run maintain(). Never blocks. Raises 40001 under a snapshot older than a prune.';
