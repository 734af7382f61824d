-- What no outcome row counts: deltas of the counters.

-- Claims that no cursor counts: a delta takes back in advance the closures that will follow, so
-- that claimed less closed stays right.
create or replace function {{ .schema }}._count_bypassed (p_lane bigint, p_slot smallint, p_jobs bigint)
  returns void
  language plpgsql
  volatile
as $$
begin
  if to_regclass('{{ .schema }}.terminal_count_deltas') is not null then
    insert into terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
    values (p_lane, pg_current_xact_id(), p_slot, -p_jobs, 0, 0, 0);
  end if;
end;
$$;

-- Jobs that left history. Where a storage has no counters the jobs are removed all the same;
-- check() then reports the key and a rebuild corrects it.
create or replace function {{ .schema }}._count_removed (p_lane bigint, p_slot smallint, p_outcome "char", p_jobs bigint)
  returns void
  language plpgsql
  volatile
as $$
begin
  if to_regclass('{{ .schema }}.terminal_count_deltas') is not null then
    insert into terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
    values (p_lane, pg_current_xact_id(), p_slot, 0, case when p_outcome = 'c' then -p_jobs else 0 end,
      case when p_outcome = 'f' then -p_jobs else 0 end, case when p_outcome = 'x' then -p_jobs else 0 end);
  end if;
end;
$$;
