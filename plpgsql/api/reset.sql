-- Reset: an empty queue system.

{{ $single := list "queue_lanes" "queue_removals" "segment_rotations" "segment_prunes" "terminal_rollup_entries" "deferred_jobs"
  "leases" "dlq_entries" "job_unique_claims" "primaries" "parked_jobs" "job_dependencies" "batch_operations" "batch_operation_pages" -}}
{{ $config := list "queue_meta" "schedules" -}}
create or replace function {{ .schema }}.reset (keep_config boolean default false)
  returns void
{{ template "internal/public.sql" . -}}
as $$
declare
  v_own   text := current_setting('lock_timeout');
  v_until timestamptz := _shut_until();
begin
  -- Others lock these tables in many orders, so each try that fails gives all of them back.
  loop
    begin
      perform _shut_ring();
      lock table {{ join ", " $single }}, {{ join ", " $config }}, 
        {{- template "internal/ring_tables.sql" (dict "suffix" "") }} in access exclusive mode;
      -- This may wait as well: autovacuum may be at what belongs to a table and no lock on
      -- it covers.
{{- range $table := $single }}
{{ template "internal/truncate_filled.sql" (dict "schema" $.schema "table" $table) }}
{{- end }}
{{- range $i := until (int .segments) }}
{{- template "internal/ring_tables.sql" (dict "schema" $.schema "suffix" (print "_" $i) "empty" true) }}
{{- end }}
      if not coalesce(reset.keep_config, false) then
{{- range $table := $config }}
{{ template "internal/truncate_filled.sql" (dict "schema" $.schema "table" $table) }}
{{- end }}
      end if;
      exit;
    exception when lock_not_available or deadlock_detected then
      perform _shut_again('reset', v_until);
    end;
  end loop;
  perform set_config('lock_timeout', v_own, true);
  perform setval('rescue_clock', 1), setval('checkpoint_clock', 1);
  -- Job ids go on, so that a receipt from before never matches a later job.
  insert into segment_rotations (generation, slot, epoch, xid)
  values (0, 0, nextval('storage_epoch'), '0');
  -- After a restore of definitions alone there is no row of settings.
  insert into storage_settings default values on conflict do nothing;
  perform _set_next_fire(s.id) from schedules as s;
end;
$$;

comment on function {{ .schema }}.reset is
  'Removes every job, all history, counters, cursors and ledgers, and the queue settings and schedules unless keep_config; a schedule that is kept goes on from now. Takes ACCESS EXCLUSIVE on all of it, so it waits for every open transaction that used the queues, for lock_timeout or a minute: then 55P03.';
