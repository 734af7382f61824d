-- Every grant of the schema, in one place. Functions run as the schema's
-- owner; nobody else touches a table.

do $grants$
declare
  v_role text;
begin
  foreach v_role in array array['awa_producer', 'awa_worker', 'awa_operator', 'awa_reader'] loop
    if not exists (select from pg_catalog.pg_roles as r where r.rolname = v_role) then
      -- Not a race: a concurrent install holds the same advisory lock, and an
      -- install into another database may win.
      begin
        execute pg_catalog.format('create role %I nologin', v_role);
      exception
        when duplicate_object or unique_violation then
          null;
        when insufficient_privilege then
          raise exception using errcode = '42501',
            message = pg_catalog.format('%s, and %I is missing', sqlerrm, v_role),
            hint = 'awa_producer, awa_worker, awa_operator and awa_reader belong to the server: have a role with CREATEROLE create them, without login, then install again.';
      end;
    end if;
  end loop;
end;
$grants$;

revoke all on schema {{ .schema }} from public;
revoke all on all functions in schema {{ .schema }} from public;
revoke all on all tables in schema {{ .schema }} from public;
revoke all on all sequences in schema {{ .schema }} from public;

-- A default privilege of whoever installs may have granted more to somebody. A function in the
-- schema may be called by awa's, in the place of one of theirs, and that of a trigger runs as
-- whoever writes to its table: both as the owner. A table that another one references cannot be
-- truncated. Dynamic, for nobody knows the names of such roles.
do $others$
declare
  v record;
begin
  for v in
    select distinct a.grantee::regrole as role
    from pg_catalog.pg_namespace as n
    cross join pg_catalog.aclexplode(n.nspacl) as a
    where n.oid = '{{ .schema }}'::regnamespace and a.privilege_type = 'CREATE' and a.grantee not in (n.nspowner, 0)
  loop
    execute pg_catalog.format('revoke create on schema {{ .schema }} from %s cascade', v.role);
  end loop;
  for v in
    select distinct c.oid::regclass as relation, a.grantee::regrole as role
    from pg_catalog.pg_class as c
    cross join pg_catalog.aclexplode(c.relacl) as a
    where c.relnamespace = '{{ .schema }}'::regnamespace and a.privilege_type in ('TRIGGER', 'REFERENCES')
      and a.grantee not in (c.relowner, 0)
  loop
    execute pg_catalog.format('revoke trigger, references on %s from %s cascade', v.relation, v.role);
  end loop;
end;
$others$;

grant usage on schema {{ .schema }} to awa_producer, awa_worker, awa_operator, awa_reader;

grant execute on function
  {{ .schema }}.enqueue,
  {{ .schema }}.enqueue_many (text, jsonb[], text, integer, timestamptz, integer, text[], jsonb, text, interval),
  {{ .schema }}.enqueue_many (jsonb, text),
  {{ .schema }}.insert_job_compat,
  {{ .schema }}.unique_key_of
to awa_producer, awa_operator;

grant execute on function
  {{ .schema }}.claim,
  {{ .schema }}.complete,
  {{ .schema }}.complete_many,
  {{ .schema }}.fail,
  {{ .schema }}.fail_many,
  {{ .schema }}.snooze,
  {{ .schema }}.snooze_many,
  {{ .schema }}.cancel_attempt,
  {{ .schema }}.extend_lease,
  {{ .schema }}.set_progress,
  {{ .schema }}.register_callback,
  {{ .schema }}.callback_status,
  {{ .schema }}.park,
  {{ .schema }}.register_worker,
  {{ .schema }}.heartbeat,
  {{ .schema }}.rescue_unknown,
  {{ .schema }}.start_waiting,
  {{ .schema }}.stop_waiting,
  {{ .schema }}.maintain
to awa_worker, awa_operator;

-- Whoever answers may be neither worker nor operator: a producer's service.
grant execute on function
  {{ .schema }}.complete_callback,
  {{ .schema }}.fail_callback,
  {{ .schema }}.retry_callback,
  {{ .schema }}.resume_callback,
  {{ .schema }}.heartbeat_callback
to awa_producer, awa_worker, awa_operator;

grant execute on function
  {{ .schema }}.cancel,
  {{ .schema }}.cancel_by_unique_key,
  {{ .schema }}.retry,
  {{ .schema }}.delete_job_compat,
  {{ .schema }}.discard_failed_by_kind,
  {{ .schema }}.move_failed_to_dlq,
  {{ .schema }}.bulk_move_failed_to_dlq,
  {{ .schema }}.retry_from_dlq,
  {{ .schema }}.bulk_retry_from_dlq,
  {{ .schema }}.purge_dlq,
  {{ .schema }}.start_batch_operation,
  {{ .schema }}.count_batch_jobs,
  {{ .schema }}.run_batch_operation,
  {{ .schema }}.cancel_batch_operation,
  {{ .schema }}.configure_queue,
  {{ .schema }}.configure_storage,
  {{ .schema }}.pause_queue,
  {{ .schema }}.resume_queue,
  {{ .schema }}.remove_queue,
  {{ .schema }}.upsert_schedule,
  {{ .schema }}.remove_schedule,
  {{ .schema }}.pause_schedule,
  {{ .schema }}.resume_schedule,
  {{ .schema }}.checkpoint_terminal_counters,
  {{ .schema }}.rebuild_terminal_counters,
  {{ .schema }}.rotate,
  {{ .schema }}.prune,
  {{ .schema }}.rebase,
  {{ .schema }}.storage_prepare,
  {{ .schema }}.storage_enter_mixed_transition,
  {{ .schema }}.storage_finalize,
  {{ .schema }}.storage_abort,
  {{ .schema }}.reset
to awa_operator;

grant execute on function
  {{ .schema }}.get_job,
  {{ .schema }}.list_jobs,
  {{ .schema }}.queue_settings,
  {{ .schema }}.list_workers,
  {{ .schema }}.get_batch_operation,
  {{ .schema }}.list_batch_operations
to awa_operator, awa_reader;

grant execute on function
  {{ .schema }}.backoff,
  {{ .schema }}.cron_next,
  {{ .schema }}.active_queue_storage_schema,
  {{ .schema }}.dlq_depth,
  {{ .schema }}.queue_counts,
  {{ .schema }}.queue_overview,
  {{ .schema }}.storage_status,
  {{ .schema }}.check
to awa_producer, awa_worker, awa_operator, awa_reader;

grant select on
  {{ .schema }}.jobs,
  {{ .schema }}.done_entries,
  {{ .schema }}.dlq_entries,
  {{ .schema }}.cron_schedules,
  {{ .schema }}.queue_terminal_live_counts,
  {{ .schema }}.queue_terminal_rollups,
  {{ .schema }}.storage_transition_state
to awa_operator, awa_reader;

-- The view's triggers do the work as owner; these only let a statement start.
grant insert on {{ .schema }}.jobs to awa_producer, awa_operator;
grant update, delete on {{ .schema }}.jobs to awa_operator;

-- The view calls them for its reader.
grant execute on function
  {{ .schema }}._attempt_of,
  {{ .schema }}._by_key_at_most,
  {{ .schema }}._newest_cursors,
  {{ .schema }}._claimed
to awa_operator, awa_reader;
