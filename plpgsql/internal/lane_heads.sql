-- Which lane comes first: by priority, and by how long its first job waits.

-- Since when the first claimable row of each of these lanes waits. Lanes without one are left
-- out. A claim calls _lane_heads before it has the lanes' locks, to learn which are worth a try.
-- _move_idle_lanes calls it with the locks in hand, and moves the cursors of the lanes left out
-- past their rows for good. So a lane whose cursor is of another cluster is never left out: a
-- claim then reports it.
--
-- _waiting_heads is the same, except that it passes over rows that were taken before their turn.
-- There may be many of them; claims go past them once and need not be told.
{{ range $waiting := list false true }}
create or replace function {{ $.schema }}.{{ if $waiting }}_waiting_heads{{ else }}_lane_heads{{ end }} (p_lanes bigint[])
  returns table (lane bigint, run_at timestamptz)
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  -- This transaction counts as in progress too, since its own jobs are in no window.
  v_snap pg_snapshot;
  v_hi   xid8[];
  v_lo   xid8[];
  v_top  xid8 := '18446744073709551615'::xid8;
begin
  perform _enter_ring();
  v_snap := _hide_own(pg_current_snapshot());
  v_hi := _bounds(v_snap);
  v_lo := '0'::xid8 || v_hi;
  return query
  select u.lane, case when pg_snapshot_xmax(c.s_cur) > pg_snapshot_xmax(v_snap) then '-infinity' else w.run_at end
  from (select n.generation as ring from segment_rotations as n order by n.generation desc limit 1) as g
  cross join unnest(p_lanes) as u (lane)
  left join lateral (
    select o.segment, o.drained, o.pos_xid, o.pos_job_id, o.s_prev, o.s_cur,{{ if $waiting }} o.skips,{{ end }}
      -- Where the first row can be: what s_cur does not show is numbered from the floor on.
      case when o.floor_xid <= pg_snapshot_xmin(o.s_cur) then
        case when o.drained then o.base_segment else least(o.segment, o.base_segment) end end as first
    from lane_cursors as o
    where o.lane = u.lane
    order by o.generation desc
    limit 1
  ) as c on true
  left join lateral (
    select r.run_at
    from generate_series(greatest(c.first, g.ring - {{ sub (int $.segments) 1 }}, 0), g.ring) as s (segment)
    -- The rest of the open window and what comes after it, as far as this segment
    -- holds it, around what is in progress: below hi_xid and up to to_xid.
    cross join lateral (
      select x.xid, -1, v_top, x.xid
      from pg_snapshot_xip(c.s_cur) as x (xid)
      where pg_visible_in_snapshot(x.xid, v_snap)
      union all
      select x.xid, case when s.segment = c.segment and x.xid = c.pos_xid then c.pos_job_id else -1 end, v_top, x.xid
      from pg_snapshot_xip(c.s_prev) as x (xid)
      where not c.drained and (s.segment > c.segment or s.segment = c.segment and x.xid >= c.pos_xid)
        and pg_visible_in_snapshot(x.xid, v_snap)
      union all
      select greatest(b.xid, o.lo_xid), case when b.xid > o.lo_xid then b.job_id else 9223372036854775807 end,
        -- Without a cursor nothing else tells of another cluster: its jobs have numbers that
        -- this one has not reached, so these are looked for as well.
        case when c.s_cur is null and o.hi_xid = pg_snapshot_xmax(v_snap) then v_top else o.hi_xid end, v_top
      from (
        select case
            when c.s_cur is null then '0'
            when c.drained or s.segment < c.segment then pg_snapshot_xmax(c.s_cur)
            when s.segment = c.segment then greatest(c.pos_xid, pg_snapshot_xmax(c.s_prev))
            else pg_snapshot_xmax(c.s_prev) end as xid,
          case when not c.drained and s.segment = c.segment and c.pos_xid >= pg_snapshot_xmax(c.s_prev) then c.pos_job_id
            else -1 end as job_id
      ) as b
      cross join unnest(v_lo, v_hi) as o (lo_xid, hi_xid)
      where b.xid < o.hi_xid
    ) as p (lo_xid, lo_id, hi_xid, to_xid)
    cross join lateral (
      select e.run_at
      from ready_entries as e
      where e.ready_slot = s.segment % {{ $.segments }} and e.lane = u.lane
        and (e.xid, e.job_id) > (p.lo_xid, p.lo_id) and e.xid < p.hi_xid and e.xid <= p.to_xid
        and e.xid is distinct from pg_current_xact_id_if_assigned()
{{- if $waiting }}
        and (
{{ template "internal/row_taken.sql" "e" }}        ) is not true
{{- end }}
      order by e.xid, e.job_id
      limit 1
    ) as r
    limit 1
  ) as w on true
  where w.run_at is not null or pg_snapshot_xmax(c.s_cur) > pg_snapshot_xmax(v_snap);
end;
$$;
{{ end }}
-- How many steps of priority a wait has earned: at most 3, whatever the times.
create or replace function {{ .schema }}._lane_age (p_head timestamptz, p_now timestamptz, p_interval interval)
  returns integer
  language sql
  immutable
  parallel safe
as $$
  select case
    when coalesce(p_interval, '60 seconds') <= '0' then 0
    else floor(least(greatest(
      (extract(epoch from p_now)::float8 - extract(epoch from p_head)::float8)
        / extract(epoch from coalesce(p_interval, '60 seconds'))::float8, 0), 3))::integer
  end
$$;

-- When a wait began, in steps of the interval; null where waiting earns nothing.
create or replace function {{ .schema }}._lane_since (p_head timestamptz, p_interval interval)
  returns double precision
  language sql
  immutable
  parallel safe
as $$
  select pg_catalog.floor(extract(epoch from p_head)::float8
    / nullif(extract(epoch from coalesce(p_interval, '60 seconds'))::float8, 0))
$$;
