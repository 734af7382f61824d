-- Rescue: attempts whose worker is silent, whose lease ran out or that are past
-- their deadline. They fail like any attempt: counted, and for good when it was
-- the last.

-- After the clock was set back: silence counts from now, because a worker's last heartbeat is
-- ahead of the clock. Its heartbeats keep their order and their distances.
create or replace function {{ .schema }}._settle_heartbeats (p_now timestamptz)
  returns void
  language sql
  volatile
as $$
  update {{ .schema }}.workers as w
  set heartbeat_at = w.heartbeat_at - (n.newest - p_now)
  from (
    select k.worker, max(k.heartbeat_at) as newest
    from {{ .schema }}.workers as k
    where {{ .schema }}._is_ahead(k.heartbeat_at, p_now)
    group by k.worker
  ) as n
  where w.worker = n.worker and w.heartbeat_at > p_now
$$;

-- The open attempts of some batches that are due, and why.
create or replace function {{ .schema }}._due_attempts (p_batches bigint[], p_now timestamptz, p_silence interval, p_max integer)
  returns table (receipt {{ .schema }}.receipt, reason text)
  language plpgsql
  volatile
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
  set plan_cache_mode = force_generic_plan
as $$
begin
  return query
  select row(c.ready_slot, c.batch_id, j.job_id, j.run_lease)::receipt, w.reason
  from (
    select k.*, b.heartbeat_at
    from _open_batches(p_batches) as u (batch_id)
    cross join lateral (select n.* from claims as n where n.batch_id = u.batch_id offset 0) as k
    left join lateral (
      select b.heartbeat_at from workers as b
      where b.worker = k.worker and not _is_ahead(b.heartbeat_at, p_now)
      order by b.heartbeat_at desc
      limit 1
    ) as b on true
    -- What a live worker has is not taken apart at every pass.
    where k.deadline_at <= p_now
      or case when b.heartbeat_at is null then k.lease_expires_at <= p_now else b.heartbeat_at <= p_now - p_silence end
    offset 0
  ) as c
  -- Outcomes and extensions are read once per batch: each may name as many jobs as it has.
  cross join lateral (
    select u.job_id, coalesce(max(u.run_lease), 1) as run_lease, bool_or(u.extended) as extended
    from (
      select unnest(c.job_ids) as job_id, unnest(c.run_leases) as run_lease, false as closed, false as extended
      union all
      select unnest(o.job_ids), null, true, false
      from attempt_outcomes as o
      where o.ready_slot = c.ready_slot and o.batch_id = c.batch_id
      union all
      select unnest(e.job_ids), null, false, true
      from lease_extensions as e
      where e.ready_slot = c.ready_slot and e.batch_id = c.batch_id and e.lease_expires_at > p_now
    ) as u
    group by u.job_id
    having not bool_or(u.closed)
  ) as j
  cross join lateral (
    select r.deadline from ready_entries as r
    where r.ready_slot = c.ready_slot and r.job_id = j.job_id and r.run_lease = j.run_lease
    offset 0
  ) as r
  cross join lateral (
    select case
      when c.claimed_at + r.deadline <= p_now then 'deadline exceeded'
      when c.heartbeat_at is not null then
        case when c.heartbeat_at <= p_now - p_silence and _is_past(c.claimed_at, p_now, p_silence)
          then format('worker %s is silent since %s', c.worker, c.heartbeat_at) end
      when c.lease_expires_at <= p_now and not j.extended then 'lease expired'
      end as reason
  ) as w
  where w.reason is not null
  limit p_max;
end;
$$;

-- Those attempts whose unique keys nobody else holds, which are locked until commit; null if there
-- are none. Whoever rescues several attempts has some in hand when the next one needs its key.
create or replace function {{ .schema }}._free_attempts (inout p_receipts {{ .schema }}.receipt[], inout p_reasons text[])
  language plpgsql
  volatile
as $$
declare
  v_busy bigint[];
begin
  if p_receipts is null or not exists (select from job_unique_claims) then
    return;
  end if;
  v_busy := _lock_free_keys(array(select r.job_id from unnest(p_receipts) as r), 'retryable');
  if v_busy <> '{}' then
    select array_agg(row(u.ready_slot, u.batch_id, u.job_id, u.run_lease)::receipt order by u.n), array_agg(u.reason order by u.n)
    into p_receipts, p_reasons
    from unnest(p_receipts, p_reasons) with ordinality as u (ready_slot, batch_id, job_id, run_lease, reason, n)
    where u.job_id not in (select b.id from unnest(v_busy) as b (id));
  end if;
end;
$$;

-- Closes due attempts and tells their workers. One that cannot be closed does not stop the
-- others: after an error each lease is closed alone, in the order of jobs, then each batch and,
-- if that fails and nobody else holds it, each attempt. Waits for others only briefly, and begins
-- nothing after p_until: the next pass does the rest.
create or replace function {{ .schema }}._rescue_attempts (p_receipts {{ .schema }}.receipt[], p_reasons text[], p_until timestamptz)
  returns table (rescued bigint, trouble text)
  language plpgsql
  volatile
  set lock_timeout = '50ms'
