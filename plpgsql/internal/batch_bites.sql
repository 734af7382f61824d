-- Batch operations: bites, of a few steps each.

-- Changes jobs one by one, after changing all of them at once failed, so that one that cannot
-- be changed stops no other. Counts in p_operation, and stops with its cursor at the last job
-- met: before one that somebody holds or that the server lacks the room for, or when the time
-- is over.
create or replace function {{ .schema }}._batch_singly (
  p_operation {{ .schema }}.batch_operations, p_ids bigint[], p_until timestamptz
)
  returns {{ .schema }}.batch_operations
  language plpgsql
  volatile
as $$
declare
  o      batch_operations := p_operation;
  v_id   bigint;
  v_done bigint;
begin
  foreach v_id in array p_ids loop
    begin
      v_done := _batch_apply(o.operation, o.settings, array[v_id]);
      o.affected := o.affected + v_done;
      o.skipped := o.skipped + 1 - v_done;
    exception
      when lock_not_available or serialization_failure or deadlock_detected or insufficient_resources or system_error then
        exit;
      when others then
        o.failed := o.failed + 1;
        o.last_error := left(format('job %s: %s', v_id, sqlerrm), 10000);
    end;
    o.matched := o.matched + 1;
    o.cursor_id := v_id;
    exit when clock_timestamp() > p_until;
  end loop;
  return o;
end;
$$;

-- Takes the unique keys that an operation needs for some jobs. Returns the jobs whose keys
-- other sessions hold, even after some tries. It never waits for one: those sessions may wait
-- for what an earlier page of the bite took.
create or replace function {{ .schema }}._batch_keys (p_operation text, p_ids bigint[])
  returns bigint[]
  language plpgsql
  volatile
as $$
declare
  v_busy bigint[] := array[]::bigint[];
begin
  if p_ids = '{}' or p_operation not in ('retry', 'discard', 'delete') or not exists (select from job_unique_claims) then
    return v_busy;
  end if;
  for v_try in 1 .. 5 loop
    v_busy := _lock_free_keys(p_ids, case when p_operation = 'retry' then 'available'::job_state end);
    exit when v_busy = '{}' or v_try = 5;
    perform pg_sleep(0.01);
  end loop;
  return v_busy;
end;
$$;

-- One bite: up to p_max jobs, a few at a time, until p_until if given. Waits only briefly: a
-- job that somebody holds ends the bite, the next one starts there, and trouble says so. So
-- does what the server lacks, such as locks or room on its disk: no job is to blame, and the
-- next bite may find it. Counts and cursor are written with the changes, so a crash neither
-- repeats nor loses any. The caller has locked the operation's row. With jobs in hand already,
-- p_late, it waits from the start as it otherwise does from the second step on.
create or replace function {{ .schema }}._batch_bite (
  p_operation {{ .schema }}.batch_operations, p_max integer, p_until timestamptz, p_late boolean,
  out met bigint, out trouble text
)
  language plpgsql
  volatile
  set lock_timeout = '50ms'
as $$
declare
  o         batch_operations := p_operation;
  v_late    boolean := p_late;
  v_idle    boolean := false;
  v_ids     bigint[];
  v_reached bigint;
  v_left    integer;
  v_done    bigint;
  v_moved   bigint[];
  v_busy    bigint[];
