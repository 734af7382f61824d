{{- /* Every table of the ring: the names of the partitions of one slot, by their suffix, or with
none of the whole tables. With empty, the partitions are truncated. */}}
{{- $tables := list "lane_cursors" "ready_entries" "ready_tombstones" "attempt_outcomes" "claims" "outcome_removals"
  "terminal_count_deltas" "checkpoint_snapshots" "terminal_count_checkpoints" "lease_extensions" "progress_entries" "workers"
  "worker_notices" "rescue_points" "promotion_points" "watched_claims" "watch_points" "cron_fires" "cron_points" "rate_points"
  "slot_entries" "slot_batches" "dependency_points" "job_departures" }}
{{- $suffix := .suffix }}
{{- if .empty }}
{{- range $tables }}
{{ template "internal/truncate_filled.sql" (dict "schema" $.schema "table" (print . $suffix)) }}
{{- end }}
{{- else }}
{{- range $n, $table := $tables }}{{ if $n }}, {{ end }}{{ $table }}{{ $suffix }}{{ end }}
{{- end }}
