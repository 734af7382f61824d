-- 005: schedules, and the ledgers of their fires.

-- A cron expression, parsed: the admitted values of each field as bits. Either
-- day counts when both the day and the weekday are restricted. A fixed delay has
-- every and nothing else.
create type {{ .schema }}.cron_spec as (
  seconds  bigint,
  minutes  bigint,
  hours    bigint,
  days     bigint,
  months   bigint,
  weekdays bigint,
  either   boolean,
  every    interval
);

-- What to enqueue and when. Changed by hand alone: a fire writes into cron_fires.
create table {{ .schema }}.schedules (
  id           bigint generated always as identity primary key,
  name         text not null unique,
  cron         text not null,
  timezone     text not null,
  spec         {{ .schema }}.cron_spec not null,
  kind         text not null,
  args         jsonb not null,
  queue        text not null,
  priority     smallint not null,
  max_attempts smallint not null,
  tags         text[] not null,
  metadata     jsonb not null,
  ordering_key text,
  deadline     interval,
  missed_fire  text not null check (missed_fire in ('skip', 'coalesce', 'catch_up')),
  paused_at    timestamptz,
  created_at   timestamptz not null,
  updated_at   timestamptz not null
);

-- How far a schedule is: its newest point counts. What fires up to since is
-- settled, and next_fire_at follows from it; it is reckoned anew at look_at, which
-- is not far off, for the rules of a time zone may change. changed marks what a
-- caller wrote, a new schedule or another time; the rest was written by fires.
create table {{ .schema }}.cron_fires (
  schedule_id  bigint      not null,
  point        bigint      not null,
  xid          xid8        not null,
  since        timestamptz not null,
  look_at      timestamptz not null,
  next_fire_at timestamptz,
  last_fire_at timestamptz,
  last_job_id  bigint,
  ready_slot   smallint    not null,
  changed      boolean     not null
) partition by list (ready_slot);

create sequence {{ .schema }}.cron_point_seq;

-- How far the search for due schedules has come, newest last: of the points that
-- seen shows none up to (look_at, fire_point) is left, but for the schedules
-- in held, which somebody had in hand or which have more to catch up, and those in
-- troubled, which could not fire.
create table {{ .schema }}.cron_points (
  point      bigint      not null,
  look_at    timestamptz not null,
  fire_point bigint      not null,
  ready_slot smallint    not null,
  seen       pg_snapshot not null,
  held       bigint[]    not null,
  troubled   bigint[]    not null
) partition by list (ready_slot);

{{ range $i := until (int .segments) -}}
create table {{ $.schema }}.cron_fires_{{ $i }} partition of {{ $.schema }}.cron_fires
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
alter table {{ $.schema }}.cron_fires_{{ $i }} add primary key (schedule_id, point);
create index cron_fires_{{ $i }}_due_idx on {{ $.schema }}.cron_fires_{{ $i }} (look_at, point);
create index cron_fires_{{ $i }}_xid_idx on {{ $.schema }}.cron_fires_{{ $i }} (xid) where changed;

create table {{ $.schema }}.cron_points_{{ $i }} partition of {{ $.schema }}.cron_points
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
alter table {{ $.schema }}.cron_points_{{ $i }} add primary key (point);

{{ end -}}

create view {{ .schema }}.cron_schedules as
select s.name, s.cron, s.timezone, s.kind, s.args, s.queue, s.priority, s.max_attempts, s.tags, s.metadata,
  s.ordering_key, s.deadline, s.missed_fire, s.paused_at is not null as paused, s.paused_at,
  case when s.paused_at is null then f.next_fire_at end as next_fire_at, f.last_fire_at, f.last_job_id,
  s.created_at, s.updated_at
from {{ .schema }}.schedules as s
left join lateral (
  select n.next_fire_at, n.last_fire_at, n.last_job_id
  from {{ .schema }}.cron_fires as n
  where n.schedule_id = s.id
  order by n.point desc
  limit 1
) as f on true;

---- create above / drop below ----

drop view {{ .schema }}.cron_schedules;
drop table {{ .schema }}.cron_points;
drop sequence {{ .schema }}.cron_point_seq;
drop table {{ .schema }}.cron_fires;
drop table {{ .schema }}.schedules;
drop type {{ .schema }}.cron_spec;
