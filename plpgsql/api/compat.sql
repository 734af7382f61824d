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
