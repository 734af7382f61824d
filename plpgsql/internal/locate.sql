-- Where jobs are, and how they are taken out of their place.

-- Jobs' live or historical attempts: the ready row and, once claimed, batch
-- and outcome. A job without a row is deferred, dead-lettered, pruned or
-- unknown.
create or replace function {{ .schema }}._locate (p_job_ids bigint[])
  returns table (
    job_id bigint, ready_slot smallint, lane bigint, run_lease integer, own boolean, batch_id bigint, outcome "char")
  language plpgsql
  volatile
  set enable_seqscan = off
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  if p_job_ids = '{}' then
    return;  -- the query names every segment: only to start it takes long
  elsif cardinality(p_job_ids) > 200 and cardinality(p_job_ids) > _by_key_at_most() then
    return query select l.* from _locate_many(p_job_ids) as l;
    return;
  end if;
  return query
  select r.job_id, r.ready_slot, r.lane, r.run_lease, r.xid is not distinct from pg_current_xact_id_if_assigned(),
    k.batch_id, k.outcome
  from (select distinct u.id from unnest(p_job_ids) as u (id)) as u
  -- Not a join: where the table is believed to be empty that may walk all of it for each.
  cross join lateral (select e.* from ready_entries as e where e.job_id = u.id offset 0) as r
  left join lateral (
    select c.* from lane_cursors as c where c.lane = r.lane order by c.generation desc limit 1
  ) as c on true
  cross join lateral _attempt_of(r.ready_slot, r.lane, r.job_id, r.run_lease,
{{ template "internal/row_passed.sql" . }}    or (c.skips > 0 and exists (
      select from ready_tombstones as t
      where t.ready_slot = r.ready_slot and t.job_id = r.job_id and t.run_lease = r.run_lease))) as k
  where k.outcome is null or (k.outcome in ('c', 'f', 'x') and not k.removed);
end;
$$;

-- _locate for more jobs than are worth an index lookup each: reads all claims
-- and outcomes and joins by hash.
create or replace function {{ .schema }}._locate_many (p_job_ids bigint[])
  returns table (
    job_id bigint, ready_slot smallint, lane bigint, run_lease integer, own boolean, batch_id bigint, outcome "char")
  language plpgsql
  volatile
  set plan_cache_mode = force_custom_plan
  set enable_seqscan = on
  set enable_nestloop = off
  set enable_mergejoin = off
  set work_mem = '64MB'
as $$
#variable_conflict use_column
begin
  return query
  -- Arrays are taken apart in select lists, which is no nested loop: a plan that needs one
  -- counts as so dear that other joins of it are chosen at random.
  with claimed as (
    select j.ready_slot, j.batch_id, j.job_id, coalesce(j.run_lease, 1) as run_lease
    from (
      select c.ready_slot, c.batch_id, unnest(c.job_ids) as job_id, unnest(c.run_leases) as run_lease from claims as c
    ) as j
  ),
  closed as (
    select j.ready_slot, j.outcome, j.job_id, coalesce(j.run_lease, 1) as run_lease
    from (
      select o.ready_slot, o.outcome, unnest(coalesce(o.job_ids, c.job_ids)) as job_id,
        unnest(case when o.job_ids is null then c.run_leases else o.run_leases end) as run_lease
      from attempt_outcomes as o
      left join claims as c on c.ready_slot = o.ready_slot and c.batch_id = o.batch_id and o.job_ids is null
    ) as j
  )
  select r.job_id, r.ready_slot, r.lane, r.run_lease, r.xid is not distinct from pg_current_xact_id_if_assigned(),
    c.batch_id, o.outcome
  from (select distinct u.id from unnest(p_job_ids) as u (id)) as u
  join ready_entries as r on r.job_id = u.id
  left join claimed as c on c.ready_slot = r.ready_slot and c.job_id = r.job_id and c.run_lease = r.run_lease
  left join closed as o on o.ready_slot = r.ready_slot and o.job_id = r.job_id and o.run_lease = r.run_lease
  left join outcome_removals as m
    on m.ready_slot = r.ready_slot and m.job_id = r.job_id and m.run_lease = r.run_lease
  where o.outcome is null or (o.outcome in ('c', 'f', 'x') and m.job_id is null);
