    -- Whether the cursor c of its lane has gone past a ready row r.
    r.xid = '0'
    or pg_visible_in_snapshot(r.xid, c.s_prev)
    or (pg_visible_in_snapshot(r.xid, c.s_cur) and (c.drained
      or (c.last_segment - ((c.last_segment - r.ready_slot) % {{ .segments }} + {{ .segments }}) % {{ .segments }}, r.xid, r.job_id)
        <= (c.segment, c.pos_xid, c.pos_job_id)))
