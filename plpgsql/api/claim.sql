-- Claim: hand committed jobs to a worker, each exactly once.

-- Jobs that this very transaction enqueued. No window may show them, for the
-- transaction may still add more; they are taken by restamping them below
-- every window. Caller holds no claim on the rows yet; nobody else sees them.
create or replace function {{ .schema }}._claim_own (
  p_queue text, p_lane bigint, p_priority smallint, p_max integer, p_worker text, p_lease interval
)
  returns setof {{ .schema }}.claimed_job
  language plpgsql
  volatile
as $$
declare
  v_own  xid8 := pg_current_xact_id_if_assigned();
  v_now  timestamptz := clock_timestamp();
  v_jobs integer;
begin
  if v_own is null or not exists (select from ready_entries as r where r.lane = p_lane and r.xid = v_own) then
    return;
  end if;
  perform pg_advisory_xact_lock(_lock_class(1), _lane_key(p_lane));
  return query
  with got as materialized (
    select r.ready_slot, r.job_id, r.run_lease
    from ready_entries as r
    where r.lane = p_lane and r.xid = v_own
    order by r.job_id
    limit p_max
  ),
  restamped as (
    update ready_entries as r
    set xid = '0'
    from got as g
    where r.ready_slot = g.ready_slot and r.job_id = g.job_id and r.run_lease = g.run_lease
    returning r.*
  ),
  batch as materialized (
    select s.ready_slot, _batch_id(max(s.job_id << 4 | s.run_lease & 15)) as batch_id,
      array_agg(s.job_id order by s.job_id) as job_ids,
      array_agg(s.run_lease order by s.job_id) as run_leases
    from restamped as s
    group by s.ready_slot
  ),
  claimed as (
    insert into claims (batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, worker)
    select b.batch_id, p_lane, v_now, v_now + p_lease, b.ready_slot, b.job_ids,
      case when 1 = all (b.run_leases) then null else b.run_leases end, p_worker
    from batch as b
  )
  select row(b.ready_slot, b.batch_id, s.job_id, s.run_lease)::receipt,
    s.job_id, s.kind, s.args, p_queue, p_priority, s.attempt, s.max_attempts, s.run_at, s.created_at,
    coalesce(s.tags, '{}'), coalesce(s.metadata, '{}'), s.progress, coalesce(s.errors, '{}'),
    v_now + s.deadline, v_now + p_lease
  from restamped as s
  join batch as b on b.ready_slot = s.ready_slot
  order by s.job_id;
  get diagnostics v_jobs = row_count;

  -- The ledger counts them as claimed and as never offered.
  insert into lane_cursors (
    lane, generation, segment, last_segment, pos_xid, pos_job_id, floor_xid,
    claimed_total, bypassed_total, ready_slot, drained, s_prev, s_cur)
  select p_lane, coalesce(c.generation, 0) + 1, coalesce(c.segment, g.generation), coalesce(c.last_segment, g.generation),
    coalesce(c.pos_xid, '0'), coalesce(c.pos_job_id, -1), coalesce(c.floor_xid, '0'),
    coalesce(c.claimed_total, 0) + v_jobs, coalesce(c.bypassed_total, 0) + v_jobs,
    g.slot, coalesce(c.drained, true), coalesce(c.s_prev, '1:1:'), coalesce(c.s_cur, '1:1:')
  from (select r.generation, r.slot from segment_rotations as r order by r.generation desc limit 1) as g
  left join (select k.* from lane_cursors as k where k.lane = p_lane order by k.generation desc limit 1) as c on true;
end;
$$;

-- A batch is named after its highest job id and that job's lease, with random
-- low bits. Ids and xids can be issued again after a crash that forgot an
-- asynchronously committed claim; the random bits keep a receipt from before
-- the crash apart. The id range also finds a job's batch by index.
create or replace function {{ .schema }}._batch_id (p_top bigint)
  returns bigint
  language sql
  volatile
as $$
  select p_top << 13 | pg_catalog.floor(pg_catalog.random() * 8192)::bigint
