-- Every retired or re-typed signature, never pruned.
drop function if exists {{ .schema }}._wait_key (text);
drop function if exists {{ .schema }}._bucket_key (text);
drop function if exists {{ .schema }}._promote (integer);
drop function if exists {{ .schema }}._rescue_attempts ({{ .schema }}.receipt[], text[]);
drop function if exists {{ .schema }}._file_closed ({{ .schema }}.deferred_jobs, "char", jsonb);
drop function if exists {{ .schema }}.enqueue (
  text, jsonb, text, integer, timestamptz, integer, text[], jsonb, bytea, bit, text, interval);
drop function if exists {{ .schema }}.enqueue (
  text, jsonb, text, integer, timestamptz, integer, text[], jsonb, bytea, bit, text, interval, text, bigint[]);
drop function if exists {{ .schema }}._batch_id (bigint);
drop function if exists {{ .schema }}._free_slots (text, text[], integer, timestamptz);
drop function if exists {{ .schema }}._slots_below (text, text[], integer, timestamptz);
drop function if exists {{ .schema }}._take_slots (text, {{ .schema }}.claimed_job[], timestamptz, integer);
drop function if exists {{ .schema }}._claim_parked (text, integer, text, interval, integer);
drop function if exists {{ .schema }}._slot_state (text, bigint[], timestamptz);
drop function if exists {{ .schema }}._bring_back ({{ .schema }}.deferred_jobs);
drop function if exists {{ .schema }}._promote_keyed (integer, timestamptz);
drop function if exists {{ .schema }}._slot_state (text, bigint[], timestamptz, smallint);
drop function if exists {{ .schema }}._bring_back ({{ .schema }}.deferred_jobs[]);
drop function if exists {{ .schema }}._need_key ({{ .schema }}.leases, {{ .schema }}.job_state);
drop function if exists {{ .schema }}._register_lane (bigint, text, integer, integer);
drop function if exists {{ .schema }}._lock_free_keys (bigint[]);
drop function if exists {{ .schema }}._queue_counts (text);
drop function if exists {{ .schema }}._next_attempt ({{ .schema }}.deferred_jobs);
drop function if exists {{ .schema }}._update_jobs (jsonb);
drop function if exists {{ .schema }}._collected (text);
drop function if exists {{ .schema }}._lane_head (bigint);
drop function if exists {{ .schema }}._window_head (bigint, pg_snapshot, pg_snapshot, xid8, bigint);
drop function if exists {{ .schema }}._window (pg_snapshot, pg_snapshot, xid8, bigint);
drop function if exists {{ .schema }}._delete_round (bigint[]);
drop function if exists {{ .schema }}._delete_round_holding (bigint[]);
drop function if exists {{ .schema }}._delete_jobs (bigint[]);
drop function if exists {{ .schema }}._closed_since (pg_snapshot);
drop function if exists {{ .schema }}._in_progress (pg_snapshot);
drop function if exists {{ .schema }}._take_many (bigint[], "char"[], text, text, integer);
drop function if exists {{ .schema }}._count_removals ({{ .schema }}.taken_job[]);
drop function if exists {{ .schema }}._retry_dead ({{ .schema }}.dlq_entries, text, integer, timestamptz);
drop function if exists {{ .schema }}._retained_failures (integer);
