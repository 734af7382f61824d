-- Compatibility: insert_job_compat, and INSERT, UPDATE and DELETE on jobs.

create or replace function {{ .schema }}.insert_job_compat (
  p_kind          text,
  p_queue         text        default 'default',
  p_args          jsonb       default '{}',
  p_state         {{ .schema }}.job_state default 'available',
  p_priority      smallint    default 2,
  p_max_attempts  smallint    default 25,
  p_run_at        timestamptz default null,
  p_metadata      jsonb       default '{}',
  p_tags          text[]      default '{}',
  p_unique_key    bytea       default null,
  p_unique_states bit(8)      default null,
  p_ordering_key  bytea       default null
)
  returns {{ .schema }}.jobs
{{ template "internal/public.sql" . -}}
  set enable_seqscan = off
as $$
declare
  v_id    bigint;
  v_row   jobs;
begin
  if coalesce(p_state, 'available') not in ('available', 'scheduled', 'retryable') then
    perform _invalid(format('a job cannot be inserted as %s', p_state),
      'New jobs are available, scheduled or retryable.');
  end if;
  v_id := enqueue(
    kind          => p_kind,
    args          => coalesce(p_args, '{}'),
    queue         => coalesce(p_queue, 'default'),
    priority      => coalesce(p_priority, 2::smallint),
    run_at        => p_run_at,
    max_attempts  => coalesce(p_max_attempts, 25::smallint),
    tags          => coalesce(p_tags, '{}'),
    metadata      => coalesce(p_metadata, '{}'),
    unique_key    => p_unique_key,
    unique_states => p_unique_states,
    ordering_key  => encode(p_ordering_key, 'hex'));
  -- enqueue always draws an id; if it returns another one, that is the holder's.
  if v_id <> currval('job_id_seq') then
    raise exception using errcode = '23505',
      message = format('job %s holds this unique key', v_id),
      constraint = 'idx_awa_jobs_unique',
      hint = 'enqueue returns the holder instead of an error.';
  end if;
  select j.* into v_row from _jobs_by_key as j where j.id = v_id;
  return v_row;
end;
$$;

comment on function {{ .schema }}.insert_job_compat is
  'Adds one job and returns it as a row of jobs; with p_run_at in the future it is scheduled. A duplicate of a unique key raises 23505. Raises AW006 for an argument out of bounds or a state a new job cannot have.';

create or replace function {{ .schema }}._jobs_insert ()
  returns trigger
  language plpgsql
  volatile
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
as $$
declare
  v_row jobs;
begin
  if new.id is not null or coalesce(new.attempt, 0) <> 0 or coalesce(new.run_lease, 0) <> 0
    or num_nonnulls(new.heartbeat_at, new.deadline_at, new.attempted_at, new.finalized_at, new.created_at,
         new.callback_id, new.callback_timeout_at, new.progress) > 0
    or coalesce(new.errors, '{}') <> '{}'
  then
    perform _invalid(
      format('%s cannot be inserted', (
        select string_agg(c.key, ', ' order by c.key)
        from jsonb_each(jsonb_strip_nulls(to_jsonb(new))) as c (key, value)
        where c.key in ('id', 'heartbeat_at', 'deadline_at', 'attempted_at', 'finalized_at', 'created_at', 'callback_id',
            'callback_timeout_at', 'progress')
          or (c.key in ('attempt', 'run_lease') and c.value <> '0') or (c.key = 'errors' and c.value <> '[]'))),
      'Give kind, queue, args, state, priority, max_attempts, run_at, metadata, tags, unique_key and unique_states only.');
  end if;
  v_row := insert_job_compat(new.kind, new.queue, new.args, new.state, new.priority, new.max_attempts, new.run_at,
    new.metadata, new.tags, new.unique_key, new.unique_states);
  return v_row;
end;
$$;

-- UPDATE and DELETE on jobs: each row leaves a JSON value in transaction-local settings; the
-- statement's end acts on all of them at once, in the common lock order and with one delta per
-- key. A statement that runs inside another, or beside it as a CTE, has a frame of its own.
-- Rows add to a small setting, which is moved into larger ones when it is full. So a row copies
-- little, and there are few settings, which the session keeps and scans at many a call.
create or replace function {{ .schema }}._setting (p_name text)
  returns text
  language sql
  stable
as $$
  select coalesce(pg_catalog.current_setting('{{ .schema }}.' || p_name, true), '')
$$;

create or replace function {{ .schema }}._set (p_name text, p_value text)
  returns void
  language plpgsql
  volatile
as $$
begin
  perform set_config('{{ .schema }}.' || p_name, p_value, true);
end;
$$;

create or replace function {{ .schema }}._collect (p_op text, p_value text)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_frame text := p_op || _setting(p_op) || '_';
  v_few   text := _setting(v_frame || 'few');
  v_chunk text;
  v_held  text;
begin
  if length(v_few) > 8000 then
    v_chunk := _setting(v_frame || 'chunk');
    v_held := _setting(v_frame || v_chunk);
    if length(v_held) > 250000 then
      v_chunk := (v_chunk::integer + 1)::text;
      v_held := '';
      perform _set(v_frame || 'chunk', v_chunk);
    end if;
    perform _set(v_frame || v_chunk, v_held || v_few);
    v_few := '';
  end if;
  perform _set(v_frame || 'few', v_few || p_value || ',');
end;
$$;

-- The values of the frame in order, chunk by chunk, because together they may exceed what a
-- text or a jsonb can hold.
create or replace function {{ .schema }}._rows_collected (p_op text)
  returns setof jsonb
  language plpgsql
  stable
as $$
declare
  v_frame text := p_op || _setting(p_op) || '_';
