-- A queue's figures, exact in one snapshot, at a cost that follows the number
-- of its lanes and the tail since the last checkpoint, not backlog or history.

create or replace function {{ .schema }}.queue_counts (queue text)
  returns setof {{ .schema }}.queue_count
  language plpgsql
  volatile
  parallel unsafe
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
  set max_parallel_workers_per_gather = 0
  set jit = off
as $$
declare
  v_queue text := queue_counts.queue;
begin
  perform _enter_ring();
  -- Volatile, so that its segments are locked before its snapshot is taken.
  return query
{{ template "internal/queue_counts_body.sql" . }};
end;
$$;

comment on function {{ .schema }}.queue_counts is
  'The exact number of a queue''s jobs per state, of its dead letters and of terminal jobs pruned from history. One row, also for an unknown queue. Reads the tail since the last checkpoint, so run maintain(). Never blocks.';

-- The same in the caller's snapshot, for a caller that locked the segments.
create or replace function {{ .schema }}._queue_counts (p_queue text)
  returns setof {{ .schema }}.queue_count
  language plpgsql
  stable
as $$
declare
  v_queue text := p_queue;
begin
  return query
{{ template "internal/queue_counts_body.sql" . }};
end;
$$;
