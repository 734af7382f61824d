-- Batch operations: which jobs they meet, in the order of their ids.

-- The states in which an operation has something to do.
create or replace function {{ .schema }}._batch_states (p_operation text)
  returns {{ .schema }}.job_state[]
  language sql
  immutable
  parallel safe
as $$
  select case p_operation
    when 'retry' then '{failed,cancelled}'
    when 'discard' then '{failed}'
    when 'cancel' then '{scheduled,available,retryable,running,waiting_external}'
    when 'delete' then '{scheduled,available,retryable,running,waiting_external,completed,failed,cancelled}'
    else '{scheduled,available,retryable}'
  end::{{ .schema }}.job_state[]
$$;

-- The states that a filter names, by one text or an array; none if it says nothing of them.
create or replace function {{ .schema }}._named_states (p_filter jsonb)
  returns text[]
  language sql
  immutable
  parallel safe
as $$
  select array(
    select pg_catalog.jsonb_array_elements_text(
      case
        when pg_catalog.jsonb_typeof(p_filter -> 'state') = 'array' then p_filter -> 'state'
        when p_filter ? 'state' then pg_catalog.jsonb_build_array(p_filter -> 'state')
        else '[]'
      end))
$$;

-- The states in which it takes a job: the same, limited to those that the filter names.
create or replace function {{ .schema }}._batch_takes (p_operation text, p_filter jsonb)
  returns {{ .schema }}.job_state[]
  language plpgsql
  immutable
  parallel safe
as $$
begin
  if not p_filter ? 'state' then
    return _batch_states(p_operation);
  end if;
  return array(
    select s.state
    from unnest(_named_states(p_filter)::job_state[]) as s (state)
    where s.state = any (_batch_states(p_operation)));
end;
$$;

-- The lanes of the filter's queue; null when it names none.
create or replace function {{ .schema }}._batch_lanes (p_filter jsonb)
  returns bigint[]
  language plpgsql
  stable
as $$
begin
  if not p_filter ? 'queue' then
    return null;
  end if;
  return array(select distinct l.lane from queue_lanes as l where l.queue = p_filter ->> 'queue');
end;
$$;

-- Those of some ids whose jobs have a row with the filter's kind, tag and time of creation; in
-- order, up to p_max. Quicker than _batch_matching, and excludes most jobs where few match.
-- Looks at every row of a job, so it misses none.
create or replace function {{ .schema }}._batch_likely (p_filter jsonb, p_ids bigint[], p_max integer)
  returns bigint[]
  language plpgsql
  volatile
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
as $$
declare
  v_kind   text := p_filter ->> 'kind';
  v_tag    text := p_filter ->> 'tag';
  v_after  timestamptz := (p_filter ->> 'created_after')::timestamptz;
  v_before timestamptz := (p_filter ->> 'created_before')::timestamptz;
begin
  if v_kind is null and v_tag is null and v_after is null and v_before is null then
    return p_ids[:p_max];
  end if;
  return array(
    select u.id
    from (select i.id from unnest(p_ids) as i (id) order by i.id) as u
    -- Not by exists, which may be planned to read them all.
    where coalesce(
{{- range $n, $place := list "ready_entries" "deferred_jobs" "leases" }}
      (select true from {{ $place }} as r
       where r.job_id = u.id
         and (v_kind is null or r.kind = v_kind) and (v_tag is null or v_tag = any (r.tags))
         and (v_after is null or r.created_at >= v_after) and (v_before is null or r.created_at < v_before)
       limit 1){{ if lt $n 2 }},{{ end }}
{{- end }})
    limit p_max);
end;
$$;

