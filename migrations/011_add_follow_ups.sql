-- 011: jobs that follow a job's end.
-- changes: claims

-- True when a job of the batch names jobs that follow it; a finish of any other
-- batch need not read what it closes.
alter table {{ .schema }}.claims add column follows boolean;

---- create above / drop below ----

alter table {{ .schema }}.claims drop column follows;
