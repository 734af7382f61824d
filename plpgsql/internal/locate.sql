-- One job: where it is, and how it leaves its place.

-- A job's live or historical attempt: its ready row and, once claimed, its
-- batch and outcome. No row: deferred, dead-lettered, pruned or unknown.
create or replace function {{ .schema }}._locate (p_job_id bigint)
  returns table (
    ready_slot smallint, lane bigint, run_lease integer, own boolean, batch_id bigint, outcome "char")
  language plpgsql
  volatile
  set enable_seqscan = off
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
  select r.ready_slot, r.lane, r.run_lease, r.xid is not distinct from pg_current_xact_id_if_assigned(),
    k.batch_id, k.outcome
  from ready_entries as r
  left join lateral (
    select c.* from lane_cursors as c where c.lane = r.lane order by c.generation desc limit 1
  ) as c on true
  cross join lateral _attempt_of(r.ready_slot, r.lane, r.job_id, r.run_lease, _passed(r.ready_slot, r.xid, r.job_id, c)) as k
  where r.job_id = p_job_id
    and (k.outcome is null or (k.outcome in ('c', 'f', 'x') and not k.removed));
end;
$$;

-- Whether a lane's cursor has gone past a ready row, or a tombstone may stand
-- for it.
create or replace function {{ .schema }}._passed (p_slot smallint, p_xid xid8, p_job_id bigint, p_cursor {{ .schema }}.lane_cursors)
  returns boolean
  language sql
  immutable
as $$
  select p_xid = '0'
    or pg_visible_in_snapshot(p_xid, p_cursor.s_prev)
    or (pg_visible_in_snapshot(p_xid, p_cursor.s_cur) and (p_cursor.drained
      or (p_cursor.last_segment - ((p_cursor.last_segment - p_slot) % {{ .segments }} + {{ .segments }}) % {{ .segments }}, p_xid, p_job_id)
        <= (p_cursor.segment, p_cursor.pos_xid, p_cursor.pos_job_id)))
    or p_cursor.skips > 0
$$;

-- Takes a waiting ready row before its turn, as a claim of its own: under the
-- lane's lock, so that it and a claimer exclude each other. Returns the
-- receipt, or null when the row no longer waits.
create or replace function {{ .schema }}._take_ready (p_job_id bigint)
  returns {{ .schema }}.receipt
  language plpgsql
  volatile
as $$
declare
  v_now  timestamptz := clock_timestamp();
  j      record;
  r      receipt;
begin
  select l.* into j from _locate(p_job_id) as l;
  if not found or j.batch_id is not null then
    return null;
  end if;
  r := row(j.ready_slot, _batch_id(p_job_id * 16 + j.run_lease % 16), p_job_id, j.run_lease)::receipt;

  if j.own then
    -- This transaction's own: below every window, counted as _claim_own does.
    update ready_entries as e set xid = '0'
    where e.ready_slot = j.ready_slot and e.job_id = p_job_id and e.run_lease = j.run_lease;
    insert into terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
    values (j.lane, pg_current_xact_id(), j.ready_slot, -1, 0, 0, 0);
  else
    if not pg_try_advisory_xact_lock(_lock_class(1), _lane_key(j.lane)) and not _await_lane(j.lane) then
      raise exception using errcode = '40001',
        message = format('job %s: another session is claiming from its lane, and this one holds another', p_job_id),
        hint = 'Retry the whole transaction.';
    end if;
    if _snapshot_is_stale() then
      perform _stale_snapshot(format('job %s', p_job_id));
    end if;
    select l.* into j from _locate(p_job_id) as l;
    if not found or j.batch_id is not null then
      return null;
    end if;
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
      perform _probe_cursor(j.lane, coalesce((
        select k.generation from lane_cursors as k where k.lane = j.lane order by k.generation desc limit 1), 0) + 1);
    end if;
    r.ready_slot := j.ready_slot;
    insert into ready_tombstones (job_id, run_lease, ready_slot) values (p_job_id, j.run_lease, j.ready_slot);
    insert into lane_cursors (
      lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid, settled_segment, settled_xid,
      claimed_total, ready_slot, skips, drained, s_prev, s_cur)
    select j.lane, coalesce(c.generation, 0) + 1,
      coalesce(c.segment, g.generation), coalesce(c.last_segment, g.generation),
      coalesce(c.base_segment, greatest(g.generation - {{ sub (int .segments) 1 }}, 0)),
      coalesce(c.pos_xid, '0'), coalesce(c.pos_job_id, -1), coalesce(c.floor_xid, '0'),
      c.settled_segment, c.settled_xid,
      coalesce(c.claimed_total, 0) + 1, g.slot, 2,
      coalesce(c.drained, true), coalesce(c.s_prev, '1:1:'), coalesce(c.s_cur, '1:1:')
    from (select n.generation, n.slot from segment_rotations as n order by n.generation desc limit 1) as g
    left join (select k.* from lane_cursors as k where k.lane = j.lane order by k.generation desc limit 1) as c on true;
  end if;
  insert into claims (
    batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, bypassed_by)
  values (r.batch_id, j.lane, v_now, v_now, j.ready_slot, array[p_job_id],
    case when j.run_lease > 1 then array[j.run_lease] end, case when j.own then pg_current_xact_id() end);
  return r;
