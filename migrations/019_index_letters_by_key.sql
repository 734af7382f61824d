-- 019: dead letters by their unique key.
-- changes: dlq_entries

-- Whether an older letter has the same key is asked of each that goes back.
create index dlq_entries_key_idx on {{ .schema }}.dlq_entries (unique_key, id) where unique_key is not null;

---- create above / drop below ----

drop index {{ .schema }}.dlq_entries_key_idx;