$$;

-- Whether a lane seems to hold claimable rows. Read without the lane's lock,
-- so only a reason to try.
create or replace function {{ .schema }}._lane_has_rows (p_lane bigint)
  returns boolean
  language plpgsql
  volatile
as $$
declare
  v_snap    pg_snapshot;
  v_segment bigint;
  v_found   boolean;
  c         lane_cursors;
  w         record;
begin
  select r.generation, pg_current_snapshot() into v_segment, v_snap
  from segment_rotations as r order by r.generation desc limit 1;
  v_snap := _hide_own(v_snap);
  select k.* into c from lane_cursors as k where k.lane = p_lane order by k.generation desc limit 1;
  if not found then
    c.s_prev := '1:1:';
    c.pos_xid := '0';
    c.pos_job_id := -1;
  elsif c.drained then
    c.s_prev := c.s_cur;
    c.pos_xid := '0';
    c.pos_job_id := -1;
  elsif c.segment < c.last_segment then
    c.pos_xid := '0';
    c.pos_job_id := -1;
  end if;
  w := _window(c.s_prev, v_snap, c.pos_xid, c.pos_job_id);
  select exists (
    select from unnest(w.lo_xid, w.lo_id, w.hi_xid, w.hi_id) as i (lo_xid, lo_id, hi_xid, hi_id)
    join ready_entries as r on r.lane = p_lane
      and (r.xid, r.job_id) > (i.lo_xid, i.lo_id) and (r.xid, r.job_id) < (i.hi_xid, i.hi_id)
  ) into v_found;
  return v_found;
end;
$$;

-- Claims from one lane. The caller holds the lane's advisory lock, so the
-- newest cursor it reads in a fresh snapshot is the lane's last word; under a
-- transaction-long snapshot the cursor's primary key refuses a second claim.
create or replace function {{ .schema }}._claim_lane (
  p_queue text, p_lane bigint, p_priority smallint, p_max integer, p_worker text, p_lease interval
)
  returns setof {{ .schema }}.claimed_job
  language plpgsql
  volatile
as $$
declare
  v_now     timestamptz := clock_timestamp();
  v_left    integer := p_max;
  v_got     integer;
  v_snap    pg_snapshot;
  v_segment bigint;
  v_slot    integer;
  v_opened  boolean := false;
  v_costly  boolean := false;
  v_lo_xid  xid8[];
  v_lo_id   bigint[];
  v_hi_xid  xid8[];
  v_hi_id   bigint[];
  c         lane_cursors;
