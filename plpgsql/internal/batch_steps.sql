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
  perform _need_key(k.unique_key, k.unique_states, k.job_id, 'available')
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
        when _is_parked(d) and not exists (select from job_dependencies as n where n.job_id = d.job_id)
          then _unparked(d)
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
