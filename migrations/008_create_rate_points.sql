-- 008: rate limits and what a full queue does.
-- changes: queue_meta

-- A limited queue's bucket after each claim, newest last: tokens were left at
-- that moment. Appended and reclaimed with the ring, so no row is hot.
create table {{ .schema }}.rate_points (
  queue      text             not null,
  point      bigint           not null,
  tokens     double precision not null,
  at         timestamptz      not null,
  ready_slot smallint         not null
) partition by list (ready_slot);

{{ range $i := until (int .segments) -}}
create table {{ $.schema }}.rate_points_{{ $i }} partition of {{ $.schema }}.rate_points
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
alter table {{ $.schema }}.rate_points_{{ $i }} add primary key (queue, point);
{{ end }}

alter table {{ .schema }}.queue_meta
  add column on_full text not null default 'reject' check (on_full in ('reject', 'warn'));

---- create above / drop below ----

alter table {{ .schema }}.queue_meta drop column on_full;
drop table {{ .schema }}.rate_points;