begin
  -- One snapshot for both: a transaction numbered after it writes into this
  -- segment or a newer one.
  select r.generation, r.slot, pg_current_snapshot() into v_segment, v_slot, v_snap
  from segment_rotations as r order by r.generation desc limit 1;

  -- A lane that claimed since the last rotation has its cursor in the current
  -- segment. Elsewhere one statement over all segments looks, which locks
  -- them before it takes its snapshot: a prune moves cursors.
  case v_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    select k.* into c from lane_cursors_{{ $i }} as k where k.lane = p_lane order by k.generation desc limit 1;
{{ end }}
  end case;
  if c.lane is null then
    select k.* into c from lane_cursors as k where k.lane = p_lane order by k.generation desc limit 1;
  end if;
  if c.lane is null then
    c := row(p_lane, 0, v_segment, v_segment, '0', -1, '0', 0, 0, 0, true, '1:1:', '1:1:')::lane_cursors;
    -- Nothing was ever consumed here: any segment may hold rows.
    c.floor_xid := pg_snapshot_xmax(v_snap);
    c.last_segment := v_segment - {{ sub (int .segments) 1 }};
    v_costly := true;
  elsif pg_snapshot_xmax(c.s_cur) > pg_snapshot_xmax(v_snap) then
    raise exception using errcode = 'AW005',
      message = format('queue %L: stored snapshot %s is ahead of this cluster''s %s', p_queue, c.s_cur, v_snap),
      hint = 'Transaction ids of another cluster were restored: run rebase() once.';
  end if;
  if pg_current_xact_id_if_assigned() is not null then
    v_snap := _hide_own(v_snap);
  end if;

  loop
    if c.drained then
      exit when v_opened;
      -- The next window. Rows of its range part are in the segment that was
      -- current when s_prev was taken, or newer; a transaction that was open
      -- even at the floor may have written anywhere.
      v_opened := true;
      if pg_snapshot_xmin(c.s_cur) < least(c.floor_xid, pg_snapshot_xmax(c.s_cur)) then
        v_costly := exists (
          select from pg_snapshot_xip(c.s_cur) as x (xid)
          where x.xid < c.floor_xid and pg_visible_in_snapshot(x.xid, v_snap));
      end if;
      c.segment := case when v_costly or c.last_segment < v_segment - {{ sub (int .segments) 1 }}
        then v_segment - {{ sub (int .segments) 1 }} else c.last_segment end;
      if v_segment > c.last_segment then
        c.floor_xid := pg_snapshot_xmax(v_snap);
      end if;
      c.last_segment := v_segment;
      c.s_prev := c.s_cur;
      c.s_cur := v_snap;
      c.pos_xid := '0';
      c.pos_job_id := -1;
      c.drained := false;
    end if;

    if pg_snapshot_xmin(c.s_prev) = pg_snapshot_xmax(c.s_prev)
      and pg_snapshot_xmin(c.s_cur) = pg_snapshot_xmax(c.s_cur)
    then
      -- Nobody was writing in either snapshot: one interval.
      if c.pos_xid >= pg_snapshot_xmax(c.s_prev) then
        v_lo_xid := array[c.pos_xid];
        v_lo_id := array[c.pos_job_id];
      else
        v_lo_xid := array[pg_snapshot_xmax(c.s_prev)];
        v_lo_id := array[-1];
      end if;
      v_hi_xid := array[pg_snapshot_xmax(c.s_cur)];
      v_hi_id := array[-1];
      if v_lo_xid[1] >= v_hi_xid[1] then
        v_lo_xid := null;
      end if;
    else
      select w.lo_xid, w.lo_id, w.hi_xid, w.hi_id into v_lo_xid, v_lo_id, v_hi_xid, v_hi_id
      from _window(c.s_prev, c.s_cur, c.pos_xid, c.pos_job_id) as w;
    end if;
    if v_lo_xid is null and c.pos_xid = '0' then
      -- Empty in every segment.
      c.segment := c.last_segment;
      c.drained := true;
      continue;
    end if;

    v_got := 0;
    if v_lo_xid is not null then
      case (c.segment + {{ mul (int .segments) 2 }}) % {{ .segments }}
{{ range $i := until (int .segments) }}
      when {{ $i }} then
        return query
        with got as materialized (
          select r.xid, r.job_id, r.run_lease, r.attempt, r.max_attempts, r.kind, r.args, r.run_at,
            r.created_at, r.tags, r.metadata, r.progress, r.errors, r.deadline
          from unnest(v_lo_xid, v_lo_id, v_hi_xid, v_hi_id) as w (lo_xid, lo_id, hi_xid, hi_id)
          cross join lateral (
            select e.*
            from ready_entries_{{ $i }} as e
            where e.lane = p_lane
              and (e.xid, e.job_id) > (w.lo_xid, w.lo_id)
              and (e.xid, e.job_id) < (w.hi_xid, w.hi_id)
            order by e.xid, e.job_id
            limit v_left
          ) as r
          order by r.xid, r.job_id
          limit v_left
        ),
        batch as materialized (
          select _batch_id(max(g.job_id << 4 | g.run_lease & 15)) as batch_id,
            count(*)::integer as jobs,
            array_agg(g.job_id) as job_ids,
            case when max(g.run_lease) > 1 then array_agg(g.run_lease) end as run_leases,
            (array_agg(g.xid))[count(*)::integer] as last_xid
          from got as g
          having count(*) > 0
        ),
        claimed as (
          insert into claims_{{ $i }} (
            batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, worker)
          select b.batch_id, p_lane, v_now, v_now + p_lease, {{ $i }}, b.job_ids, b.run_leases, p_worker
          from batch as b
        ),
        moved as (
          insert into lane_cursors (
            lane, generation, segment, last_segment, pos_xid, pos_job_id, floor_xid,
            claimed_total, bypassed_total, ready_slot, drained, s_prev, s_cur)
          select p_lane, c.generation + 1, c.segment, c.last_segment, b.last_xid, b.job_ids[b.jobs], c.floor_xid,
            c.claimed_total + b.jobs, c.bypassed_total, v_slot,
            b.jobs < v_left and c.segment = c.last_segment, c.s_prev, c.s_cur
          from batch as b
        )
        select row({{ $i }}, b.batch_id, g.job_id, g.run_lease)::receipt,
          g.job_id, g.kind, g.args, p_queue, p_priority, g.attempt, g.max_attempts, g.run_at, g.created_at,
          coalesce(g.tags, '{}'), coalesce(g.metadata, '{}'), g.progress, coalesce(g.errors, '{}'),
          v_now + g.deadline, v_now + p_lease
        from got as g
        cross join batch as b;
{{ end }}
      end case;
      get diagnostics v_got = row_count;
    end if;

    if v_got > 0 then
      c.generation := c.generation + 1;
      c.claimed_total := c.claimed_total + v_got;
      v_left := v_left - v_got;
      v_costly := false;
      exit when v_left = 0;
    end if;
    if c.segment < c.last_segment then
      c.segment := c.segment + 1;
      c.pos_xid := '0';
      c.pos_job_id := -1;
    else
      c.drained := true;
    end if;
  end loop;

  -- An empty poll writes nothing, unless it had to search the whole ring for
  -- a straggler: then the next one need not.
  if v_costly then
    insert into lane_cursors (
      lane, generation, segment, last_segment, pos_xid, pos_job_id, floor_xid,
      claimed_total, bypassed_total, ready_slot, drained, s_prev, s_cur)
    values (p_lane, c.generation + 1, c.segment, c.last_segment, c.pos_xid, c.pos_job_id, c.floor_xid,
      c.claimed_total, c.bypassed_total, v_slot, true, c.s_prev, c.s_cur);
  end if;