exception when unique_violation then
  -- Only a transaction-long snapshot can meet a cursor it does not see.
  perform _stale_snapshot(format('job %s', p_job_id));
end;
$$;

-- Puts a job that is nowhere in the ring straight into history: a body that
-- no window offers, its claim and its outcome.
create or replace function {{ .schema }}._file_closed (p_job {{ .schema }}.deferred_jobs, p_outcome "char", p_error jsonb)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_xid   xid8 := pg_current_xact_id();  -- before the ring is read, see enqueue
  v_now   timestamptz := clock_timestamp();
  v_slot  smallint := (select r.slot from segment_rotations as r order by r.generation desc limit 1);
  v_batch bigint := _batch_id(p_job.job_id * 16 + p_job.run_lease % 16);
begin
  insert into ready_entries (
    lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
    metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline)
  values (p_job.lane, '0', p_job.job_id, p_job.run_at, p_job.created_at, p_job.run_lease, v_slot,
    p_job.attempt, p_job.max_attempts, p_job.kind, p_job.args, p_job.metadata, p_job.tags, p_job.errors, p_job.progress,
    p_job.unique_key, p_job.unique_states, p_job.ordering_key, p_job.deadline);
  insert into claims (batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, bypassed_by)
  values (v_batch, p_job.lane, v_now, v_now, v_slot, array[p_job.job_id],
    case when p_job.run_lease > 1 then array[p_job.run_lease] end, v_xid);
  insert into terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
  values (p_job.lane, v_xid, v_slot, -1, 0, 0, 0);
  insert into attempt_outcomes (
    batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, errors)
  values (v_batch, p_job.lane, v_xid, v_now, 0, 1, v_slot, p_outcome,
    case when p_error is not null then array[p_error] end);
end;
$$;

-- _take_terminal for more jobs than are worth an index lookup each: reads all
-- outcomes and joins by hash.
create or replace function {{ .schema }}._take_many (
  p_job_ids bigint[], p_outcomes "char"[], p_queue text, p_kind text, p_max integer,
  out slots smallint[], out lanes bigint[], out ids bigint[], out leases integer[], out outcomes "char"[], out errors jsonb[]
)
  language plpgsql
  volatile
  set plan_cache_mode = force_custom_plan
  set enable_nestloop = off
  set work_mem = '64MB'
as $$
begin
  with found as materialized (
    select o.ready_slot, o.lane, j.job_id, coalesce(j.run_lease, 1) as run_lease, o.outcome, j.error
    from attempt_outcomes as o
    left join claims as c on c.ready_slot = o.ready_slot and c.batch_id = o.batch_id and o.job_ids is null
    cross join lateral unnest(
      coalesce(o.job_ids, c.job_ids),
      case when o.job_ids is null then c.run_leases else o.run_leases end,
      o.errors) as j (job_id, run_lease, error)
    where o.outcome = any (p_outcomes)
      and (p_queue is null or o.lane in (select l.lane from queue_lanes as l where l.queue = p_queue))
      and (p_job_ids is null or j.job_id in (select u.job_id from unnest(p_job_ids) as u (job_id)))
      and (p_kind is null or exists (
        select from ready_entries as r
        where r.ready_slot = o.ready_slot and r.job_id = j.job_id and r.run_lease = coalesce(j.run_lease, 1) and r.kind = p_kind))
      and not exists (
        select from outcome_removals as m
        where m.ready_slot = o.ready_slot and m.job_id = j.job_id and m.run_lease = coalesce(j.run_lease, 1))
    order by j.job_id, 4
    limit p_max
  ),
  taken as (
    insert into outcome_removals (job_id, lane, xid, run_lease, ready_slot, outcome)
    select f.job_id, f.lane, pg_current_xact_id(), f.run_lease, f.ready_slot, f.outcome
    from found as f
    on conflict do nothing
    returning ready_slot, lane, job_id, run_lease, outcome
  )
  select array_agg(t.ready_slot), array_agg(t.lane), array_agg(t.job_id), array_agg(t.run_lease), array_agg(t.outcome),
    array_agg(f.error)
  into slots, lanes, ids, leases, outcomes, errors
  from taken as t
  join found as f on f.job_id = t.job_id and f.run_lease = t.run_lease and f.ready_slot = t.ready_slot;
