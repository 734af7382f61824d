-- Batch operations: the steps, each of which changes some jobs at once and returns how many. It
-- leaves out jobs that changed meanwhile, and raises, with nothing done, if one cannot be
-- changed. Locks are taken in the order of docs/storage.md.

create or replace function {{ .schema }}._batch_discard (p_ids bigint[])
  returns bigint
  language plpgsql
  volatile
as $$
declare
  v_gone bigint[];
begin
  perform _refuse_stale('batch discard');
  perform _lock_keys(p_ids);
  v_gone := array(select t.job_id from _take_terminal(p_ids, array['f']::"char"[]) as t);
  perform _release_keys(v_gone);
  return cardinality(v_gone)::bigint;
end;
$$;

-- Offers the jobs that left these rows once more: at the end of their lanes, or of those of
-- p_queue and p_priority, where jobs of one lane without an ordering key go to one shard
-- together. With p_restart their attempts start over, and the error that ended each joins the
-- earlier ones.
create or replace function {{ .schema }}._offer_again (
  p_slots smallint[], p_job_ids bigint[], p_leases integer[], p_errors jsonb[], p_restart boolean, p_queue text, p_priority integer
)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_xid   xid8 := pg_current_xact_id();  -- before the ring is read, see enqueue
  v_slot  smallint := _current_slot();
  v_lanes bigint[];
begin
  with body as materialized (
    select r.*, u.error
    from unnest(p_slots, p_job_ids, p_leases, p_errors) as u (ready_slot, job_id, run_lease, error)
    -- Not a join: where the table is believed to be empty that may walk all of it for each.
    cross join lateral (
      select e.* from ready_entries as e
      where e.ready_slot = u.ready_slot and e.job_id = u.job_id and e.run_lease = u.run_lease
      limit 1
    ) as r
  ),
  target as materialized (
    select k.lane, k.ordering_key, _move_lane(k.lane, p_queue, p_priority, k.ordering_key) as to_lane
    from (select distinct b.lane, b.ordering_key from body as b) as k
  ),
  offered as (
    insert into ready_entries (
      lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
      metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline)
    select k.to_lane, v_xid, b.job_id, case when p_restart then _now() else b.run_at end, b.created_at, b.run_lease + 1, v_slot,
      case when p_restart then 1 else b.attempt end, b.max_attempts, b.kind, b.args, b.metadata, b.tags,
      case when b.error is null then b.errors else _bounded_errors(b.errors, b.error, 49) end,
      case when not p_restart then b.progress end, b.unique_key, b.unique_states, b.ordering_key, b.deadline
    from body as b
    join target as k on k.lane = b.lane and k.ordering_key is not distinct from b.ordering_key
    order by b.job_id
    returning lane
  )
  select array_agg(distinct o.lane) into v_lanes from offered as o;
  perform _wake_lanes(v_lanes);
end;
$$;

create or replace function {{ .schema }}._batch_retry (p_ids bigint[], p_queue text, p_priority integer)
  returns bigint
  language plpgsql
  volatile
  -- Few rows, by their keys, whatever the statistics say.
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
as $$
declare
  v_keyed ready_entries[];
  v_taken taken_job[];
begin
  perform _refuse_stale('batch retry');
  -- A job's key is the same in each of its rows.
  v_keyed := array(
    select distinct on (r.job_id) r
    from unnest(p_ids) as u (job_id)
    cross join lateral (select e.* from ready_entries as e where e.job_id = u.job_id offset 0) as r
    where r.unique_key is not null
    order by r.job_id);
  if (select count(distinct k.unique_key) from unnest(v_keyed) as k) < cardinality(v_keyed) then
    -- One after the other, so that the second of two with one key meets the first as its
    -- holder.
    raise exception using errcode = 'AW004',
      message = 'several jobs of one unique key',
      hint = 'Retry them one by one.';
  end if;
  perform _need_key_at(k.unique_key, k.unique_states, k.job_id, null)
  from (select n.* from unnest(v_keyed) as n order by n.unique_key) as k;

  v_taken := array(select t from _take_terminal(p_ids, array['f', 'x']::"char"[]) as t);
  if cardinality(v_taken) < cardinality(p_ids) then
    perform _release_absent(_less(
      array(select k.job_id from unnest(v_keyed) as k), array(select t.job_id from unnest(v_taken) as t)));
  end if;
  perform _offer_again(array_agg(t.ready_slot), array_agg(t.job_id), array_agg(t.run_lease), array_agg(t.error), true, p_queue, p_priority)
  from unnest(v_taken) as t;
  return cardinality(v_taken)::bigint;
