-- 002: exact terminal counters over the history: checkpoints, deltas, rollups.
-- changes: claims, attempt_outcomes, outcome_removals, deferred_jobs

-- Waits for clients in the middle of a call and holds the others up until the
-- commit, so that no removal falls between the count below and their own.
lock table {{ .schema }}.claims, {{ .schema }}.attempt_outcomes, {{ .schema }}.outcome_removals in share row exclusive mode;
lock table {{ .schema }}.deferred_jobs in share row exclusive mode;

-- An outcome row is its own delta: jobs and outcome say what it adds, xid says
-- when it became visible. This index finds the tail behind a checkpoint.
{{ range $i := until (int .segments) -}}
create index attempt_outcomes_{{ $i }}_xid_idx on {{ $.schema }}.attempt_outcomes_{{ $i }} (xid);
{{ end }}

-- Signed deltas that no outcome row carries: removals from history; in closed
-- the claims that bypassed a cursor; in scheduled and retryable what comes to
-- and leaves deferred_jobs. One row per key and statement.
create table {{ .schema }}.terminal_count_deltas (
  lane       bigint   not null,
  xid        xid8     not null,
  ready_slot smallint not null,
  closed     integer  not null,
  completed  integer  not null,
  failed     integer  not null,
  cancelled  integer  not null,
  scheduled  integer  not null default 0,
  retryable  integer  not null default 0
) partition by list (ready_slot);

-- The snapshots in which a segment's checkpoints are true, newest last.
create table {{ .schema }}.checkpoint_snapshots (
  checkpoint bigint      not null,
  taken_at   timestamptz not null default clock_timestamp(),
  ready_slot smallint    not null,
  source     text        not null check (source in ('checkpoint', 'rebuild', 'migration')),
  snapshot   pg_snapshot not null
) partition by list (ready_slot);

-- Totals per key. A key's newest row holds in the segment's newest snapshot,
-- also when it is older: a key without a tail is not written again.
create table {{ .schema }}.terminal_count_checkpoints (
  lane       bigint   not null,
  checkpoint bigint   not null,
  enqueued   bigint   not null,
  closed     bigint   not null,
  completed  bigint   not null,
  failed     bigint   not null,
  cancelled  bigint   not null,
  scheduled  bigint   not null default 0,
  retryable  bigint   not null default 0,
  ready_slot smallint not null
) partition by list (ready_slot);

{{ range $i := until (int .segments) -}}
create table {{ $.schema }}.terminal_count_deltas_{{ $i }} partition of {{ $.schema }}.terminal_count_deltas
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
create index terminal_count_deltas_{{ $i }}_xid_idx on {{ $.schema }}.terminal_count_deltas_{{ $i }} (xid);

create table {{ $.schema }}.checkpoint_snapshots_{{ $i }} partition of {{ $.schema }}.checkpoint_snapshots
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
alter table {{ $.schema }}.checkpoint_snapshots_{{ $i }} add primary key (checkpoint);

create table {{ $.schema }}.terminal_count_checkpoints_{{ $i }} partition of {{ $.schema }}.terminal_count_checkpoints
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
alter table {{ $.schema }}.terminal_count_checkpoints_{{ $i }} add primary key (lane, checkpoint);
{{ end }}

-- What prune folded, one row per key and prune: permanent. ready, closed,
-- scheduled and retryable keep the queue's running totals true after their
-- rows are gone.
create table {{ .schema }}.terminal_rollup_entries (
  lane       bigint not null,
  generation bigint not null,
  ready      bigint not null,
  closed     bigint not null,
  completed  bigint not null,
  failed     bigint not null,
  cancelled  bigint not null,
  scheduled  bigint not null default 0,
  retryable  bigint not null default 0,
  primary key (lane, generation)
);

create view {{ .schema }}.queue_terminal_rollups as
select
  l.queue, l.priority, l.enqueue_shard,
  sum(e.completed + e.failed + e.cancelled)::bigint as pruned_terminal_count,
  sum(e.completed)::bigint as pruned_completed_count,
  sum(e.failed)::bigint as pruned_failed_count,
  sum(e.cancelled)::bigint as pruned_cancelled_count
from {{ .schema }}.terminal_rollup_entries as e
join (select distinct q.lane, q.queue, q.priority, q.enqueue_shard from {{ .schema }}.queue_lanes as q) as l
  on l.lane = e.lane
group by l.queue, l.priority, l.enqueue_shard;

