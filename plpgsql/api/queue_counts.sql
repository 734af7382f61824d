-- A queue's figures, exact in one snapshot, at a cost that follows the number
-- of its lanes and the tail since the last checkpoint, not backlog or history.

create or replace function {{ .schema }}.queue_counts (queue text)
  returns setof {{ .schema }}.queue_count
  language sql
  volatile
  parallel unsafe
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
  set jit = off
as $$
  -- Volatile, so that its segments are locked before its snapshot is taken.
{{ template "internal/queue_counts_body.sql" . }}$$;

comment on function {{ .schema }}.queue_counts is
  'The exact number of a queue''s jobs per state, of its dead letters and of terminal jobs pruned from history. One row, also for an unknown queue. Reads the tail since the last checkpoint, so run maintain(). Never blocks.';

-- The same in the caller's snapshot, for a caller that locked the segments.
create or replace function {{ .schema }}._queue_counts (p_queue text)
  returns setof {{ .schema }}.queue_count
  language sql
  stable
as $$
{{ template "internal/queue_counts_body.sql" . }}$$;
