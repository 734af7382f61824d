-- 018: publications may hold every table.
-- changes: ready_entries, progress_entries, terminal_count_deltas, workers, worker_notices, lease_extensions, watched_claims, job_departures

-- As soon as a publication holds a table, PostgreSQL refuses to update or delete rows
-- that nothing identifies to a subscriber: a publication for all tables would stop the
-- queue. FULL for what only rebase() changes, or nobody: an insert costs the same with
-- any identity. Not so queue_lanes, which every client reads: an upgrade that takes it
-- away waits for many times as long.
{{ range $i := until (int .segments) -}}
alter table {{ $.schema }}.ready_entries_{{ $i }} replica identity using index ready_entries_{{ $i }}_job_idx;
{{ range $table := list "progress_entries" "terminal_count_deltas" "workers" "worker_notices" "lease_extensions" "watched_claims" "job_departures" -}}
alter table {{ $.schema }}.{{ $table }}_{{ $i }} replica identity full;
{{ end }}
{{ end }}

---- create above / drop below ----

{{ range $i := until (int .segments) -}}
{{ range $table := list "ready_entries" "progress_entries" "terminal_count_deltas" "workers" "worker_notices" "lease_extensions" "watched_claims" "job_departures" -}}
alter table {{ $.schema }}.{{ $table }}_{{ $i }} replica identity default;
{{ end }}
{{ end }}
