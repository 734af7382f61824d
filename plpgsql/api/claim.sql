-- Claim: hand committed jobs to a worker, each exactly once.

-- Jobs of a lane that this very transaction enqueued, in their order. Index entries of
-- those that it took stay until it ends, so they are looked for after the last of them;
-- only if that yields too few also before it, where a retried job may be.
create or replace function {{ .schema }}._own_jobs (p_lane bigint, p_max integer)
  returns table (ready_slot smallint, job_id bigint, run_lease integer, metadata jsonb)
  language plpgsql
  stable
as $$
#variable_conflict use_column
declare
  v_own  xid8 := pg_current_xact_id_if_assigned();
  -- Lane and job id, until commit.
  v_last text[] := string_to_array(current_setting('{{ .schema }}.own', true), ' ');
  v_from bigint := case when v_last[1] = p_lane::text then v_last[2]::bigint else -1::bigint end;
begin
  return query
  -- By a range: in the order of ids alone it may be planned as a walk through all jobs.
  (select r.ready_slot, r.job_id, r.run_lease, r.metadata
   from ready_entries as r
   where r.lane = p_lane and (r.xid, r.job_id) > (v_own, v_from) and r.xid <= v_own
   order by r.xid, r.job_id
   limit p_max)
  union all
  -- Read when those were too few.
  (select r.ready_slot, r.job_id, r.run_lease, r.metadata
   from ready_entries as r
   where r.lane = p_lane and r.xid >= v_own and (r.xid, r.job_id) <= (v_own, v_from)
   order by r.xid, r.job_id
   limit p_max)
  limit p_max;
end;
$$;

-- Claims jobs that this very transaction enqueued: up to p_max, or p_only. No window may
-- show them, for the transaction may still add more; they are taken by restamping them below
-- every window. Nobody else sees them, so no lane lock is needed and no
-- cursor moves: the claim is counted by a delta instead.
create or replace function {{ .schema }}._claim_own (
  p_queue text, p_lane bigint, p_priority smallint, p_max integer, p_worker text, p_lease interval, p_only bigint[] default null
)
  returns setof {{ .schema }}.claimed_job
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_own xid8 := pg_current_xact_id_if_assigned();
  v_now timestamptz := _now();
begin
  if v_own is null then
    return;
  end if;
  perform _enter_ring();
  if not exists (select from _own_jobs(p_lane, 1)) then
    return;
  end if;
  return query
  with got as materialized (
    select o.ready_slot, o.job_id, o.run_lease from _own_jobs(p_lane, case when p_only is null then p_max else 0 end) as o
    union all
    select r.ready_slot, r.job_id, r.run_lease
    from unnest(p_only) as u (job_id)
    cross join lateral (select e.* from ready_entries as e where e.job_id = u.job_id and e.xid = v_own offset 0) as r
  ),
  restamped as (
    update ready_entries as r
    set xid = '0'
    -- By their ids and neither by a join nor another index, whatever the statistics say. A job
    -- has one row that nobody took.
    where r.job_id = any (array(select g.job_id from got as g)) and (r.xid = v_own) is true
    returning r.*
  ),
  batch as materialized (
    select s.ready_slot, _batch_id(s.ready_slot, max(s.job_id * 16 + s.run_lease % 16), max(s.run_lease)) as batch_id,
      count(*)::integer as jobs,
      min(s.deadline) as deadline,
      bool_or(s.metadata ? 'awa:follow_ups') as follows,
      array_agg(s.job_id order by s.job_id) as job_ids,
      array_agg(s.run_lease order by s.job_id) as run_leases
    from restamped as s
    group by s.ready_slot
  ),
  claimed as (
    insert into claims (
      batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, worker, deadline_at, bypassed_by, follows)
    select b.batch_id, p_lane, v_now, v_now + p_lease, b.ready_slot, b.job_ids,
      case when 1 = all (b.run_leases) then null else b.run_leases end, p_worker, v_now + b.deadline, v_own,
      nullif(b.follows, false)
    from batch as b
  ),
  counted as (
    insert into terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
    select p_lane, v_own, b.ready_slot, -b.jobs, 0, 0, 0
    from batch as b
  ),
  watched as (
    insert into watched_claims (batch_id, lane, ready_slot, look_at)
    select b.batch_id, p_lane, b.ready_slot, v_now + least(p_lease, b.deadline)
    from batch as b
  ),
  noted as materialized (
    select set_config('{{ .schema }}.own', p_lane || ' ' || max(s.job_id), true) from restamped as s
  )
  select row(b.ready_slot, b.batch_id, s.job_id, s.run_lease)::receipt,
    s.job_id, s.kind, s.args, p_queue, p_priority, s.attempt, s.max_attempts, s.run_at, s.created_at,
    coalesce(s.tags, '{}'), coalesce(s.metadata, '{}'), s.progress, coalesce(s.errors, '{}'),
    v_now + s.deadline, v_now + p_lease
  from restamped as s
  join batch as b on b.ready_slot = s.ready_slot
  cross join noted
  order by s.job_id;
