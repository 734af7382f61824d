-- Batch operations: one thing done to many jobs, in bites that survive crashes.

-- Raises AW006 unless operation, filter and settings are valid.
create or replace function {{ .schema }}._check_batch (p_operation text, p_filter jsonb, p_settings jsonb, p_all_jobs boolean)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_filters constant text[] := array['queue', 'kind', 'tag', 'state', 'ids', 'min_id', 'max_id', 'created_after', 'created_before'];
  v_known   text[];
  v_key     text;
  v_odd     text;
begin
  v_known := case p_operation
    when 'retry' then array['queue', 'priority']
    when 'cancel' then array['reason']
    when 'reprioritize' then array['priority']
    when 'move' then array['queue', 'priority']
    when 'discard' then '{}'
    when 'delete' then '{}'
  end;
  if v_known is null then
    perform _invalid(format('unknown operation %L', left(p_operation, 40)),
      'The operations are retry, cancel, reprioritize, move, discard and delete.');
  end if;
  perform _check_object('filter', p_filter, format('Give a JSON object; its keys are %s.', array_to_string(v_filters, ', ')));
  perform _check_object('settings', p_settings, 'Give a JSON object; an empty one is the default.');
  if p_filter = '{}' and p_all_jobs is not true then
    perform _invalid('the filter is empty', 'Name the jobs by a filter, or say all_jobs => true.');
  end if;

  for v_key in select k.key from jsonb_object_keys(p_filter) as k (key) loop
    if v_key <> all (v_filters) then
      perform _invalid(format('unknown filter %L', v_key), format('The keys are %s.', array_to_string(v_filters, ', ')));
    elsif jsonb_typeof(p_filter -> v_key) not in ('string', 'number', 'array')
      or (jsonb_typeof(p_filter -> v_key) = 'array' and (v_key not in ('state', 'ids') or p_filter -> v_key = '[]'))
      or (jsonb_typeof(p_filter -> v_key) <> 'array' and v_key = 'ids')
    then
      perform _invalid(format('filter %s is %s', v_key, left((p_filter -> v_key)::text, 40)),
        'ids is an array, state a text or an array, any other filter one value.');
    end if;
  end loop;
  begin
    perform (p_filter ->> 'created_after')::timestamptz, (p_filter ->> 'created_before')::timestamptz,
      (p_filter ->> 'min_id')::bigint, (p_filter ->> 'max_id')::bigint;
    perform u.id::bigint from jsonb_array_elements_text(p_filter -> 'ids') as u (id);
    select s.state into v_odd
    from unnest(_named_states(p_filter)) as s (state)
    where s.state <> all (_batch_states(p_operation)::text[])
    limit 1;
  exception when data_exception then
    perform _invalid(format('filter %s: %s', left(p_filter::text, 200), sqlerrm), 'Ids are numbers, created_after and created_before timestamps.');
  end;
  if v_odd is not null then
    perform _invalid(format('%s does not take jobs that are %s', p_operation, v_odd),
      format('It takes those that are %s.', array_to_string(_batch_states(p_operation), ', ')));
  end if;

  select k.key into v_key from jsonb_object_keys(p_settings) as k (key) where k.key <> all (v_known) limit 1;
  if v_key is not null then
    perform _invalid(format('unknown setting %L of %s', v_key, p_operation),
      case when v_known = '{}' then 'It has none.' else format('The keys are %s.', array_to_string(v_known, ', ')) end);
  end if;
  if (p_operation = 'reprioritize' and not p_settings ? 'priority') or (p_operation = 'move' and not p_settings ? 'queue') then
    perform _invalid(format('%s without a target', p_operation), 'reprioritize needs the setting priority, move the setting queue.');
  end if;
  if p_settings ? 'reason' and jsonb_typeof(p_settings -> 'reason') <> 'string' then
    perform _invalid(format('reason is %s', left((p_settings -> 'reason')::text, 40)), 'A reason is a text.');
  end if;
  if p_settings ? 'priority' and (jsonb_typeof(p_settings -> 'priority') <> 'number' or p_settings ->> 'priority' !~ '^[1-4]$') then
    perform _invalid(format('priority is %s', left((p_settings -> 'priority')::text, 40)), 'Priorities go from 1 (first) to 4.');
  end if;
  if p_settings ? 'queue' and jsonb_typeof(p_settings -> 'queue') <> 'string' then
    perform _invalid(format('queue is %s', left((p_settings -> 'queue')::text, 40)), 'A queue name is a text of 1 to 200 characters.');
  end if;
  perform _check_name('queue', coalesce(p_settings ->> 'queue', 'q'));
end;
$$;

