-- Prune: give the oldest sealed segment back by TRUNCATE.
--
-- Everything is proved and copied without locks; then the children are locked
-- for a moment, nothing may have changed since, and they are emptied.

-- Locks a segment's tables, of which p_met says who held them or was inside the
-- ring a while ago. Those must leave first, and nobody waits meanwhile: to shut
-- the gate is worth the while only when short transactions are inside. Who
-- then keeps it from falling to must leave before another try.
create or replace function {{ .schema }}._lock_segment (p_slot integer, p_met text[])
  returns boolean
  language plpgsql
  volatile
  set lock_timeout = '50ms'
as $$
declare
  v_met   text[] := p_met;
  v_left  text[];
  v_stuck boolean;
begin
  for v_try in 1 .. 3 loop
    for v_look in 1 .. 6 loop
      v_met := array(select unnest(v_met) intersect select unnest(_segment_holders(p_slot)));
      exit when v_met = '{}';
      if v_look = 6 then
        return false;
      end if;
      perform pg_sleep(0.02);
    end loop;
    begin
      -- Who waits for what the transaction has in hand may be within the gate: waiting for
      -- each other, he could be told of a deadlock before this gives way.
      if _is_awaited() then
        raise lock_not_available;
      end if;
      v_met := _segment_holders(p_slot);
      perform set_config('lock_timeout', '50ms', true);
      perform pg_advisory_xact_lock(_lock_class(0), 8);
      -- Whoever is left stayed outside of the gate: a producer that is as old as
      -- the segment, a reader of the views. An UPDATE of jobs comes to the gate with the
      -- tables in hand, and would find a deadlock if it were waited for in the queue. So the
      -- queue is for the last try, and for readers who leave no moment between them.
      for v_look in 1 .. 8 loop
        select array_agg(h.id), bool_or(exists (select from pg_locks as w where not w.granted and w.virtualtransaction = h.id))
        into v_left, v_stuck
        from unnest(_segment_holders(p_slot)) as h (id);
        exit when v_left is null or (v_try = 3 and v_look = 8 and not v_stuck);
        if v_look = 8 or v_stuck then
          raise lock_not_available;
        end if;
        perform pg_sleep(0.003);
      end loop;
      perform set_config('lock_timeout', case when v_left is null then '1ms' else '20ms' end, true);
      case p_slot
{{ range $i := until (int .segments) }}
      when {{ $i }} then
        lock table lane_cursors_{{ $i }}, ready_entries_{{ $i }}, ready_tombstones_{{ $i }}, attempt_outcomes_{{ $i }},
          claims_{{ $i }}, outcome_removals_{{ $i }}, terminal_count_deltas_{{ $i }}, checkpoint_snapshots_{{ $i }},
          terminal_count_checkpoints_{{ $i }}, lease_extensions_{{ $i }}, progress_entries_{{ $i }}, workers_{{ $i }},
          worker_notices_{{ $i }}, rescue_points_{{ $i }}, promotion_points_{{ $i }}, watched_claims_{{ $i }}, watch_points_{{ $i }}, cron_fires_{{ $i }},
          cron_points_{{ $i }}, rate_points_{{ $i }}, slot_entries_{{ $i }}, slot_batches_{{ $i }}, dependency_points_{{ $i }},
          job_departures_{{ $i }} in access exclusive mode;
{{ end }}
      end case;
      return true;
    exception when lock_not_available then
      perform pg_sleep(0.02);
    end;
  end loop;
  return false;
end;
$$;

-- Keys that leave with a locked segment, by their places, whatever the planner knows of
-- them. Whoever locks a key is inside the gate, so this waits for nobody but a hand.
create or replace function {{ .schema }}._drop_keys (p_places tid[], p_jobs bigint[])
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
  set lock_timeout = '1ms'
as $$
begin
  delete from job_unique_claims as u
  using unnest(p_places, p_jobs) as k (place, job_id)
  where u.ctid = k.place and u.job_id = k.job_id;
end;
$$;

-- Whether one of these transactions has lasted for so long that it is not waited for, such
-- as a dump's: what a prune proves and copies would be for nothing, again at each call.
-- Of another role's it is known to who may read all statistics.
create or replace function {{ .schema }}._is_lasting (p_met text[])
  returns boolean
  language plpgsql
  volatile
as $$
declare
  v_since timestamptz := clock_timestamp() - (
    select least(greatest(s.segment_max_age, '1 second'), '1 minute') from storage_settings as s);
