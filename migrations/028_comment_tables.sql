-- 028: what the tables and sequences hold, as \dt+ and \ds+ show it.
-- changes: deferred_jobs, leases, dlq_entries, job_unique_claims, parked_jobs, job_dependencies, terminal_rollup_entries

-- Here, not beside the functions: a comment waits for a vacuum of its table, and an upgrade
-- would, each time, with other tables in hand. Of those named above a vacuum may take long.

-- The ring: prune empties a segment's rows, and carries on those that are still needed.
comment on table {{ .schema }}.ready_entries is
  'An attempt that may be claimed, with its job. Added by enqueue, promotion, retries and moves; leaves with its segment.';
comment on table {{ .schema }}.claims is
  'A batch: the attempts that one claim took of one lane and segment. Added by claim; leaves with its segment.';
comment on table {{ .schema }}.attempt_outcomes is
  'How one call closed attempts of a batch. Added by each finish, cancel and rescue; leaves with its segment.';
comment on table {{ .schema }}.ready_tombstones is
  'A job that was taken before its turn, which claims leave out. Added by cancel, delete and moves of waiting jobs; leaves with its segment.';
comment on table {{ .schema }}.outcome_removals is
  'A job that is no longer in history. Added by retry, delete, discard and moves to the dead letters; leaves with its segment.';
comment on table {{ .schema }}.progress_entries is
  'A report of progress, the newest of an attempt counts. Added by set_progress, and by the first register_callback; leaves with its segment.';
comment on table {{ .schema }}.lane_cursors is
  'How far a lane is claimed, its newest row counts. Added by each claim, by cancels of waiting jobs, and by maintain for idle lanes; leaves with its segment.';
comment on table {{ .schema }}.terminal_count_deltas is
  'What no outcome tells the counters, by lane: removals from history, claims that no cursor counts, deferred jobs that came and went. Added by the statement that did it; leaves with its segment.';
comment on table {{ .schema }}.checkpoint_snapshots is
  'A checkpoint of a segment''s counters: the snapshot in which the totals hold. Added by maintain and by a rebuild; leaves with its segment.';
comment on table {{ .schema }}.terminal_count_checkpoints is
  'The totals of a lane in one segment, the newest count. Added by maintain and by a rebuild; leaves with its segment.';
comment on table {{ .schema }}.workers is
  'A heartbeat, the newest of a worker counts. Added by register_worker and heartbeat; leaves with its segment.';
comment on table {{ .schema }}.worker_notices is
  'An attempt that somebody else closed, for its worker''s next heartbeat. Added by cancel, delete and rescue; leaves with its segment.';
comment on table {{ .schema }}.lease_extensions is
  'Attempts of a batch whose lease lasts longer. Added by extend_lease; leaves with its segment.';
comment on table {{ .schema }}.rescue_points is
  'How far rescue has looked at a lane''s claims, its newest row counts. Added by maintain; leaves with its segment.';
comment on table {{ .schema }}.watched_claims is
  'A batch that rescue does not find by a cursor. Added by claims of a transaction''s own or parked jobs, and by prune; leaves with its segment.';
comment on table {{ .schema }}.watch_points is
  'How far rescue has looked at watched_claims, the newest row counts. Added by maintain; leaves with its segment.';
comment on table {{ .schema }}.promotion_points is
  'How far promotion has come, the newest row counts. Added by maintain; leaves with its segment.';
comment on table {{ .schema }}.cron_fires is
  'How far a schedule is, its newest row counts. Added by each fire and by changes of the schedule; leaves with its segment.';
comment on table {{ .schema }}.cron_points is
  'How far the search for due schedules has come, the newest row counts. Added by maintain; leaves with its segment.';
comment on table {{ .schema }}.rate_points is
  'The tokens of a queue with a rate_limit, its newest row counts. Added by each claim there; leaves with its segment.';
comment on table {{ .schema }}.slot_batches is
  'A batch of a queue with a concurrency_limit, with the keys of its jobs. Added by each claim there; leaves with its segment.';
comment on table {{ .schema }}.slot_entries is
  'A slot of a concurrency key and the attempt that has it, the slot''s newest row counts. Added by a claim, for attempts that outlast many; leaves with its segment.';
comment on table {{ .schema }}.dependency_points is
  'How far the release of jobs that come after others has come, the newest row counts. Added by maintain; leaves with its segment.';
comment on table {{ .schema }}.job_departures is
  'Jobs that left without an outcome, for those that come after them. Added by delete and dead-lettering; leaves with its segment.';

comment on table {{ .schema }}.segment_rotations is
  'A segment, the newest is the current one. Added by rotate and reset, and kept.';