-- An operation as it would be if started now, not stored. Its times are read once, here,
-- because sessions that work on it may have another time zone or order of day and month.
create or replace function {{ .schema }}._batch_of (p_operation text, p_filter jsonb, p_settings jsonb)
  returns {{ .schema }}.batch_operations
  language plpgsql
  volatile
as $$
begin
  return row(null, p_operation,
    p_filter || (
      select coalesce(jsonb_object_agg(k.key, (p_filter ->> k.key)::timestamptz), '{}')
      from unnest(array['created_after', 'created_before']) as k (key)
      where p_filter ? k.key),
    p_settings, 'pending', _batch_is_listed(p_operation, p_filter),
    greatest((p_filter ->> 'min_id')::bigint, 1) - 1,
    least((p_filter ->> 'max_id')::bigint, (select s.last_value - (not s.is_called)::integer from job_id_seq as s)),
    0, 0, 0, 0, _now(), null, null, null)::batch_operations;
end;
$$;

create or replace function {{ .schema }}.start_batch_operation (
  operation text,
  filter    jsonb   default '{}',
  settings  jsonb   default '{}',
  all_jobs  boolean default false
)
  returns bigint
{{ template "internal/public.sql" . -}}
as $$
declare
  o batch_operations;
begin
  perform _check_batch(start_batch_operation.operation, start_batch_operation.filter, start_batch_operation.settings,
    start_batch_operation.all_jobs);
  perform _refuse_stale('batch operation');
  o := _batch_of(start_batch_operation.operation, start_batch_operation.filter, start_batch_operation.settings);
  insert into batch_operations (operation, filter, settings, listed, cursor_id, last_id, created_at)
  -- The pages have the ids; the filter that is shown says how many there were.
  values (o.operation,
    case when o.filter ? 'ids' then o.filter || jsonb_build_object('ids', jsonb_array_length(o.filter -> 'ids')) else o.filter end,
    o.settings, o.listed, o.cursor_id, o.last_id, o.created_at)
  returning id into o.id;
  if o.listed then
    insert into batch_operation_pages (operation_id, last_id, job_ids)
    select o.id, max(p.id), array_agg(p.id order by p.id)
    from (
      select l.id, (row_number() over (order by l.id) - 1) / 1000 as page from _batch_list(o) as l (id)
    ) as p
    group by p.page;
  end if;
  -- Old operations are forgotten, so that the list stays readable.
  delete from batch_operations as b where b.finished_at < _now() - interval '90 days';
  return o.id;
end;
$$;

comment on function {{ .schema }}.start_batch_operation is
  'Starts to retry, cancel, reprioritize, move, discard or delete all jobs that match a filter and exist now, and returns the operation''s id. The work is done by maintain, or by run_batch_operation, in bites: a job must match when its turn comes. One that has the target queue and priority already is left out. Filter keys, all of which must hold: queue, kind, tag, state (a text or an array), ids, min_id, max_id, created_after (inclusive), created_before (exclusive). Settings: priority for reprioritize; queue and priority for move and retry; reason for cancel. Never blocks; reads the outcomes of history once when the states are failed or cancelled. Raises AW006 for an unknown operation, filter or setting, and for an empty filter without all_jobs.';

create or replace function {{ .schema }}.count_batch_jobs (operation text, filter jsonb default '{}', settings jsonb default '{}')
  returns bigint
{{ template "internal/public.sql" . -}}
as $$
declare
  o       batch_operations;
  v_ids   bigint[];
  v_all   bigint[];
  v_from  integer := 1;
  v_jobs  bigint := 0::bigint;
  v_idle  boolean := false;
begin
  perform _enter_ring();
  perform _check_batch(count_batch_jobs.operation, count_batch_jobs.filter, count_batch_jobs.settings, true);
  o := _batch_of(count_batch_jobs.operation, count_batch_jobs.filter, count_batch_jobs.settings);
  if o.listed then
    v_all := array(select l.id from _batch_list(o) as l (id) order by l.id);
  end if;
  loop
    if o.listed then
      v_ids := _batch_likely(o.filter, v_all[v_from : v_from + 199], 200);
      v_from := v_from + 200;
      exit when v_from > cardinality(v_all) + 200;
    else
      exit when o.cursor_id >= o.last_id;
      select p.ids, p.reached into v_ids, o.cursor_id from _batch_page(o, v_idle) as p;
    end if;
    v_ids := _batch_matching(o.operation, o.filter, o.settings, v_ids);
    v_jobs := v_jobs + cardinality(v_ids);
    v_idle := v_ids = '{}';
  end loop;
  return v_jobs;
end;
$$;

comment on function {{ .schema }}.count_batch_jobs is
  'The number of jobs that a batch operation would meet if it were done at this moment; an empty filter counts all that the operation could change. Reads the rows of each job between the lowest and the highest id that the filter allows. Never blocks. Raises AW006 as start_batch_operation does.';