end;
$$;

-- _claim_lane for a transaction that keeps one snapshot: whatever that
-- snapshot cannot see ends in 40001, never in a second hand-out.
create or replace function {{ .schema }}._claim_lane_snapshot (
  p_queue text, p_lane bigint, p_priority smallint, p_max integer, p_worker text, p_lease interval
)
  returns setof {{ .schema }}.claimed_job
  language plpgsql
  volatile
as $$
begin
  if not pg_try_advisory_xact_lock(_lock_class(1), _lane_key(p_lane)) or _snapshot_is_stale() then
    perform _stale_snapshot(format('claim of queue %L', p_queue));
  end if;
  return query
  select j.* from _claim_lane(p_queue, p_lane, p_priority, p_max, p_worker, p_lease) as j;
exception when unique_violation then
  perform _stale_snapshot(format('claim of queue %L', p_queue));
end;
$$;

create or replace function {{ .schema }}.claim (
  queue    text,
  max_jobs integer  default 1,
  worker   text     default null,
  lease    interval default '5 minutes'
)
  returns setof {{ .schema }}.claimed_job
  language plpgsql
  volatile
  parallel unsafe
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
  set jit = off
as $$
declare
  v_lanes      bigint[];
  v_priorities smallint[];
  v_paused     boolean;
  v_left       integer := least(claim.max_jobs, 10000);
  v_got        integer;
  v_busy       bigint[];
  v_held       bigint;
