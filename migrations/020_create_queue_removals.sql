-- 020: queues can be removed.

-- The newest removal. Its epoch tells a transaction-long snapshot that a queue which it
-- knows may be gone.
create table {{ .schema }}.queue_removals (
  epoch      bigint primary key,
  queue      text not null,
  removed_at timestamptz not null default now()
);

---- create above / drop below ----

drop table {{ .schema }}.queue_removals;
