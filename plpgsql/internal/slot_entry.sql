  -- The newest row of slot s of key k, and whether its attempt was open at p_claimed_at.
  left join lateral (
    select n.point, n.batch_id, n.job_id from slot_entries as n
    where n.queue = p_queue and n.key = k.key and n.slot = s.slot
    order by n.point desc
    limit 1
  ) as n on true
  cross join lateral (
    select coalesce(n.point, 0) as point, n.batch_id is not null and (
      exists (
        select from claims as c
        where c.batch_id = n.batch_id and n.job_id = any (c.job_ids)
          and not exists (
            select from attempt_outcomes as o
            where o.batch_id = n.batch_id and (o.job_ids is null or n.job_id = any (o.job_ids)) and o.finalized_at <= p_claimed_at))
      -- Not exists: it may be planned to read them all.
      or coalesce((select true from leases as l where l.job_id = n.job_id and l.batch_id = n.batch_id), false)) as held
  ) as e
