-- 026: what a deferred job's state may be is checked by check().
-- changes: deferred_jobs

-- As in 017: a failing call would parse and plan it anew each time.
alter table {{ .schema }}.deferred_jobs drop constraint deferred_jobs_state_check;

---- create above / drop below ----

alter table {{ .schema }}.deferred_jobs
  add constraint deferred_jobs_state_check check (state in ('scheduled', 'retryable'));
