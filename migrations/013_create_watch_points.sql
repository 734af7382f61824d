-- 013: how far rescue has looked at the claims that no cursor leads to, and how often
-- maintain looks at sealed segments.
-- changes: watched_claims

-- look_at is the first moment at which rescue may have to do with the claim.
alter table {{ .schema }}.watched_claims
  add column xid xid8 not null default pg_current_xact_id(),
  add column look_at timestamptz not null default '-infinity';

-- Newest last: of the watched claims that seen shows, only those in open_batches
-- may still be open.
create table {{ .schema }}.watch_points (
  point        bigint      not null,
  looked_at    timestamptz not null,
  ready_slot   smallint    not null,
  seen         pg_snapshot not null,
  open_batches bigint[]    not null
) partition by list (ready_slot);

{{ range $i := until (int .segments) -}}
create index watched_claims_{{ $i }}_xid_idx on {{ $.schema }}.watched_claims_{{ $i }} (xid);

create table {{ $.schema }}.watch_points_{{ $i }} partition of {{ $.schema }}.watch_points
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
alter table {{ $.schema }}.watch_points_{{ $i }} add primary key (point);
{{ end }}

-- When maintain may next checkpoint all segments, in milliseconds since 1970: kept
-- outside transactions.
create sequence {{ .schema }}.checkpoint_clock;

---- create above / drop below ----

drop sequence {{ .schema }}.checkpoint_clock;
drop table {{ .schema }}.watch_points;
alter table {{ .schema }}.watched_claims drop column look_at, drop column xid;
