-- Deferred jobs are counted as history is: by signed deltas, so that neither a
-- long schedule nor rows that vacuum may not remove make counting slow.

create or replace function {{ .schema }}._count_deferred ()
  returns trigger
  language plpgsql
  volatile
  set search_path = pg_catalog, {{ .schema }}, pg_temp
as $$
declare
  v_sign integer := case tg_op when 'INSERT' then 1 else -1 end;
begin
  -- As in _count_removed: without counters the call goes on, and a rebuild corrects them.
  if to_regclass('{{ .schema }}.terminal_count_deltas') is not null then
    insert into terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled, scheduled, retryable)
    select d.lane, pg_current_xact_id(), (select r.slot from segment_rotations as r order by r.generation desc limit 1), 0, 0, 0, 0,
      v_sign * count(*) filter (where d.state = 'scheduled'), v_sign * count(*) filter (where d.state = 'retryable')
    from moved as d
    group by d.lane;
  end if;
  return null;
end;
$$;

create or replace trigger deferred_jobs_came after insert on {{ .schema }}.deferred_jobs
  referencing new table as moved
  for each statement execute function {{ .schema }}._count_deferred();
create or replace trigger deferred_jobs_left after delete on {{ .schema }}.deferred_jobs
  referencing old table as moved
  for each statement execute function {{ .schema }}._count_deferred();

-- What the deltas say and how many rows there are, per lane, where they differ.
create or replace function {{ .schema }}._deferred_drift ()
  returns table (lane bigint, scheduled bigint, retryable bigint, counted_scheduled bigint, counted_retryable bigint)
  language plpgsql
  stable
as $$
begin
  return query
  with counted as (
    select k.lane, sum(k.scheduled) as scheduled, sum(k.retryable) as retryable
    from (
      select d.lane, d.scheduled, d.retryable from terminal_count_deltas as d
      union all
      select e.lane, e.scheduled, e.retryable from terminal_rollup_entries as e
    ) as k
    group by k.lane
  ),
  present as (
    select d.lane, count(*) filter (where d.state = 'scheduled') as scheduled,
      count(*) filter (where d.state = 'retryable') as retryable
    from deferred_jobs as d
    group by d.lane
  )
  select coalesce(p.lane, c.lane), coalesce(p.scheduled, 0), coalesce(p.retryable, 0),
    coalesce(c.scheduled, 0)::bigint, coalesce(c.retryable, 0)::bigint
  from present as p
  full join counted as c on c.lane = p.lane
  where coalesce(p.scheduled, 0) <> coalesce(c.scheduled, 0) or coalesce(p.retryable, 0) <> coalesce(c.retryable, 0);
end;
$$;