end;
$$;

-- A batch is named after its highest job id and that job's lease, with random
-- low bits. Ids and xids can be issued again after a crash that forgot an
-- asynchronously committed claim; the random bits keep a receipt from before
-- the crash apart. The id range also finds a job's batch by index.
create or replace function {{ .schema }}._draw_batch_id (p_top bigint)
  returns bigint
  language sql
  volatile
as $$
  -- Not by a shift: a job id beyond 46 bits must not pass unnoticed.
  select p_top * 8192 + pg_catalog.floor(pg_catalog.random() * 8192)::bigint
$$;

-- A batch id that the segment does not have yet.
create or replace function {{ .schema }}._unused_batch_id (p_slot integer, p_top bigint)
  returns bigint
  language plpgsql
  volatile
as $$
declare
  v_batch bigint;
begin
  loop
    v_batch := _draw_batch_id(p_top);
    case p_slot
{{ range $i := until (int .segments) }}
    when {{ $i }} then
      exit when not exists (select from claims_{{ $i }} as c where c.batch_id = v_batch);
{{ end }}
    end case;
  end loop;
  return v_batch;
end;
$$;

-- The id of a new batch in a slot. p_top is job id * 16 + run lease % 16 at its
-- highest, p_lease the highest lease: above 16 an earlier lease of the job may have
-- drawn the same.
create or replace function {{ .schema }}._batch_id (p_slot integer, p_top bigint, p_lease integer)
  returns bigint
  language sql
  volatile
as $$
  select case when p_lease > 16 then {{ .schema }}._unused_batch_id(p_slot, p_top) else {{ .schema }}._draw_batch_id(p_top) end
$$;

-- Waits for a lane's turn. False, without waiting, when this transaction holds another lane, or
-- with p_ascending one of a higher rank: two transactions might wait for each other's lanes.
create or replace function {{ .schema }}._await_lane (p_lane bigint, p_ascending boolean)
  returns boolean
  language plpgsql
  volatile
as $$
declare
  v_rank bigint := _lane_rank(p_lane);
begin
  if _may_have_turns() then
    if exists (
      select from _turns_in_hand('{1}') as k (rank) where k.rank <> v_rank and (k.rank > v_rank or not p_ascending))
    then
      return false;
    end if;
  end if;
  perform pg_advisory_xact_lock(_lock_class(1), _lane_key(p_lane));
  return true;
end;
$$;

-- Under a transaction-long snapshot: whether another session moved the lane's cursor on, in
-- whatever segment. Trying to insert the next generation finds rows that the snapshot does not
-- show; the try is undone in any case.
create or replace function {{ .schema }}._probe_cursor (p_lane bigint, p_generation bigint)
  returns void
  language plpgsql
  volatile
as $$
begin
  insert into lane_cursors (
    lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid,
    claimed_total, ready_slot, drained, s_prev, s_cur)
  select p_lane, p_generation, 0, 0, 0, '0', -1, '0', 0, s.slot, true, '1:1:', '1:1:'
  from generate_series(0, {{ sub (int .segments) 1 }}) as s (slot);
  raise exception using errcode = 'AW000', message = 'undo';
exception
  when sqlstate 'AW000' then
    null;
  when unique_violation then
    perform _stale_snapshot('claim');
end;
$$;