comment on table {{ .schema }}.segment_prunes is
  'A segment that was emptied, and what was in it. Added by prune, and kept.';
comment on table {{ .schema }}.terminal_rollup_entries is
  'The totals of a lane that were pruned with one segment or more. Added by prune, which makes a lane''s rows one at every 16th; kept until remove_queue.';
comment on table {{ .schema }}.queue_lanes is
  'A lane: a queue, a priority and a shard. Added by the first job there, now and then twice; maintain removes the second row, remove_queue all.';
comment on table {{ .schema }}.queue_meta is
  'The settings of a queue. Written by configure_queue and pause_queue; removed by remove_queue.';
comment on table {{ .schema }}.queue_removals is
  'The newest removal of a queue, for transactions whose snapshot is older. Written by remove_queue.';
comment on table {{ .schema }}.storage_settings is
  'The settings of the storage, in one row. Written by configure_storage.';
comment on table {{ .schema }}.primaries is
  'A timeline of the server, and since when it is the primary on it. Added by maintain, and kept.';
comment on table {{ .schema }}.deferred_jobs is
  'A job that is scheduled or retryable. Added by enqueue, fail, snooze and parking; removed by promotion, claims of parked jobs, cancel and delete.';
comment on table {{ .schema }}.parked_jobs is
  'A deferred job that waits for a slot of its concurrency key. Added by the claim that set it aside; removed by the one that takes it, or when it leaves otherwise.';
comment on table {{ .schema }}.job_dependencies is
  'A deferred job and one that it comes after. Added by enqueue; removed by maintain once that one has ended, or when the job leaves otherwise.';
comment on table {{ .schema }}.leases is
  'An attempt that waits for an answer from outside, or runs on after one, with its job. Added by register_callback; removed by whoever closes the attempt.';
comment on table {{ .schema }}.dlq_entries is
  'Dead letters: the columns of jobs, then why, when and by which attempt each came here, its ordering_key and its deadline. To read; retry_from_dlq and purge_dlq take one out.';
comment on table {{ .schema }}.job_unique_claims is
  'A unique key and the job that has it. Added by the call that takes the key; removed when the job leaves the system.';
comment on table {{ .schema }}.schedules is
  'A schedule, as upsert_schedule wrote it. Removed by remove_schedule.';
comment on table {{ .schema }}.batch_operations is
  'A batch operation and how far it has come. Added by start_batch_operation; removed by a later one, 90 days after its end.';
comment on table {{ .schema }}.batch_operation_pages is
  'A thousand jobs that a batch operation is to meet. Added by start_batch_operation; removed when it ends.';

comment on sequence {{ .schema }}.job_id_seq is 'The ids of jobs.';
comment on sequence {{ .schema }}.schedules_id_seq is 'The ids of schedules.';
comment on sequence {{ .schema }}.batch_operations_id_seq is 'The ids of batch operations.';
comment on sequence {{ .schema }}.cron_point_seq is 'The order of rows in cron_fires.';
comment on sequence {{ .schema }}.storage_epoch is
  'Counts rotations, prunes and removals of queues, outside of transactions: an older snapshot is known by it.';
comment on sequence {{ .schema }}.rescue_clock is 'When the next search for attempts to rescue may begin, in milliseconds since 1970.';
comment on sequence {{ .schema }}.checkpoint_clock is 'When the next checkpoint of all segments is due, in milliseconds since 1970.';

---- create above / drop below ----

{{ range $table := list "ready_entries" "claims" "attempt_outcomes" "ready_tombstones" "outcome_removals" "progress_entries" "lane_cursors"
  "terminal_count_deltas" "checkpoint_snapshots" "terminal_count_checkpoints" "workers" "worker_notices" "lease_extensions" "rescue_points"
  "watched_claims" "watch_points" "promotion_points" "cron_fires" "cron_points" "rate_points" "slot_batches" "slot_entries" "dependency_points"
  "job_departures" "segment_rotations" "segment_prunes" "terminal_rollup_entries" "queue_lanes" "queue_meta" "queue_removals"
  "storage_settings" "primaries" "deferred_jobs" "parked_jobs" "job_dependencies" "leases" "dlq_entries" "job_unique_claims" "schedules"
  "batch_operations" "batch_operation_pages" -}}
comment on table {{ $.schema }}.{{ $table }} is null;
{{ end -}}
{{ range $sequence := list "job_id_seq" "schedules_id_seq" "batch_operations_id_seq" "cron_point_seq" "storage_epoch" "rescue_clock" "checkpoint_clock" -}}
comment on sequence {{ $.schema }}.{{ $sequence }} is null;
{{ end }}
