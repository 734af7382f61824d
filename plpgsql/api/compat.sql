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

-- DELETE collects ids and removes them by the hundred, counted once at the
-- end of the statement: one delta per key, however many rows.
create or replace function {{ .schema }}._delete_jobs (p_ids bigint[])
  returns void
  language plpgsql
  volatile
as $$
declare
  v_taken bigint[];
  v_id    bigint;
begin
  v_taken := array(select k.job_id from _take_terminal(p_ids, array['c', 'f', 'x']::"char"[], false) as k);
  if cardinality(v_taken) < cardinality(p_ids) then
    for v_id in
      select u.id from unnest(p_ids) as u (id) where u.id <> all (v_taken) order by u.id
    loop
      perform delete_job_compat(v_id);
    end loop;
  end if;
  perform _release_keys(v_taken);
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
  v_doomed text;
begin
  if tg_when = 'BEFORE' then
    perform set_config('{{ .schema }}.doomed', '', true);
    return null;
  end if;
  v_doomed := coalesce(current_setting('{{ .schema }}.doomed', true), '');
  if tg_level = 'ROW' then
    v_doomed := v_doomed || case when v_doomed = '' then '' else ',' end || old.id;
    if length(v_doomed) > 8000 then
      perform _delete_jobs(string_to_array(v_doomed, ',')::bigint[]);
      v_doomed := '';
    end if;
    perform set_config('{{ .schema }}.doomed', v_doomed, true);
    return old;
  end if;

  if v_doomed <> '' then
    perform _delete_jobs(string_to_array(v_doomed, ',')::bigint[]);
    perform set_config('{{ .schema }}.doomed', '', true);
  end if;
  if pg_current_xact_id_if_assigned() is not null and to_regclass('{{ .schema }}.terminal_count_deltas') is not null then
    perform _count_own_removals();
  end if;
  return null;
end;
$$;

-- What this transaction removed and did not count yet.
create or replace function {{ .schema }}._count_own_removals ()
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  insert into terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
  select t.lane, pg_current_xact_id(), t.ready_slot, 0, -sum(t.completed), -sum(t.failed), -sum(t.cancelled)
  from (
    select m.ready_slot, m.lane, (m.outcome = 'c')::integer as completed, (m.outcome = 'f')::integer as failed,
      (m.outcome = 'x')::integer as cancelled
    from outcome_removals as m where m.xid = pg_current_xact_id()
    union all
    select d.ready_slot, d.lane, d.completed, d.failed, d.cancelled
    from terminal_count_deltas as d where d.xid = pg_current_xact_id()
  ) as t
  group by t.ready_slot, t.lane
  having (sum(t.completed), sum(t.failed), sum(t.cancelled)) <> (0, 0, 0)
  order by t.ready_slot, t.lane;
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