begin
  return exists (
    select from pg_locks as k
    left join pg_stat_activity as a on a.pid = k.pid
    left join pg_prepared_xacts as p on k.pid is null and k.locktype = 'transactionid' and p.transaction = k.transactionid
    where k.virtualtransaction = any (p_met) and coalesce(a.xact_start, p.prepared) < v_since);
end;
$$;

create or replace function {{ .schema }}._prune_segment (p_generation bigint, p_current smallint)
  returns text
  language plpgsql
  volatile
  set work_mem = '64MB'
  set lock_timeout = '50ms'
as $$
declare
  v_slot     integer := (p_generation % {{ .segments }})::integer;
  v_own      xid8 := pg_current_xact_id();
  v_met      text[] := _segment_holders(v_slot);
  v_proof    pg_snapshot;
  v_rows     bigint;
  v_claims   bigint;
  v_closed   bigint;
  v_limit    bigint;
  v_terminal bigint;
  -- Open attempts, and failed jobs to keep, column by column.
  v_lanes    bigint[];
  v_jobs     bigint[];
  v_leases   integer[];
  v_batches  bigint[];
  f_lanes    bigint[];
  f_jobs     bigint[];
  f_leases   integer[];
  f_batches  bigint[];
  f_seqs     integer[];
  f_nths     integer[];
  -- Keys that leave.
  k_places   tid[];
  k_jobs     bigint[];
