-- 001: types, the ring, its ledgers and the small tables around it.

create schema if not exists {{ .schema }};

create type {{ .schema }}.job_state as enum (
  'scheduled', 'available', 'running', 'completed',
  'retryable', 'failed', 'cancelled', 'waiting_external'
);

-- What a claim returns for each job and what every finish takes back.
create type {{ .schema }}.receipt as (
  ready_slot smallint,
  batch_id   bigint,
  job_id     bigint,
  run_lease  bigint
);

create type {{ .schema }}.claimed_job as (
  receipt          {{ .schema }}.receipt,
  job_id           bigint,
  kind             text,
  args             jsonb,
  queue            text,
  priority         smallint,
  attempt          smallint,
  max_attempts     smallint,
  run_at           timestamptz,
  created_at       timestamptz,
  tags             text[],
  metadata         jsonb,
  progress         jsonb,
  errors           jsonb[],
  deadline_at      timestamptz,
  lease_expires_at timestamptz
);

create type {{ .schema }}.queue_count as (
  queue            text,
  available        bigint,
  scheduled        bigint,
  retryable        bigint,
  running          bigint,
  waiting_external bigint,
  completed        bigint,
  failed           bigint,
  cancelled        bigint,
  terminal         bigint,
  dlq              bigint,
  pruned_terminal  bigint
);

-- A terminal job that a call took out of history.
create type {{ .schema }}.taken_job as (
  ready_slot   smallint,
  lane         bigint,
  job_id       bigint,
  run_lease    integer,
  outcome      "char",
  error        jsonb,
  claimed_at   timestamptz,
  finalized_at timestamptz
);

create sequence {{ .schema }}.job_id_seq;

-- Bumped outside transactions by every rotation and prune. A REPEATABLE READ
-- caller whose snapshot shows an older epoch knows that the ring moved on.
create sequence {{ .schema }}.storage_epoch;
select setval('{{ .schema }}.storage_epoch', 1);

create table {{ .schema }}.storage_settings (
  singleton         boolean  primary key default true check (singleton),
  segment_max_age   interval not null default '10 minutes',
  segment_max_bytes bigint   not null default 536870912,
  history_retention interval not null default '1 hour',
  straggler_limit   integer  not null default 1000
);
insert into {{ .schema }}.storage_settings default values;

-- The ring ledger: the current segment is the newest row.
create table {{ .schema }}.segment_rotations (
  generation bigint      primary key,
  slot       smallint    not null,
  epoch      bigint      not null,
  xid        xid8        not null,
  rotated_at timestamptz not null default clock_timestamp()
);
insert into {{ .schema }}.segment_rotations (generation, slot, epoch, xid) values (0, 0, 1, '0');

create table {{ .schema }}.segment_prunes (
  generation    bigint      primary key,
  slot          smallint    not null,
  epoch         bigint      not null,
  pruned_at     timestamptz not null default clock_timestamp(),
  ready_rows    bigint      not null,
  terminal_jobs bigint      not null,
  relocated     bigint      not null,
  carried       bigint      not null
);

create table {{ .schema }}.queue_meta (
  queue                   text primary key,
  enqueue_shards          smallint not null default 1 check (enqueue_shards between 1 and 64),
  paused                  boolean not null default false,
  paused_at               timestamptz,
  dlq_enabled             boolean not null default false,
  priority_aging_interval interval check (priority_aging_interval between '0' and '100 years'),
  failed_retention        interval not null default '72 hours' check (failed_retention between '0' and '100 years'),
  dlq_retention           interval check (dlq_retention between '0' and '100 years'),
  notify                  boolean not null default true,
  max_depth               bigint check (max_depth > 0),
  rate_limit              double precision check (rate_limit > 0),
  rate_burst              integer check (rate_burst > 0)
);

-- The registry of lanes. A lane's number follows from its name, so a producer
-- never waits to learn it; two producers that register a lane at once leave
-- two equal rows, which readers take as one and maintenance folds. Hence no
-- unique index: its check would wait for the other producer's commit.
create table {{ .schema }}.queue_lanes (
  lane          bigint   not null,
  queue         text     not null,
  priority      smallint not null,
  enqueue_shard smallint not null
);
create index queue_lanes_lane_idx on {{ .schema }}.queue_lanes (lane);
create index queue_lanes_queue_idx on {{ .schema }}.queue_lanes (queue);

create table {{ .schema }}.deferred_jobs (
  job_id        bigint primary key,
  lane          bigint not null,
  state         {{ .schema }}.job_state not null check (state in ('scheduled', 'retryable')),
  run_at        timestamptz not null,
  created_at    timestamptz not null,
  run_lease     integer not null,
  attempt       smallint not null,
  max_attempts  smallint not null,
  kind          text not null,
  args          jsonb not null,
  metadata      jsonb,
  tags          text[],
  errors        jsonb[],
  progress      jsonb,
  unique_key    bytea,
  unique_states bit(8),
  ordering_key  text,
  deadline      interval,
  xid           xid8 not null
);
create index deferred_jobs_due_idx on {{ .schema }}.deferred_jobs (run_at, job_id);
create index deferred_jobs_keyed_idx on {{ .schema }}.deferred_jobs (run_at, job_id) where unique_key is not null;
create index deferred_jobs_xid_idx on {{ .schema }}.deferred_jobs (xid);
create index deferred_jobs_lane_idx on {{ .schema }}.deferred_jobs (lane, state);

