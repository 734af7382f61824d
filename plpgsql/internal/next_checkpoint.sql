    -- The number of the next checkpoint of v_slot, the snapshot of the last one, and that of
    -- the next.
    head as materialized (
      select coalesce(s.checkpoint, 0) + 1 as checkpoint, coalesce(s.snapshot, '1:1:') as prev,
        _hide_own(pg_current_snapshot()) as cur
      from (select) as one
      left join lateral (
        select k.checkpoint, k.snapshot from checkpoint_snapshots as k
        where k.ready_slot = v_slot
        order by k.checkpoint desc
        limit 1
      ) as s on true
    ),