-- Ids that may match, from the operation's cursor on, and the id up to which everything has been
-- looked at. Rows of all places are read in one order and a number of them at most, so the time
-- of a call does not depend on how many there are. A job has a row for each of its attempts,
-- perhaps in several lanes; any of them makes it a candidate, so none is left out.
--
-- An operation that takes no job that is done leaves out ready rows which the cursor of their
-- lane has passed: their jobs wait nowhere else or have another row. Where it takes running ones
-- that holds only for closed attempts. Reading which are open pays only once a page had nothing
-- for the operation, which is what p_idle says; more is read at a time then, too.
create or replace function {{ .schema }}._batch_page (
  p_operation {{ .schema }}.batch_operations, p_idle boolean, out ids bigint[], out reached bigint
)
  language plpgsql
  volatile
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
  -- Rows may be of many lanes: not each compared with each cursor.
  set enable_nestloop = off
  set enable_mergejoin = off
as $$
declare
  v_max   constant integer := case when p_idle then 1000 else 200 end;
  v_scan  constant integer := v_max * 5;
  v_lanes bigint[] := _batch_lanes(p_operation.filter);
  v_kind  text := p_operation.filter ->> 'kind';
  v_tag   text := p_operation.filter ->> 'tag';
  v_after  timestamptz := (p_operation.filter ->> 'created_after')::timestamptz;
  v_before timestamptz := (p_operation.filter ->> 'created_before')::timestamptz;
  v_states job_state[] := _batch_takes(p_operation.operation, p_operation.filter);
  v_open  boolean := not v_states && '{completed,failed,cancelled}';
  v_running boolean := 'running' = any (v_states);
  v_rows  bigint;
  v_last  bigint;
begin
  if p_operation.listed then
    ids := array(
      select u.id
      from (
        select p.job_ids from batch_operation_pages as p
        where p.operation_id = p_operation.id and p.last_id > p_operation.cursor_id
        order by p.last_id
        limit 1
      ) as p
      cross join lateral unnest(p.job_ids) as u (id)
      where u.id > p_operation.cursor_id
      order by u.id
      limit v_scan);
    v_last := ids[cardinality(ids)];
    ids := _batch_likely(p_operation.filter, ids, v_max);
    reached := coalesce(case when cardinality(ids) = v_max then ids[v_max] else v_last end, p_operation.last_id);
    if not exists (
      select from batch_operation_pages as p where p.operation_id = p_operation.id and p.last_id > reached)
    then
      reached := p_operation.last_id;
    end if;
    return;
  end if;
  with page as materialized (
    select q.job_id, q.lane, q.kind, q.tags, q.created_at, q.ready_slot, q.xid
    from (
      (select r.job_id, r.lane, r.kind, r.tags, r.created_at, r.ready_slot, r.xid from ready_entries as r
       where r.job_id > p_operation.cursor_id and r.job_id <= p_operation.last_id
       order by r.job_id
       fetch first (v_scan) rows with ties)
      union all
      (select d.job_id, d.lane, d.kind, d.tags, d.created_at, null, null from deferred_jobs as d
       where d.job_id > p_operation.cursor_id and d.job_id <= p_operation.last_id
       order by d.job_id
       fetch first (v_scan) rows with ties)
      union all
      (select l.job_id, l.lane, l.kind, l.tags, l.created_at, null, null from leases as l
       where l.job_id > p_operation.cursor_id and l.job_id <= p_operation.last_id
       order by l.job_id
       fetch first (v_scan) rows with ties)
    ) as q
    order by q.job_id
    fetch first (v_scan) rows with ties
  ),
  cursors as materialized (
    select c.*
    from (select distinct p.lane from page as p where v_open and p.ready_slot is not null) as l
    cross join lateral (select k.* from lane_cursors as k where k.lane = l.lane order by k.generation desc limit 1) as c
  ),
  running as materialized (
    select o.job_id from _open_in_ring(v_lanes) as o
  ),
  found as (
    select distinct r.job_id
    from page as r
    left join cursors as c on c.lane = r.lane
    where (v_lanes is null or r.lane = any (v_lanes)) and (v_kind is null or r.kind = v_kind)
      and (v_tag is null or v_tag = any (r.tags))
      and (v_after is null or r.created_at >= v_after) and (v_before is null or r.created_at < v_before)
      and case
        when not v_open or r.ready_slot is null or (
{{ template "internal/row_passed.sql" . }}        ) is not true then true
        else v_running and (not p_idle or r.job_id in (select n.job_id from running as n))
      end
    order by r.job_id
    limit v_max
  )
  select coalesce((select array_agg(f.job_id order by f.job_id) from found as f), '{}'), count(*), max(p.job_id)
  into ids, v_rows, v_last
  from page as p;
  reached := case
    when cardinality(ids) = v_max then ids[v_max]
    when v_rows < v_scan then p_operation.last_id
    else v_last end;
