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
  select j.* into v_row from jobs as j where j.id = v_id;
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
    perform _invalid('a column that awa fills in was given a value',
      'Give kind, queue, args, state, priority, max_attempts, run_at, metadata, tags, unique_key and unique_states only.');
  end if;
  v_row := insert_job_compat(new.kind, new.queue, new.args, new.state, new.priority, new.max_attempts, new.run_at,
    new.metadata, new.tags, new.unique_key, new.unique_states);
  return v_row;
end;
$$;

create or replace function {{ .schema }}._jobs_update ()
  returns trigger
  language plpgsql
  volatile
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
as $$
declare
  j record;
  d deferred_jobs;
  r receipt;
begin
  if (new.id, new.kind, new.args, new.state, new.attempt, new.heartbeat_at, new.deadline_at, new.attempted_at,
      new.finalized_at, new.created_at, new.errors, new.unique_key, new.unique_states, new.callback_id,
      new.callback_timeout_at, new.run_lease, new.progress)
    is distinct from
     (old.id, old.kind, old.args, old.state, old.attempt, old.heartbeat_at, old.deadline_at, old.attempted_at,
      old.finalized_at, old.created_at, old.errors, old.unique_key, old.unique_states, old.callback_id,
      old.callback_timeout_at, old.run_lease, old.progress)
  then
    perform _invalid(format('job %s: a column that cannot be updated was changed', old.id),
      'Update priority, run_at, queue, max_attempts, metadata and tags only.');
  end if;
  perform _check_job(new.kind, new.queue, new.priority, new.max_attempts, new.tags, new.args, new.metadata);

  delete from deferred_jobs as e where e.job_id = old.id returning e.* into d;
  if not found then
    r := _take_ready(old.id);
    if r is null or not exists (select from _close_in_order(array[r], array['m'::"char"], null)) then
      raise exception using errcode = 'AW003',
        message = format('job %s is %s, only waiting jobs can be updated', old.id,
          coalesce((select k.state::text from jobs as k where k.id = old.id), 'gone')),
        hint = 'Restrict the update to jobs in state available, scheduled or retryable.';
    end if;
    d := _body(r.ready_slot, r.job_id, r.run_lease::integer);
    d.run_lease := d.run_lease + 1;
  end if;
  d.lane := _move_lane(d.lane, new.queue, new.priority, d.ordering_key);
  d.run_at := new.run_at;
  d.max_attempts := new.max_attempts;
  d.metadata := nullif(new.metadata, '{}');
  d.tags := nullif(new.tags, '{}');
  perform _requeue(d);
  return new;
end;
$$;

-- Removes jobs wherever they are, in one order for every caller: deferred
-- ones by id, waiting ones by lane, running ones by batch, terminal ones by id.
create or replace function {{ .schema }}._delete_jobs (p_ids bigint[])
  returns void
  language plpgsql
  volatile
as $$
declare
  v_left bigint[];
  v_id   bigint;
begin
  with gone as (
    delete from deferred_jobs as d
    using (
      select e.job_id from deferred_jobs as e where e.job_id = any (p_ids) order by e.job_id for update
    ) as e
    where d.job_id = e.job_id
    returning d.job_id
  )
  select array_agg(u.id) into v_left
  from unnest(p_ids) as u (id)
  where not exists (select from gone as g where g.job_id = u.id);

  for v_id in
    select r.job_id
    from unnest(v_left) as u (id)
    join ready_entries as r on r.job_id = u.id
    left join lateral (
      select c.* from lane_cursors as c where c.lane = r.lane order by c.generation desc limit 1
    ) as c on true
    cross join lateral _attempt_of(r.ready_slot, r.lane, r.job_id, r.run_lease, _passed(r.ready_slot, r.xid, r.job_id, c)) as k
    where k.outcome is null
    order by k.batch_id is not null, case when k.batch_id is null then r.lane else k.batch_id end, r.job_id
  loop
    perform delete_job_compat(v_id);
  end loop;
  perform from _take_terminal(v_left, array['c', 'f', 'x']::"char"[]);
  perform _release_keys(p_ids);
end;
$$;

-- DELETE on jobs: rows leave their ids in transaction-local settings, a few
-- kilobytes each; the statement's end removes the jobs all at once, so that
-- one delta per key counts them.
create or replace function {{ .schema }}._jobs_delete ()
  returns trigger
  language plpgsql
  volatile
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
  set jit = off
as $$
declare
  v_chunk integer := coalesce(nullif(current_setting('{{ .schema }}.doomed_chunk', true), '')::integer, 0);
  v_ids   text;
begin
  if tg_when = 'BEFORE' then
    perform set_config('{{ .schema }}.doomed_chunk', '0', true), set_config('{{ .schema }}.doomed_0', '', true);
  elsif tg_level = 'ROW' then
    v_ids := current_setting('{{ .schema }}.doomed_' || v_chunk, true);
    if length(v_ids) > 8000 then
      v_chunk := v_chunk + 1;
      v_ids := '';
      perform set_config('{{ .schema }}.doomed_chunk', v_chunk::text, true);
    end if;
    perform set_config('{{ .schema }}.doomed_' || v_chunk, v_ids || old.id || ',', true);
    return old;
  else
    select string_agg(current_setting('{{ .schema }}.doomed_' || n), '') into v_ids
    from generate_series(0, v_chunk) as n;
    if v_ids <> '' then
      perform _delete_jobs(string_to_array(rtrim(v_ids, ','), ',')::bigint[]);
    end if;
  end if;
  return null;
end;
$$;

create or replace trigger jobs_insert instead of insert on {{ .schema }}.jobs
  for each row execute function {{ .schema }}._jobs_insert();
create or replace trigger jobs_update instead of update on {{ .schema }}.jobs
  for each row execute function {{ .schema }}._jobs_update();
create or replace trigger jobs_delete_first before delete on {{ .schema }}.jobs
  for each statement execute function {{ .schema }}._jobs_delete();
create or replace trigger jobs_delete_row instead of delete on {{ .schema }}.jobs
  for each row execute function {{ .schema }}._jobs_delete();
create or replace trigger jobs_delete_last after delete on {{ .schema }}.jobs
  for each statement execute function {{ .schema }}._jobs_delete();
