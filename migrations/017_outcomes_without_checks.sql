-- 017: outcomes are checked by check().
-- changes: attempt_outcomes

-- PostgreSQL parses and plans a table's CHECK constraints anew in every statement that
-- writes to it: a fifteenth of what a finish costs, for what no caller can violate.
alter table {{ .schema }}.attempt_outcomes
  drop constraint attempt_outcomes_jobs_check,
  drop constraint attempt_outcomes_outcome_check;

---- create above / drop below ----

alter table {{ .schema }}.attempt_outcomes
  add constraint attempt_outcomes_jobs_check check (jobs > 0),
  add constraint attempt_outcomes_outcome_check check (outcome in ('c', 'f', 'x', 'r', 's', 'e', 'm', 'q', 'd'));
