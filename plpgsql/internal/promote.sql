-- Deferred jobs: back into their lane when due.

-- Due jobs whose unique key counts only once they are available: late ones, and those between
-- two points, the earliest first. Jobs due beyond the second point are left to a pass that gets
-- there, so no pass walks over them. A job whose key another one holds by then is cancelled.
-- Waits for nobody: the other jobs are promoted in any case, and these come another time.
create or replace function {{ .schema }}._promote_keyed (
  p_max integer, p_late bigint[], p_from_at timestamptz, p_from_id bigint, p_to_at timestamptz, p_to_id bigint,
  out promoted bigint
)
  language plpgsql
  volatile
  set lock_timeout = '1ms'
as $$
declare
  k        record;
  d        deferred_jobs;
  v_place  tid;
  v_holder bigint;
  v_met    integer := 0;
  v_past   bigint := 0::bigint;
begin
  promoted := 0::bigint;
  for k in
    select e.job_id, e.unique_key, e.unique_states,
      row_number() over (order by e.unique_key, e.run_at, e.job_id) as nth, count(*) over () as jobs
    from (
      (select n.* from deferred_jobs as n
       where (n.run_at, n.job_id) > (p_from_at, p_from_id) and (n.run_at, n.job_id) <= (p_to_at, p_to_id)
         and n.unique_key is not null and _gains_key(n)
       order by n.run_at, n.job_id
       limit p_max)
      union all
      select l.*
      from unnest(p_late) as u (job_id)
      cross join lateral (select m.* from deferred_jobs as m where m.job_id = u.job_id offset 0) as l
      where l.unique_key is not null and _gains_key(l::deferred_jobs)
    ) as e
    order by nth
  loop
    continue when k.nth <= v_past;
    begin
      -- Who holds the row may wait for what this pass has in hand, so it is not waited for, not
      -- even briefly.
      select e.ctid into v_place from deferred_jobs as e where e.job_id = k.job_id for update nowait;
      continue when not found;
      perform _lock_key_at_once(k.unique_key);
      v_holder := _take_key(k.unique_key, k.unique_states, k.job_id, 'available');
      delete from deferred_jobs as e where e.ctid = v_place returning e.* into d;
      if v_holder = k.job_id then
        perform _requeue(d);
        promoted := promoted + 1;
      else
        perform _file_closed(d, 'x', _key_lost(jsonb_build_object('at', _now())));
      end if;
    exception when lock_not_available then
      -- Each key that is held costs a wait, and a transaction may hold thousands. So a pass
      -- tries a few where it began, and a few from a random place.
      v_met := v_met + 1;
      exit when v_met = 100;
      if v_met = 50 then
        v_past := k.nth + floor(random() * (k.jobs - k.nth))::bigint;
      end if;
    end;
  end loop;
end;
$$;

-- Due jobs one by one, for a pass that met one that cannot be promoted. Such a job stays where
-- it is and stops no other, nor does one that somebody holds. A pass has a second for this:
-- half of it in the order in which jobs are due and, if that was too little, half from a random
-- place; otherwise a great many jobs that cannot be promoted would stop the rest.
create or replace function {{ .schema }}._promote_singly (p_max integer, p_now timestamptz, out promoted bigint, out trouble text)
  language plpgsql
  volatile
  set enable_seqscan = off
  set lock_timeout = '50ms'
as $$
declare
  v_from  timestamptz := '-infinity'::timestamptz;
  v_until timestamptz;
  k       record;
  d       deferred_jobs;
begin
  promoted := 0;
  for v_half in 1 .. 2 loop
    v_until := clock_timestamp() + interval '0.5 seconds';
    for k in
      select e.job_id from deferred_jobs as e
      where e.run_at >= v_from and e.run_at <= p_now and not _gains_key(e)
      order by e.run_at, e.job_id
    loop
      begin
        delete from deferred_jobs as e
        where e.ctid = (select n.ctid from deferred_jobs as n where n.job_id = k.job_id for update skip locked)
        returning e.* into d;
        if found then
          perform _requeue(d);
          promoted := promoted + 1;
        end if;
      exception when others then
        trouble := format('job %s: %s', k.job_id, sqlerrm);
      end;
      if promoted = p_max then
        return;
      end if;
      exit when clock_timestamp() > v_until;
    end loop;
    exit when clock_timestamp() <= v_until;
    v_from := p_now - random() * (p_now - (select min(e.run_at) from deferred_jobs as e where e.run_at > '-infinity'));
  end loop;
end;
$$;

-- Promotes due jobs in the order in which they are due: those after the point
-- that the last pass reached, and those behind it whose transactions that pass
-- could not see. One that somebody holds is met again by the next pass.
create or replace function {{ .schema }}._promote (p_max integer, out promoted bigint, out trouble text)
  language plpgsql
  volatile
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
  -- A sort or hash would read all rows that vacuum may not remove yet.
  set enable_sort = off
  set enable_hashjoin = off
  set enable_mergejoin = off
as $$
declare
  v_now   timestamptz := _now();
  v_xid   xid8;
  v_slot  smallint;
  v_lanes bigint[];
  v_late  bigint[];
  v_seen  pg_snapshot;
  v_to_at timestamptz;
  v_to_id bigint;
  p       promotion_points;
  r       record;