-- Ring tables. Each segment's children are filled by INSERT and emptied by
-- TRUNCATE only, so vacuum has nothing to do there. Arrays of ids are read by
-- index lookups: they stay inline and uncompressed.

-- One immutable row per attempt that may be claimed. xid is the producer's
-- top-level transaction; 0 marks a row that no window will ever offer.
create table {{ .schema }}.ready_entries (
  lane          bigint      not null,
  xid           xid8        not null,
  job_id        bigint      not null,
  run_at        timestamptz not null,
  created_at    timestamptz not null,
  run_lease     integer     not null,
  ready_slot    smallint    not null,
  attempt       smallint    not null,
  max_attempts  smallint    not null,
  kind          text        not null,
  args          jsonb       not null,
  metadata      jsonb,
  tags          text[],
  errors        jsonb[],
  progress      jsonb,
  unique_key    bytea,
  unique_states bit(8),
  ordering_key  text,
  deadline      interval
) partition by list (ready_slot);

-- One row per claim batch. run_leases is null when every lease is 1,
-- deadline_at when no job has a deadline; else it is the earliest.
-- bypassed_by is the transaction that claimed jobs it enqueued itself: no
-- cursor counts those. A lease that ends as it begins stands for a job that
-- was closed before its turn and never ran.
create table {{ .schema }}.claims (
  batch_id         bigint      not null,
  lane             bigint      not null,
  claimed_at       timestamptz not null,
  lease_expires_at timestamptz not null,
  ready_slot       smallint    not null,
  job_ids          bigint[]    not null,
  run_leases       integer[],
  worker           text,
  deadline_at      timestamptz,
  bypassed_by      xid8
) partition by list (ready_slot);

-- How attempts closed: one row per batch, outcome and finishing call. seq
-- numbers a batch's outcomes without gaps; its unique index is what makes two
-- finishers of one batch exclude each other. job_ids is null when the row
-- closes the whole batch. Codes: c completed, f failed, x cancelled (terminal);
-- r retried, s snoozed, e rescued, m moved, q dead-lettered, d deleted.
create table {{ .schema }}.attempt_outcomes (
  batch_id     bigint      not null,
  lane         bigint      not null,
  xid          xid8        not null,
  finalized_at timestamptz not null,
  seq          integer     not null,
  jobs         integer     not null check (jobs > 0),
  ready_slot   smallint    not null,
  outcome      "char"      not null check (outcome in ('c', 'f', 'x', 'r', 's', 'e', 'm', 'q', 'd')),
  job_ids      bigint[],
  run_leases   integer[],
  errors       jsonb[]
) partition by list (ready_slot);

-- Ready rows that were taken before their turn: cancelled, deleted or moved.
-- A claim and an outcome stand for them; the windows leave them out.
create table {{ .schema }}.ready_tombstones (
  job_id     bigint   not null,
  run_lease  integer  not null,
  ready_slot smallint not null
) partition by list (ready_slot);

-- Terminal jobs taken back out of history.
create table {{ .schema }}.outcome_removals (
  job_id     bigint   not null,
  lane       bigint   not null,
  xid        xid8     not null,
  run_lease  integer  not null,
  ready_slot smallint not null,
  outcome    "char"   not null check (outcome in ('c', 'f', 'x'))
) partition by list (ready_slot);

-- An attempt's progress, newest last.
create table {{ .schema }}.progress_entries (
  job_id     bigint      not null,
  run_lease  integer     not null,
  at         timestamptz not null,
  ready_slot smallint    not null,
  progress   jsonb       not null
) partition by list (ready_slot);

-- The claim ledger: a lane's cursor is its newest generation. Everything
-- visible in s_prev is consumed; the open window is visible in s_cur and not
-- in s_prev, read segment by segment in (xid, job_id) order. skips counts the
-- windows, this one and the next, that may hold tombstones. batch_id is the
-- claim that the row stands for and look_at the first moment at which rescue
-- may have to do with it. Transactions
-- numbered from floor_xid on write into base_segment or newer; settled_segment
-- and settled_xid are the next such pair, for a window that begins above it.
create table {{ .schema }}.lane_cursors (
  lane           bigint      not null,
  generation     bigint      not null,
  segment        bigint      not null,
  last_segment   bigint      not null,
  base_segment   bigint      not null,
  pos_xid        xid8        not null,
  pos_job_id     bigint      not null,
  floor_xid      xid8        not null,
  settled_segment bigint,
  settled_xid    xid8,
  claimed_total  bigint      not null,
  batch_id       bigint,
  look_at        timestamptz,
  ready_slot     smallint    not null,
  skips          smallint    not null default 0,
  drained        boolean     not null,
  s_prev         pg_snapshot not null,
  s_cur          pg_snapshot not null
) partition by list (ready_slot);

