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
  language plpgsql
  volatile
  parallel unsafe
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
  set jit = off
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
  -- enqueue drew an id in any case; another one is the holder's.
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

-- UPDATE and DELETE on jobs: each row leaves a JSON value in transaction-local
-- settings, a few kilobytes each; the statement's end acts on all of them at
-- once, in the common lock order and with one delta per key. A statement that
-- runs inside of another, or beside it as a CTE, has a frame of its own.
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
  v_chunk text := _setting(v_frame || 'chunk');
  v_held  text := _setting(v_frame || v_chunk);
begin
  if length(v_held) > 8000 then
    v_chunk := (v_chunk::integer + 1)::text;
    v_held := '';
    perform _set(v_frame || 'chunk', v_chunk);
  end if;
  perform _set(v_frame || v_chunk, v_held || p_value || ',');
end;
$$;

-- The values of the frame, which ends with that.
create or replace function {{ .schema }}._collected (p_op text)
  returns jsonb
  language plpgsql
  volatile
as $$
declare
  v_depth  integer := _setting(p_op)::integer;
  v_frame  text := p_op || v_depth || '_';
  v_values jsonb;
begin
  select ('[' || rtrim(string_agg(_setting(v_frame || n), ''), ',') || ']')::jsonb into v_values
  from generate_series(0, _setting(v_frame || 'chunk')::integer) as n;
  perform _set(p_op, (v_depth - 1)::text);
  return v_values;
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
    _set(lower(tg_op) || v_depth || '_0', '');
  return null;
end;
$$;

create or replace function {{ .schema }}._jobs_update ()
  returns trigger
  language plpgsql
  volatile
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
  set jit = off
as $$
begin
  if tg_level = 'STATEMENT' then
    perform _update_jobs(_collected('update'));
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
  perform _collect('update', jsonb_build_object('id', new.id, 'queue', new.queue, 'priority', new.priority, 'run_at', new.run_at,
    'max_attempts', new.max_attempts, 'metadata', new.metadata, 'tags', to_jsonb(new.tags),
    'unique_key', new.unique_key, 'unique_states', new.unique_states)::text);
  -- For RETURNING: as the job will be at the statement's end.
  new.tags := coalesce(new.tags, '{}');
  new.state := case when new.run_at <= _now() then 'available' when old.state = 'available' then 'scheduled' else old.state end;
  return new;
end;
$$;

-- Waiting jobs leave their place and come back changed.
create or replace function {{ .schema }}._update_jobs (p_changes jsonb)
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_ids  bigint[];
  v_jobs deferred_jobs[];
  v_lost bigint;
  v_state job_state;
  c      record;
  d      deferred_jobs;
begin
  -- A job that a join brought more than once is changed once.
  select array_agg(f.id), jsonb_agg(f.change) into v_ids, p_changes
  from (
    select distinct on (n.id) n.id, n.change
    from jsonb_array_elements(p_changes) with ordinality as e (change, nth)
    cross join lateral (select (e.change ->> 'id')::bigint as id, e.change) as n
    order by n.id, e.nth
  ) as f;
  if v_ids is null then
    return;
  end if;
  select max(n.id) into v_lost
  from jsonb_to_recordset(p_changes) as n (id bigint, run_at timestamptz, unique_key bytea, unique_states bit(8))
  where n.unique_key is not null
    and _in_mask(case when n.run_at > _now() then 'scheduled' else 'available' end::job_state, n.unique_states)
  group by n.unique_key
  having count(distinct n.id) > 1
  limit 1;
  if v_lost is not null then
    raise exception using errcode = 'AW004',
      message = format('job %s: another job of this update would hold the same unique key', v_lost),
      hint = 'Cancel or delete the other job first.';
  end if;
  perform _keep_key(k.unique_key, k.unique_states, k.id, k.run_at)
  from (
    select n.*
    from jsonb_to_recordset(p_changes) as n (id bigint, run_at timestamptz, unique_key bytea, unique_states bit(8))
    where n.unique_key is not null
    order by n.unique_key
  ) as k;

  for v_round in 1 .. 10 loop
    with gone as (
      delete from deferred_jobs as e
      where e.job_id = any (array(
        select w.job_id from deferred_jobs as w where w.job_id = any (v_ids) order by w.job_id for update))
      returning e.*
    )
    select array_agg(g::deferred_jobs) into v_jobs from gone as g;
    v_ids := _less(v_ids, coalesce(array(select u.job_id from unnest(v_jobs) as u), '{}'));
    v_jobs := v_jobs || array(
      select _next_attempt(_body(t.ready_slot, t.job_id, t.run_lease::integer)) from _take_waiting(v_ids, 'm') as t);
    v_lost := (_less(v_ids, array(select u.job_id from unnest(v_jobs) as u)))[1];
    exit when v_lost is null;
    v_state := (select k.state from _jobs_by_key as k where k.id = v_lost);
    if v_state in ('available', 'scheduled', 'retryable') then
      -- It went from a lane to a time, or back, in between. Whoever has taken nothing
      -- yet may wait once more.
      continue when cardinality(v_jobs) = 0 and v_round < 10;
      perform _serialization_failure(format('job %s moved on while it was updated', v_lost));
    end if;
    raise exception using errcode = 'AW003',
      message = format('job %s is %s, only waiting jobs can be updated', v_lost, coalesce(v_state::text, 'gone')),
      hint = 'Restrict the update to jobs in state available, scheduled or retryable.';
  end loop;

  for c in
    select n.*, u::deferred_jobs as job
    from jsonb_to_recordset(p_changes) as n (
      id bigint, queue text, priority smallint, run_at timestamptz, max_attempts smallint, metadata jsonb, tags text[])
    -- Both have the same ids. A full join never goes through one side for each of the other.
    full join unnest(v_jobs) as u on u.job_id = n.id
    order by n.id
  loop
    d := c.job;
    d.lane := _move_lane(d.lane, c.queue, c.priority, d.ordering_key);
    -- A job that waits for a slot of its key goes back into its lane.
    if c.run_at = 'infinity' and d.metadata ? 'awa:run_at'
      and not exists (select from job_dependencies as k where k.job_id = d.job_id)
    then
      c.run_at := (_unpark(d)).run_at;
      c.metadata := c.metadata - 'awa:run_at';
    end if;
    if c.run_at < 'infinity' then
      -- Whoever gives it a time lets it go.
      delete from job_dependencies as k where k.job_id = d.job_id;
    end if;
    d.run_at := c.run_at;
    d.max_attempts := c.max_attempts;
    d.metadata := nullif(c.metadata, '{}');
    d.tags := nullif(c.tags, '{}');
    perform _requeue(d);
  end loop;
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
begin
  if tg_level = 'ROW' then
    perform _collect('delete', old.id::text);
    return old;
  end if;
  perform _delete_jobs(array(select distinct u.id::bigint from jsonb_array_elements(_collected('delete')) as u (id)));
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