as $$
#variable_conflict use_column
declare
  v_closed receipt[];
  v_first  bigint := (p_receipts[1]).batch_id;
  v_one    boolean := v_first = all (array(select r.batch_id from unnest(p_receipts) as r));
  v_held   boolean;
  g        record;
begin
  if clock_timestamp() > p_until then
    return;
  end if;
  v_closed := array(select f.receipt from _fail_attempts(p_receipts, p_reasons, null, false, 'e') as f);
  perform _notify_workers(v_closed, 'rescued');
  return query select cardinality(v_closed)::bigint, null::text;
exception when others then
  v_held := sqlstate = '55P03';
  if cardinality(p_receipts) = 1 or (v_one and v_held) then
    return query select 0::bigint, format('job %s: %s', (p_receipts[1]).job_id, sqlerrm);
    return;
  end if;
  for g in
    select array_agg(row(u.ready_slot, u.batch_id, u.job_id, u.run_lease)::receipt order by u.job_id) as receipts,
      array_agg(u.reason order by u.job_id) as reasons
    from unnest(p_receipts, p_reasons) as u (ready_slot, batch_id, job_id, run_lease, reason)
    -- A lease names no segment.
    cross join lateral (select case when u.ready_slot is not null then u.batch_id end as batch_id) as b
    group by b.batch_id, case when v_one or b.batch_id is null then u.job_id end
    order by b.batch_id nulls first, min(u.job_id)
  loop
    return query select o.* from _rescue_attempts(g.receipts, g.reasons, p_until) as o;
  end loop;
end;
$$;

-- Since when workers find the server here: its start, or, for a standby that was
-- promoted after it, when the first pass met its timeline. The caller holds the
-- singleton of rescue.
create or replace function {{ .schema }}._primary_since (p_now timestamptz)
  returns timestamptz
  language plpgsql
  volatile
as $$
declare
  v_timeline integer;
  v_newest   primaries;
begin
  -- Any position will do: the file's name begins with the timeline that is written now. Servers
  -- without such a log refuse.
  begin
    v_timeline := ('x' || left(pg_walfile_name('1/0'), 8))::bit(32)::integer;
  exception when others then
    return pg_postmaster_start_time();
  end;
  select p.* into v_newest from primaries as p order by p.n desc limit 1;
  if not found then
    insert into primaries (n, timeline, since) values (1, v_timeline, '-infinity');
  elsif v_newest.timeline <> v_timeline then
    insert into primaries (n, timeline, since) values (v_newest.n + 1, v_timeline, p_now);
    v_newest.since := p_now;
  end if;
  return greatest(pg_postmaster_start_time(), v_newest.since);
end;
$$;

-- How many of these attempts to close in one statement: a thousand jobs may follow each.
create or replace function {{ .schema }}._rescue_bite (p_receipts {{ .schema }}.receipt[])
  returns integer
  language plpgsql
  stable
  set enable_seqscan = off
as $$
begin
  return case when exists (
      select from unnest(p_receipts) as r
      where exists (select from claims as c where c.ready_slot = r.ready_slot and c.batch_id = r.batch_id and c.follows)
        or exists (select from leases as l where l.job_id = r.job_id and l.metadata ? 'awa:follow_ups'))
    then 10 else 500 end;
end;
$$;

-- Moves each lane's point past the claims of before the last move. Those that are still
-- open go onto the lane's list.
create or replace function {{ .schema }}._move_rescue_points (p_points {{ .schema }}.lane_point[], p_now timestamptz)
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
  set plan_cache_mode = force_generic_plan
as $$
begin
  insert into rescue_points (lane, point, checked, marked, marked_at, ready_slot, open_batches)
  select p.lane, p.point + 1, p.marked, p.newest, p_now, _current_slot(),
    array(
      select o from _open_batches(p.open_batches || array(
        select c.batch_id from lane_cursors as c
        where c.lane = p.lane and c.generation > p.checked and c.generation <= p.marked and c.batch_id is not null)) as o)
  from unnest(p_points) as p
  where (_is_past(p.marked_at, p_now, '10 seconds')
      -- A long list is not checked every second.
      or p.newest - p.checked > 500
        and p.marked_at <= p_now - greatest(1, cardinality(p.open_batches) / 1000) * interval '1 second')
    and (p.newest > p.marked or p.marked > p.checked or p.open_batches <> '{}');
end;
$$;

-- One pass over all lanes, of at most p_max attempts. A claim is looked at when its look_at
-- has come. A lane's point moves every ten seconds, and every second where much is claimed,
-- and what is closed by then is never met again: a pass reads what was claimed lately, and
-- the lists of what runs for longer.
create or replace function {{ .schema }}._rescue (p_max integer)
  returns table (rescued bigint, detail text)
  language plpgsql
  volatile
  set enable_seqscan = off
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_started  timestamptz := clock_timestamp();
  v_now      timestamptz := _now();
  v_silence  interval := (select s.worker_silence from storage_settings as s);
  v_silent   interval;
  v_points   lane_point[];
  v_watch    watch_points;
  v_seen     pg_snapshot;
  v_watched  bigint[];
  v_looked   bigint[];
  v_batches  bigint[];
  v_receipts receipt[];
  v_reasons  text[];
  v_back     boolean;  -- the clock was set back
  v_took     numeric;
  v_bite     integer;
  v_until    timestamptz;