-- Since when the first claimable row of each of these lanes waits; lanes without one are left
-- out. A claim calls it before it has the lanes' locks, to learn which are worth a try.
-- _move_idle_lanes holds the locks, and moves the cursors of lanes left out here past their
-- rows for good. So a lane whose cursor is of another cluster is never left out; a claim then
-- reports it.
create or replace function {{ .schema }}._lane_heads (p_lanes bigint[])
  returns table (lane bigint, run_at timestamptz)
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  -- This transaction counts as in progress too, since its own jobs are in no window.
  v_snap pg_snapshot;
  v_hi   xid8[];
  v_lo   xid8[];
  v_top  xid8 := '18446744073709551615'::xid8;
begin
  perform _enter_ring();
  v_snap := _hide_own(pg_current_snapshot());
  v_hi := _bounds(v_snap);
  v_lo := '0'::xid8 || v_hi;
  return query
  select u.lane, case when pg_snapshot_xmax(c.s_cur) > pg_snapshot_xmax(v_snap) then '-infinity' else w.run_at end
  from (select n.generation as ring from segment_rotations as n order by n.generation desc limit 1) as g
  cross join unnest(p_lanes) as u (lane)
  left join lateral (
    select o.segment, o.drained, o.pos_xid, o.pos_job_id, o.s_prev, o.s_cur,
      -- Where the first row can be: what s_cur does not show is numbered from the floor on.
      case when o.floor_xid <= pg_snapshot_xmin(o.s_cur) then
        case when o.drained then o.base_segment else least(o.segment, o.base_segment) end end as first
    from lane_cursors as o
    where o.lane = u.lane
    order by o.generation desc
    limit 1
  ) as c on true
  left join lateral (
    select r.run_at
    from generate_series(greatest(c.first, g.ring - {{ sub (int .segments) 1 }}, 0), g.ring) as s (segment)
    -- The rest of the open window and what comes after it, as far as this segment
    -- holds it, around what is in progress: below hi_xid and up to to_xid.
    cross join lateral (
      select x.xid, -1, v_top, x.xid
      from pg_snapshot_xip(c.s_cur) as x (xid)
      where pg_visible_in_snapshot(x.xid, v_snap)
      union all
      select x.xid, case when s.segment = c.segment and x.xid = c.pos_xid then c.pos_job_id else -1 end, v_top, x.xid
      from pg_snapshot_xip(c.s_prev) as x (xid)
      where not c.drained and (s.segment > c.segment or s.segment = c.segment and x.xid >= c.pos_xid)
        and pg_visible_in_snapshot(x.xid, v_snap)
      union all
      select greatest(b.xid, o.lo_xid), case when b.xid > o.lo_xid then b.job_id else 9223372036854775807 end,
        -- Where there is no cursor, jobs of another cluster are known by their numbers.
        case when c.s_cur is null and o.hi_xid = pg_snapshot_xmax(v_snap) then v_top else o.hi_xid end, v_top
      from (
        select case
            when c.s_cur is null then '0'
            when c.drained or s.segment < c.segment then pg_snapshot_xmax(c.s_cur)
            when s.segment = c.segment then greatest(c.pos_xid, pg_snapshot_xmax(c.s_prev))
            else pg_snapshot_xmax(c.s_prev) end as xid,
          case when not c.drained and s.segment = c.segment and c.pos_xid >= pg_snapshot_xmax(c.s_prev) then c.pos_job_id
            else -1 end as job_id
      ) as b
      cross join unnest(v_lo, v_hi) as o (lo_xid, hi_xid)
      where b.xid < o.hi_xid
    ) as p (lo_xid, lo_id, hi_xid, to_xid)
    cross join lateral (
      select e.run_at
      from ready_entries as e
      where e.ready_slot = s.segment % {{ .segments }} and e.lane = u.lane
        and (e.xid, e.job_id) > (p.lo_xid, p.lo_id) and e.xid < p.hi_xid and e.xid <= p.to_xid
        and e.xid is distinct from pg_current_xact_id_if_assigned()
      order by e.xid, e.job_id
      limit 1
    ) as r
    limit 1
  ) as w on true
  where w.run_at is not null or pg_snapshot_xmax(c.s_cur) > pg_snapshot_xmax(v_snap);
end;
$$;

-- How many steps of priority a wait has earned: at most 3, whatever the times.
create or replace function {{ .schema }}._lane_age (p_head timestamptz, p_now timestamptz, p_interval interval)
  returns integer
  language sql
  immutable
  parallel safe
