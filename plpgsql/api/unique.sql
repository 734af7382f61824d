-- The usual unique key: same kind, queue and args.

create or replace function {{ .schema }}.unique_key_of (kind text, queue text default null, args jsonb default null)
  returns bytea
  language sql
  immutable
  parallel safe
  set search_path = pg_catalog, pg_temp
as $$
  select sha256(convert_to(jsonb_build_array(unique_key_of.kind, unique_key_of.queue, unique_key_of.args)::text, 'UTF8'))
$$;

comment on function {{ .schema }}.unique_key_of is
  'A unique key of the given parts, by SHA-256: jobs of the same kind, and of the same queue and args where these are given, have the same key. The order of keys in args does not matter.';