begin
  for v_chunk in 0 .. _setting(v_frame || 'chunk')::integer loop
    return query select e.* from jsonb_array_elements(('[' || left(_setting(v_frame || v_chunk), -1) || ']')::jsonb) as e;
  end loop;
  return query select e.* from jsonb_array_elements(('[' || left(_setting(v_frame || 'few'), -1) || ']')::jsonb) as e;
end;
$$;

create or replace function {{ .schema }}._jobs_end (p_op text)
  returns void
  language plpgsql
  volatile
as $$
begin
  perform _set(p_op, (_setting(p_op)::integer - 1)::text);
end;
$$;

create or replace function {{ .schema }}._jobs_begin ()
  returns trigger
  language plpgsql
  volatile
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
as $$
declare
  v_depth integer := coalesce(nullif(_setting(lower(tg_op)), '')::integer, 0) + 1;
begin
  perform _set(lower(tg_op), v_depth::text),
    _set(lower(tg_op) || v_depth || '_chunk', '0'),
    _set(lower(tg_op) || v_depth || '_0', ''),
    _set(lower(tg_op) || v_depth || '_few', '');
  return null;
end;
$$;

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
  v_back timestamptz;
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
    v_back := _due_at(old.metadata);
  end if;
  -- Only what it changes: another session may have changed the rest since.
  perform _collect('update', (jsonb_strip_nulls(jsonb_build_object('id', new.id,
      'found', case when old.state not in ('available', 'scheduled', 'retryable') then old.state end,
      'queue', nullif(new.queue, old.queue), 'priority', nullif(new.priority, old.priority), 'run_at', nullif(new.run_at, old.run_at),
      'max_attempts', nullif(new.max_attempts, old.max_attempts), 'tags', to_jsonb(nullif(coalesce(new.tags, '{}'), old.tags)),
      'unique_key', new.unique_key, 'unique_states', new.unique_states, 'due_at', case
        when new.unique_key is null then null
        when _in_mask('available', new.unique_states) then new.run_at
        else coalesce(v_back, new.run_at) end))
    || case when new.metadata = old.metadata then '{}' else jsonb_build_object('metadata', new.metadata) end)::text);
  -- For RETURNING: as the job will be at the statement's end.
  new.run_at := coalesce(v_back, new.run_at);
  if old.run_at = 'infinity' and new.run_at < 'infinity' then
    new.metadata := new.metadata - 'awa:run_at';
  end if;
  new.tags := coalesce(new.tags, '{}');
  new.state := case when new.run_at <= _now() then 'available' when old.state = 'available' then 'scheduled' else old.state end;
  return new;
end;
$$;

-- The changes of an UPDATE; null is no change. A job that a join brought more than once is
-- changed once.
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
      perform _serialization_failure(format('job %s moved on while it was updated, it is %s', v_lost, coalesce(v_state::text, 'gone')));
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
      d.run_at = 'infinity' and d.metadata ? 'awa:run_at'
        and (select k.job_id from job_dependencies as k where k.job_id = d.job_id limit 1) is null as parked,
      d.unique_key is not null and _in_mask('available', d.unique_states) and not _in_mask(d.state, d.unique_states) as gains
    from late as d
    union all
    select r.job_id, r.lane, 'scheduled', r.run_at, r.created_at, r.run_lease + 1, r.attempt, r.max_attempts, r.kind, r.args,
      r.metadata, r.tags, r.errors, r.progress, r.unique_key, r.unique_states, r.ordering_key, r.deadline, v_xid, false, false
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
      case when d.due_at = 'infinity' and d.parked then _due_at(d.metadata) else d.due_at end as due_at,
      d.queue, d.priority, d.spread, d.gains
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
      c.due_at > v_now or v_stale or case when c.gains then not _has_key(c.unique_key, c.job_id) else false end as later
    from changed as c
    -- By values that none of these has: a join that can hash.
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

create or replace function {{ .schema }}._jobs_delete ()
  returns trigger
  language plpgsql
  volatile
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
  set jit = off
as $$
declare
  v_ids   bigint[];
  v_ended bigint[];
begin
  if tg_level = 'ROW' then
    -- The sign tells whether the job was terminal.
    perform _collect('delete', (case when old.state in ('completed', 'failed', 'cancelled') then -old.id else old.id end)::text);
    return old;
  end if;
  select array_agg(distinct u.id::bigint) filter (where u.id::bigint > 0), array_agg(distinct -u.id::bigint) filter (where u.id::bigint < 0)
  into v_ids, v_ended
  from _rows_collected('delete') as u (id);
  perform _delete_jobs(coalesce(v_ids, '{}'), coalesce(v_ended, '{}'));
  perform _jobs_end('delete');
  return null;
end;
$$;

create or replace trigger jobs_insert instead of insert on {{ .schema }}.jobs
  for each row execute function {{ .schema }}._jobs_insert();
create or replace trigger jobs_update_first before update on {{ .schema }}.jobs
  for each statement execute function {{ .schema }}._jobs_begin();
create or replace trigger jobs_update instead of update on {{ .schema }}.jobs
  for each row execute function {{ .schema }}._jobs_update();
create or replace trigger jobs_update_last after update on {{ .schema }}.jobs
  for each statement execute function {{ .schema }}._jobs_update();
create or replace trigger jobs_delete_first before delete on {{ .schema }}.jobs
  for each statement execute function {{ .schema }}._jobs_begin();
create or replace trigger jobs_delete_row instead of delete on {{ .schema }}.jobs
  for each row execute function {{ .schema }}._jobs_delete();
create or replace trigger jobs_delete_last after delete on {{ .schema }}.jobs
  for each statement execute function {{ .schema }}._jobs_delete();