begin
  if not _try_singleton(3) then
    return query select 0::bigint, 'another session is at it';
    return;
  elsif (select k.last_value - extract(epoch from v_started) * 1000 between 0 and 600000 from rescue_clock as k) then
    return query select 0::bigint, null::text;
    return;
  end if;
  -- While the server was down no worker could send a heartbeat, so none counts as silent until
  -- it has had time to do so. Null until then.
  v_silent := case when _is_past(_primary_since(v_now), v_now, v_silence) then v_silence end;

  v_points := array(select p from _lane_points() as p);
  select array_agg(b.batch_id), bool_or(_is_ahead(p.marked_at, v_now)) into v_batches, v_back
  from unnest(v_points) as p
  cross join lateral (
    select u.batch_id from unnest(p.open_batches) as u (batch_id)
    union all
    select c.batch_id
    from lane_cursors as c
    where c.lane = p.lane and c.generation > p.checked
      and (c.look_at <= v_now or _is_past(p.marked_at, v_now, v_silence))
      and c.batch_id is not null
  ) as b;
  select w.* into v_watch from watch_points as w order by w.point desc limit 1;
  if not found then
    v_watch := row(0, '-infinity', 0, '1:1:', '{}')::watch_points;
  elsif v_watch.looked_at > v_now then  -- the clock was set back
    v_watch.looked_at := '-infinity';
    v_back := true;
  end if;
  if v_back then
    perform _settle_heartbeats(v_now);
  end if;
  v_seen := _hide_own(pg_current_snapshot());  -- before they are read
  select array_agg(c.batch_id),
    array_agg(c.batch_id) filter (where c.look_at <= v_now or v_watch.looked_at < v_now - v_silence)
  into v_watched, v_looked
  from (
    select w.batch_id, w.look_at from watched_claims as w where w.xid >= pg_snapshot_xmax(v_watch.seen)
    union all
    -- One by one, as in _promote.
    select w.batch_id, w.look_at
    from pg_snapshot_xip(v_watch.seen) as late (xid)
    cross join lateral (select k.* from watched_claims as k where k.xid = late.xid offset 0) as w
  ) as c;
  v_batches := v_batches || v_watch.open_batches || v_looked;
  -- In the lock order: keys, leases, batches.
  if v_batches <> '{}' then
    select array_agg(d.receipt order by (d.receipt).batch_id, (d.receipt).job_id),
      array_agg(d.reason order by (d.receipt).batch_id, (d.receipt).job_id)
    into v_receipts, v_reasons
    from _due_attempts(v_batches, v_now, v_silent, p_max) as d;
  end if;
  if exists (select from leases) then
    select array_agg(d.receipt order by (d.receipt).job_id) || v_receipts, array_agg(d.reason order by (d.receipt).job_id) || v_reasons
    into v_receipts, v_reasons
    from _due_leases(v_now, v_silent, p_max) as d;
  end if;
  select f.p_receipts, f.p_reasons into v_receipts, v_reasons from _free_attempts(v_receipts, v_reasons) as f;
  if v_receipts is not null then
    v_bite := _rescue_bite(v_receipts);
    v_until := clock_timestamp() + interval '10 seconds';
    return query
    select coalesce(sum(o.rescued), 0)::bigint, max(o.trouble)
    from generate_series(1, cardinality(v_receipts), v_bite) as n
    cross join lateral _rescue_attempts(v_receipts[n:n + v_bite - 1], v_reasons[n:n + v_bite - 1], v_until) as o;
    perform _release_reserved();
  else
    return query select 0::bigint, null::text;
  end if;

  perform _move_rescue_points(v_points, v_now);
  if (v_watch.looked_at <= v_now - interval '10 seconds'
      or cardinality(v_watched) > 500 and v_watch.looked_at <= v_now - interval '1 second')
    and (v_watched is not null or v_watch.open_batches <> '{}')
  then
    insert into watch_points (point, looked_at, ready_slot, seen, open_batches)
    values (v_watch.point + 1, v_now, _current_slot(), v_seen,
      array(select o from _open_batches(v_watch.open_batches || v_watched) as o));
  end if;

  -- A costly pass that found nothing is not repeated at once. With few lanes, a pass that took
  -- long only had to wait for the machine.
  v_took := extract(epoch from clock_timestamp() - v_started);
  if v_receipts is null and v_took > (case when cardinality(v_points) < 2000 then 0.1 else 0.01 end) then
    perform setval('rescue_clock', (extract(epoch from clock_timestamp()) * 1000 + least(v_took * 10000, 600000))::bigint);
  end if;
end;
$$;
