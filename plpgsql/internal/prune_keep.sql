{{- /* What a prune keeps of a segment: jobs that wait or run, v_*, and failed ones, f_*. */}}
  if v_waiting then
    select m.lanes, m.segments into m_lanes, m_segments
    from (
      select array_agg(o.lane) as lanes, array_agg(o.job_id) as jobs, array_agg(o.run_lease) as leases
      from unnest(v_lanes, v_jobs, v_leases, v_batches) as o (lane, job_id, run_lease, batch_id)
      where o.batch_id is null
    ) as w
    cross join lateral _move_waiting(p_generation, w.lanes, w.jobs, w.leases) as m;
  end if;

  -- The rest of what survives goes to the current segment. Bodies of claimed and of finished
  -- attempts get xid 0, which no window offers.
  insert into ready_entries (
    lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
    metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline)
  select r.lane, '0', r.job_id, r.run_at, r.created_at, r.run_lease, p_current,
    r.attempt, r.max_attempts, r.kind, r.args, r.metadata, r.tags, r.errors, r.progress,
    r.unique_key, r.unique_states, r.ordering_key, r.deadline
  from (
    select o.job_id, o.run_lease
    from unnest(v_jobs, v_leases, v_batches) as o (job_id, run_lease, batch_id)
    where o.batch_id is not null
    union all
    select f.job_id, f.run_lease from unnest(f_jobs, f_leases) as f (job_id, run_lease)
  ) as k
  -- Not joins, here and below: where the tables are believed to be empty, those may walk all of them for each.
  cross join lateral (
    select e.* from ready_entries as e
    where e.ready_slot = v_slot and e.job_id = k.job_id and e.run_lease = k.run_lease
    limit 1
  ) as r;

  -- A running attempt keeps its batch, so its receipt stays good. The cursor
  -- row that leads rescue to it does not come along.
  with moved as (
    insert into claims (batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, worker, deadline_at,
      follows)
    select c.batch_id, c.lane, c.claimed_at, c.lease_expires_at, p_current,
      array_agg(o.job_id order by o.job_id), array_agg(o.run_lease order by o.job_id), c.worker, c.deadline_at,
      c.follows
    from unnest(v_jobs, v_leases, v_batches) as o (job_id, run_lease, batch_id)
    cross join lateral (select k.* from claims as k where k.ready_slot = v_slot and k.batch_id = o.batch_id limit 1) as c
    group by c.batch_id, c.lane, c.claimed_at, c.lease_expires_at, c.worker, c.deadline_at, c.follows
    returning batch_id, lane
  )
  insert into watched_claims (batch_id, lane, ready_slot)
  select m.batch_id, m.lane, p_current from moved as m;

  with kept as (
    select f.lane, o.finalized_at, c.claimed_at, c.lease_expires_at, c.worker,
      _batch_id(p_current, max(f.job_id * 16 + f.run_lease % 16), max(f.run_lease)) as batch_id,
      array_agg(f.job_id order by f.job_id) as job_ids,
      array_agg(f.run_lease order by f.job_id) as run_leases,
      f.batch_id as old_batch, f.seq, array_agg(f.nth order by f.job_id) as nths
    from unnest(f_lanes, f_jobs, f_leases, f_batches, f_seqs, f_nths) as f (lane, job_id, run_lease, batch_id, seq, nth)
    cross join lateral (select k.* from claims as k where k.ready_slot = v_slot and k.batch_id = f.batch_id limit 1) as c
    cross join lateral (
      select a.finalized_at from attempt_outcomes as a
      where a.ready_slot = v_slot and a.batch_id = f.batch_id and a.seq = f.seq
      limit 1
    ) as o
    group by f.lane, f.batch_id, f.seq, o.finalized_at, c.claimed_at, c.lease_expires_at, c.worker
  ),
  claimed as (
    insert into claims (batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, worker)
    select k.batch_id, k.lane, k.claimed_at, k.lease_expires_at, p_current, k.job_ids, k.run_leases, k.worker
    from kept as k
  )
  insert into attempt_outcomes (
    batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, errors)
  select k.batch_id, k.lane, v_own, k.finalized_at, 0, cardinality(k.job_ids), p_current, 'f',
    -- Unnested once: reading each element by its number would unpack the whole array.
    case when o.errors is not null then (
      select array_agg(e.error order by u.n)
      from unnest(k.nths) with ordinality as u (nth, n)
      left join unnest(o.errors) with ordinality as e (error, nth) on e.nth = u.nth) end
  from kept as k
  cross join lateral (
    select a.errors from attempt_outcomes as a
    where a.ready_slot = v_slot and a.batch_id = k.old_batch and a.seq = k.seq
    limit 1
  ) as o;

  insert into progress_entries (job_id, run_lease, at, ready_slot, progress)
  select distinct on (p.job_id) p.job_id, p.run_lease, p.at, p_current, p.progress
  from unnest(f_jobs, f_leases) as f (job_id, run_lease)
  cross join lateral (
    select e.* from progress_entries as e
    where e.ready_slot = v_slot and e.job_id = f.job_id and e.run_lease = f.run_lease
    order by e.at desc
    limit 1
  ) as p
  order by p.job_id, p.at desc;
