-- The errors of jobs, as they are kept.

-- What is kept of an attempt that failed. Inlined by the planner, as the next one is.
create or replace function {{ .schema }}._failure (p_error text, p_attempt integer, p_at timestamptz)
  returns jsonb
  language sql
  stable
  parallel safe
as $$
  select pg_catalog.jsonb_build_object('error', pg_catalog.left(coalesce(p_error, ''), 10000), 'attempt', p_attempt, 'at', p_at)
$$;

-- What is kept of a cancel.
create or replace function {{ .schema }}._cancellation (p_reason text, p_at timestamptz)
  returns jsonb
  language sql
  stable
  parallel safe
as $$
  select pg_catalog.jsonb_build_object('error', coalesce(pg_catalog.left(p_reason, 10000), 'cancelled'), 'at', p_at)
$$;

-- The newest entries of a job's error history, at most p_max.
create or replace function {{ .schema }}._bounded_errors (p_errors jsonb[], p_entry jsonb, p_max integer default 50)
  returns jsonb[]
  language sql
  immutable
  parallel safe
as $$
  select (p_errors || p_entry)[greatest(1, coalesce(pg_catalog.cardinality(p_errors), 0) + 2 - p_max):]
$$;

-- The errors of jobs in the order of their ids; null for an outcome without.
create or replace function {{ .schema }}._errors_of (p_job_ids bigint[], p_errors jsonb)
  returns jsonb[]
  language plpgsql
  immutable
  parallel safe
as $$
begin
  if p_errors is null then
    return null;
  end if;
  return array(
    select p_errors -> j.job_id::text from unnest(p_job_ids) with ordinality as j (job_id, n) order by j.n);
end;
$$;
