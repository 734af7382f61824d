-- Terminal counters: checkpoint and rebuild. Both hold singleton lock 2.

-- Checkpoints these slots, and returns how many keys changed.
create or replace function {{ .schema }}._checkpoint (p_slots integer[])
  returns bigint
  language plpgsql
  volatile
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set max_parallel_workers_per_gather = 0
  set jit = off
as $$
declare
  v_keys bigint := 0::bigint;
  v_rows bigint;
  v_slot integer;
begin
  perform _enter_ring();
  perform _require_read_committed('checkpoint');
  if not _try_singleton(2) then
    return 0::bigint;  -- another session is at it
  end if;
  foreach v_slot in array p_slots loop
    with
{{ template "internal/next_checkpoint.sql" }}    tail as materialized (
      select t.*
      from head as h
      cross join lateral _segment_tail(v_slot, h.prev, h.cur) as t
    ),
    dated as (
      insert into checkpoint_snapshots (checkpoint, ready_slot, source, snapshot)
      select h.checkpoint, v_slot, 'checkpoint', h.cur from head as h
      where exists (select from tail)
    )
    insert into terminal_count_checkpoints (
      lane, checkpoint, enqueued, closed, completed, failed, cancelled, scheduled, retryable, ready_slot)
    select t.lane, h.checkpoint,
      coalesce(b.enqueued, 0) + t.enqueued, coalesce(b.closed, 0) + t.closed,
      coalesce(b.completed, 0) + t.completed, coalesce(b.failed, 0) + t.failed,
      coalesce(b.cancelled, 0) + t.cancelled, coalesce(b.scheduled, 0) + t.scheduled,
      coalesce(b.retryable, 0) + t.retryable, v_slot
    from tail as t
    cross join head as h
    left join lateral (
      select k.* from terminal_count_checkpoints as k
      where k.ready_slot = v_slot and k.lane = t.lane
      order by k.checkpoint desc
      limit 1
    ) as b on true;
    get diagnostics v_rows = row_count;
    v_keys := v_keys + v_rows;
  end loop;
  return v_keys;
end;
$$;

create or replace function {{ .schema }}.checkpoint_terminal_counters ()
  returns bigint
{{ template "internal/public.sql" . -}}
as $$
begin
  return _checkpoint(array(select generate_series(0, {{ sub (int .segments) 1 }})));
end;
$$;

comment on function {{ .schema }}.checkpoint_terminal_counters is
  'Writes the totals of every key that changed, with the snapshot in which they hold, so that readers of the counters have less to add up. Returns the number of keys. Does nothing while another session checkpoints or rebuilds. Raises 25001 outside READ COMMITTED.';

-- The checkpoint of a pass of maintain. Readers of the counters add up what is in no
-- checkpoint, so the newest two segments, where most is written, are done at every pass and the
-- others once a second.
create or replace function {{ .schema }}._checkpoint_pass ()
  returns bigint
  language plpgsql
  volatile
as $$
declare
  v_now     numeric := extract(epoch from clock_timestamp()) * 1000;
  v_current smallint := _current_slot();
begin
  -- If it is farther ahead, the clock was set back.
  if (select k.last_value not between v_now and v_now + 1000 from checkpoint_clock as k) then
    perform setval('checkpoint_clock', (v_now + 1000)::bigint);
    return checkpoint_terminal_counters();
  end if;
  if (select count(*) = 2000 from (select from queue_lanes limit 2000) as l) then
    return 0::bigint;
  end if;
  return _checkpoint(array[v_current::integer, (v_current + {{ sub (int .segments) 1 }}) % {{ .segments }}]);
end;
$$;

create or replace function {{ .schema }}.rebuild_terminal_counters ()
  returns table (ready_slot smallint, queue text, priority smallint, enqueue_shard smallint, before bigint, after bigint)
{{ template "internal/public.sql" . -}}
  set max_parallel_workers_per_gather = 0
