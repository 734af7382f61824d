-- 004: workers and their heartbeats, longer leases, and the ledgers of rescue
-- and promotion. All of it is appended and reclaimed with the ring.
-- changes: claims, storage_settings

alter table {{ .schema }}.storage_settings
  add column worker_silence interval not null default '90 seconds' check (worker_silence > '0');

-- A worker's heartbeats, newest last. seen is the snapshot of the call: the
-- next heartbeat tells what that one could not see.
create table {{ .schema }}.workers (
  worker       text        not null,
  heartbeat_at timestamptz not null,
  ready_slot   smallint    not null,
  seen         pg_snapshot not null,
  info         jsonb
) partition by list (ready_slot);

-- What a worker is to be told: its attempt was closed by somebody else.
create table {{ .schema }}.worker_notices (
  worker     text     not null,
  xid        xid8     not null,
  batch_id   bigint   not null,
  job_id     bigint   not null,
  run_lease  integer  not null,
  ready_slot smallint not null,
  reason     text
) partition by list (ready_slot);

-- Leases that were extended: of a whole batch, or of the jobs in job_ids.
create table {{ .schema }}.lease_extensions (
  batch_id         bigint      not null,
  lease_expires_at timestamptz not null,
  ready_slot       smallint    not null,
  job_ids          bigint[]
) partition by list (ready_slot);

-- How far rescue has looked, newest last: of a lane's claims up to generation
-- checked only those in open_batches may still be open. The claims up to
-- marked are looked at once they are no longer young.
create table {{ .schema }}.rescue_points (
  lane         bigint      not null,
  point        bigint      not null,
  checked      bigint      not null,
  marked       bigint      not null,
  marked_at    timestamptz not null,
  ready_slot   smallint    not null,
  open_batches bigint[]    not null
) partition by list (ready_slot);

-- How far promotion has come, newest last: of the deferred jobs that seen shows
-- none up to (run_at, job_id) is left. So the next pass does not walk over what
-- earlier ones deleted, however long vacuum is kept from removing it.
create table {{ .schema }}.promotion_points (
  point      bigint      not null,
  run_at     timestamptz not null,
  job_id     bigint      not null,
  ready_slot smallint    not null,
  seen       pg_snapshot not null
) partition by list (ready_slot);

-- Claims that no cursor leads to: of jobs that their own transaction enqueued,
-- and stragglers of a pruned segment.
create table {{ .schema }}.watched_claims (
  batch_id   bigint   not null,
  lane       bigint   not null,
  ready_slot smallint not null
) partition by list (ready_slot);

create type {{ .schema }}.lane_point as (
  lane         bigint,
  point        bigint,
  checked      bigint,
  marked       bigint,
  marked_at    timestamptz,
  open_batches bigint[],
  newest       bigint
);

{{ range $i := until (int .segments) -}}
create table {{ $.schema }}.workers_{{ $i }} partition of {{ $.schema }}.workers
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
create index workers_{{ $i }}_worker_idx on {{ $.schema }}.workers_{{ $i }} (worker, heartbeat_at);

create table {{ $.schema }}.worker_notices_{{ $i }} partition of {{ $.schema }}.worker_notices
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
create index worker_notices_{{ $i }}_worker_idx on {{ $.schema }}.worker_notices_{{ $i }} (worker, xid);

create table {{ $.schema }}.lease_extensions_{{ $i }} partition of {{ $.schema }}.lease_extensions
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
create index lease_extensions_{{ $i }}_batch_idx on {{ $.schema }}.lease_extensions_{{ $i }} (batch_id);

create table {{ $.schema }}.rescue_points_{{ $i }} partition of {{ $.schema }}.rescue_points
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
alter table {{ $.schema }}.rescue_points_{{ $i }} add primary key (lane, point);

create table {{ $.schema }}.promotion_points_{{ $i }} partition of {{ $.schema }}.promotion_points
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
alter table {{ $.schema }}.promotion_points_{{ $i }} add primary key (point);

create table {{ $.schema }}.watched_claims_{{ $i }} partition of {{ $.schema }}.watched_claims
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
{{ end }}

-- What was claimed before cursor rows named their batches.
lock table {{ .schema }}.claims in share row exclusive mode;
insert into {{ .schema }}.watched_claims (batch_id, lane, ready_slot)
select c.batch_id, c.lane, c.ready_slot
from {{ .schema }}.claims as c
where cardinality(c.job_ids) > coalesce((
  select sum(o.jobs) from {{ .schema }}.attempt_outcomes as o
  where o.ready_slot = c.ready_slot and o.batch_id = c.batch_id), 0);

-- When the next rescue pass may start, in milliseconds since 1970: kept outside
-- transactions, so that a costly pass is not repeated at once.
create sequence {{ .schema }}.rescue_clock;

---- create above / drop below ----

drop sequence {{ .schema }}.rescue_clock;
drop type {{ .schema }}.lane_point;
drop table {{ .schema }}.watched_claims;
drop table {{ .schema }}.promotion_points;
drop table {{ .schema }}.rescue_points;
drop table {{ .schema }}.lease_extensions;
drop table {{ .schema }}.worker_notices;
drop table {{ .schema }}.workers;
alter table {{ .schema }}.storage_settings drop column worker_silence;
