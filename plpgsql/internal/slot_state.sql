    with batch as materialized (
      select x.*, coalesce(x.closed >= cardinality(x.claimed), true) as done
      from (
        select b.point, b.batch_id, b.keys, b.job_ids, c.job_ids as claimed, c.job_ids = b.job_ids as intact,
          coalesce((
            select sum(o.jobs) from attempt_outcomes{{ . }} as o
            where o.batch_id = b.batch_id and o.finalized_at <= p_at), 0) as closed
        from unnest(p_open) as p (point)
        cross join lateral (
          select n.* from slot_batches{{ . }} as n where n.queue = p_queue and n.point = p.point offset 0
        ) as b
        left join lateral (select c.job_ids from claims{{ . }} as c where c.batch_id = b.batch_id limit 1) as c on true
        offset 0
      ) as x
    ),
    closed as materialized (
      select b.batch_id, i.job_id
      from batch as b
      cross join lateral (
        select o.job_ids from attempt_outcomes{{ . }} as o
        where o.batch_id = b.batch_id and o.finalized_at <= p_at
        offset 0
      ) as o
      cross join lateral unnest(o.job_ids) as i (job_id)
      where not b.done
    ),
    attempt as materialized (
      select b.point, u.key, u.job_id, b.batch_id,
        -- A segment that was pruned has left only what is open.
        case
          when b.done then false
          when b.closed = 0 and b.intact then true
          else (b.batch_id, u.job_id) not in (select x.batch_id, x.job_id from closed as x) and u.job_id = any (b.claimed)
        end
        -- A job that waits for an answer keeps its slot.
        or case when p_leases
          then coalesce((select true from leases as l where l.job_id = u.job_id and l.batch_id = b.batch_id), false) else false end
        as open
      from batch as b
      cross join lateral unnest(b.keys, b.job_ids) as u (key, job_id)
      -- Keys that came free matter to parked jobs alone.
      where p_parked or p_leases or not b.done
    )
    select (select count(b.claimed) from batch as b),
      array_agg(a.key) filter (where a.open), array_agg(a.job_id) filter (where a.open), array_agg(a.batch_id) filter (where a.open),
      array_agg(a.point) filter (where a.open), array_agg(a.key) filter (where not a.open), array_agg(a.point) filter (where not a.open),
      array_agg(distinct a.point) filter (where a.open)
    into v_met, held_keys, held_jobs, held_batches, held_points, freed_keys, freed_points, open_points
    from attempt as a;