as $$
#variable_conflict use_column
begin
  perform _enter_ring();
  perform _require_read_committed('rebuild');
  if not _try_singleton(2) then
    raise exception using errcode = '55P03',
      message = 'the terminal counters are being checkpointed or rebuilt by another session',
      hint = 'One rebuild is enough; call again when the other session has committed.';
  end if;
  for v_slot in 0 .. {{ sub (int .segments) 1 }} loop
    return query
    with
{{ template "internal/next_checkpoint.sql" }}    counted as materialized (
      -- What the counters say: the newest row of each key plus the tail.
      select k.lane, sum(k.enqueued) as enqueued, sum(k.closed) as closed,
        sum(k.completed) as completed, sum(k.failed) as failed, sum(k.cancelled) as cancelled,
        sum(k.scheduled) as scheduled, sum(k.retryable) as retryable
      from (
        select * from (
          select distinct on (b.lane) b.lane, b.enqueued, b.closed, b.completed, b.failed, b.cancelled, b.scheduled, b.retryable
          from terminal_count_checkpoints as b
          where b.ready_slot = v_slot
          order by b.lane, b.checkpoint desc
        ) as b
        union all
        select t.* from head as h
        cross join lateral _segment_tail(v_slot, h.prev, h.cur) as t
      ) as k
      group by k.lane
    ),
    truth as materialized (
      select t.* from head as h cross join lateral _segment_truth(v_slot, h.cur) as t
    ),
    compared as materialized (
      select coalesce(c.lane, t.lane) as lane,
        coalesce(c.completed, 0) + coalesce(c.failed, 0) + coalesce(c.cancelled, 0) as before,
        coalesce(t.completed, 0) + coalesce(t.failed, 0) + coalesce(t.cancelled, 0) as after,
        coalesce(t.enqueued, 0) as enqueued, coalesce(t.closed, 0) as closed, coalesce(t.completed, 0) as completed,
        coalesce(t.failed, 0) as failed, coalesce(t.cancelled, 0) as cancelled,
        coalesce(t.scheduled, 0) as scheduled, coalesce(t.retryable, 0) as retryable,
        (c.completed, c.failed, c.cancelled) is distinct from (t.completed, t.failed, t.cancelled) as drifted
      from counted as c
      full join truth as t on t.lane = c.lane
    ),
    dated as (
      insert into checkpoint_snapshots (checkpoint, ready_slot, source, snapshot)
      select h.checkpoint, v_slot, 'rebuild', h.cur from head as h
      where exists (select from compared)
    ),
    written as (
      insert into terminal_count_checkpoints (
        lane, checkpoint, enqueued, closed, completed, failed, cancelled, scheduled, retryable, ready_slot)
      select c.lane, h.checkpoint, c.enqueued, c.closed, c.completed, c.failed, c.cancelled, c.scheduled, c.retryable, v_slot
      from compared as c
      cross join head as h
    )
    select v_slot::smallint, l.queue, l.priority, l.enqueue_shard, c.before::bigint, c.after::bigint
    from compared as c
    left join (select distinct q.lane, q.queue, q.priority, q.enqueue_shard from queue_lanes as q) as l
      on l.lane = c.lane
    where c.drifted and (c.before <> 0 or c.after <> 0)
    order by l.queue, l.priority, l.enqueue_shard;
  end loop;
  -- Deferred jobs belong to no segment; what their deltas lack is added as another delta.
  insert into terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled, scheduled, retryable)
  select d.lane, pg_current_xact_id(), _current_slot(), 0, 0, 0, 0,
    d.scheduled - d.counted_scheduled, d.retryable - d.counted_retryable
  from _deferred_drift() as d;
end;
$$;

comment on function {{ .schema }}.rebuild_terminal_counters is
  'Recounts history, one segment per snapshot, and makes that the new checkpoint. Exact while others write, and never blocks them. Returns the keys that had drifted, with the value before and after; no row if all were right. Raises 55P03 while another session rebuilds or checkpoints, 25001 outside READ COMMITTED.';
