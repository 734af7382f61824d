-- 010: jobs that wait for other jobs.

-- A job waits for another until that one completes. The job itself is among the
-- deferred ones, for no moment that comes.
create table {{ .schema }}.job_dependencies (
  after_id bigint not null,
  job_id   bigint not null,
  xid      xid8   not null,
  primary key (after_id, job_id)
);
create index job_dependencies_job_idx on {{ .schema }}.job_dependencies (job_id);
create index job_dependencies_xid_idx on {{ .schema }}.job_dependencies (xid);

-- How far the release of waiting jobs has come, newest last: whatever seen shows
-- of outcomes and of dependencies has been met.
create table {{ .schema }}.dependency_points (
  point      bigint      not null,
  ready_slot smallint    not null,
  seen       pg_snapshot not null
) partition by list (ready_slot);

-- Jobs that left without an outcome: deleted while deferred or leased, or
-- dead-lettered from a lease.
create table {{ .schema }}.job_departures (
  xid        xid8     not null,
  ready_slot smallint not null,
  job_ids    bigint[] not null
) partition by list (ready_slot);

{{ range $i := until (int .segments) -}}
create table {{ $.schema }}.job_departures_{{ $i }} partition of {{ $.schema }}.job_departures
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
create index job_departures_{{ $i }}_xid_idx on {{ $.schema }}.job_departures_{{ $i }} (xid);

create table {{ $.schema }}.dependency_points_{{ $i }} partition of {{ $.schema }}.dependency_points
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
alter table {{ $.schema }}.dependency_points_{{ $i }} add primary key (point);
{{ end }}

---- create above / drop below ----

drop table {{ .schema }}.job_departures;
drop table {{ .schema }}.dependency_points;
drop table {{ .schema }}.job_dependencies;
