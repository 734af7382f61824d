    -- Lanes where rows wait, by effective priority: one step less per interval
    -- that the head has waited. Among equals the longer wait goes first, in
    -- steps of the interval; shards otherwise at random, or the first would
    -- starve the others.
    v_snap := pg_current_snapshot();
    w_hi_xid := _bounds(v_snap);
    w_lo_xid := '0'::xid8 || w_hi_xid;
    case v_ring % {{ .segments }}
{{ range $i := until (int .segments) }}
    when {{ $i }} then
      select array_agg(u.lane order by u.lane) filter (where not u.drained and u.head is null),
        array_agg(u.lane order by u.lane) filter (where u.head is not null),
        array_agg(u.head order by u.lane) filter (where u.head is not null)
      into v_unknown, v_lanes, v_heads
      from (
        -- If a lane's cursor is in the current segment and its next window begins there, that
        -- segment alone tells whether a job waits: a row after the cursor, or of a transaction
        -- that its snapshot shows in progress. Without either the lane is drained, unless a
        -- transaction that may write elsewhere is not yet shown, or the cursor is another
        -- cluster's. Not used where this transaction has written, since its own jobs, perhaps
        -- many, would be walked.
        select n.lane, coalesce(h.run_at, d.run_at) as head,
          k.alone is true and h.run_at is null and d.run_at is null as drained
        from (select distinct q.lane from queue_lanes as q where q.queue = claim.queue collate "default") as n
        left join lateral (
          select o.s_cur,
            o.base_segment = v_ring and o.floor_xid <= pg_snapshot_xmin(o.s_cur)
              and pg_snapshot_xmax(o.s_cur) <= pg_snapshot_xmax(v_snap)
              and (o.drained or o.pos_xid >= pg_snapshot_xmax(o.s_prev)) as alone,
            case when o.drained then pg_snapshot_xmax(o.s_cur) else greatest(o.pos_xid, pg_snapshot_xmax(o.s_prev)) end as xid,
            case when o.drained or o.pos_xid < pg_snapshot_xmax(o.s_prev) then -1 else o.pos_job_id end as job_id,
            case when o.drained then o.base_segment else o.segment end as segment
          from lane_cursors_{{ $i }} as o
          where o.lane = n.lane
          order by o.generation desc
          limit 1
        ) as k on k.segment = v_ring and pg_current_xact_id_if_assigned() is null
        left join lateral (
          select e.run_at
          from unnest(w_lo_xid, w_hi_xid) as p (lo_xid, hi_xid)
          cross join lateral (
            select o.run_at
            from ready_entries_{{ $i }} as o
            where o.lane = n.lane and o.xid < p.hi_xid
              and (o.xid, o.job_id) > (greatest(k.xid, p.lo_xid), case when k.xid > p.lo_xid then k.job_id else 9223372036854775807 end)
            order by o.xid, o.job_id
            limit 1
          ) as e
          where k.xid < p.hi_xid
          limit 1
        ) as h on true
        left join lateral (
          select e.run_at
          from pg_snapshot_xip(k.s_cur) as x (xid)
          cross join lateral (select o.run_at from ready_entries_{{ $i }} as o where o.lane = n.lane and o.xid = x.xid limit 1) as e
          where h.run_at is null and pg_visible_in_snapshot(x.xid, v_snap)
          limit 1
        ) as d on true
      ) as u;
{{ end }}
    end case;
    if v_unknown is not null then
      select v_lanes || array_agg(h.lane), v_heads || array_agg(h.run_at) into v_lanes, v_heads
      from _lane_heads(v_unknown) as h;
    end if;
    if cardinality(v_lanes) > 1 then
      v_lanes := array(
        select u.lane
        from unnest(v_lanes, v_heads) as u (lane, head)
        order by greatest(_lane_priority(u.lane) - _lane_age(u.head, v_now, v_aging), 1), _lane_since(u.head, v_aging), random());
    end if;
