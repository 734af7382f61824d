-- Stored snapshots: what a later reader may treat as settled.

-- The given snapshot with this transaction counted as still in progress. A snapshot never lists
-- its own transaction, but rows that this writes later must not count as seen.
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

-- The transaction ids between which a snapshot may show rows: those in progress, in order,
-- whose own rows are not to be walked, and its xmax.
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

-- The ranges of transaction ids whose rows a statement with snapshot p_cur sees and the n-th of
-- these snapshots does not show: from lo to hi, both included, and between after and before,
-- both excluded. p_own is the statement's own transaction, if its rows are wanted. Rows of
-- transactions in progress are left out, each at the cost of one more range, and so only of the
-- oldest p_cuts that began after the n-th snapshot, which may have written the most. Ids that
-- p_cur cannot know are another cluster's, and are in a range.
create or replace function {{ .schema }}._unseen (p_seen pg_snapshot[], p_cur pg_snapshot, p_own xid8, p_cuts integer)
  returns table (n integer, lo xid8, hi xid8, after xid8, before xid8)
  language plpgsql
  immutable
  parallel safe
as $$
declare
  v_bounds xid8[] := _bounds(p_cur);
  v_max    xid8 := pg_snapshot_xmax(p_cur);
  v_top    xid8 := '9223372036854775807'::xid8;
  v_seen   pg_snapshot;
  v_at     integer;
begin
  for i in 1 .. cardinality(p_seen) loop
    v_seen := p_seen[i];
    if pg_snapshot_xmin(v_seen) < pg_snapshot_xmax(v_seen) then
      return query
      select i, x.xid, x.xid, '0'::xid8, v_top
      from pg_snapshot_xip(v_seen) as x (xid)
      where pg_visible_in_snapshot(x.xid, p_cur) or x.xid >= v_max;
    end if;
    n := i;
    lo := pg_snapshot_xmax(v_seen);
    hi := v_top;
    if lo > v_max then
      after := '0'::xid8;
      before := v_top;
      return next;
    else
      v_at := width_bucket(lo, v_bounds);  -- as many are below it or equal
      for k in v_at + 1 .. least(v_at + p_cuts + 1, cardinality(v_bounds)) loop
        after := coalesce(v_bounds[k - 1], '0');
        before := case when k = v_at + p_cuts + 1 then v_max else v_bounds[k] end;
        return next;
      end loop;
    end if;
    if p_own >= v_max then
      lo := p_own;
      hi := p_own;
      after := '0'::xid8;
      before := v_top;
      return next;
    end if;
  end loop;
end;
$$;
