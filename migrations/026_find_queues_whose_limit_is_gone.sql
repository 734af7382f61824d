-- 026: maintain looks for queues that had a limit of concurrency, beside many that have one.
-- changes: queue_meta

create index queue_meta_unlimited_idx on {{ .schema }}.queue_meta (queue)
  where concurrency_limit is null and concurrency_slots is not null;

---- create above / drop below ----

drop index {{ .schema }}.queue_meta_unlimited_idx;