end;
$$;

-- Moves jobs to another lane. A deferred job stays deferred, even if it is due or never will
-- be. A parked one becomes due, since its new queue has slots of its own.
create or replace function {{ .schema }}._batch_move (p_ids bigint[], p_queue text, p_priority integer)
  returns bigint
  language plpgsql
  volatile
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
as $$
declare
  v_jobs  deferred_jobs[];
  v_taken receipt[];
begin
  perform _refuse_stale('batch move');
  v_jobs := array(select t from _take_deferred(p_ids) as t);
  if exists (select from unnest(v_jobs) as d where d.run_at = 'infinity') then
    v_jobs := array(
      select case
        when d.metadata ? 'awa:run_at' and not exists (select from job_dependencies as n where n.job_id = d.job_id)
          then _unpark(d)
        else d end
      from unnest(v_jobs) as d);
  end if;
  with target as materialized (
    select k.lane, k.ordering_key, _move_lane(k.lane, p_queue, p_priority, k.ordering_key) as to_lane
    from (select distinct d.lane, d.ordering_key from unnest(v_jobs) as d) as k
  )
  insert into deferred_jobs
  select d.job_id, k.to_lane, d.state, d.run_at, d.created_at, d.run_lease, d.attempt, d.max_attempts, d.kind, d.args,
    d.metadata, d.tags, d.errors, d.progress, d.unique_key, d.unique_states, d.ordering_key, d.deadline, pg_current_xact_id()
  from unnest(v_jobs) as d
  join target as k on k.lane = d.lane and k.ordering_key is not distinct from d.ordering_key;

  v_taken := array(
    select t from _take_waiting(_less(p_ids, array(select d.job_id from unnest(v_jobs) as d)), 'm') as t);
  perform _offer_again(array_agg(t.ready_slot), array_agg(t.job_id), array_agg(t.run_lease::integer), null, false, p_queue, p_priority)
  from unnest(v_taken) as t;
  return (cardinality(v_jobs) + cardinality(v_taken))::bigint;
end;
$$;

create or replace function {{ .schema }}._batch_apply (p_operation text, p_settings jsonb, p_ids bigint[])
  returns bigint
  language plpgsql
  volatile
as $$
begin
  case p_operation
  when 'cancel' then
    return _cancel_jobs(p_ids, p_settings ->> 'reason');
  when 'retry' then
    return _batch_retry(p_ids, p_settings ->> 'queue', (p_settings ->> 'priority')::integer);
  when 'discard' then
    return _batch_discard(p_ids);
  when 'delete' then
    return _delete_jobs(p_ids);
  else
    return _batch_move(p_ids, p_settings ->> 'queue', (p_settings ->> 'priority')::integer);
  end case;
end;
$$;

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
-- repeats nor loses any. The caller has locked the operation's row.
create or replace function {{ .schema }}._batch_bite (
  p_operation {{ .schema }}.batch_operations, p_max integer, p_until timestamptz,
  out met bigint, out trouble text
)
  language plpgsql
  volatile
  set lock_timeout = '50ms'
as $$
declare
  o         batch_operations := p_operation;
  v_scan    integer := 1000;
  v_found   bigint[];
  v_ids     bigint[];
  v_reached bigint;
  v_left    integer;
  v_done    bigint;
  v_busy    bigint[];
begin
  o.state := 'running';
  o.started_at := coalesce(o.started_at, _now());
  begin
    while o.state = 'running' and o.matched - p_operation.matched < p_max loop
      begin
        select p.ids, p.reached into v_found, v_reached
        from _batch_page(o, 200, v_scan) as p;
        v_ids := _batch_matching(o.operation, o.filter, o.settings, v_found);
        v_left := (p_max - (o.matched - p_operation.matched))::integer;
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
      -- Where nothing matches, more is read at a time.
      v_scan := case when v_found = '{}' then 10000 else 1000 end;
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

-- What maintain does: a bite of the oldest operation. No row when there is none, or another
-- session works on it. It does not begin while somebody waits for what this transaction holds,
-- because it may wait itself; see _is_awaited.
create or replace function {{ .schema }}._batch_maintain (p_max integer, p_time interval)
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
  select b.met, b.trouble into affected, detail from _batch_bite(o, p_max, clock_timestamp() + p_time) as b;
  select b.cursor_id - o.cursor_id, b.state into v_left, outcome from batch_operations as b where b.id = o.id;
  outcome := case when v_left = 0 and outcome = 'running' then 'busy' else outcome end;
  detail := format('operation %s: %s', o.id, coalesce(detail, o.operation));
  return next;
end;
$$;