begin
  promoted := 0;
  if not _try_singleton(4) then
    trouble := 'another session is at it';
    return;
  end if;
  select n.* into p from promotion_points as n order by n.point desc limit 1;
  if not found or p.run_at > v_now then
    -- The first pass, or the clock was set back.
    p := row(coalesce(p.point, 0), '-infinity', 0, 0, '1:1:')::promotion_points;
  end if;
  -- Transactions that were open in the last pass one by one: a range from the oldest would walk
  -- all rows that came and went while it stays open.
  if not exists (select from deferred_jobs as d where d.xid >= pg_snapshot_xmax(p.seen))
    and not exists (
      select from pg_snapshot_xip(p.seen) as late (xid)
      cross join lateral (select from deferred_jobs as y where y.xid = late.xid offset 0) as x)
    and not exists (select from deferred_jobs as d where (d.run_at, d.job_id) > (p.run_at, p.job_id) and d.run_at <= v_now)
  then
    return;
  end if;
  v_xid := pg_current_xact_id();  -- before the ring is read, see enqueue
  v_slot := _current_slot();

  v_seen := _hide_own(pg_current_snapshot());
  v_late := array(
    select d.job_id
    from (
      -- Most of them are due later, which the index alone tells. Read in its order: ordered by
      -- run_at, everything that was ever promoted might be walked.
      (select x.job_id, x.run_at from deferred_jobs as x
       where x.xid >= pg_snapshot_xmax(p.seen) and x.run_at <= p.run_at
       order by x.xid)
      union all
      select x.job_id, x.run_at
      from pg_snapshot_xip(p.seen) as late (xid)
      cross join lateral (
        select y.* from deferred_jobs as y
        where (y.xid, y.run_at) >= (late.xid, '-infinity') and (y.xid, y.run_at) <= (late.xid, p.run_at)
        offset 0) as x
    ) as d
    where (d.run_at, d.job_id) <= (p.run_at, p.job_id)
    limit p_max);
  begin
    with
    late as materialized (
      -- One by one: where the table is believed to be empty, a join would walk all of it.
      select l.place
      from unnest(v_late) as u (job_id)
      cross join lateral (
        select d.ctid as place from deferred_jobs as d
        where d.job_id = u.job_id and not _gains_key(d)
        for update skip locked
      ) as l
    ),
    next as materialized (
      select d.ctid as place, d.run_at, d.job_id
      from deferred_jobs as d
      where (d.run_at, d.job_id) > (p.run_at, p.job_id) and d.run_at <= v_now and not _gains_key(d)
      order by d.run_at, d.job_id
      limit p_max
      for update skip locked
    ),
    taken as (
      delete from deferred_jobs as d
      -- Locked rows stay where they are, so nothing has to be looked up by id.
      where d.ctid = any (array(select l.place from late as l union all select n.place from next as n))
      returning d.*
    ),
    promoted as (
      insert into ready_entries (
        lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
        metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline)
      select t.lane, v_xid, t.job_id, t.run_at, t.created_at, t.run_lease, v_slot, t.attempt, t.max_attempts,
        t.kind, t.args, t.metadata, t.tags, t.errors, t.progress, t.unique_key, t.unique_states, t.ordering_key, t.deadline
      from taken as t
      returning lane
    )
    select coalesce(sum(q.jobs), 0)::bigint, array_agg(q.lane),
      -- Without an order by, because they come in order already.
      (select n.run_at from next as n offset p_max - 1), (select n.job_id from next as n offset p_max - 1)
    from (select n.lane, count(*) as jobs from promoted as n group by n.lane) as q
    into _promote.promoted, v_lanes, v_to_at, v_to_id;
    perform _wake_lanes(v_lanes);
  exception when others then
    select o.promoted, o.trouble into _promote.promoted, _promote.trouble from _promote_singly(p_max, v_now) as o;
  end;
  promoted := promoted + _promote_keyed(p_max, v_late, p.run_at, p.job_id,
    coalesce(v_to_at, v_now), coalesce(v_to_id, 9223372036854775807));

  -- Jobs that were due and are still there hold back the point, or the snapshot it has seen.
  select d.run_at, d.job_id - 1 as job_id into r
  from deferred_jobs as d
  where (d.run_at, d.job_id) > (p.run_at, p.job_id) and d.run_at <= v_now
  order by d.run_at, d.job_id
  limit 1;
  insert into promotion_points (point, run_at, job_id, ready_slot, seen)
  values (p.point + 1, coalesce(r.run_at, v_now), coalesce(r.job_id, 9223372036854775807), v_slot,
    case when cardinality(v_late) = p_max
      -- One by one, as above: a join might read them all by the index on run_at, which has the
      -- ids as well.
      or exists (
        select from unnest(v_late) as u (job_id)
        cross join lateral (select d.* from deferred_jobs as d where d.job_id = u.job_id offset 0) as l)
      then p.seen else v_seen end);
end;
$$;

-- A deferred job that was updated, by hand or by rebase, is a new one to promotion, also when it
-- is due before the point that promotion has reached.
create or replace function {{ .schema }}._deferred_touched ()
  returns trigger
  language plpgsql
  volatile
  set search_path = pg_catalog, {{ .schema }}, pg_temp
as $$
begin
  new.xid := pg_current_xact_id();
  return new;
end;
$$;

create or replace trigger deferred_jobs_touched before update on {{ .schema }}.deferred_jobs
  for each row execute function {{ .schema }}._deferred_touched();
