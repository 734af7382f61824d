-- Storage transition, for clients of earlier awa: there, a schema went from one
-- engine to another in steps. This storage is active from its install on.

create or replace view {{ .schema }}.storage_transition_state as
select true as singleton, 'queue_storage'::text as current_engine, null::text as prepared_engine, 'active'::text as state,
  0::bigint as transition_epoch, pg_catalog.jsonb_build_object('schema', '{{ .schema }}') as details;

create or replace function {{ .schema }}.active_queue_storage_schema ()
  returns text
  language sql
  immutable
  parallel safe
  set search_path = pg_catalog, pg_temp
as $$
  select '{{ .schema }}'
$$;

comment on function {{ .schema }}.active_queue_storage_schema is
  'The schema whose storage is in use: this one.';

create or replace function {{ .schema }}._no_transition (p_what text)
  returns void
  language plpgsql
  volatile
as $$
begin
  raise exception using errcode = 'AW003',
    message = format('%s: the storage is active, not in transition', p_what),
    hint = 'A storage is active from its install on; install another schema for another storage.';
end;
$$;

create or replace function {{ .schema }}.storage_prepare (schema text)
  returns void
{{ template "internal/public.sql" . -}}
as $$
begin
  if storage_prepare.schema is null or length(storage_prepare.schema) not between 1 and 63 then
    perform _invalid(format('schema %L', left(storage_prepare.schema, 80)), 'A schema name has 1 to 63 characters.');
  end if;
  perform _no_transition('prepare');
end;
$$;

comment on function {{ .schema }}.storage_prepare is
  'Kept for clients of earlier awa. Raises AW003: the storage is active from its install on.';

create or replace function {{ .schema }}.storage_enter_mixed_transition ()
  returns void
{{ template "internal/public.sql" . -}}
as $$
begin
  perform _no_transition('enter mixed transition');
end;
$$;

comment on function {{ .schema }}.storage_enter_mixed_transition is
  'Kept for clients of earlier awa. Raises AW003: the storage is active from its install on.';

create or replace function {{ .schema }}.storage_finalize ()
  returns void
{{ template "internal/public.sql" . -}}
as $$
begin
  perform _no_transition('finalize');
end;
$$;

comment on function {{ .schema }}.storage_finalize is
  'Kept for clients of earlier awa. Raises AW003: the storage is active from its install on.';

create or replace function {{ .schema }}.storage_abort ()
  returns void
  language sql
  volatile
  parallel unsafe
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
as $$
  select
$$;

comment on function {{ .schema }}.storage_abort is
  'Kept for clients of earlier awa. Does nothing: there is no transition to abort.';
