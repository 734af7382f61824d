-- Snapshots that are stored: what a later reader may treat as settled.

-- The given snapshot with this transaction counted as still in progress. A
-- snapshot never lists its own transaction, yet rows it writes later must not
-- be taken for seen.
create or replace function {{ .schema }}._hide_own (p_snapshot pg_snapshot)
  returns pg_snapshot
  language plpgsql
  volatile
as $$
declare
  v_own xid8 := pg_catalog.pg_current_xact_id_if_assigned();
begin
  if v_own is null or not pg_catalog.pg_visible_in_snapshot(v_own, p_snapshot) then
    return p_snapshot;
  end if;
  return (
    select pg_catalog.format('%s:%s:%s',
      least(pg_catalog.pg_snapshot_xmin(p_snapshot), v_own),
      pg_catalog.pg_snapshot_xmax(p_snapshot),
      pg_catalog.string_agg(x.xid::text, ',' order by x.xid))::pg_snapshot
    from (
      select pg_catalog.pg_snapshot_xip(p_snapshot) as xid
      union all
      select v_own
    ) as x);
end;
$$;

-- The window between two snapshots as disjoint (xid, job_id) intervals, both
-- ends exclusive: transactions that were open in s_prev and are visible now,
-- one by one, then everything above s_prev around those still open. Rows that
-- were consumed, or may not be seen yet, are never walked.
create or replace function {{ .schema }}._window (
  p_prev pg_snapshot, p_cur pg_snapshot, p_pos_xid xid8, p_pos_job_id bigint,
  out lo_xid xid8[], out lo_id bigint[], out hi_xid xid8[], out hi_id bigint[]
)
  language plpgsql
  immutable
  parallel safe
as $$
begin
  with start as (
    select
      case when p_pos_xid >= pg_snapshot_xmax(p_prev) then p_pos_xid else pg_snapshot_xmax(p_prev) end as xid,
      case when p_pos_xid >= pg_snapshot_xmax(p_prev) then p_pos_job_id else -1 end as id
  ),
  bound as (
    select s.xid, s.id from start as s
    union all
    select x.xid, 9223372036854775807
    from pg_snapshot_xip(p_cur) as x (xid), start as s
    where x.xid >= s.xid
  ),
  piece as (
    select late.xid as lo_xid,
      case when late.xid = p_pos_xid then p_pos_job_id else -1 end as lo_id,
      late.xid as hi_xid,
      9223372036854775807 as hi_id
    from pg_snapshot_xip(p_prev) as late (xid)
    where late.xid >= p_pos_xid and pg_visible_in_snapshot(late.xid, p_cur)
    union all
    select b.xid, b.id,
      coalesce(lead(b.xid) over (order by b.xid, b.id), pg_snapshot_xmax(p_cur)), -1
    from bound as b
  )
  select
    array_agg(p.lo_xid order by p.lo_xid, p.lo_id), array_agg(p.lo_id order by p.lo_xid, p.lo_id),
    array_agg(p.hi_xid order by p.lo_xid, p.lo_id), array_agg(p.hi_id order by p.lo_xid, p.lo_id)
  into lo_xid, lo_id, hi_xid, hi_id
  from piece as p
  where (p.lo_xid, p.lo_id) < (p.hi_xid, p.hi_id);
end;
$$;
