-- awa's functions: the table of contents. Re-run as a whole on every upgrade,
-- in one transaction. Bodies name tables bare: each public function pins its
-- search_path, and this one serves while they are created.
-- changes: jobs, _jobs_by_key, _jobs_outside, storage_transition_state, deferred_jobs
set local search_path = pg_catalog, {{ .schema }}, pg_temp;

{{ template "drops.sql" . }}

-- Internal, without promise or grant, up to "Produce". Here the ring: lanes, segments, snapshots.
{{ template "internal/errors.sql" . }}
{{ template "internal/clock.sql" . }}
{{ template "internal/lanes.sql" . }}
{{ template "internal/attempt_of.sql" . }}
{{ template "api/jobs.sql" . }}
{{ template "internal/ring.sql" . }}
{{ template "internal/gate.sql" . }}
{{ template "internal/kept_snapshots.sql" . }}
{{ template "internal/snapshots.sql" . }}
{{ template "internal/batch_ids.sql" . }}

-- What producers, claims and finishes share
{{ template "internal/validate.sql" . }}
{{ template "internal/wake.sql" . }}
{{ template "internal/unique_keys.sql" . }}
{{ template "internal/depth.sql" . }}
{{ template "internal/flow.sql" . }}
{{ template "internal/job_errors.sql" . }}
{{ template "internal/progress.sql" . }}

-- Claims
{{ template "internal/lane_turns.sql" . }}
{{ template "internal/lane_heads.sql" . }}
{{ template "internal/own_jobs.sql" . }}
{{ template "internal/rate_limit.sql" . }}
{{ template "internal/concurrency.sql" . }}
{{ template "internal/parked.sql" . }}
{{ template "internal/claim_parked.sql" . }}
{{ template "internal/parking.sql" . }}
{{ template "internal/claim_limited.sql" . }}

-- Ends of attempts
{{ template "internal/close_attempts.sql" . }}
{{ template "internal/complete_attempts.sql" . }}
{{ template "internal/defer_attempts.sql" . }}
{{ template "internal/fail_attempts.sql" . }}
{{ template "internal/notices.sql" . }}
{{ template "internal/leases.sql" . }}
{{ template "internal/follow_ups.sql" . }}

-- Jobs that move or go
{{ template "internal/locate.sql" . }}
{{ template "internal/take_out.sql" . }}
{{ template "internal/history.sql" . }}
{{ template "internal/requeue.sql" . }}
{{ template "internal/bring_back.sql" . }}
{{ template "internal/cancel_jobs.sql" . }}
{{ template "internal/delete_jobs.sql" . }}
{{ template "internal/dead_letters.sql" . }}
{{ template "internal/collected_rows.sql" . }}
{{ template "internal/update_jobs.sql" . }}
{{ template "internal/batch_jobs.sql" . }}
{{ template "internal/batch_steps.sql" . }}
{{ template "internal/batch_bites.sql" . }}

-- Counters
{{ template "internal/count_deltas.sql" . }}
{{ template "internal/deferred_counts.sql" . }}
{{ template "internal/terminal_counts.sql" . }}

-- Tasks of maintain
{{ template "internal/promote.sql" . }}
{{ template "internal/open_claims.sql" . }}
{{ template "internal/rescue.sql" . }}
{{ template "internal/dependencies.sql" . }}
{{ template "internal/cron.sql" . }}
{{ template "internal/cron_fire.sql" . }}
{{ template "internal/idle_lanes.sql" . }}
{{ template "internal/segment_work.sql" . }}
{{ template "internal/stragglers.sql" . }}
{{ template "internal/move_waiting.sql" . }}
{{ template "internal/prune_lock.sql" . }}

-- Produce
{{ template "api/enqueue.sql" . }}
{{ template "api/enqueue_many.sql" . }}
{{ template "api/enqueue_mixed.sql" . }}
{{ template "api/unique.sql" . }}

-- Work
{{ template "api/claim.sql" . }}
{{ template "api/complete.sql" . }}
{{ template "api/fail.sql" . }}
{{ template "api/attempts.sql" . }}
{{ template "api/callbacks.sql" . }}
{{ template "api/workers.sql" . }}
{{ template "api/waiting.sql" . }}

-- Operate
{{ template "api/job_lists.sql" . }}
{{ template "api/job_operations.sql" . }}
{{ template "api/dead_letters.sql" . }}
{{ template "api/compat.sql" . }}
{{ template "api/batch_operations.sql" . }}

-- Queues
{{ template "api/queues.sql" . }}
{{ template "api/remove_queue.sql" . }}
{{ template "api/queue_counts.sql" . }}
{{ template "api/queue_overview.sql" . }}

-- Cron
{{ template "api/cron.sql" . }}

-- Storage
{{ template "api/counters.sql" . }}
{{ template "api/rotate.sql" . }}
{{ template "api/prune.sql" . }}
{{ template "api/maintain.sql" . }}
{{ template "api/storage_status.sql" . }}
{{ template "api/storage_settings.sql" . }}
{{ template "api/check.sql" . }}
{{ template "api/reset.sql" . }}
{{ template "api/rebase.sql" . }}
{{ template "api/transition.sql" . }}

{{ template "api/relations.sql" . }}
{{ template "grants.sql" . }}
