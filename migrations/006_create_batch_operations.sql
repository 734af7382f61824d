-- 006: batch operations: what is to be done to many jobs, and how far it has come.

-- One row per operation. Jobs are met in the order of their ids: cursor_id is
-- the last one that was looked at, last_id the last that there was when the
-- operation was started. A listed operation meets the jobs of its pages, any
-- other one what it finds between the two. Updated once per bite: neither the
-- primary key nor the index of open ones changes with that.
create table {{ .schema }}.batch_operations (
  id          bigint      generated always as identity primary key,
  operation   text        not null check (operation in ('retry', 'cancel', 'reprioritize', 'move', 'discard', 'delete')),
  filter      jsonb       not null,
  settings    jsonb       not null,
  state       text        not null default 'pending' check (state in ('pending', 'running', 'done', 'cancelled', 'failed')),
  listed      boolean     not null,
  cursor_id   bigint      not null,
  last_id     bigint      not null,
  matched     bigint      not null default 0,
  affected    bigint      not null default 0 check (affected >= 0),
  skipped     bigint      not null default 0 check (skipped >= 0),
  failed      bigint      not null default 0 check (failed >= 0),
  created_at  timestamptz not null,
  started_at  timestamptz,
  finished_at timestamptz,
  last_error  text,
  constraint batch_operations_add_up check (matched = affected + skipped + failed),
  constraint batch_operations_finished check ((finished_at is null) = (state in ('pending', 'running')))
) with (fillfactor = 50);
create index batch_operations_open_idx on {{ .schema }}.batch_operations (id) where state in ('pending', 'running');

-- The jobs of a listed operation, ascending; last_id is the highest of a page.
create table {{ .schema }}.batch_operation_pages (
  operation_id bigint   not null,
  last_id      bigint   not null,
  job_ids      bigint[] not null,
  primary key (operation_id, last_id)
);

-- What callers see of an operation.
create type {{ .schema }}.batch_operation as (
  id          bigint,
  operation   text,
  filter      jsonb,
  settings    jsonb,
  state       text,
  matched     bigint,
  affected    bigint,
  skipped     bigint,
  failed      bigint,
  cursor_id   bigint,
  last_id     bigint,
  created_at  timestamptz,
  started_at  timestamptz,
  finished_at timestamptz,
  last_error  text
);

---- create above / drop below ----

drop type {{ .schema }}.batch_operation;
drop table {{ .schema }}.batch_operation_pages;
drop table {{ .schema }}.batch_operations;
