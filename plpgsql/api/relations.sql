-- What views and types hold: what \d+ and \dT+ show. Comments on tables are in the migrations.

comment on view {{ .schema }}.jobs is
  'Every job in a queue or in history, in any state; not dead letters, not pruned jobs. INSERT enqueues one; UPDATE changes priority, run_at, queue, max_attempts, metadata and tags of jobs that wait; DELETE removes any.';
comment on view {{ .schema }}.done_entries is
  'Completed, failed and cancelled jobs until they are pruned: the columns of jobs, then the segment and the shard of the queue that each is in.';
comment on view {{ .schema }}.queue_terminal_live_counts is
  'How many jobs done_entries has of each segment, queue, priority and shard, and in which states. Exact, without counting them.';
comment on view {{ .schema }}.queue_terminal_rollups is
  'How many completed, failed and cancelled jobs of each queue, priority and shard were pruned since the beginning.';
comment on view {{ .schema }}.cron_schedules is
  'The schedules of upsert_schedule, whether they are paused, their last fire with its job, and the next one.';
comment on view {{ .schema }}.storage_transition_state is
  'One row, which says that this storage is active; for clients that expect a transition between storages.';
comment on view {{ .schema }}._jobs_by_key is
  'The rows of jobs, for awa''s own functions: each is looked up by its id, whatever the statistics say.';
comment on view {{ .schema }}._jobs_outside is
  'The rows of jobs that are in no segment: deferred ones, and those that wait for an answer.';

comment on type {{ .schema }}.job_state is
  'The states of a job, in the order of the bits of unique_states.';
comment on type {{ .schema }}.receipt is
  'What claim returns for each job, and what every finish of that attempt takes back. Opaque; stale once the attempt is closed.';
comment on type {{ .schema }}.claimed_job is 'A row of claim: the receipt, the job and what is known of earlier attempts.';
comment on type {{ .schema }}.queue_count is 'A row of queue_counts: jobs by state, dead letters and pruned jobs of a queue.';
comment on type {{ .schema }}.dlq_count is 'A row of dlq_depth: the number of dead letters of a queue.';
comment on type {{ .schema }}.taken_job is 'A job that a call took out of history, for awa''s own functions.';
comment on type {{ .schema }}.lane_point is 'How far rescue has looked at a lane, for awa''s own functions.';
comment on type {{ .schema }}.cron_spec is 'A cron expression, parsed: the values of each field as bits, or a fixed delay.';
comment on type {{ .schema }}.batch_operation is
  'A batch operation: what it does to which jobs, how far it has come and how many of them it changed, skipped and could not change.';