-- Exact per key: the newest checkpoint plus what its snapshot does not show.
create view {{ .schema }}.queue_terminal_live_counts as
with lanes as (
  select distinct q.lane, q.queue, q.priority, q.enqueue_shard from {{ .schema }}.queue_lanes as q
)
select
  k.ready_slot, l.queue, l.priority, l.enqueue_shard,
  sum(k.completed + k.failed + k.cancelled)::bigint as live_terminal_count,
  sum(k.completed)::bigint as completed,
  sum(k.failed)::bigint as failed,
  sum(k.cancelled)::bigint as cancelled
from lanes as l
join (
{{ range $i := until (int .segments) -}}
{{ if $i }}  union all
{{ end }}  select {{ $i }}::smallint as ready_slot, b.lane, b.completed, b.failed, b.cancelled
  from lanes as x
  cross join lateral (
    select t.lane, t.completed, t.failed, t.cancelled
    from {{ $.schema }}.terminal_count_checkpoints_{{ $i }} as t
    where t.lane = x.lane
    order by t.checkpoint desc
    limit 1
  ) as b
  union all
  select {{ $i }}::smallint, t.lane, t.completed, t.failed, t.cancelled
  from (
    select coalesce((
      select s.snapshot from {{ $.schema }}.checkpoint_snapshots_{{ $i }} as s
      order by s.checkpoint desc limit 1), '1:1:'::pg_snapshot) as snapshot
  ) as h
  cross join lateral (
    select o.lane,
      case when o.outcome = 'c' then o.jobs else 0 end as completed,
      case when o.outcome = 'f' then o.jobs else 0 end as failed,
      case when o.outcome = 'x' then o.jobs else 0 end as cancelled
    from {{ $.schema }}.attempt_outcomes_{{ $i }} as o
    where o.xid >= pg_snapshot_xmax(h.snapshot) and o.outcome in ('c', 'f', 'x')
    union all
    select o.lane,
      case when o.outcome = 'c' then o.jobs else 0 end,
      case when o.outcome = 'f' then o.jobs else 0 end,
      case when o.outcome = 'x' then o.jobs else 0 end
    from pg_snapshot_xip(h.snapshot) as late (xid)
    cross join lateral (
      select x.* from {{ $.schema }}.attempt_outcomes_{{ $i }} as x where x.xid = late.xid offset 0
    ) as o
    where o.outcome in ('c', 'f', 'x')
    union all
    select d.lane, d.completed, d.failed, d.cancelled
    from {{ $.schema }}.terminal_count_deltas_{{ $i }} as d
    where d.xid >= pg_snapshot_xmax(h.snapshot)
    union all
    select d.lane, d.completed, d.failed, d.cancelled
    from pg_snapshot_xip(h.snapshot) as late (xid)
    cross join lateral (
      select x.* from {{ $.schema }}.terminal_count_deltas_{{ $i }} as x where x.xid = late.xid offset 0
    ) as d
  ) as t
{{ end -}}
) as k on k.lane = l.lane
group by k.ready_slot, l.queue, l.priority, l.enqueue_shard;

-- What happened before counters existed. Outcomes count themselves; removals
-- and claims past a cursor get their deltas here.
insert into {{ .schema }}.terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
select t.lane, pg_current_xact_id(), t.ready_slot, -sum(t.bypassed), -sum(t.completed), -sum(t.failed), -sum(t.cancelled)
from (
  select m.lane, m.ready_slot, 0 as bypassed,
    (m.outcome = 'c')::integer as completed, (m.outcome = 'f')::integer as failed, (m.outcome = 'x')::integer as cancelled
  from {{ .schema }}.outcome_removals as m
  union all
  select c.lane, c.ready_slot, cardinality(c.job_ids), 0, 0, 0
  from {{ .schema }}.claims as c
  where c.bypassed_by is not null
) as t
group by t.lane, t.ready_slot;
insert into {{ .schema }}.terminal_count_deltas (
  lane, xid, ready_slot, closed, completed, failed, cancelled, scheduled, retryable)
select d.lane, pg_current_xact_id(), (select r.slot from {{ .schema }}.segment_rotations as r order by r.generation desc limit 1),
  0, 0, 0, 0, count(*) filter (where d.state = 'scheduled'), count(*) filter (where d.state = 'retryable')
from {{ .schema }}.deferred_jobs as d
group by d.lane;

---- create above / drop below ----

drop view {{ .schema }}.queue_terminal_live_counts;
drop view {{ .schema }}.queue_terminal_rollups;
drop table {{ .schema }}.terminal_rollup_entries;
drop table {{ .schema }}.terminal_count_checkpoints;
drop table {{ .schema }}.checkpoint_snapshots;
drop table {{ .schema }}.terminal_count_deltas;
{{ range $i := until (int .segments) -}}
drop index {{ $.schema }}.attempt_outcomes_{{ $i }}_xid_idx;
{{ end }}
