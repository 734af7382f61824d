-- jobs: every job in any state, for readers and for INSERT, UPDATE and DELETE; and the
-- same for awa's own functions, which know the ids.

-- Ready rows with what their lane says of them: passed, whether the cursor has gone past,
-- and skips, whether some of the others may have been taken before their turn.
create or replace view {{ .schema }}._turns as
select
  r.job_id, r.run_lease, r.xid, r.ready_slot, r.lane, l.queue, l.priority, r.run_at, r.created_at, r.attempt, r.max_attempts,
  r.kind, r.args, r.metadata, r.tags, r.errors, r.progress, r.unique_key, r.unique_states, r.deadline,
  c.skips > 0 as skips,
  (
    r.xid = '0'
    or pg_visible_in_snapshot(r.xid, c.s_prev)
    or (pg_visible_in_snapshot(r.xid, c.s_cur) and (c.drained
      or (c.last_segment - ((c.last_segment - r.ready_slot) % {{ .segments }} + {{ .segments }}) % {{ .segments }}, r.xid, r.job_id)
        <= (c.segment, c.pos_xid, c.pos_job_id)))
  ) as passed
from {{ .schema }}.queue_lanes as l
left join lateral (
  select c.* from {{ .schema }}.lane_cursors as c where c.lane = l.lane order by c.generation desc limit 1
) as c on true
join {{ .schema }}.ready_entries as r on r.lane = l.lane
where not exists (select from {{ .schema }}.queue_lanes as d where d.lane = l.lane and d.ctid < l.ctid);

-- Jobs outside the ring, as rows of jobs.
create or replace view {{ .schema }}._jobs_outside as
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
  k.receipt_lease::bigint, k.progress
from {{ .schema }}.leases as k
join {{ .schema }}.queue_lanes as l on l.lane = k.lane
  and not exists (select from {{ .schema }}.queue_lanes as e where e.lane = l.lane and e.ctid < l.ctid);

-- What a reader asks for is unknown, so each state is an arm that a plan may begin at its
-- jobs, by way of _claim_of, or at the outcomes: a few jobs cost an index search each, and
-- many no more than the rows of the ring. Whence the two ways to name a batch: a join
-- by job, and = any, which no hash can be made of, so that it is asked only of jobs that
-- matched. An attempt is completed when its turn has passed and it did not end, or not
-- yet, in any other way; there are many, so what only its claim knows is looked up
-- where it is shown. Types are cast to what jobs has: otherwise arms would compute
-- all columns.
create or replace view {{ .schema }}.jobs as
select
  x.id, x.kind, x.queue, x.args, x.state, x.priority, x.attempt, x.max_attempts, x.run_at, x.heartbeat_at,
  case when x.deadline is not null
    then {{ .schema }}._claimed_at(x.ready_slot, x.lane, x.id, x.attempt_lease) + x.deadline
    else x.deadline_at end as deadline_at,
  case when x.state = 'completed'
    then {{ .schema }}._claimed_at(x.ready_slot, x.lane, x.id, x.attempt_lease)
    else x.attempted_at end as attempted_at,
  case when x.state = 'completed'
    then {{ .schema }}._completed_at(x.ready_slot, x.lane, x.id, x.attempt_lease)
    else x.finalized_at end as finalized_at,
  x.created_at, x.errors, x.metadata, x.tags, x.unique_key, x.unique_states, x.callback_id, x.callback_timeout_at,
  x.run_lease,
  case when x.ready_slot is not null and x.state <> 'completed'
    then coalesce({{ .schema }}._reported(x.ready_slot, x.id, x.attempt_lease), x.progress)
    else x.progress end as progress