end;
$$;

-- Takes deferred jobs out, in the order of their ids, and parked ones off their list.
create or replace function {{ .schema }}._take_deferred (p_job_ids bigint[])
  returns setof {{ .schema }}.deferred_jobs
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_ids    bigint[];
  v_parked bigint[];
  v_lanes  bigint[];
  v_keys   text[];
begin
  -- No id at all is taken to imply whatever a partial index wants, and all of it is read.
  if p_job_ids = '{}' then
    return;
  end if;
  select array_agg(d.job_id), array_agg(d.job_id) filter (where d.parked), array_agg(d.lane) filter (where d.parked),
    array_agg(d.metadata ->> 'awa:concurrency_key') filter (where d.parked)
  into v_ids, v_parked, v_lanes, v_keys
  from (
    select e.job_id, e.lane, e.run_at = 'infinity' as parked, e.metadata
    from deferred_jobs as e
    where e.job_id = any (p_job_ids)
    order by e.job_id
    for update
  ) as d;
  if v_ids is null then
    return;
  end if;
  perform _forget_parked_of(v_lanes, v_keys, v_parked);
  return query delete from deferred_jobs as e where e.job_id = any (v_ids) returning e.*;
end;
$$;

-- Takes jobs out of the leases, in the order of their ids, and tells their workers why.
create or replace function {{ .schema }}._take_leased (p_job_ids bigint[], p_reason text)
  returns setof {{ .schema }}.leases
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  l leases;
begin
  for l in
    delete from leases as e
    where e.job_id = any (array(
      select h.job_id from leases as h where h.job_id = any (p_job_ids) order by h.job_id for update))
    returning e.*
  loop
    perform _notify_leased(l, p_reason);
    return next l;
  end loop;
end;
$$;

-- Closes the running attempts of jobs, in the ring, and tells their workers why. Returns
-- the jobs whose attempts it closed.
create or replace function {{ .schema }}._close_running (
  p_job_ids bigint[], p_outcome "char", p_reason text, p_errors jsonb default null
)
  returns bigint[]
  language plpgsql
  volatile
as $$
declare
  v_open   receipt[];
  v_closed receipt[];
begin
  select array_agg(row(l.ready_slot, l.batch_id, l.job_id, l.run_lease)::receipt) into v_open
  from _locate(p_job_ids) as l
  where l.batch_id is not null and l.outcome is null;
  if v_open is null then
    return array[]::bigint[];
  end if;
  v_closed := array(select c from _close_in_order(v_open, array_fill(p_outcome, array[cardinality(v_open)]), p_errors) as c);
  perform _notify_workers(v_closed, p_reason);
  return array(select c.job_id from unnest(v_closed) as c);
end;
$$;

-- Takes jobs that wait in their lanes before their turn and closes them, each
-- with p_outcome and its error of p_errors, if any. Lanes are met in the order
-- of their keys. Returns what it took; a job that no longer waits is not in it.
create or replace function {{ .schema }}._take_waiting (p_job_ids bigint[], p_outcome "char", p_errors jsonb default null)
  returns setof {{ .schema }}.receipt
  language plpgsql
  volatile
as $$
declare
  g record;
begin
  for g in
    select l.lane, l.own, array_agg(l.job_id) as job_ids
    from _locate(p_job_ids) as l
    where l.batch_id is null
    group by l.lane, l.own
    order by _lane_rank(l.lane), l.lane, l.own
  loop
    return query select t.* from _take_from_lane(g.lane, g.own, g.job_ids, p_outcome, p_errors) as t;
  end loop;
end;
$$;

