-- 022: the index of parked jobs in random order serves nothing else.
-- changes: parked_jobs

-- A lookup by queue and key that was planned while the table was almost empty could use it
-- as well as the primary key, and would then read all parked jobs of the queue. That its
-- predicate is always true only a condition on the expression can prove.
drop index {{ .schema }}.parked_jobs_mixed_idx;
create index parked_jobs_mixed_idx on {{ .schema }}.parked_jobs (queue, hashint8extended(job_id, 0))
  where hashint8extended(job_id, 0) is not null;

---- create above / drop below ----

drop index {{ .schema }}.parked_jobs_mixed_idx;
create index parked_jobs_mixed_idx on {{ .schema }}.parked_jobs (queue, hashint8extended(job_id, 0));