begin
  if _is_lasting(v_met) then
    return 'busy';
  end if;
  -- A few stragglers do not pin a segment: one in a hundred, or any up to the
  -- limit once the ring has no other slot left to open.
  select count(*) into v_rows from ready_entries as r where r.ready_slot = v_slot;
  select count(*) into v_claims from claims as c where c.ready_slot = v_slot;
  select coalesce(sum(o.jobs), 0) into v_closed from attempt_outcomes as o where o.ready_slot = v_slot;
  select case
    when p_generation + {{ sub (int .segments) 1 }} <= (select max(r.generation) from segment_rotations as r) then s.straggler_limit
    else least(s.straggler_limit, v_rows / 100) end
  into v_limit from storage_settings as s;
  -- Each row is closed once. What holds a segment may hold it for long, and who asks for
  -- a prune asks again: the numbers tell, and no row is looked at.
  if v_rows - v_closed > v_limit then
    return 'blocked';
  end if;

  -- The proof, in one snapshot.
  select pg_current_snapshot(), array_agg(o.lane), array_agg(o.job_id), array_agg(o.run_lease), array_agg(o.batch_id)
  into v_proof, v_lanes, v_jobs, v_leases, v_batches
  from (select o.* from _open_attempts(v_slot) as o limit v_limit + 1) as o;
  if cardinality(v_jobs) > v_limit then
    return 'blocked';
  end if;
  select array_agg(f.lane), array_agg(f.job_id), array_agg(f.run_lease), array_agg(f.batch_id), array_agg(f.seq), array_agg(f.nth)
  into f_lanes, f_jobs, f_leases, f_batches, f_seqs, f_nths
  from _retained_failures(v_slot) as f;

  -- What survives goes to the current segment. Bodies of claimed and of
  -- finished attempts get xid 0, which no window offers; a waiting remainder
  -- is offered anew, last in its lane.
  insert into ready_entries (
    lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
    metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline)
  select r.lane, case when k.waiting then v_own else '0' end, r.job_id, r.run_at, r.created_at, r.run_lease, p_current,
    r.attempt, r.max_attempts, r.kind, r.args, r.metadata, r.tags, r.errors, r.progress,
    r.unique_key, r.unique_states, r.ordering_key, r.deadline
  from (
    select o.job_id, o.run_lease, o.batch_id is null as waiting
    from unnest(v_jobs, v_leases, v_batches) as o (job_id, run_lease, batch_id)
    union all
    select f.job_id, f.run_lease, false from unnest(f_jobs, f_leases) as f (job_id, run_lease)
  ) as k
  join ready_entries as r on r.ready_slot = v_slot and r.job_id = k.job_id and r.run_lease = k.run_lease;

  -- A running attempt keeps its batch, so its receipt stays good. The cursor
  -- row that leads rescue to it does not come along.
  with moved as (
    insert into claims (batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, worker, deadline_at,
      follows)
    select c.batch_id, c.lane, c.claimed_at, c.lease_expires_at, p_current,
      array_agg(o.job_id order by o.job_id), array_agg(o.run_lease order by o.job_id), c.worker, c.deadline_at,
      c.follows
    from unnest(v_jobs, v_leases, v_batches) as o (job_id, run_lease, batch_id)
    join claims as c on c.ready_slot = v_slot and c.batch_id = o.batch_id
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
    join claims as c on c.ready_slot = v_slot and c.batch_id = f.batch_id
    join attempt_outcomes as o on o.ready_slot = v_slot and o.batch_id = f.batch_id and o.seq = f.seq
    group by f.lane, f.batch_id, f.seq, o.finalized_at, c.claimed_at, c.lease_expires_at, c.worker
  ),
  claimed as (
    insert into claims (batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, worker)
    select k.batch_id, k.lane, k.claimed_at, k.lease_expires_at, p_current, k.job_ids, k.run_leases, k.worker
    from kept as k
  )
  insert into attempt_outcomes (
    batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, job_ids, run_leases, errors)
  select k.batch_id, k.lane, v_own, k.finalized_at, 0, cardinality(k.job_ids), p_current, 'f', null, null,
    -- Taken apart once: each element by its number would unpack all of them.
    case when o.errors is not null then (
      select array_agg(e.error order by u.n)
      from unnest(k.nths) with ordinality as u (nth, n)
      left join unnest(o.errors) with ordinality as e (error, nth) on e.nth = u.nth) end
  from kept as k
  join attempt_outcomes as o on o.ready_slot = v_slot and o.batch_id = k.old_batch and o.seq = k.seq;

  insert into progress_entries (job_id, run_lease, at, ready_slot, progress)
  select distinct on (p.job_id) p.job_id, p.run_lease, p.at, p_current, p.progress
  from unnest(f_jobs, f_leases) as f (job_id, run_lease)
  join progress_entries as p on p.ready_slot = v_slot and p.job_id = f.job_id and p.run_lease = f.run_lease
  order by p.job_id, p.at desc;

  perform _fold_rollups(p_generation);

  -- Ground truth becomes the permanent record, less what survives.
  with kept as (
    select k.lane, sum(k.waiting) as waiting, sum(k.failed) as failed
    from (
      select o.lane, 1 as waiting, 0 as failed
      from unnest(v_lanes, v_batches) as o (lane, batch_id) where o.batch_id is null
      union all
      select f.lane, 0, 1 from unnest(f_lanes) as f (lane)
    ) as k
    group by k.lane
  ),
  folded as (
    insert into terminal_rollup_entries (lane, generation, ready, closed, completed, failed, cancelled, scheduled, retryable)
    select t.lane, p_generation, t.enqueued - coalesce(k.waiting, 0), t.closed - coalesce(k.failed, 0),
      t.completed, t.failed - coalesce(k.failed, 0), t.cancelled, t.scheduled, t.retryable
    from _segment_truth(v_slot, '9223372036854775807:9223372036854775807:') as t
    left join kept as k on k.lane = t.lane
    returning completed + failed + cancelled as terminal
  )
  select coalesce(sum(f.terminal), 0)::bigint into v_terminal from folded as f;

  -- Most of them already here, where nobody waits for it.
  perform _carry_fires(v_slot, p_current);

  -- Keys of jobs that leave with the segment and are nowhere else. They are dropped once
  -- it is locked: somebody might wait for one, and keep this from locking it.
  select array_agg(u.ctid), array_agg(u.job_id) into k_places, k_jobs
  from ready_entries as r
  join job_unique_claims as u on u.job_id = r.job_id
  where r.ready_slot = v_slot and r.unique_key is not null
    and not exists (select from ready_entries as n where n.job_id = r.job_id and n.ready_slot <> v_slot)
    and not exists (select from deferred_jobs as d where d.job_id = r.job_id)
    and not exists (select from leases as l where l.job_id = r.job_id)
    and not exists (select from dlq_entries as q where q.id = r.job_id);

  if not _lock_segment(v_slot, v_met) then
    raise exception using errcode = '55P03', message = 'the segment is in use';
  end if;
  case v_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    -- Nobody can be writing here any more. Whatever the proof did not see
    -- means a later prune.
    if _segment_changed({{ $i }}, v_proof, v_own) or not _dependents_know({{ $i }})
      or (array_position(v_batches, null) is not null and v_claims <> (select count(*) from claims_{{ $i }}))
    then
      raise exception using errcode = '55P03', message = 'the segment changed while it was pruned';
    end if;

    perform _drop_keys(k_places, k_jobs);

    -- A lane that claimed nowhere later keeps its cursor.
    insert into lane_cursors (
      lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid, settled_segment, settled_xid,
      claimed_total, batch_id, look_at, ready_slot, skips, drained, s_prev, s_cur)
    select c.lane, c.generation, c.segment, c.last_segment, c.base_segment, c.pos_xid, c.pos_job_id, c.floor_xid,
      c.settled_segment, c.settled_xid,
      c.claimed_total, c.batch_id, c.look_at, p_current, c.skips, c.drained, c.s_prev, c.s_cur
    from (
{{ template "internal/newest.sql" (dict "ledger" "lane_cursors" "slot" $i "key" "lane" "point" "generation") }}    ) as c
    -- Here and below: offset 0, or it may be planned to read the other segments.
    where not exists (select from lane_cursors as n where n.lane = c.lane and n.generation > c.generation offset 0);

    -- So do the newest points of rescue, promotion and rate limits, a live worker's
    -- heartbeat, and what running attempts were given. A watch point may go: it was the
    -- only one, and what is watched elsewhere is looked at once more.
    insert into rescue_points (lane, point, checked, marked, marked_at, ready_slot, open_batches)
    select r.lane, r.point, r.checked, r.marked, r.marked_at, p_current, r.open_batches
    from (
{{ template "internal/newest.sql" (dict "ledger" "rescue_points" "slot" $i "key" "lane" "point" "point") }}    ) as r
    where not exists (select from rescue_points as n where n.lane = r.lane and n.point > r.point offset 0);
    insert into promotion_points (point, run_at, job_id, ready_slot, seen)
    select p.point, p.run_at, p.job_id, p_current, p.seen
    from (select k.* from promotion_points_{{ $i }} as k order by k.point desc limit 1) as p
    where not exists (select from promotion_points as n where n.point > p.point);
    insert into rate_points (queue, point, tokens, at, ready_slot)
    select r.queue, r.point, r.tokens, r.at, p_current
    from (
{{ template "internal/newest.sql" (dict "ledger" "rate_points" "slot" $i "key" "queue" "point" "point") }}    ) as r
    where not exists (select from rate_points as n where n.queue = r.queue and n.point > r.point offset 0);
    insert into dependency_points (point, ready_slot, seen)
    select p.point, p_current, p.seen
    from (select k.* from dependency_points_{{ $i }} as k order by k.point desc limit 1) as p
    where not exists (select from dependency_points as n where n.point > p.point);
    insert into slot_entries (queue, key, slot, point, batch_id, job_id, ready_slot)
    select s.queue, s.key, s.slot, s.point, s.batch_id, s.job_id, p_current
    from (
      select distinct on (k.queue, k.key, k.slot) k.*
      from slot_entries_{{ $i }} as k
      order by k.queue, k.key, k.slot, k.point desc
    ) as s
    where not exists (
        select from slot_entries as n where n.queue = s.queue and n.key = s.key and n.slot = s.slot and n.point > s.point)
      and (exists (select from leases as l where l.batch_id = s.batch_id and l.job_id = s.job_id)
        or exists (select from claims as c where c.batch_id = s.batch_id and c.ready_slot <> {{ $i }}));
    -- A queue's newest row, which is open itself, and those that it counts.
    insert into slot_batches (queue, point, batch_id, keys, job_ids, open, aged, ready_slot)
    select k.queue, k.point, k.batch_id, k.keys, k.job_ids, case when k.point = n.point then k.open else '{}' end, k.aged, p_current
    from (
{{ template "internal/newest.sql" (dict "ledger" "slot_batches" "slot" $i "key" "queue" "point" "point") }}    ) as q
    cross join lateral (
      select b.point, b.open from slot_batches as b where b.queue = q.queue order by b.point desc limit 1
    ) as n
    cross join lateral unnest(n.open) as o (point)
    cross join lateral (
      select b.* from slot_batches_{{ $i }} as b where b.queue = q.queue and b.point = o.point limit 1
    ) as k;
    insert into workers (worker, heartbeat_at, ready_slot, seen, info)
    select w.worker, w.heartbeat_at, p_current, w.seen, w.info
    from (
{{ template "internal/newest.sql" (dict "ledger" "workers" "slot" $i "key" "worker" "point" "heartbeat_at") }}    ) as w
    where w.heartbeat_at > _now() - interval '1 day'
      and not exists (select from workers as n where n.worker = w.worker and n.heartbeat_at > w.heartbeat_at offset 0);
    insert into worker_notices (worker, xid, batch_id, job_id, run_lease, ready_slot, reason)
    select n.worker, n.xid, n.batch_id, n.job_id, n.run_lease, p_current, n.reason
    from worker_notices_{{ $i }} as n
    cross join lateral (
      select w.seen, w.heartbeat_at from workers as w where w.worker = n.worker order by w.heartbeat_at desc limit 1
    ) as w
    where w.heartbeat_at > _now() - interval '1 day' and not pg_visible_in_snapshot(n.xid, w.seen);
    insert into lease_extensions (batch_id, lease_expires_at, ready_slot, job_ids)
    select e.batch_id, e.lease_expires_at, p_current, e.job_ids
    from lease_extensions_{{ $i }} as e
    where e.batch_id = any (v_batches);
    insert into progress_entries (job_id, run_lease, at, ready_slot, progress)
    select distinct on (p.job_id, p.run_lease) p.job_id, p.run_lease, p.at, p_current, p.progress
    from progress_entries_{{ $i }} as p
    where p.job_id = any (v_jobs)
    order by p.job_id, p.run_lease, p.at desc;

    if exists (select from cron_fires_{{ $i }} as k where not pg_visible_in_snapshot(k.xid, v_proof)) then
      perform _carry_fires({{ $i }}, p_current);
    end if;
    insert into cron_points (point, look_at, fire_point, ready_slot, seen, held, troubled)
    select p.point, p.look_at, p.fire_point, p_current, p.seen, p.held, p.troubled
    from (select k.* from cron_points_{{ $i }} as k order by k.point desc limit 1) as p
    where not exists (select from cron_points as n where n.point > p.point);

    -- A table costs a millisecond or more, so those that are often empty are
    -- looked at first.
    truncate ready_entries_{{ $i }}, claims_{{ $i }}, attempt_outcomes_{{ $i }}, lane_cursors_{{ $i }};
{{ range $table := list "ready_tombstones" "outcome_removals" "terminal_count_deltas" "checkpoint_snapshots"
  "terminal_count_checkpoints" "lease_extensions" "progress_entries" "workers" "worker_notices" "rescue_points"
  "promotion_points" "watched_claims" "watch_points" "cron_fires" "cron_points" "rate_points" "slot_entries" "slot_batches" "dependency_points" "job_departures" }}
    if exists (select from {{ $table }}_{{ $i }}) then
      truncate {{ $table }}_{{ $i }};
    end if;
{{ end }}
{{ end }}
  end case;

  insert into segment_prunes (generation, slot, epoch, ready_rows, terminal_jobs, relocated, carried)
  values (p_generation, v_slot, nextval('storage_epoch'), v_rows, v_terminal,
    coalesce(cardinality(v_jobs), 0), coalesce(cardinality(f_jobs), 0));
  return 'pruned';