-- One lane of _take_waiting: a claim of its own under the lane's lock, so that
-- it and a claimer exclude each other. Keeps the lock only if it took some.
create or replace function {{ .schema }}._take_from_lane (
  p_lane bigint, p_own boolean, p_job_ids bigint[], p_outcome "char", p_errors jsonb
)
  returns setof {{ .schema }}.receipt
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_now     timestamptz := _now();
  v_slots   smallint[];
  v_batches bigint[];
  v_ids     bigint[];
  v_leases  integer[];
begin
  if not p_own then
    if not pg_try_advisory_xact_lock(_lock_class(1), _lane_key(p_lane)) and not _await_lane(p_lane, true) then
      perform _serialization_failure(
        format('job %s: another session is claiming from its lane, and this one holds a later one', p_job_ids[1]));
    end if;
    if _snapshot_is_stale() then
      perform _stale_snapshot(format('job %s', p_job_ids[1]));
    end if;
  end if;
  select array_agg(l.ready_slot), array_agg(l.job_id), array_agg(l.run_lease)
  into v_slots, v_ids, v_leases
  from _locate(p_job_ids) as l
  where l.batch_id is null and l.lane = p_lane and l.own = p_own;
  if v_ids is null then
    raise exception using errcode = 'AW000', message = 'undo';
  end if;

  if p_own then
    -- This transaction's own: below every window, counted as _claim_own does.
    update ready_entries as e set xid = '0'
    from unnest(v_slots, v_ids, v_leases) as u (ready_slot, job_id, run_lease)
    where e.ready_slot = u.ready_slot and e.job_id = u.job_id and e.run_lease = u.run_lease;
    perform _count_bypassed(p_lane, u.ready_slot, count(*))
    from unnest(v_slots) as u (ready_slot)
    group by u.ready_slot;
  else
    if _keeps_snapshot() then
      perform _probe_cursor(p_lane, coalesce((
        select k.generation from lane_cursors as k where k.lane = p_lane order by k.generation desc limit 1), 0) + 1);
    end if;
    insert into ready_tombstones (job_id, run_lease, ready_slot)
    select u.job_id, u.run_lease, u.ready_slot from unnest(v_slots, v_ids, v_leases) as u (ready_slot, job_id, run_lease);
    insert into lane_cursors (
      lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid, settled_segment, settled_xid,
      claimed_total, ready_slot, skips, drained, s_prev, s_cur)
    select p_lane, coalesce(c.generation, 0) + 1,
      coalesce(c.segment, g.generation), coalesce(c.last_segment, g.generation),
      coalesce(c.base_segment, greatest(g.generation - {{ sub (int .segments) 1 }}, 0)),
      coalesce(c.pos_xid, '0'), coalesce(c.pos_job_id, -1), coalesce(c.floor_xid, '0'),
      c.settled_segment, c.settled_xid,
      coalesce(c.claimed_total, 0) + cardinality(v_ids), g.slot, 2,
      coalesce(c.drained, true), coalesce(c.s_prev, '1:1:'), coalesce(c.s_cur, '1:1:')
    from (select n.generation, n.slot from segment_rotations as n order by n.generation desc limit 1) as g
    left join (select k.* from lane_cursors as k where k.lane = p_lane order by k.generation desc limit 1) as c on true;
  end if;

  -- A lease that ends when it begins marks an attempt that never ran.
  with part as (
    select u.*, (row_number() over (partition by u.ready_slot order by u.job_id) - 1)
      / case when p_errors is null then 1000 else 50 end as part
    from unnest(v_slots, v_ids, v_leases) as u (ready_slot, job_id, run_lease)
  ),
  batch as materialized (
    select p.ready_slot, _batch_id(p.ready_slot, max(p.job_id * 16 + p.run_lease % 16), max(p.run_lease)) as batch_id,
      array_agg(p.job_id order by p.job_id) as job_ids,
      case when max(p.run_lease) > 1 then array_agg(p.run_lease order by p.job_id) end as run_leases
    from part as p
    group by p.ready_slot, p.part
  ),
  claimed as (
    insert into claims (batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, bypassed_by)
    select b.batch_id, p_lane, v_now, v_now, b.ready_slot, b.job_ids, b.run_leases,
      case when p_own then pg_current_xact_id() end
    from batch as b
  ),
  closed as (
    insert into attempt_outcomes (batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, errors)
    select b.batch_id, p_lane, pg_current_xact_id(), v_now, 0, cardinality(b.job_ids), b.ready_slot, p_outcome,
      _errors_of(b.job_ids, p_errors)
    from batch as b
  )
  select array_agg(b.ready_slot), array_agg(b.batch_id), array_agg(j.job_id), array_agg(coalesce(j.run_lease, 1))
  into v_slots, v_batches, v_ids, v_leases
  from batch as b
  cross join lateral unnest(b.job_ids, b.run_leases) as j (job_id, run_lease);
  return query
  select u.ready_slot, u.batch_id, u.job_id, u.run_lease::bigint
  from unnest(v_slots, v_batches, v_ids, v_leases) as u (ready_slot, batch_id, job_id, run_lease);
