      -- The claim of an attempt, in one segment.
      select k.{{ .column }}
      from claims_{{ .slot }} as k
      where k.batch_id >= (p_job_id * 16) << 13
        and k.lane = p_lane
        and p_job_id = any (k.job_ids)
        and coalesce(k.run_leases[array_position(k.job_ids, p_job_id)], 1) = p_run_lease
      order by k.batch_id
      limit 1
