-- jobs: every job in any state, for readers and for INSERT, UPDATE and DELETE.

-- Per ready row the lane's cursor says whether its turn has passed; only then
-- its attempt is looked up. Predicates on id, kind and queue reach the rows
-- before that.
create or replace view {{ .schema }}.jobs as
select
  r.job_id as id, r.kind, l.queue, r.args,
  (case
    when k.batch_id is null then 'available'
    when k.outcome is null then 'running'
    when k.outcome = 'c' then 'completed'
    when k.outcome = 'f' then 'failed'
    else 'cancelled' end)::{{ .schema }}.job_state as state,
  l.priority,
  (r.attempt - (k.claimed_at is null)::integer)::smallint as attempt,
  r.max_attempts, r.run_at,
  case when k.outcome is null and k.worker is not null then (
    select max(w.heartbeat_at) from {{ .schema }}.workers as w where w.worker = k.worker) end as heartbeat_at,
  k.claimed_at + r.deadline as deadline_at,
  k.claimed_at as attempted_at,
  k.finalized_at,
  r.created_at,
  case when k.error is null then coalesce(r.errors, '{}') else r.errors || k.error end as errors,
  coalesce(r.metadata, '{}') as metadata,
  coalesce(r.tags, '{}') as tags,
  r.unique_key, r.unique_states,
  null::uuid as callback_id,
  null::timestamptz as callback_timeout_at,
  (r.run_lease - (k.claimed_at is null)::integer)::bigint as run_lease,
  case when k.outcome is distinct from 'c' then coalesce(k.progress, r.progress) end as progress
from {{ .schema }}.ready_entries as r
join {{ .schema }}.queue_lanes as l on l.lane = r.lane
  and not exists (select from {{ .schema }}.queue_lanes as d where d.lane = l.lane and d.ctid < l.ctid)
left join lateral (
  select c.* from {{ .schema }}.lane_cursors as c where c.lane = r.lane order by c.generation desc limit 1
) as c on true
cross join lateral {{ .schema }}._attempt_of(r.ready_slot, r.lane, r.job_id, r.run_lease,
  r.xid = '0'
  or pg_visible_in_snapshot(r.xid, c.s_prev)
  or (pg_visible_in_snapshot(r.xid, c.s_cur) and (c.drained
    or (c.last_segment - ((c.last_segment - r.ready_slot) % {{ .segments }} + {{ .segments }}) % {{ .segments }}, r.xid, r.job_id)
      <= (c.segment, c.pos_xid, c.pos_job_id)))
  or (c.skips > 0 and exists (
    select from {{ .schema }}.ready_tombstones as t
    where t.ready_slot = r.ready_slot and t.job_id = r.job_id and t.run_lease = r.run_lease))) as k
where (k.outcome is null or (k.outcome in ('c', 'f', 'x') and not k.removed))
union all
select
  d.job_id, d.kind, l.queue, d.args, d.state, l.priority,
  (d.attempt - 1)::smallint, d.max_attempts, d.run_at,
  null, null, null, null,
  d.created_at,
  coalesce(d.errors, '{}'), coalesce(d.metadata, '{}'), coalesce(d.tags, '{}'),
  d.unique_key, d.unique_states,
  null, null,
  (d.run_lease - 1)::bigint, d.progress
from {{ .schema }}.deferred_jobs as d
join {{ .schema }}.queue_lanes as l on l.lane = d.lane
  and not exists (select from {{ .schema }}.queue_lanes as e where e.lane = l.lane and e.ctid < l.ctid)
union all
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
  k.receipt_lease, k.progress
from {{ .schema }}.leases as k
join {{ .schema }}.queue_lanes as l on l.lane = k.lane
  and not exists (select from {{ .schema }}.queue_lanes as e where e.lane = l.lane and e.ctid < l.ctid);
