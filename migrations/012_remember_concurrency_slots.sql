-- 012: limits of concurrency that are lowered.
-- changes: queue_meta

-- The highest limit that the queue ever had, so how many slots of a key may be taken.
alter table {{ .schema }}.queue_meta add column concurrency_slots integer;

update {{ .schema }}.queue_meta as m
set concurrency_slots = greatest(m.concurrency_limit, (select max(s.slot) from {{ .schema }}.slot_entries as s where s.queue = m.queue));

---- create above / drop below ----

alter table {{ .schema }}.queue_meta drop column concurrency_slots;
