-- 009: limits of concurrency per key.
-- changes: queue_meta

alter table {{ .schema }}.queue_meta add column concurrency_limit integer check (concurrency_limit between 1 and 1000);

-- Who holds a key's slots: an attempt that is open, by the newest row of a slot.
create table {{ .schema }}.slot_entries (
  queue      text     not null,
  key        text     not null,
  slot       integer  not null,
  point      bigint   not null,
  batch_id   bigint   not null,
  job_id     bigint   not null,
  ready_slot smallint not null
) partition by list (ready_slot);

{{ range $i := until (int .segments) -}}
create table {{ $.schema }}.slot_entries_{{ $i }} partition of {{ $.schema }}.slot_entries
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1);
alter table {{ $.schema }}.slot_entries_{{ $i }} add primary key (queue, key, slot, point);
{{ end }}

-- Jobs that a claim met while their key had no slot left. They wait among the
-- deferred jobs, for no moment that comes.
create table {{ .schema }}.parked_jobs (
  queue  text   not null,
  key    text   not null,
  job_id bigint not null,
  primary key (queue, key, job_id)
);
create index parked_jobs_job_idx on {{ .schema }}.parked_jobs (queue, job_id);

---- create above / drop below ----

drop table {{ .schema }}.parked_jobs;
drop table {{ .schema }}.slot_entries;
alter table {{ .schema }}.queue_meta drop column concurrency_limit;