end;
$$;

-- Those of some jobs that match now, whatever they were when they were found. reprioritize and
-- move take only jobs that are not there yet.
create or replace function {{ .schema }}._batch_matching (p_operation text, p_filter jsonb, p_settings jsonb, p_ids bigint[])
  returns bigint[]
  language plpgsql
  volatile
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
declare
  v_states job_state[] := _batch_takes(p_operation, p_filter);
  v_queue  text := p_filter ->> 'queue';
  v_kind   text := p_filter ->> 'kind';
  v_tag    text := p_filter ->> 'tag';
  v_after  timestamptz := (p_filter ->> 'created_after')::timestamptz;
  v_before timestamptz := (p_filter ->> 'created_before')::timestamptz;
  v_moves  boolean := p_operation in ('reprioritize', 'move');
  v_to     text := p_settings ->> 'queue';
  v_first  integer := (p_settings ->> 'priority')::integer;
begin
  return array(
    select j.id
    from unnest(p_ids) as u (id)
    -- One by one: many ids at once may be planned as a walk through the lane for each.
    cross join lateral (select n.* from _jobs_by_key as n where n.id = u.id offset 0) as j
    where j.state = any (v_states)
      and (v_queue is null or j.queue = v_queue)
      and (v_kind is null or j.kind = v_kind)
      and (v_tag is null or v_tag = any (j.tags))
      and (v_after is null or j.created_at >= v_after)
      and (v_before is null or j.created_at < v_before)
      and (not v_moves or j.queue <> v_to or j.priority <> v_first)
    order by j.id);
end;
$$;

-- Jobs that are named by id, and failed or cancelled ones, are listed once, at the start:
-- outcomes tell the latter without a look at each job that completed.
create or replace function {{ .schema }}._batch_is_listed (p_operation text, p_filter jsonb)
  returns boolean
  language sql
  immutable
  parallel safe
as $$
  select p_filter ? 'ids'
    or {{ .schema }}._batch_takes(p_operation, p_filter) <@ '{failed,cancelled}'::{{ .schema }}.job_state[]
$$;

create or replace function {{ .schema }}._batch_list (p_operation {{ .schema }}.batch_operations)
  returns setof bigint
  language plpgsql
  volatile
  set plan_cache_mode = force_custom_plan
  set enable_nestloop = off
  set enable_mergejoin = off
  set work_mem = '64MB'
as $$
declare
  v_lanes    bigint[] := _batch_lanes(p_operation.filter);
  v_outcomes "char"[] := array(
    select case s.state when 'failed' then 'f'::"char" else 'x'::"char" end
    from unnest(_batch_takes(p_operation.operation, p_operation.filter)) as s (state));
begin
  if p_operation.filter ? 'ids' then
    return query
    select distinct u.id::bigint
    from jsonb_array_elements_text(p_operation.filter -> 'ids') as u (id)
    where u.id::bigint > p_operation.cursor_id and u.id::bigint <= p_operation.last_id;
    return;
  end if;
  -- Arrays as in _locate_many.
  return query
  select distinct j.job_id
  from (
    select unnest(coalesce(o.job_ids, c.job_ids)) as job_id
    from attempt_outcomes as o
    left join claims as c on c.ready_slot = o.ready_slot and c.batch_id = o.batch_id and o.job_ids is null
    where o.outcome = any (v_outcomes) and (v_lanes is null or o.lane = any (v_lanes))
  ) as j
  where j.job_id > p_operation.cursor_id and j.job_id <= p_operation.last_id;
end;
$$;
