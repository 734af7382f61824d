-- 027: claims look at the newest round of a queue's list of parked jobs.
-- changes: parked_jobs, queue_meta

alter table {{ .schema }}.queue_meta add column parked_round integer not null default 0;
alter table {{ .schema }}.parked_jobs add column round integer not null default 0;
alter table {{ .schema }}.parked_jobs drop constraint parked_jobs_pkey;
alter table {{ .schema }}.parked_jobs add primary key (queue, round, key, job_id);
drop index {{ .schema }}.parked_jobs_mixed_idx;
create index parked_jobs_mixed_idx on {{ .schema }}.parked_jobs (queue, round, hashint8extended(job_id, 0))
  where hashint8extended(job_id, 0) is not null;

---- create above / drop below ----

drop index {{ .schema }}.parked_jobs_mixed_idx;
alter table {{ .schema }}.parked_jobs drop constraint parked_jobs_pkey;
alter table {{ .schema }}.parked_jobs drop column round;
alter table {{ .schema }}.parked_jobs add primary key (queue, key, job_id);
create index parked_jobs_mixed_idx on {{ .schema }}.parked_jobs (queue, hashint8extended(job_id, 0))
  where hashint8extended(job_id, 0) is not null;
alter table {{ .schema }}.queue_meta drop column parked_round;
