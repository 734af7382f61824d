    -- Whether a ready row, named by the dot, was taken before its turn: c is the cursor of its
    -- lane. Not by exists, which may be planned as a walk through all tombstones.
    case when c.skips > 0 then (
      select true from ready_tombstones as t
      where t.ready_slot = {{ . }}.ready_slot and t.job_id = {{ . }}.job_id and t.run_lease = {{ . }}.run_lease) end