create or replace function {{ .schema }}.run_batch_operation (id bigint, max_jobs integer default 1000)
  returns setof {{ .schema }}.batch_operation
{{ template "internal/public.sql" . -}}
as $$
declare
  o batch_operations;
begin
  perform _check_max_jobs(run_batch_operation.max_jobs);
  -- Another session may hold the operation for long, and who waits inside the ring keeps prune
  -- out. So the ring is left, and the row waited for and let go, until both can be had at once.
  loop
    begin
      perform _enter_ring();
      select b.* into o from batch_operations as b where b.id = run_batch_operation.id for update nowait;
      exit;
    exception when lock_not_available then
      null;
    end;
    begin
      perform from batch_operations as b where b.id = run_batch_operation.id for update;
      raise exception using errcode = 'AW000', message = 'undo';
    exception when sqlstate 'AW000' then
      null;
    end;
  end loop;
  if o.id is null then
    raise exception using errcode = 'AW002',
      message = format('there is no batch operation %s', coalesce(run_batch_operation.id::text, 'null')),
      hint = 'See list_batch_operations(); finished ones are forgotten after 90 days.';
  end if;
  if o.finished_at is null then
    -- Where nothing is done, nothing else would notice a stale snapshot.
    perform _refuse_stale('batch operation');
    perform _batch_bite(o, coalesce(run_batch_operation.max_jobs, 2147483647), null, false);
  end if;
  return query select b.* from get_batch_operation(run_batch_operation.id) as b;
end;
$$;

comment on function {{ .schema }}.run_batch_operation is
  'Works on a batch operation now, without waiting for its turn: takes up to max_jobs jobs that match, all if null, and returns the operation as it is then. A finished one stays as it is. Ends early when another transaction holds one of the jobs for longer than 50 ms: call it again. Waits for another session that works on the same operation. Raises AW002 for an unknown id, AW006 for a negative max_jobs, 40001 under a stale REPEATABLE READ snapshot.';

create or replace function {{ .schema }}.get_batch_operation (id bigint)
  returns setof {{ .schema }}.batch_operation
{{ template "internal/public.sql" . -}}
as $$
begin
  return query
  select b.id, b.operation, b.filter, b.settings, b.state, b.matched, b.affected, b.skipped, b.failed, b.cursor_id, b.last_id,
    b.created_at, b.started_at, b.finished_at, b.last_error
  from batch_operations as b
  where b.id = get_batch_operation.id;
end;
$$;

comment on function {{ .schema }}.get_batch_operation is
  'One batch operation: matched jobs are affected, skipped (changed by somebody else meanwhile) or failed (see last_error); those up to cursor_id have been met, last_id is the last to meet. No row when it is unknown. Never blocks.';

create or replace function {{ .schema }}.list_batch_operations (state text default null, max_operations integer default 100)
  returns setof {{ .schema }}.batch_operation
{{ template "internal/public.sql" . -}}
as $$
begin
  if list_batch_operations.max_operations < 0 then
    perform _invalid(format('max_operations is %s', list_batch_operations.max_operations), 'Give zero or more, or null for all.');
  end if;
  if list_batch_operations.state not in ('pending', 'running', 'done', 'cancelled', 'failed') then
    perform _invalid(format('state is %L', left(list_batch_operations.state, 40)), 'Give pending, running, done, cancelled or failed, or null for all.');
  end if;
  return query
  select b.id, b.operation, b.filter, b.settings, b.state, b.matched, b.affected, b.skipped, b.failed, b.cursor_id, b.last_id,
    b.created_at, b.started_at, b.finished_at, b.last_error
  from batch_operations as b
  where list_batch_operations.state is null or b.state = list_batch_operations.state
  order by b.id desc
  limit list_batch_operations.max_operations;
end;
$$;

comment on function {{ .schema }}.list_batch_operations is
  'Batch operations, the newest first, as get_batch_operation returns them; of one state (pending, running, done, cancelled, failed) or all. Never blocks. Raises AW006 for a negative max_operations and an unknown state.';

create or replace function {{ .schema }}.cancel_batch_operation (id bigint)
  returns boolean
{{ template "internal/public.sql" . -}}
as $$
begin
  update batch_operations as b
  set state = 'cancelled', finished_at = _now()
  where b.id = cancel_batch_operation.id and b.finished_at is null;
  if not found then
    return false;
  end if;
  delete from batch_operation_pages as p where p.operation_id = cancel_batch_operation.id;
  return true;
end;
$$;

comment on function {{ .schema }}.cancel_batch_operation is
  'Ends a batch operation where it is: what it has done stays done. False when it is finished or unknown. Waits for a bite that is under way.';
