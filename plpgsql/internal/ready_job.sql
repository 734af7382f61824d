  -- What the view jobs shows, except for the times, of a ready row r of a lane l, whose attempt
  -- is in the state a.
  r.job_id as id, r.kind, l.queue, r.args,
  (case
    when not a.claimed then 'available'
    when a.outcome is null then 'running'
    when a.outcome = 'c' then 'completed'
    when a.outcome = 'f' then 'failed'
    else 'cancelled' end)::{{ .schema }}.job_state as state,
  l.priority,
  (r.attempt - (not a.ran)::integer)::smallint as attempt,
  r.max_attempts, r.run_at,
  case when a.outcome is null and a.worker is not null then (
    select max(w.heartbeat_at) from {{ .schema }}.workers as w where w.worker = a.worker) end as heartbeat_at,
  {{ .claimed_at }} + r.deadline as deadline_at,
  {{ .claimed_at }} as attempted_at,
  {{ .finalized_at }} as finalized_at,
  r.created_at,
  case when a.error is null then coalesce(r.errors, '{}') else r.errors || a.error end as errors,
  coalesce(r.metadata, '{}') as metadata,
  coalesce(r.tags, '{}') as tags,
  r.unique_key, r.unique_states,
  null::uuid as callback_id,
  null::timestamptz as callback_timeout_at,
  (r.run_lease - (not a.ran)::integer)::bigint as run_lease,
  case when a.outcome is distinct from 'c' then coalesce(a.progress, r.progress) end as progress
