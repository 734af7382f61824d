-- UPDATE on jobs.

-- Metadata as an UPDATE gives it, except that awa's own names keep their values.
create or replace function {{ .schema }}._with_own (p_given jsonb, p_stored jsonb)
  returns jsonb
  language sql
  immutable
  parallel safe
as $$
  select coalesce(pg_catalog.jsonb_object_agg(e.key, e.value), '{}')
  from (
    select g.* from pg_catalog.jsonb_each(p_given) as g where g.key not like 'awa:%'
    union all
    select o.* from pg_catalog.jsonb_each(p_stored) as o where o.key like 'awa:%'
  ) as e
$$;

create or replace function {{ .schema }}._jobs_update ()
  returns trigger
  language plpgsql
  volatile
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
  set jit = off
  set enable_seqscan = off
as $$
declare
  v_back  timestamptz;
  v_stays boolean;
begin
  if tg_level = 'STATEMENT' then
    perform _update_jobs();
    perform _jobs_end('update');
    return null;
  end if;
  if (new.id, new.kind, new.args, new.state, new.attempt, new.heartbeat_at, new.deadline_at, new.attempted_at,
      new.finalized_at, new.created_at, new.errors, new.unique_key, new.unique_states, new.callback_id,
      new.callback_timeout_at, new.run_lease, new.progress)
    is distinct from
     (old.id, old.kind, old.args, old.state, old.attempt, old.heartbeat_at, old.deadline_at, old.attempted_at,
      old.finalized_at, old.created_at, old.errors, old.unique_key, old.unique_states, old.callback_id,
      old.callback_timeout_at, old.run_lease, old.progress)
  then
    perform _invalid(
      format('job %s: %s cannot be updated', old.id, (
        select string_agg(c.key, ', ' order by c.key)
        from jsonb_each(to_jsonb(new)) as c (key, value)
        where c.value is distinct from to_jsonb(old) -> c.key
          and c.key not in ('queue', 'priority', 'run_at', 'max_attempts', 'metadata', 'tags'))),
      'Update priority, run_at, queue, max_attempts, metadata and tags only.');
  end if;
  perform _check_job(new.kind, new.queue, new.priority, new.max_attempts, new.tags, new.args, new.metadata);
  perform _check_size(new.args, new.metadata, new.tags, null);
  if new.run_at is null then
    perform _invalid(format('job %s: run_at is null', old.id), 'Give a time; now() makes the job available.');
  end if;
  if new.metadata <> old.metadata then
    new.metadata := _with_own(new.metadata, old.metadata);
  end if;
  -- A parked job goes back into its lane, and when it is due decides about its key. One that
  -- gains the key there is left to promotion.
  if new.run_at = 'infinity' and old.run_at = 'infinity' and old.metadata ? 'awa:run_at'
    and not exists (select from job_dependencies as k where k.job_id = old.id)
  then
    v_back := least(_due_at(old.metadata), _now());
  end if;
  -- An available job is due, also if the clock was set back since.
  v_stays := old.state = 'available' and new.run_at = old.run_at;
  -- Only what it changes: another session may have changed the rest since.
  perform _collect('update', (jsonb_strip_nulls(jsonb_build_object('id', new.id,
      'found', case when old.state not in ('available', 'scheduled', 'retryable') then old.state end,
      'queue', nullif(new.queue, old.queue), 'priority', nullif(new.priority, old.priority), 'run_at', nullif(new.run_at, old.run_at),
      'max_attempts', nullif(new.max_attempts, old.max_attempts), 'tags', to_jsonb(nullif(coalesce(new.tags, '{}'), old.tags)),
      'unique_key', new.unique_key, 'unique_states', new.unique_states, 'due_at', case
        when new.unique_key is null or v_stays then null
        when _in_mask('available', new.unique_states) then new.run_at
        else coalesce(v_back, new.run_at) end))
    || case when new.metadata = old.metadata then '{}' else jsonb_build_object('metadata', new.metadata) end)::text);
  -- For RETURNING: as the job will be at the statement's end.
  new.run_at := coalesce(v_back, new.run_at);
  if old.run_at = 'infinity' and new.run_at < 'infinity' then
    new.metadata := new.metadata - 'awa:run_at';
  end if;
  new.tags := coalesce(new.tags, '{}');
  new.state := case when v_stays or new.run_at <= _now() then 'available' when old.state = 'available' then 'scheduled' else old.state end;
  return new;
end;
$$;