exception
  when sqlstate 'AW000' then
    return;
  when unique_violation then
    -- Only under a transaction-long snapshot can there be a cursor that it does not see.
    perform _stale_snapshot(format('job %s', p_job_ids[1]));
end;
$$;

-- Puts a job that is nowhere in the ring straight into history: a body that
-- no window offers, its claim and its outcome. One that ran was claimed when
-- p_claimed_at says.
create or replace function {{ .schema }}._file_closed (
  p_job {{ .schema }}.deferred_jobs, p_outcome "char", p_error jsonb, p_claimed_at timestamptz default null
)
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_xid   xid8 := pg_current_xact_id();  -- before the ring is read, see enqueue
  v_now   timestamptz := _now();
  v_slot  smallint := _current_slot();
  v_batch bigint := _batch_id(v_slot, p_job.job_id * 16 + p_job.run_lease % 16, p_job.run_lease);
begin
  insert into ready_entries (
    lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
    metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline)
  values (p_job.lane, '0', p_job.job_id, p_job.run_at, p_job.created_at, p_job.run_lease, v_slot,
    p_job.attempt, p_job.max_attempts, p_job.kind, p_job.args, p_job.metadata, p_job.tags, p_job.errors, p_job.progress,
    p_job.unique_key, p_job.unique_states, p_job.ordering_key, p_job.deadline);
  insert into claims (batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, bypassed_by)
  values (v_batch, p_job.lane, coalesce(p_claimed_at, v_now),
    case when p_claimed_at >= v_now then p_claimed_at + interval '1 microsecond' else v_now end, v_slot, array[p_job.job_id],
    case when p_job.run_lease > 1 then array[p_job.run_lease] end, v_xid);
  perform _count_bypassed(p_job.lane, v_slot, 1);
  insert into attempt_outcomes (
    batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, errors)
  values (v_batch, p_job.lane, v_xid, v_now, 0, 1, v_slot, p_outcome,
    case when p_error is not null then array[p_error] end);
end;
$$;

-- _take_terminal for more jobs than are worth an index lookup each: reads all outcomes and
-- joins by hash. No arrays of them are built, so what does not fit into work_mem goes to disk.
create or replace function {{ .schema }}._take_many (
  p_job_ids bigint[], p_outcomes "char"[], p_queue text, p_kind text, p_max integer
)
  returns setof {{ .schema }}.taken_job
  language plpgsql
  volatile
  set plan_cache_mode = force_custom_plan
  set enable_seqscan = on
  set enable_nestloop = off
  set enable_mergejoin = off
  set work_mem = '64MB'