{{ range $i := until (int .segments) -}}
create table {{ $.schema }}.ready_entries_{{ $i }} partition of {{ $.schema }}.ready_entries
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
create index ready_entries_{{ $i }}_lane_idx on {{ $.schema }}.ready_entries_{{ $i }} (lane, xid, job_id);
create unique index ready_entries_{{ $i }}_job_idx on {{ $.schema }}.ready_entries_{{ $i }} (job_id, run_lease);

create table {{ $.schema }}.claims_{{ $i }} partition of {{ $.schema }}.claims
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1, toast_tuple_target = 8160);
alter table {{ $.schema }}.claims_{{ $i }}
  alter job_ids set storage external, alter run_leases set storage external;
alter table {{ $.schema }}.claims_{{ $i }} add primary key (batch_id);

create table {{ $.schema }}.attempt_outcomes_{{ $i }} partition of {{ $.schema }}.attempt_outcomes
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1, toast_tuple_target = 8160);
alter table {{ $.schema }}.attempt_outcomes_{{ $i }}
  alter job_ids set storage external, alter run_leases set storage external;
alter table {{ $.schema }}.attempt_outcomes_{{ $i }} add primary key (batch_id, seq);

create table {{ $.schema }}.ready_tombstones_{{ $i }} partition of {{ $.schema }}.ready_tombstones
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
alter table {{ $.schema }}.ready_tombstones_{{ $i }} add primary key (job_id, run_lease);

create table {{ $.schema }}.outcome_removals_{{ $i }} partition of {{ $.schema }}.outcome_removals
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
alter table {{ $.schema }}.outcome_removals_{{ $i }} add primary key (job_id, run_lease);
create index outcome_removals_{{ $i }}_xid_idx on {{ $.schema }}.outcome_removals_{{ $i }} (xid);

create table {{ $.schema }}.progress_entries_{{ $i }} partition of {{ $.schema }}.progress_entries
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
create index progress_entries_{{ $i }}_job_idx on {{ $.schema }}.progress_entries_{{ $i }} (job_id, run_lease, at);

create table {{ $.schema }}.lane_cursors_{{ $i }} partition of {{ $.schema }}.lane_cursors
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
alter table {{ $.schema }}.lane_cursors_{{ $i }} add primary key (lane, generation);

{{ end -}}

-- Terminal jobs still in history. The body is left-joined on a unique index,
-- so counting does not touch it.
create view {{ .schema }}.done_entries as
{{ range $i := until (int .segments) -}}
{{ if $i }}union all
{{ end -}}
select
  j.job_id as id, r.kind, l.queue, r.args,
  (case o.outcome when 'c' then 'completed' when 'f' then 'failed' else 'cancelled' end)::{{ $.schema }}.job_state as state,
  l.priority, (r.attempt - (c.claimed_at = c.lease_expires_at)::integer)::smallint as attempt, r.max_attempts, r.run_at,
  null::timestamptz as heartbeat_at,
  nullif(c.claimed_at, c.lease_expires_at) + r.deadline as deadline_at,
  nullif(c.claimed_at, c.lease_expires_at) as attempted_at,
  o.finalized_at,
  r.created_at,
  coalesce(r.errors, '{}') || coalesce(o.errors[j.n:j.n], '{}') as errors,
  coalesce(r.metadata, '{}') as metadata,
  coalesce(r.tags, '{}') as tags,
  r.unique_key, r.unique_states,
  null::uuid as callback_id,
  null::timestamptz as callback_timeout_at,
  (coalesce(j.run_lease, 1) - (c.claimed_at = c.lease_expires_at)::integer)::bigint as run_lease,
  case when o.outcome <> 'c' then coalesce((
    select p.progress from {{ $.schema }}.progress_entries_{{ $i }} as p
    where p.job_id = j.job_id and p.run_lease = coalesce(j.run_lease, 1)
    order by p.at desc
    limit 1), r.progress) end as progress,
  {{ $i }}::smallint as ready_slot,
  l.enqueue_shard
from {{ $.schema }}.attempt_outcomes_{{ $i }} as o
join (select distinct q.lane, q.queue, q.priority, q.enqueue_shard from {{ $.schema }}.queue_lanes as q) as l
  on l.lane = o.lane
left join {{ $.schema }}.claims_{{ $i }} as c on c.batch_id = o.batch_id
cross join lateral unnest(
  coalesce(o.job_ids, c.job_ids),
  case when o.job_ids is null then c.run_leases else o.run_leases end
) with ordinality as j (job_id, run_lease, n)
left join {{ $.schema }}.ready_entries_{{ $i }} as r
  on r.job_id = j.job_id and r.run_lease = coalesce(j.run_lease, 1)
where o.outcome in ('c', 'f', 'x')
  and not exists (
    select from {{ $.schema }}.outcome_removals_{{ $i }} as m
    where m.job_id = j.job_id and m.run_lease = coalesce(j.run_lease, 1))
{{ end -}};

---- create above / drop below ----

drop schema {{ .schema }} cascade;