exception
  when lock_not_available or deadlock_detected or unique_violation then
    -- The last: a carried batch was given a relocated batch's id, once in
    -- thousands. The next prune draws again.
    return 'busy';
end;
$$;

-- Whether, by the counters, more jobs hold a segment than prune would move. They may have
-- drifted, so this saves counting the rows at every call, and decides nothing for good.
create or replace function {{ .schema }}._seems_held (p_slot integer)
  returns boolean
  language plpgsql
  stable
as $$
begin
  return (
    select coalesce(sum(k.enqueued - k.closed), 0) > (select s.straggler_limit from storage_settings as s)
    from (select distinct q.lane from queue_lanes as q) as l
    cross join lateral (
      select c.enqueued, c.closed from terminal_count_checkpoints as c
      where c.ready_slot = p_slot and c.lane = l.lane
      order by c.checkpoint desc
      limit 1
    ) as k);
end;
$$;

create or replace function {{ .schema }}.prune ()
  returns text
  language plpgsql
  volatile
  parallel unsafe
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
  set jit = off
as $$
declare
  v_current    segment_rotations;
  v_generation bigint;
begin
  perform _require_read_committed('prune');
  if not _try_singleton(1) then
    return 'busy';
  end if;
  perform _settle_epoch();
  -- Who waits for a job must have seen its outcome before it goes.
  if not (select d.settled from _release_dependents(10000) as d) then
    return 'busy';
  end if;
  select r.* into v_current from segment_rotations as r order by r.generation desc limit 1;
  select coalesce(max(p.generation) + 1, 0) into v_generation from segment_prunes as p;
  if v_generation >= v_current.generation then
    return 'empty';
  end if;
  return _prune_segment(v_generation, v_current.slot);
end;
$$;

comment on function {{ .schema }}.prune is
  'Empties the oldest sealed segment, whose history becomes totals in queue_terminal_rollups; failed jobs inside their queue''s failed_retention and a few stragglers move to the current segment. Returns pruned; empty when no segment is sealed; blocked when more than a few of its jobs wait or run (see storage_status); busy when the segment is in use. Holds ACCESS EXCLUSIVE on that segment for milliseconds, once transactions that use it have ended; those of less than about 100 ms do not keep it from that. Calls that read all segments wait meanwhile, for some tens of milliseconds. Raises 25001 outside READ COMMITTED.';