end;
$$;

-- Takes terminal jobs out of history and counts that: one delta per key. Of
-- several that want a job the first gets it; the unique index makes the
-- others wait, in the order of ids, and then add nothing. p_job_ids null means
-- all that match. Returns those it took.
create or replace function {{ .schema }}._take_terminal (
  p_job_ids bigint[], p_outcomes "char"[], p_queue text default null, p_kind text default null, p_max integer default null
)
  returns table (ready_slot smallint, lane bigint, job_id bigint, run_lease integer, outcome "char", error jsonb)
  language plpgsql
  volatile
as $$
#variable_conflict use_column
declare
  v_slots    smallint[];
  v_lanes    bigint[];
  v_ids      bigint[];
  v_leases   integer[];
  v_outcomes "char"[];
  v_errors   jsonb[];
begin
  -- Each statement finds and takes at once: it locks the segments before its
  -- snapshot, so no prune comes between.
  if cardinality(p_job_ids) <= 200 then
    with found as (
      select r.ready_slot, r.lane, r.job_id, r.run_lease, k.outcome, k.batch_id
      from (select distinct u.job_id from unnest(p_job_ids) as u (job_id)) as u
      join ready_entries as r on r.job_id = u.job_id
      cross join lateral _attempt_of(r.ready_slot, r.lane, r.job_id, r.run_lease, true) as k
      where k.outcome = any (p_outcomes) and not k.removed
    ),
    taken as (
      insert into outcome_removals (job_id, lane, xid, run_lease, ready_slot, outcome)
      select f.job_id, f.lane, pg_current_xact_id(), f.run_lease, f.ready_slot, f.outcome
      from found as f
      order by f.job_id, f.run_lease
      on conflict do nothing
      returning ready_slot, lane, job_id, run_lease, outcome
    )
    select array_agg(t.ready_slot), array_agg(t.lane), array_agg(t.job_id), array_agg(t.run_lease), array_agg(t.outcome),
      array_agg((_error_of(t.ready_slot, f.batch_id, t.job_id))[1])
    into v_slots, v_lanes, v_ids, v_leases, v_outcomes, v_errors
    from taken as t
    join found as f on f.job_id = t.job_id and f.run_lease = t.run_lease and f.ready_slot = t.ready_slot;
  else
    select m.slots, m.lanes, m.ids, m.leases, m.outcomes, m.errors
    into v_slots, v_lanes, v_ids, v_leases, v_outcomes, v_errors
    from _take_many(p_job_ids, p_outcomes, p_queue, p_kind, p_max) as m;
  end if;
  -- A storage whose counters do not exist yet still loses the job; check()
  -- then reports the key and a rebuild heals it.
  if v_ids is not null and to_regclass('{{ .schema }}.terminal_count_deltas') is not null then
    perform _count_removals(v_slots, v_lanes, v_outcomes);
  end if;
  return query
  select t.*
  from unnest(v_slots, v_lanes, v_ids, v_leases, v_outcomes, v_errors) as t (ready_slot, lane, job_id, run_lease, outcome, error);
end;
$$;

create or replace function {{ .schema }}._count_removals (p_slots smallint[], p_lanes bigint[], p_outcomes "char"[])
  returns void
  language plpgsql
  volatile
as $$
begin
  insert into terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
  select t.lane, pg_current_xact_id(), t.ready_slot, 0,
    -count(*) filter (where t.outcome = 'c'), -count(*) filter (where t.outcome = 'f'), -count(*) filter (where t.outcome = 'x')
  from unnest(p_slots, p_lanes, p_outcomes) as t (ready_slot, lane, outcome)
  group by t.ready_slot, t.lane
  order by t.ready_slot, t.lane;
end;
$$;

-- A job gives its unique key back when it leaves the system.
create or replace function {{ .schema }}._release_keys (p_job_ids bigint[])
  returns void
  language plpgsql
  volatile
as $$
begin
  delete from job_unique_claims as u where u.job_id = any (p_job_ids);
end;
$$;