begin
  if claim.queue is null or claim.max_jobs is null or claim.max_jobs < 1 or claim.lease is null or claim.lease <= '0' then
    perform _invalid(
      format('claim of queue %L, max_jobs %s, lease %s', claim.queue,
        coalesce(claim.max_jobs::text, 'null'), coalesce(claim.lease::text, 'null')),
      'Name a queue, ask for at least one job and give a lease above zero.');
  end if;

  select array_agg(l.lane order by l.priority, l.mixed), array_agg(l.priority order by l.priority, l.mixed),
    bool_or(l.paused)
  into v_lanes, v_priorities, v_paused
  from (
    -- Shards of one priority come in random order, or the first would starve
    -- the others.
    select q.lane, q.priority, case when q.enqueue_shard = 0 and m.enqueue_shards is null then 0 else random() end as mixed, m.paused
    from queue_lanes as q
    left join queue_meta as m on m.queue = q.queue
    where q.queue = claim.queue
  ) as l;
  if v_lanes is null or v_paused then
    return;
  end if;
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    for i in 1 .. cardinality(v_lanes) loop
      exit when v_left = 0;
      return query
      select j.* from _claim_lane_snapshot(claim.queue, v_lanes[i], v_priorities[i], v_left, claim.worker, claim.lease) as j;
      get diagnostics v_got = row_count;
      v_left := v_left - v_got;
    end loop;
  elsif cardinality(v_lanes) = 1 then
    perform pg_advisory_xact_lock(_lock_class(1), _lane_key(v_lanes[1]));
    return query
    select j.* from _claim_lane(claim.queue, v_lanes[1], v_priorities[1], v_left, claim.worker, claim.lease) as j;
    get diagnostics v_got = row_count;
    v_left := v_left - v_got;
  else
    -- A lane's lock lasts until commit, so it is taken only where rows wait,
    -- and never waited for while another lane is in hand.
    for i in 1 .. cardinality(v_lanes) loop
      exit when v_left = 0;
      continue when not _lane_has_rows(v_lanes[i]);
      if not pg_try_advisory_xact_lock(_lock_class(1), _lane_key(v_lanes[i])) then
        v_busy := v_busy || i::bigint;
        continue;
      end if;
      return query
      select j.* from _claim_lane(claim.queue, v_lanes[i], v_priorities[i], v_left, claim.worker, claim.lease) as j;
      get diagnostics v_got = row_count;
      v_left := v_left - v_got;
      v_held := greatest(v_held, v_lanes[i]);
    end loop;
    if v_left = least(claim.max_jobs, 10000) and v_busy is not null then
      -- Everything that waits is in other hands: wait for the first of them,
      -- unless that could close a circle.
      for i in 1 .. cardinality(v_busy) loop
        exit when v_left < least(claim.max_jobs, 10000);
        continue when v_lanes[v_busy[i]] <= v_held;
        perform pg_advisory_xact_lock(_lock_class(1), _lane_key(v_lanes[v_busy[i]]));
        v_held := v_lanes[v_busy[i]];
        return query
        select j.* from _claim_lane(claim.queue, v_lanes[v_busy[i]], v_priorities[v_busy[i]], v_left, claim.worker, claim.lease) as j;
        get diagnostics v_got = row_count;
        v_left := v_left - v_got;
      end loop;
    end if;
  end if;

  if v_left > 0 and pg_current_xact_id_if_assigned() is not null then
    for i in 1 .. cardinality(v_lanes) loop
      exit when v_left = 0;
      return query
      select j.* from _claim_own(claim.queue, v_lanes[i], v_priorities[i], v_left, claim.worker, claim.lease) as j;
      get diagnostics v_got = row_count;
      v_left := v_left - v_got;
    end loop;
  end if;
end;
$$;

comment on function {{ .schema }}.claim is
  'Hands up to max_jobs committed jobs of a queue to a worker, lower priority number first, oldest first within a lane; also those that the same transaction enqueued. Another claimer of the same lane is waited for until its commit; producers never are. A paused or unknown queue yields no rows. Raises AW006 for a bad argument, AW005 after a restore from another cluster, 40001 under a stale REPEATABLE READ snapshot.';