as $$
  select case
    when coalesce(p_interval, '60 seconds') <= '0' then 0
    else floor(least(greatest(
      (extract(epoch from p_now)::float8 - extract(epoch from p_head)::float8)
        / extract(epoch from coalesce(p_interval, '60 seconds'))::float8, 0), 3))::integer
  end
$$;

-- When a wait began, in steps of the interval; null where waiting earns nothing.
create or replace function {{ .schema }}._lane_since (p_head timestamptz, p_interval interval)
  returns double precision
  language sql
  immutable
  parallel safe
as $$
  select pg_catalog.floor(extract(epoch from p_head)::float8
    / nullif(extract(epoch from coalesce(p_interval, '60 seconds'))::float8, 0))
$$;

create or replace function {{ .schema }}.claim (
  queue    text,
  max_jobs integer  default 1,
  worker   text     default null,
  lease    interval default '5 minutes'
)
  returns setof {{ .schema }}.claimed_job
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
as $$
begin
  if claim.queue is null or claim.max_jobs is null or claim.max_jobs < 1 or claim.lease is null
    or _shortest(claim.lease) <= '0' or claim.lease > '100 years' or length(claim.worker) > 200
  then
    if length(claim.worker) > 200 then
      -- The index of notices has no room for a longer name, and then only the worker itself
      -- could close its attempts.
      perform _invalid(format('worker %L has %s characters', left(claim.worker, 40), length(claim.worker)),
        'A worker''s name is a text of up to 200 characters.');
    end if;
    perform _invalid(
      format('claim of queue %L, max_jobs %s, lease %s', claim.queue,
        coalesce(claim.max_jobs::text, 'null'), coalesce(claim.lease::text, 'null')),
      'Name a queue, ask for at least one job and give a lease above zero, up to 100 years.');
  end if;
  if _keeps_snapshot() then
    return query
    select j.* from _claim_frozen(claim.queue, claim.max_jobs, claim.worker, claim.lease) as j;
    return;
  end if;
  <<claim_body>>
{{ template "internal/claim_body.sql" (dict "schema" .schema "segments" .segments "divert" true) }}  end;
end;
$$;

comment on function {{ .schema }}.claim is
  'Hands up to max_jobs jobs of a queue to a worker: committed ones and those that the same transaction enqueued, lower priority number first, oldest first within a lane. Waits for another claimer of the same lane until that one commits, but never for producers. A paused or unknown queue yields no rows. Raises AW006 for a bad argument, AW005 after a restore from another cluster, 40001 under a stale REPEATABLE READ snapshot.';

-- claim, of a queue without a limit of concurrency, for a transaction that keeps one
-- snapshot: whatever that snapshot cannot see ends in 40001, never in a second hand-out.
-- Its caller checked the arguments.
create or replace function {{ .schema }}._claim_snapshot (p_queue text, p_max_jobs integer, p_worker text, p_lease interval)
  returns setof {{ .schema }}.claimed_job
  language plpgsql
  volatile
as $$
#variable_conflict use_variable
<<claim>>
declare
  queue    text := p_queue;
  max_jobs integer := p_max_jobs;
  worker   text := p_worker;
  lease    interval := p_lease;
begin
  -- Locked first, no prune is under way and every finished one moved the
  -- epoch.
  perform _enter_ring();
  lock table lane_cursors in access share mode;
  if _snapshot_is_stale() then
    perform _stale_snapshot(format('claim of queue %L', p_queue));
  end if;
  <<claim_body>>
{{ template "internal/claim_body.sql" (dict "schema" .schema "segments" .segments) }}  end;
exception when unique_violation then
  perform _stale_snapshot(format('claim of queue %L', p_queue));
end;
$$;

create or replace function {{ .schema }}._claim_frozen (p_queue text, p_max_jobs integer, p_worker text, p_lease interval)
  returns setof {{ .schema }}.claimed_job
  language plpgsql
  volatile
as $$
declare
  v_limit integer := (select m.concurrency_limit from queue_meta as m where m.queue = p_queue and not m.paused);
begin
  if v_limit is null then
    return query select j.* from _claim_snapshot(p_queue, p_max_jobs, p_worker, p_lease) as j;
  else
    return query select j.* from _claim_limited(p_queue, p_max_jobs, p_worker, p_lease, v_limit) as j;
  end if;
exception when unique_violation then
  -- A slot that another session took since.
  perform _stale_snapshot(format('claim of queue %L', p_queue));
end;
$$;
