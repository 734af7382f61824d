-- Firing: due schedules become jobs, each fire once.
--
-- One session at a time looks for what is due. It locks each schedule before it reads how far
-- that one has come, and so does whoever changes a schedule, so fires and changes come one
-- after the other. The statement that adds a job also records its fire.

-- When a schedule that fires next at p_next is looked at again.
create or replace function {{ .schema }}._look_at (p_next timestamptz, p_now timestamptz)
  returns timestamptz
  language sql
  stable
as $$
  select least(p_next, p_now + interval '1 day')
$$;

-- Lets a schedule go on from now. The caller has it locked.
create or replace function {{ .schema }}._set_next_fire (p_id bigint)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_xid  xid8 := pg_current_xact_id();  -- before the ring is read, see enqueue
  v_now  timestamptz := _now();
begin
  insert into cron_fires (
    schedule_id, point, xid, since, look_at, next_fire_at, last_fire_at, last_job_id, ready_slot, changed)
  select s.id, nextval('cron_point_seq'), v_xid, date_trunc('second', v_now), _look_at(n.fire_at, v_now), n.fire_at,
    f.last_fire_at, f.last_job_id, _current_slot(), true
  from schedules as s
  cross join lateral _cron_after(s.spec, s.timezone, v_now) as n (fire_at)
  left join lateral (
    select n.last_fire_at, n.last_job_id from cron_fires as n where n.schedule_id = s.id order by n.point desc limit 1
  ) as f on true
  where s.id = p_id;
end;
$$;

-- The last fire up to p_now, given that p_fire is one; by bisection, for there may be very
-- many.
create or replace function {{ .schema }}._last_fire (p_spec {{ .schema }}.cron_spec, p_timezone text, p_fire timestamptz, p_now timestamptz)
  returns timestamptz
  language plpgsql
  stable
as $$
declare
  v_fire timestamptz := p_fire;
  v_end  timestamptz := p_now;
  v_half timestamptz;
  v_next timestamptz;
begin
  if p_spec.every is not null then
    return p_fire + p_spec.every * floor(date_part('epoch', p_now - p_fire) / date_part('epoch', p_spec.every));
  end if;
  v_next := _cron_after(p_spec, p_timezone, v_fire);
  while v_next <= p_now loop
    -- There is a fire after v_fire, none after v_end.
    v_fire := v_next;
    loop
      v_half := v_fire + (v_end - v_fire) / 2;
      v_next := _cron_after(p_spec, p_timezone, v_half);
      exit when v_next <= p_now or v_end - v_half < interval '1 second';
      v_end := v_half;
    end loop;
    if v_next <= p_now then
      v_fire := v_next;
    end if;
    v_next := _cron_after(p_spec, p_timezone, v_fire);
  end loop;
  return v_fire;
end;
$$;

-- What a schedule that is settled up to p_since fires for now, up to when it is settled then,
-- and when it fires next. A fire counts as missed when a later one is due as well or, for skip,
-- after a minute.
create or replace function {{ .schema }}._due_fires (
  p_spec {{ .schema }}.cron_spec, p_timezone text, p_since timestamptz, p_now timestamptz, p_missed_fire text, p_max integer,
  out fires timestamptz[], out since timestamptz, out next_fire_at timestamptz
)
  language plpgsql
  stable
as $$
begin
  fires := '{}';
  since := p_since;
  next_fire_at := _cron_after(p_spec, p_timezone, since);
  if p_missed_fire = 'catch_up' then
    while next_fire_at <= p_now and cardinality(fires) < p_max loop
      since := next_fire_at;
      fires := fires || since;
      next_fire_at := _cron_after(p_spec, p_timezone, since);
    end loop;
  elsif next_fire_at <= p_now then
    since := next_fire_at;
    next_fire_at := _cron_after(p_spec, p_timezone, since);
    if next_fire_at <= p_now then
      since := _last_fire(p_spec, p_timezone, next_fire_at, p_now);
      next_fire_at := _cron_after(p_spec, p_timezone, since);
    end if;
    if p_missed_fire = 'coalesce' or since >= p_now - interval '1 minute' then
      fires := array[since];
    end if;
  end if;
end;
$$;

-- Fires those of the given schedules that are due: at most p_max jobs each. held
-- are those that another session has in hand, and those that have more to catch
-- up.
create or replace function {{ .schema }}._fire (p_ids bigint[], p_now timestamptz, p_max integer, out fired bigint, out held bigint[])
  language plpgsql
  volatile
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_hashjoin = on
as $$
declare
  v_xid   xid8 := pg_current_xact_id();  -- before the ring is read, see enqueue
  v_slot  smallint := _current_slot();
  v_ids   bigint[];
  v_lanes bigint[];
