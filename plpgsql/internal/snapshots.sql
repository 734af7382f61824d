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

-- Between these transaction ids lies what a snapshot may show: those in progress, in their
-- order, whose rows are not to be walked, and its xmax.
create or replace function {{ .schema }}._bounds (p_snapshot pg_snapshot)
  returns xid8[]
  language plpgsql
  immutable
  parallel safe
as $$
begin
  if pg_catalog.pg_snapshot_xmin(p_snapshot) = pg_catalog.pg_snapshot_xmax(p_snapshot) then
    return array[pg_catalog.pg_snapshot_xmax(p_snapshot)];
  end if;
  return array(select x.xid from pg_catalog.pg_snapshot_xip(p_snapshot) as x (xid) order by x.xid)
    || pg_catalog.pg_snapshot_xmax(p_snapshot);
end;
$$;
