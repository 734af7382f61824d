-- 015: what a job carries is compressed with lz4 where the server has it.
-- changes: ready_entries, progress_entries, attempt_outcomes, deferred_jobs, leases, dlq_entries

-- pglz, the default, takes several times as long, and most of the time of a call that
-- enqueues large jobs.
do $$
begin
  if exists (select from pg_settings where name = 'default_toast_compression' and 'lz4' = any (enumvals)) then
    {{- range $table := list "deferred_jobs" "leases" "dlq_entries" "ready_entries" }}
    alter table {{ $.schema }}.{{ $table }}
      alter args set compression lz4, alter metadata set compression lz4, alter progress set compression lz4, alter errors set compression lz4;
    {{- end }}
    alter table {{ .schema }}.progress_entries alter progress set compression lz4;
    alter table {{ .schema }}.attempt_outcomes alter errors set compression lz4;
    {{- range $i := until (int .segments) }}
    alter table {{ $.schema }}.ready_entries_{{ $i }}
      alter args set compression lz4, alter metadata set compression lz4, alter progress set compression lz4, alter errors set compression lz4;
    alter table {{ $.schema }}.progress_entries_{{ $i }} alter progress set compression lz4;
    alter table {{ $.schema }}.attempt_outcomes_{{ $i }} alter errors set compression lz4;
    {{- end }}
  end if;
end
$$;

---- create above / drop below ----

{{ range $table := list "deferred_jobs" "leases" "dlq_entries" "ready_entries" -}}
alter table {{ $.schema }}.{{ $table }}
  alter args set compression default, alter metadata set compression default, alter progress set compression default, alter errors set compression default;
{{ end -}}
alter table {{ .schema }}.progress_entries alter progress set compression default;
alter table {{ .schema }}.attempt_outcomes alter errors set compression default;
{{ range $i := until (int .segments) -}}
alter table {{ $.schema }}.ready_entries_{{ $i }}
  alter args set compression default, alter metadata set compression default, alter progress set compression default, alter errors set compression default;
alter table {{ $.schema }}.progress_entries_{{ $i }} alter progress set compression default;
alter table {{ $.schema }}.attempt_outcomes_{{ $i }} alter errors set compression default;
{{ end }}
