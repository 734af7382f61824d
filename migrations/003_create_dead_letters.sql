-- 003: dead letters, and the keys of unique jobs.

create type {{ .schema }}.dlq_count as (
  queue text,
  depth bigint
);

create table {{ .schema }}.dlq_entries (
  id                  bigint primary key,
  kind                text not null,
  queue               text not null,
  args                jsonb not null,
  state               {{ .schema }}.job_state not null default 'failed',
  priority            smallint not null,
  attempt             smallint not null,
  max_attempts        smallint not null,
  run_at              timestamptz not null,
  heartbeat_at        timestamptz,
  deadline_at         timestamptz,
  attempted_at        timestamptz,
  finalized_at        timestamptz,
  created_at          timestamptz not null,
  errors              jsonb[] not null,
  metadata            jsonb not null,
  tags                text[] not null,
  unique_key          bytea,
  unique_states       bit(8),
  callback_id         uuid,
  callback_timeout_at timestamptz,
  run_lease           bigint not null,
  progress            jsonb,
  dlq_reason          text,
  dlq_at              timestamptz not null default clock_timestamp(),
  original_run_lease  bigint not null,
  ordering_key        text,
  deadline            interval
);
create index dlq_entries_queue_idx on {{ .schema }}.dlq_entries (queue, dlq_at);
create index dlq_entries_kind_idx on {{ .schema }}.dlq_entries (kind);

-- Who holds a unique key. A row whose job left the states of its mask no
-- longer holds it: the next job that wants the key takes the row over.
create table {{ .schema }}.job_unique_claims (
  unique_key bytea primary key,
  job_id     bigint not null,
  states     bit(8) not null
);
create index job_unique_claims_job_idx on {{ .schema }}.job_unique_claims (job_id);

---- create above / drop below ----

drop table {{ .schema }}.job_unique_claims;
drop table {{ .schema }}.dlq_entries;
drop type {{ .schema }}.dlq_count;