as $$
begin
  return query
  -- As in _locate_many.
  with closed as (
    select o.ready_slot, o.lane, o.outcome, nullif(c.claimed_at, c.lease_expires_at) as claimed_at, o.finalized_at,
      unnest(coalesce(o.job_ids, c.job_ids)) as job_id,
      unnest(case when o.job_ids is null then c.run_leases else o.run_leases end) as run_lease,
      unnest(o.errors) as error
    from attempt_outcomes as o
    join claims as c on c.ready_slot = o.ready_slot and c.batch_id = o.batch_id
    where o.outcome = any (p_outcomes)
      and (p_queue is null or o.lane in (select l.lane from queue_lanes as l where l.queue = p_queue))
  ),
  found as materialized (
    select j.ready_slot, j.lane, j.job_id, coalesce(j.run_lease, 1) as run_lease, j.outcome, j.error, j.claimed_at, j.finalized_at
    from closed as j
    where (p_job_ids is null or j.job_id in (select u.job_id from unnest(p_job_ids) as u (job_id)))
      and (p_kind is null or exists (
        select from ready_entries as r
        where r.ready_slot = j.ready_slot and r.job_id = j.job_id and r.run_lease = coalesce(j.run_lease, 1) and r.kind = p_kind))
      and not exists (
        select from outcome_removals as m
        where m.ready_slot = j.ready_slot and m.job_id = j.job_id and m.run_lease = coalesce(j.run_lease, 1))
    order by j.job_id, 4
    limit p_max
  ),
{{ template "internal/take_found.sql" . }}end;
$$;

-- Takes terminal jobs out of history, with one delta per key and outcome. Of several calls that
-- want a job the first gets it; the unique index makes the others wait, in the order of ids,
-- and then add nothing. p_job_ids null means all that match. Returns those it took.
create or replace function {{ .schema }}._take_terminal (
  p_job_ids bigint[], p_outcomes "char"[], p_queue text default null, p_kind text default null, p_max integer default null
)
  returns setof {{ .schema }}.taken_job
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  if p_job_ids is null or (cardinality(p_job_ids) > 200 and cardinality(p_job_ids) > _by_key_at_most()) then
    return query select t.* from _take_many(p_job_ids, p_outcomes, p_queue, p_kind, p_max) as t;
    return;
  end if;
  -- Each statement finds and takes at once: it locks the segments before its
  -- snapshot, so no prune comes between.
  return query
  with found as materialized (
    select r.ready_slot, r.lane, r.job_id, r.run_lease, k.outcome, k.error, k.claimed_at, k.finalized_at
    from (select distinct u.job_id from unnest(p_job_ids) as u (job_id)) as u
    -- Not a join: where the table is believed to be empty that may walk all of it for each.
    cross join lateral (select e.* from ready_entries as e where e.job_id = u.job_id offset 0) as r
    cross join lateral _attempt_of(r.ready_slot, r.lane, r.job_id, r.run_lease, true) as k
    where k.outcome = any (p_outcomes) and not k.removed
    order by r.job_id, r.run_lease
  ),
{{ template "internal/take_found.sql" . }}end;
$$;

-- Claims that no cursor counts: a delta takes back in advance the closures that will follow, so
-- that claimed less closed stays right.
create or replace function {{ .schema }}._count_bypassed (p_lane bigint, p_slot smallint, p_jobs bigint)
  returns void
  language plpgsql
  volatile
as $$
begin
  if to_regclass('{{ .schema }}.terminal_count_deltas') is not null then
    insert into terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
    values (p_lane, pg_current_xact_id(), p_slot, -p_jobs, 0, 0, 0);
  end if;
end;
$$;

-- Jobs that left history. Where a storage has no counters the jobs are removed all the same;
-- check() then reports the key and a rebuild corrects it.
create or replace function {{ .schema }}._count_removed (p_lane bigint, p_slot smallint, p_outcome "char", p_jobs bigint)
  returns void
  language plpgsql
  volatile
as $$
begin
  if to_regclass('{{ .schema }}.terminal_count_deltas') is not null then
    insert into terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
    values (p_lane, pg_current_xact_id(), p_slot, 0, case when p_outcome = 'c' then -p_jobs else 0 end,
      case when p_outcome = 'f' then -p_jobs else 0 end, case when p_outcome = 'x' then -p_jobs else 0 end);
  end if;
end;
$$;
