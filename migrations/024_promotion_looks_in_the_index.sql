-- 024: what is due later a promotion tells by the index alone.
-- changes: deferred_jobs

-- Each pass looks at all that was deferred since the one before, and most of it is due
-- later: with run_at in the index those rows need not be read.
drop index {{ .schema }}.deferred_jobs_xid_idx;
create index deferred_jobs_xid_idx on {{ .schema }}.deferred_jobs (xid, run_at);

---- create above / drop below ----

drop index {{ .schema }}.deferred_jobs_xid_idx;
create index deferred_jobs_xid_idx on {{ .schema }}.deferred_jobs (xid);
