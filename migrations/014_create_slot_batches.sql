-- 014: limits of concurrency for whole claims.
-- changes: parked_jobs

-- Which attempts of a limited queue were claimed together, and their keys. open: the
-- points of the batches that still counted after this one, itself included; the
-- newest row knows, and others that prune carries have none. Attempts that outlast
-- many claims go on in slot_entries: aged, if there may be any.
create table {{ .schema }}.slot_batches (
  queue      text     not null,
  point      bigint   not null,
  batch_id   bigint   not null,
  keys       text[]   not null,
  job_ids    bigint[] not null,
  open       bigint[] not null,
  aged       boolean  not null,
  ready_slot smallint not null
) partition by list (ready_slot);

{{ range $i := until (int .segments) -}}
create table {{ $.schema }}.slot_batches_{{ $i }} partition of {{ $.schema }}.slot_batches
  for values in ({{ $i }}) with (autovacuum_vacuum_insert_threshold = -1, toast_tuple_target = 8160);
alter table {{ $.schema }}.slot_batches_{{ $i }}
  alter keys set storage external, alter job_ids set storage external, alter open set storage external;
alter table {{ $.schema }}.slot_batches_{{ $i }} add primary key (queue, point);
{{ end }}

-- A random parked job, and no way to a key's oldest one.
create index parked_jobs_mixed_idx on {{ .schema }}.parked_jobs (queue, hashint8extended(job_id, 0));
drop index {{ .schema }}.parked_jobs_job_idx;

---- create above / drop below ----

create index parked_jobs_job_idx on {{ .schema }}.parked_jobs (queue, job_id);
drop index {{ .schema }}.parked_jobs_mixed_idx;
drop table {{ .schema }}.slot_batches;