begin
  o.state := 'running';
  o.started_at := coalesce(o.started_at, _now());
  begin
    while o.state = 'running' and o.matched - p_operation.matched < p_max loop
      if v_late then
        -- It waits with jobs in hand, so for as short a time as can be asked for: the
        -- deadlock_timeout of somebody who waits for them may end in it.
        perform set_config('lock_timeout', '1ms', true);
      end if;
      begin
        select p.ids, p.reached into v_ids, v_reached
        from _batch_page(o, v_idle) as p;
        v_ids := _batch_matching(o.operation, o.filter, o.settings, v_ids);
        v_left := least(p_max - (o.matched - p_operation.matched), 200)::integer;
        if cardinality(v_ids) > v_left then
          v_ids := v_ids[:v_left];
          v_reached := v_ids[v_left];
        end if;
        -- Keys come before anything else that the jobs may need, also when they are done one by
        -- one.
        v_busy := _batch_keys(o.operation, v_ids);
        if v_busy <> '{}' then
          v_reached := (select min(u.id) - 1 from unnest(v_busy) as u (id));
          v_ids := array(select u.id from unnest(v_ids) as u (id) where u.id <= v_reached order by u.id);
        end if;
        if v_ids <> '{}' then
          begin
            v_done := _batch_apply(o.operation, o.settings, v_ids);
            if o.operation = 'cancel' and v_done < cardinality(v_ids) then
              -- Those that moved meanwhile are the next page's.
              v_moved := _batch_matching(o.operation, o.filter, o.settings, v_ids);
              v_ids := _less(v_ids, v_moved);
              v_reached := least(v_reached, (select min(u.id) - 1 from unnest(v_moved) as u (id)));
            end if;
            o.matched := o.matched + cardinality(v_ids);
            o.affected := o.affected + v_done;
            o.skipped := o.skipped + cardinality(v_ids) - v_done;
          exception
            when lock_not_available or serialization_failure or deadlock_detected then
              raise;
            when others then
              trouble := 'jobs are changed one by one: ' || sqlerrm;
              o := _batch_singly(o, v_ids, p_until);
          end;
        end if;
      exception when lock_not_available or serialization_failure or deadlock_detected or insufficient_resources or system_error then
        if _keeps_snapshot() then
          if sqlstate = '55P03' then
            perform _serialization_failure('batch operation: another session has a job''s place in hand');
          end if;
          raise;
        end if;
        trouble := sqlerrm;
        exit;
      end;
      exit when trouble is not null and o.cursor_id < v_ids[cardinality(v_ids)];
      trouble := null;
      if v_busy <> '{}' then
        trouble := format('job %s: another session has its unique key in hand', v_reached + 1);
        o.cursor_id := greatest(o.cursor_id, v_reached);
        exit;
      end if;
      v_idle := v_ids = '{}';
      v_late := v_late or not v_idle;
      o.cursor_id := v_reached;
      if o.cursor_id >= o.last_id then
        o.state := 'done';
        o.finished_at := _now();
      end if;
      exit when clock_timestamp() > p_until or _is_awaited();
    end loop;
    perform _release_reserved();
  exception
    when lock_not_available or serialization_failure or deadlock_detected then
      raise;
    when others then
      -- Not a job's fault: what this bite did is undone.
      o := p_operation;
      o.state := 'failed';
      o.started_at := coalesce(o.started_at, _now());
      o.finished_at := _now();
      o.last_error := left(sqlerrm, 10000);
      trouble := sqlerrm;
  end;
  update batch_operations as b
  set (state, cursor_id, matched, affected, skipped, failed, started_at, finished_at, last_error)
    = (o.state, o.cursor_id, o.matched, o.affected, o.skipped, o.failed, o.started_at, o.finished_at, o.last_error)
  where b.id = o.id;
  if o.finished_at is not null then
    delete from batch_operation_pages as p where p.operation_id = o.id;
  end if;
  met := o.matched - p_operation.matched;
end;
$$;

-- What maintain does, p_late if it has rescued attempts: a bite of the oldest operation. No row
-- when there is none, or another session works on it. It does not begin while somebody waits for
-- what this transaction holds, because it may wait itself; see _is_awaited.
create or replace function {{ .schema }}._batch_maintain (p_late boolean)
  returns table (outcome text, affected bigint, detail text)
  language plpgsql
  volatile
as $$
declare
  o      batch_operations;
  v_left bigint;
begin
  if not exists (select from batch_operations as b where b.state in ('pending', 'running')) or not _try_singleton(7) then
    return;
  end if;
  select b.* into o
  from batch_operations as b
  where b.state in ('pending', 'running')
  order by b.id
  limit 1
  for update skip locked;
  if not found then
    return;
  end if;
  if _is_awaited() then
    outcome := 'busy';
    affected := 0;
    detail := format('operation %s: another session waits for jobs of this pass', o.id);
    return next;
    return;
  end if;
  select b.met, b.trouble into affected, detail from _batch_bite(o, 1000, clock_timestamp() + interval '0.1 seconds', p_late) as b;
  select b.cursor_id - o.cursor_id, b.state into v_left, outcome from batch_operations as b where b.id = o.id;
  outcome := case when v_left = 0 and outcome = 'running' then 'busy' else outcome end;
  detail := format('operation %s: %s', o.id, coalesce(detail, o.operation));
  return next;
end;
$$;