begin
  v_ids := array(
    select s.id from schedules as s
    where s.id = any (p_ids) and s.paused_at is null
    for no key update skip locked);
  held := array(
    select s.id from schedules as s where s.id = any (p_ids) and s.paused_at is null
    except
    select u.id from unnest(v_ids) as u (id));

  with
  due as materialized (
    select s.id, s.name, s.cron, s.timezone, s.spec, s.missed_fire, s.kind, s.args, s.queue, s.priority, s.max_attempts,
      s.tags, s.metadata, s.ordering_key, s.deadline, f.since, f.last_fire_at, f.last_job_id
    from unnest(v_ids) as u (id)
    cross join lateral (select n.* from schedules as n where n.id = u.id offset 0) as s
    cross join lateral (
      select n.since, n.look_at, n.last_fire_at, n.last_job_id
      from cron_fires as n
      where n.schedule_id = s.id
      order by n.point desc
      limit 1
    ) as f
    where f.look_at <= p_now
  ),
  -- Schedules with the same time share the computation. It does not rely on an earlier one,
  -- because the rules of a zone may have changed.
  time as materialized (
    select t.cron, t.timezone, t.since, t.missed_fire, n.fires, n.since as settled_at, n.next_fire_at
    from (
      select distinct on (d.cron, d.timezone, d.since, d.missed_fire) d.*
      from due as d
      order by d.cron, d.timezone, d.since, d.missed_fire
    ) as t
    cross join lateral _due_fires(t.spec, t.timezone, t.since, p_now, t.missed_fire, p_max) as n
  ),
  fire as materialized (
    select e.*, nextval('job_id_seq') as job_id,
      _lane(e.queue, e.priority, case when e.enqueue_shards > 1 then _shard(e.ordering_key, e.enqueue_shards) else 0 end) as lane
    from (
      select d.*, u.fire_at, m.enqueue_shards
      from due as d
      join time as t using (cron, timezone, since, missed_fire)
      cross join lateral unnest(t.fires) as u (fire_at)
      left join queue_meta as m on m.queue = d.queue
      order by u.fire_at, d.id
    ) as e
  ),
  lanes as materialized (
    select e.lane, e.queue, _register_lane(e.queue, e.priority, (e.lane & 63)::integer) as registered
    from (select distinct f.lane, f.queue, f.priority::integer as priority from fire as f) as e
  ),
  enqueued as (
    insert into ready_entries (
      lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
      metadata, tags, ordering_key, deadline)
    select l.registered, v_xid, e.job_id, e.fire_at, _begun(), 1, v_slot, 1, e.max_attempts, e.kind, e.args,
      e.metadata - 'awa:run_at' || jsonb_build_object('cron_name', e.name,
        'cron_fire_time', to_char(e.fire_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
      nullif(e.tags, '{}'), e.ordering_key, e.deadline
    from fire as e
    join lanes as l on l.lane = e.lane and l.queue = e.queue
  ),
  noted as (
    insert into cron_fires (
      schedule_id, point, xid, since, look_at, next_fire_at, last_fire_at, last_job_id, ready_slot, changed)
    select d.id, nextval('cron_point_seq'), v_xid, t.settled_at, _look_at(t.next_fire_at, p_now), t.next_fire_at,
      coalesce(l.fire_at, d.last_fire_at), coalesce(l.job_id, d.last_job_id), v_slot, false
    from due as d
    join time as t using (cron, timezone, since, missed_fire)
    left join (
      select e.id, max(e.fire_at) as fire_at, max(e.job_id) as job_id from fire as e group by e.id
    ) as l on l.id = d.id
    returning schedule_id, next_fire_at
  )
  select (select count(*) from fire), (select array_agg(l.registered) from lanes as l),
    held || array(select n.schedule_id from noted as n where n.next_fire_at <= p_now)
  into fired, v_lanes, held;
  perform _wake_lanes(v_lanes);
end;
$$;

-- One by one, for a pass that met a schedule that cannot fire, so that it delays no other.
create or replace function {{ .schema }}._fire_singly (
  p_ids bigint[], p_now timestamptz, p_max integer, out fired bigint, out held bigint[], out troubled bigint[], out trouble text
)
  language plpgsql
  volatile
as $$
declare
  v_id bigint;
  f    record;
begin
  fired := 0::bigint;
  held := '{}';
  troubled := '{}';
  foreach v_id in array p_ids loop
    begin
      select n.fired, n.held into f from _fire(array[v_id], p_now, p_max) as n;
      fired := fired + f.fired;
      held := held || f.held;
    exception when others then
      troubled := troubled || v_id;
      trouble := format('schedule %L: %s', (select s.name from schedules as s where s.id = v_id), sqlerrm);
    end;
  end loop;
end;
$$;

-- Fires what is due: after the point that the last pass reached, and behind it what was written
-- by transactions which that pass could not see. So no pass walks over earlier fires.
create or replace function {{ .schema }}._fire_due (p_max integer, out fired bigint, out trouble text)
  language plpgsql
  volatile
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
as $$
declare
  v_now  timestamptz := _now();
  v_seen pg_snapshot;
  v_due  timestamptz[];
  v_at   bigint[];
  v_ids  bigint[];
  v_late bigint[];
  v_news boolean;
  v_each integer;
  p      cron_points;
  f      record;
  s      record;
begin
  fired := 0::bigint;
  if not _try_singleton(5) then
    return;
  end if;
  select n.* into p from cron_points as n order by n.point desc limit 1;
  if not found or p.look_at > v_now then
    -- The first pass, or the clock was set back.
    p := row(coalesce(p.point, 0), '-infinity', 0, 0, '1:1:', '{}', '{}')::cron_points;
  end if;

  v_seen := _hide_own(pg_current_snapshot());
  select array_agg(c.schedule_id) filter (where (c.look_at, c.point) <= (p.look_at, p.fire_point)), count(*) > 0
  into v_late, v_news
  from (
    select x.schedule_id, x.look_at, x.point from cron_fires as x where x.changed and x.xid >= pg_snapshot_xmax(p.seen)
    union all
    select x.schedule_id, x.look_at, x.point
    from pg_snapshot_xip(p.seen) as late (xid)
    cross join lateral (select y.* from cron_fires as y where y.changed and y.xid = late.xid offset 0) as x
  ) as c;
  select array_agg(d.schedule_id), array_agg(d.look_at), array_agg(d.point) into v_ids, v_due, v_at
  from (
    select c.schedule_id, c.look_at, c.point
    from cron_fires as c
    where (c.look_at, c.point) > (p.look_at, p.fire_point) and c.look_at <= v_now
    order by c.look_at, c.point
    limit p_max
  ) as d;
  if v_ids is null and v_late is null and not v_news and p.held = '{}' and p.troubled = '{}' then
    return;
  end if;

  -- A schedule that could not fire is tried apart.
  v_ids := array(
    select u.id from unnest(v_ids || v_late || p.held) as u (id)
    except
    select u.id from unnest(p.troubled) as u (id));
  v_each := greatest(least(1000, p_max / greatest(cardinality(v_ids), 1)), 1);
  begin
    select n.fired, n.held, '{}'::bigint[] as troubled, null::text as trouble into f from _fire(v_ids, v_now, v_each) as n;
  exception when others then
    select n.* into f from _fire_singly(v_ids, v_now, v_each) as n;
  end;
  select n.* into s from _fire_singly(p.troubled, v_now, v_each) as n;
  fired := f.fired + s.fired;
  trouble := coalesce(f.trouble, s.trouble);

  -- Nothing new: the same schedules are in trouble or in hand as before.
  if v_due is null and v_late is null and not v_news and fired = 0
    and f.held || s.held = p.held and f.troubled || s.troubled = p.troubled
  then
    return;
  end if;
  insert into cron_points (point, look_at, fire_point, ready_slot, seen, held, troubled)
  values (p.point + 1,
    case when cardinality(v_due) = p_max then v_due[p_max] else v_now end,
    case when cardinality(v_due) = p_max then v_at[p_max] else 9223372036854775807 end,
    _current_slot(), v_seen, f.held || s.held, f.troubled || s.troubled);
end;
$$;

-- What prune keeps of a segment: the newest point of each schedule. Called before
-- the segment is locked, and again after if more came meanwhile.
create or replace function {{ .schema }}._carry_fires (p_slot integer, p_current smallint)
  returns void
  language plpgsql
  volatile
as $$
begin
  insert into cron_fires (
    schedule_id, point, xid, since, look_at, next_fire_at, last_fire_at, last_job_id, ready_slot, changed)
  select f.schedule_id, f.point, f.xid, f.since, f.look_at, f.next_fire_at, f.last_fire_at, f.last_job_id, p_current, f.changed
  from (
    select distinct on (k.schedule_id) k.* from cron_fires as k where k.ready_slot = p_slot order by k.schedule_id, k.point desc
  ) as f
  -- offset 0: otherwise the plan may compare each with each.
  where exists (select from schedules as s where s.id = f.schedule_id offset 0)
    and not exists (
      select from cron_fires as n
      where n.schedule_id = f.schedule_id and n.point >= f.point and n.ready_slot <> p_slot
      offset 0);
end;
$$;