-- The changes of an UPDATE, by job; null stands for no change. Of a job that a join brought more
-- than once the first change counts.
create or replace function {{ .schema }}._job_changes ()
  returns table (
    id bigint, queue text, priority smallint, run_at timestamptz, max_attempts smallint, metadata jsonb, tags text[],
    unique_key bytea, unique_states bit(8), due_at timestamptz
  )
  language plpgsql
  stable
as $$
begin
  return query
  select distinct on (n.id) n.*
  from _rows_collected('update') with ordinality as e (change, nth)
  cross join lateral jsonb_to_record(e.change) as n (
    id bigint, queue text, priority smallint, run_at timestamptz, max_attempts smallint, metadata jsonb, tags text[],
    unique_key bytea, unique_states bit(8), due_at timestamptz)
  order by n.id, e.nth;
end;
$$;

-- Each job of an UPDATE takes its key, if the key counts in the state that the job will be in,
-- or the UPDATE is refused.
create or replace function {{ .schema }}._take_changed_keys (p_now timestamptz)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_twice bigint;
begin
  select max(n.id) into v_twice
  from _job_changes() as n
  where n.unique_key is not null
    and _in_mask(case when n.due_at > p_now then 'scheduled' else 'available' end::job_state, n.unique_states)
  group by n.unique_key
  having count(*) > 1
  limit 1;
  if v_twice is not null then
    raise exception using errcode = 'AW004',
      message = format('job %s: another job of this update would hold the same unique key', v_twice),
      hint = 'Cancel or delete the other job first.';
  end if;
  perform _need_key(k.unique_key, k.unique_states, k.id,
    case when k.due_at > p_now then 'scheduled' else 'available' end::job_state)
  from (select n.* from _job_changes() as n where n.unique_key is not null order by n.unique_key) as k;
end;
$$;

-- Waiting jobs leave their place and come back changed.
create or replace function {{ .schema }}._update_jobs ()
  returns void
  language plpgsql
  volatile
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
declare
  -- The same time decides about keys and places, so that no job becomes due in between.
  v_now   timestamptz := _now();
  v_ids   bigint[];
  v_timed bigint[];
  v_keyed boolean;
  v_late  bigint[];
  v_taken receipt[];
  v_lost  bigint;
  v_state job_state;
  v_lanes bigint[];
  v_xid   xid8;
  v_slot  smallint;
  v_stale boolean;
