-- Jobs outside the ring, as rows of jobs; by_key as of lane_of.sql.
select
  d.job_id as id, d.kind, l.queue, d.args, d.state, l.priority,
  (d.attempt - 1)::smallint as attempt, d.max_attempts, d.run_at,
  null::timestamptz as heartbeat_at, null::timestamptz as deadline_at,
  null::timestamptz as attempted_at, null::timestamptz as finalized_at,
  d.created_at,
  coalesce(d.errors, '{}') as errors, coalesce(d.metadata, '{}') as metadata, coalesce(d.tags, '{}') as tags,
  d.unique_key, d.unique_states,
  null::uuid as callback_id, null::timestamptz as callback_timeout_at,
  (d.run_lease - 1)::bigint as run_lease, d.progress
from {{ .schema }}.deferred_jobs as d
{{ template "internal/lane_of.sql" (dict "schema" .schema "row" "d" "by_key" .by_key) }}union all
select
  k.job_id, k.kind, l.queue, k.args, k.state, l.priority, k.attempt, k.max_attempts, k.run_at,
  case when k.state = 'running' and k.worker is not null then (
    select max(w.heartbeat_at) from {{ .schema }}.workers as w where w.worker = k.worker) end,
  k.deadline_at, k.claimed_at, null,
  k.created_at,
  coalesce(k.errors, '{}'),
  coalesce(case when k.result is null then k.metadata
    else coalesce(k.metadata, '{}') || pg_catalog.jsonb_build_object('_awa_callback_result', k.result) end, '{}'),
  coalesce(k.tags, '{}'),
  k.unique_key, k.unique_states,
  k.callback_id, case when k.state = 'waiting_external' then k.due_at end,
  k.receipt_lease::bigint, k.progress
from {{ .schema }}.leases as k
{{ template "internal/lane_of.sql" (dict "schema" .schema "row" "k" "by_key" .by_key) }}