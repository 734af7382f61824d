-- The clock of every rule of time. Tests of an application may set it:
-- awa.now, in a session of the schema's owner.

create or replace function {{ .schema }}._may_set_clock ()
  returns boolean
  language plpgsql
  stable
as $$
begin
  return pg_has_role(session_user, (select n.nspowner from pg_namespace as n where n.nspname = '{{ .schema }}'), 'member');
end;
$$;

-- Inlined by the planner, so it costs next to nothing.
create or replace function {{ .schema }}._now ()
  returns timestamptz
  language sql
  volatile
as $$
  select case
    when coalesce(pg_catalog.current_setting('{{ .schema }}.now', true), '') <> '' and {{ .schema }}._may_set_clock()
      then pg_catalog.current_setting('{{ .schema }}.now')::timestamptz
    else pg_catalog.clock_timestamp()
  end
$$;

-- When the transaction began, by that clock: the time of a job that is given none. Inlined, too.
create or replace function {{ .schema }}._begun ()
  returns timestamptz
  language sql
  stable
as $$
  select case
    when coalesce(pg_catalog.current_setting('{{ .schema }}.now', true), '') <> '' and {{ .schema }}._may_set_clock()
      then pg_catalog.current_setting('{{ .schema }}.now')::timestamptz
    else pg_catalog.now()
  end
$$;

-- Whether a time is so far ahead that the clock must have been set back since.
create or replace function {{ .schema }}._is_ahead (p_at timestamptz, p_now timestamptz)
  returns boolean
  language sql
  stable
  parallel safe
as $$
  select p_at > p_now + interval '1 minute'
$$;

-- Whether a time is that long ago; one that is far ahead counts as such.
create or replace function {{ .schema }}._is_past (p_at timestamptz, p_now timestamptz, p_ago interval)
  returns boolean
  language sql
  stable
  parallel safe
as $$
  select p_at <= p_now - p_ago or {{ .schema }}._is_ahead(p_at, p_now)
$$;