from (
  select
    null::smallint as ready_slot, null::bigint as lane, null::integer as attempt_lease, null::interval as deadline,
    r.job_id as id, r.kind, r.queue, r.args, 'available'::{{ .schema }}.job_state as state, r.priority,
    (r.attempt - 1)::smallint as attempt, r.max_attempts, r.run_at,
    null::timestamptz as heartbeat_at, null::timestamptz as deadline_at,
    null::timestamptz as attempted_at, null::timestamptz as finalized_at,
    r.created_at,
    coalesce(r.errors, '{}') as errors, coalesce(r.metadata, '{}') as metadata, coalesce(r.tags, '{}') as tags,
    r.unique_key, r.unique_states,
    null::uuid as callback_id, null::timestamptz as callback_timeout_at,
    (r.run_lease - 1)::bigint as run_lease, r.progress
  from {{ .schema }}._turns as r
  where r.passed is not true
    and not exists (
      select from {{ .schema }}.ready_tombstones as t
      where r.skips and t.ready_slot = r.ready_slot and t.job_id = r.job_id and t.run_lease = r.run_lease)
  union all
  select
    r.ready_slot, r.lane, r.run_lease, r.deadline,
    r.job_id, r.kind, r.queue, r.args, 'completed'::{{ .schema }}.job_state, r.priority,
    r.attempt, r.max_attempts, r.run_at,
    null::timestamptz, null::timestamptz, null::timestamptz, null::timestamptz,
    r.created_at,
    coalesce(r.errors, '{}'), coalesce(r.metadata, '{}'), coalesce(r.tags, '{}'),
    r.unique_key, r.unique_states,
    null::uuid, null::timestamptz,
    r.run_lease::bigint, null::jsonb
  from {{ .schema }}._turns as r
  where r.passed
    and not exists (
      select
      from {{ .schema }}.attempt_outcomes as o
      join {{ .schema }}.claims as b on b.ready_slot = o.ready_slot and b.batch_id = o.batch_id
      cross join lateral unnest(
        coalesce(o.job_ids, b.job_ids),
        case when o.job_ids is null then b.run_leases else o.run_leases end) as j (job_id, run_lease)
      where o.outcome <> 'c'
        and o.ready_slot = r.ready_slot and j.job_id = r.job_id and coalesce(j.run_lease, 1) = r.run_lease
        and o.batch_id = any (array[{{ .schema }}._claim_of(r.ready_slot, r.lane, r.job_id, r.run_lease, r.xid)]))
    and not exists (
      select from {{ .schema }}.outcome_removals as m
      where m.ready_slot = r.ready_slot and m.job_id = r.job_id and m.run_lease = r.run_lease)
    and not exists (
      select
      from {{ .schema }}.claims as b
      cross join lateral unnest(b.job_ids, b.run_leases) as j (job_id, run_lease)
      where {{ .schema }}._is_open(b.ready_slot, b.batch_id, cardinality(b.job_ids))::integer = 1
        and b.ready_slot = r.ready_slot and j.job_id = r.job_id and coalesce(j.run_lease, 1) = r.run_lease
        and b.batch_id = any (array[{{ .schema }}._claim_of(r.ready_slot, r.lane, r.job_id, r.run_lease, r.xid)])
        and not exists (
          select
          from {{ .schema }}.attempt_outcomes as o
          cross join lateral unnest(o.job_ids) as i (job_id)
          where o.ready_slot = b.ready_slot and i.job_id = j.job_id and o.batch_id = any (array[b.batch_id])))
  union all
  select
    r.ready_slot, null::bigint, r.run_lease, null::interval,
    r.job_id, r.kind, l.queue, r.args,
    (case o.outcome when 'f' then 'failed' else 'cancelled' end)::{{ .schema }}.job_state, l.priority,
    (r.attempt - (b.claimed_at = b.lease_expires_at)::integer)::smallint, r.max_attempts, r.run_at,
    null::timestamptz, nullif(b.claimed_at, b.lease_expires_at) + r.deadline,
    nullif(b.claimed_at, b.lease_expires_at), o.finalized_at,
    r.created_at,
    case when j.error is null then coalesce(r.errors, '{}') else r.errors || j.error end,
    coalesce(r.metadata, '{}'), coalesce(r.tags, '{}'),
    r.unique_key, r.unique_states,
    null::uuid, null::timestamptz,
    (r.run_lease - (b.claimed_at = b.lease_expires_at)::integer)::bigint,
    r.progress
  from {{ .schema }}.ready_entries as r
  join {{ .schema }}.queue_lanes as l on l.lane = r.lane
    and not exists (select from {{ .schema }}.queue_lanes as d where d.lane = l.lane and d.ctid < l.ctid)
  left join (
    {{ .schema }}.attempt_outcomes as o
    join {{ .schema }}.claims as b on b.ready_slot = o.ready_slot and b.batch_id = o.batch_id and o.outcome in ('f', 'x')
    cross join lateral unnest(
      coalesce(o.job_ids, b.job_ids),
      case when o.job_ids is null then b.run_leases else o.run_leases end,
      o.errors) as j (job_id, run_lease, error)
  ) on o.ready_slot = r.ready_slot and j.job_id = r.job_id and coalesce(j.run_lease, 1) = r.run_lease
    and o.batch_id = any (array[{{ .schema }}._claim_of(r.ready_slot, r.lane, r.job_id, r.run_lease, r.xid)])
  where coalesce(o.jobs, 0) > 0
    and not exists (
      select from {{ .schema }}.outcome_removals as m
      where m.ready_slot = r.ready_slot and m.job_id = r.job_id and m.run_lease = r.run_lease)
  union all
  select
    r.ready_slot, null::bigint, r.run_lease, null::interval,
    r.job_id, r.kind, l.queue, r.args, 'running'::{{ .schema }}.job_state, l.priority,
    (r.attempt - (b.claimed_at = b.lease_expires_at)::integer)::smallint, r.max_attempts, r.run_at,
    case when b.worker is not null then (
      select max(w.heartbeat_at) from {{ .schema }}.workers as w where w.worker = b.worker) end,
    nullif(b.claimed_at, b.lease_expires_at) + r.deadline, nullif(b.claimed_at, b.lease_expires_at), null::timestamptz,
    r.created_at,
    coalesce(r.errors, '{}'), coalesce(r.metadata, '{}'), coalesce(r.tags, '{}'),
    r.unique_key, r.unique_states,
    null::uuid, null::timestamptz,
    (r.run_lease - (b.claimed_at = b.lease_expires_at)::integer)::bigint,
    r.progress
  from {{ .schema }}.ready_entries as r
  join {{ .schema }}.queue_lanes as l on l.lane = r.lane
    and not exists (select from {{ .schema }}.queue_lanes as d where d.lane = l.lane and d.ctid < l.ctid)
  left join (
    select c.*, j.job_id, j.run_lease
    from {{ .schema }}.claims as c
    cross join lateral unnest(c.job_ids, c.run_leases) as j (job_id, run_lease)
    where {{ .schema }}._is_open(c.ready_slot, c.batch_id, cardinality(c.job_ids))::integer = 1
      and not exists (
        select
        from {{ .schema }}.attempt_outcomes as o
        cross join lateral unnest(o.job_ids) as i (job_id)
        where o.ready_slot = c.ready_slot and i.job_id = j.job_id and o.batch_id = any (array[c.batch_id]))
  ) as b on b.ready_slot = r.ready_slot and b.job_id = r.job_id and coalesce(b.run_lease, 1) = r.run_lease
    and b.batch_id = any (array[{{ .schema }}._claim_of(r.ready_slot, r.lane, r.job_id, r.run_lease, r.xid)])
  where coalesce(b.batch_id, 0) > 0
  union all
  select null::smallint, null::bigint, null::integer, null::interval, d.* from {{ .schema }}._jobs_outside as d
) as x;

-- jobs for who knows the ids: each is looked up by its key, whatever the planner believes.
-- Per ready row the lane's cursor says whether its turn has passed; only then its
-- attempt is looked up.
create or replace view {{ .schema }}._jobs_by_key as
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
select d.* from {{ .schema }}._jobs_outside as d;
