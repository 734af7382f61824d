{{- /* _slot_state in general: what the batches at the points p_open hold, job by job where need
be. Read from the tables of one slot, by their suffix, or with none from those of all. */}}
    with batch as materialized (
      select x.*, coalesce(x.closed >= cardinality(x.claimed), true) as done,
        -- Nobody has touched the batch, or all of it is closed: its keys can be used without
        -- looking at jobs.
        coalesce(x.intact and x.closed = 0, false) as whole,
        coalesce(x.intact and not x.waits and x.closed >= cardinality(x.claimed), false) as over
      from (
        select b.point, b.batch_id, b.keys, b.job_ids, c.job_ids as claimed, c.job_ids = b.job_ids as intact, o.closed, o.waits
        from unnest(p_open) as p (point)
        cross join lateral (
          select n.* from slot_batches{{ . }} as n where n.queue = p_queue and n.point = p.point offset 0
        ) as b
        left join lateral (select c.job_ids from claims{{ . }} as c where c.batch_id = b.batch_id limit 1) as c on true
        cross join lateral (
          select coalesce(sum(n.jobs), 0) as closed, bool_or(n.outcome = 'm') as waits
          from attempt_outcomes{{ . }} as n
          where n.batch_id = b.batch_id
        ) as o
        offset 0
      ) as x
    ),
    closed as materialized (
      select b.batch_id, i.job_id
      from batch as b
      cross join lateral (
        select o.job_ids from attempt_outcomes{{ . }} as o
        where o.batch_id = b.batch_id
        offset 0
      ) as o
      cross join lateral unnest(o.job_ids) as i (job_id)
      where not b.done
    ),
    -- Other batches, job by job. Of a pruned segment only open attempts are left. A job that
    -- waits for an answer keeps its slot.
    attempt as materialized (
      select b.point, u.key,
        not b.done and (b.batch_id, u.job_id) not in (select x.batch_id, x.job_id from closed as x) and u.job_id = any (b.claimed)
        or case when b.waits or b.intact is not true
          then coalesce((select true from leases as l where l.job_id = u.job_id and l.batch_id = b.batch_id), false) else false end
        as open
      from batch as b
      cross join lateral unnest(b.keys, b.job_ids) as u (key, job_id)
      where not (b.over or b.whole)
    )
    select (select count(b.claimed) from batch as b),
      array(select unnest(b.keys) from batch as b where b.whole) || array(select a.key from attempt as a where a.open),
      array(select b.point from batch as b where b.whole union select a.point from attempt as a where a.open order by 1),
      case when p_parked then
        array(select unnest(b.keys) from batch as b where b.over) || array(select a.key from attempt as a where not a.open)
      end,
      case when p_parked then
        array(select f.point from (select b.point, unnest(b.keys) from batch as b where b.over) as f)
          || array(select a.point from attempt as a where not a.open)
      end
    into v_met, held_keys, open_points, freed_keys, freed_points;