begin
  select array_agg(n.id), array_agg(n.id) filter (where n.run_at < 'infinity'), bool_or(n.unique_key is not null)
  into v_ids, v_timed, v_keyed
  from _job_changes() as n;
  if v_ids is null then
    return;
  end if;
  -- A function that the UPDATE calls may have written into the settings, past the checks of its
  -- rows. A place is checked again where the job is moved.
  perform _check_job('kind', 'queue', 1, coalesce(n.max_attempts, 1), n.tags, '{}', coalesce(n.metadata, '{}')),
    _check_size('{}', coalesce(n.metadata, '{}'), n.tags, null)
  from _job_changes() as n
  where n.max_attempts is not null or n.tags is not null or n.metadata is not null;
  if v_keyed then
    perform _take_changed_keys(v_now);
  end if;

  for v_round in 1 .. 10 loop
    v_late := array(
      select w.job_id from deferred_jobs as w where w.job_id = any (v_ids) order by w.job_id for update);
    v_ids := _less(v_ids, v_late);
    v_taken := array(select t from _take_waiting(v_ids, 'm') as t);
    v_lost := (_less(v_ids, array(select t.job_id from unnest(v_taken) as t)))[1];
    exit when v_lost is null;
    v_state := (select k.state from _jobs_by_key as k where k.id = v_lost);
    -- The job was deferred, or promoted, in between. If nothing is held yet, this may wait once
    -- more.
    continue when v_state in ('available', 'scheduled', 'retryable') and v_late = '{}' and v_taken = '{}' and v_round < 10;
    if v_state in ('available', 'scheduled', 'retryable') or not exists (
        select from _rows_collected('update') as e (change) where e.change ->> 'id' = v_lost::text and e.change ? 'found')
    then
      perform _serialization_failure(format('job %s moved on while it was updated and is %s now', v_lost, coalesce(v_state::text, 'gone')));
    end if;
    raise exception using errcode = 'AW003',
      message = format('job %s is %s, only waiting jobs can be updated', v_lost, coalesce(v_state::text, 'gone')),
      hint = 'Restrict the update to jobs in state available, scheduled or retryable.';
  end loop;

  v_xid := pg_current_xact_id();  -- before the ring is read, see enqueue
  v_slot := _current_slot();
  v_stale := _snapshot_is_stale();
  with late as (
    delete from deferred_jobs as d where d.job_id = any (v_late) returning d.*
  ),
  job as materialized (
    select d.*,
      -- A job that waits for a slot of its key goes back into its lane. Looked up, because
      -- exists may be planned to read them all.
      _is_parked(d::deferred_jobs)
        and (select k.job_id from job_dependencies as k where k.job_id = d.job_id limit 1) is null as parked,
      _gains_key(d::deferred_jobs) as gains, false as was_due
    from late as d
    union all
    select r.job_id, r.lane, 'scheduled', r.run_at, r.created_at, r.run_lease + 1, r.attempt, r.max_attempts, r.kind, r.args,
      r.metadata, r.tags, r.errors, r.progress, r.unique_key, r.unique_states, r.ordering_key, r.deadline, v_xid, false, false, true
    from unnest(v_taken) as t
    cross join lateral (
      select e.* from ready_entries as e
      where e.ready_slot = t.ready_slot and e.job_id = t.job_id and e.run_lease = t.run_lease
      offset 0) as r
  ),
  due as materialized (
    select j.*, n.queue, n.priority, coalesce(n.max_attempts, j.max_attempts) as attempts,
      case when n.tags is null then j.tags else nullif(n.tags, '{}') end as labels,
      case when n.metadata is null then j.metadata else _with_own(n.metadata, j.metadata) end as notes, coalesce(n.run_at, j.run_at) as due_at,
      n.run_at is null and j.was_due as stays,
      -- Jobs without a key are spread over the shards.
      case when j.ordering_key is null then j.job_id % 64 end as spread
    from _job_changes() as n
    -- Both have the same ids. A full join never scans one side for each row of the other.
    full join job as j on j.job_id = n.id
  ),
  changed as materialized (
    select d.job_id, d.lane, d.state, d.created_at, d.run_lease, d.attempt, d.attempts, d.kind, d.args,
      nullif(case when d.due_at < 'infinity' or d.parked then d.notes - 'awa:run_at' else d.notes end, '{}') as notes, d.labels,
      d.errors, d.progress, d.unique_key, d.unique_states, d.ordering_key, d.deadline,
      case when d.due_at = 'infinity' and d.parked then least(_due_at(d.metadata), v_now) else d.due_at end as due_at,
      d.queue, d.priority, d.spread, d.gains, d.stays
    from due as d
  ),
  target as materialized (
    select k.*, _move_lane(k.lane, k.queue, k.priority, k.ordering_key) as to_lane
    from (select distinct c.lane, c.queue, c.priority, c.ordering_key, c.spread from changed as c) as k
  ),
  moved as materialized (
    select c.*, t.to_lane,
      -- A job that waited for a slot may have lost its unique key: promotion takes care of
      -- that.
      c.due_at > v_now and not c.stays or v_stale or case when c.gains then not _has_key(c.unique_key, c.job_id) else false end as later
    from changed as c
    -- A null counts as a value that none of these has, so that the join can hash.
    join target as t on t.lane = c.lane
      and coalesce(t.queue, '') = coalesce(c.queue, '') and coalesce(t.priority, 0) = coalesce(c.priority, 0)
      and coalesce(t.ordering_key, '') = coalesce(c.ordering_key, '') and coalesce(t.spread, -1) = coalesce(c.spread, -1)
    order by c.job_id
  ),
  deferred as (
    insert into deferred_jobs
    select m.job_id, m.to_lane, m.state, m.due_at, m.created_at, m.run_lease, m.attempt, m.attempts, m.kind, m.args,
      m.notes, m.labels, m.errors, m.progress, m.unique_key, m.unique_states, m.ordering_key, m.deadline, v_xid
    from moved as m
    where m.later
  ),
  back as (
    insert into ready_entries (
      lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
      metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline)
    select m.to_lane, v_xid, m.job_id, m.due_at, m.created_at, m.run_lease, v_slot, m.attempt, m.attempts, m.kind, m.args,
      m.notes, m.labels, m.errors, m.progress, m.unique_key, m.unique_states, m.ordering_key, m.deadline
    from moved as m
    where not m.later
    returning lane
  )
  select array_agg(distinct b.lane) into v_lanes from back as b;
  perform _wake_lanes(v_lanes);
  -- Giving the job a run_at releases it.
  delete from job_dependencies as k where k.job_id = any (v_timed);
end;
$$;
