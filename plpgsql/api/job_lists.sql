-- Jobs for an operator's eyes, newest first.

create or replace function {{ .schema }}.get_job (job_id bigint)
  returns setof {{ .schema }}.jobs
{{ template "internal/public.sql" . -}}
  rows 1
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
begin
  perform _enter_ring();
  return query select j.* from _jobs_by_key as j where j.id = get_job.job_id;
  perform _refuse_torn(format('job %s', get_job.job_id));
end;
$$;

comment on function {{ .schema }}.get_job is
  'The job with that id as a row of jobs, in whatever state; none when it is unknown, pruned or a dead letter. Never blocks. Raises 40001 under a snapshot older than a prune.';

create or replace function {{ .schema }}.list_jobs (
  queue    text          default null,
  kind     text          default null,
  state    {{ .schema }}.job_state default null,
  before   bigint        default null,
  max_jobs integer       default 100
)
  returns setof {{ .schema }}.jobs
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_custom_plan
  -- Each job is looked up, not the few lanes read for each.
  set enable_seqscan = off
as $$
declare
  v_lanes  bigint[] := case when list_jobs.queue is not null then
    array(select distinct l.lane from queue_lanes as l where l.queue = list_jobs.queue) end;
  v_before bigint := coalesce(list_jobs.before, 9223372036854775807);
  v_left   integer := least(list_jobs.max_jobs, 10000);
  v_page   integer := greatest(v_left, 100);
  v_few    boolean := false;
  v_ids    bigint[];
  v_rows   integer;
begin
  perform _enter_ring();
  perform _check_max_jobs(list_jobs.max_jobs);
  -- Ids of candidates come from where a job in that state must be, newest
  -- first and some at a time; the view then has the last word.
  while v_left > 0 loop
    v_ids := _candidates(v_lanes, list_jobs.kind, list_jobs.state, v_before, v_page, v_few);
    exit when v_ids = '{}';
    return query
    select j.*
    -- A job that failed again after a retry was closed twice.
    from (select distinct i.id from unnest(v_ids) as i (id)) as u
    -- One by one: many ids at once may be planned as a walk through the lane for each.
    cross join lateral (select n.* from _jobs_by_key as n where n.id = u.id offset 0) as j
    where (list_jobs.queue is null or j.queue = list_jobs.queue)
      and (list_jobs.kind is null or j.kind = list_jobs.kind)
      and (list_jobs.state is null or j.state = list_jobs.state)
    order by j.id desc
    limit v_left;
    get diagnostics v_rows = row_count;
    v_left := v_left - v_rows;
    v_few := v_rows < cardinality(v_ids) / 2;
    v_before := v_ids[cardinality(v_ids)];
    -- Where few match, more is read at a time.
    v_page := least(v_page * 2, 10000);
  end loop;
  perform _refuse_torn('list of jobs');
end;
$$;

comment on function {{ .schema }}.list_jobs is
  'Up to max_jobs jobs, newest id first; null filters match all. For the next page pass the last id as before. Failed and cancelled jobs are found by the outcomes, and so are completed ones where few of the newest jobs are; deferred ones in their table, running ones by the claims that rescue watches, available ones by the ready rows that claims have not come to. Never blocks. Raises AW006 for a negative max_jobs, 40001 under a snapshot older than a prune.';

-- Ids of jobs outside of history that may be in p_state (null: any), newest first, by the
-- newest rows below p_before of each place. complete is false when those rows were too few
-- for p_max ids and there are more. Where most rows match they are all that is read, whatever
-- the planner believes.
create or replace function {{ .schema }}._newest_candidates (
  p_lanes bigint[], p_kind text, p_state {{ .schema }}.job_state, p_before bigint, p_max integer,
  out ids bigint[], out complete boolean
)
  language plpgsql
  stable
  set plan_cache_mode = force_custom_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
as $$
declare
  v_rows constant integer := least(p_max * 10, 20000);
begin
  with
  cursors as materialized (
    select c.*
    from (select distinct q.lane from queue_lanes as q where p_state = 'available' and (p_lanes is null or q.lane = any (p_lanes))) as l
    cross join lateral (select k.* from lane_cursors as k where k.lane = l.lane order by k.generation desc limit 1) as c
  ),
  looked as materialized (
    (select 1 as place, r.job_id, (p_lanes is null or r.lane = any (p_lanes)) and (p_kind is null or r.kind = p_kind)
       -- Not by exists, here and below, which may be planned as a walk through them all.
       and (p_state is not null or (select true from dlq_entries as q where q.id = r.job_id) is not true)
       and (p_state is null or p_state = 'completed' or (
{{ template "internal/row_passed.sql" . }}    or
{{ template "internal/row_taken.sql" "r" }}       ) is not true) as fits
     from (
       select e.job_id, e.run_lease, e.lane, e.kind, e.xid, e.ready_slot
       from ready_entries as e
       where e.job_id < p_before and (p_state is null or p_state in ('available', 'completed'))
       order by e.job_id desc limit v_rows
     ) as r
     left join cursors as c on c.lane = r.lane)
    union all
    (select 2, d.job_id, (p_lanes is null or d.lane = any (p_lanes)) and (p_kind is null or d.kind = p_kind)
       and (p_state is null or d.state = p_state)
     from deferred_jobs as d
     where d.job_id < p_before and (p_state is null or p_state in ('scheduled', 'retryable'))
     order by d.job_id desc limit v_rows)
    union all
    (select 3, l.job_id, (p_lanes is null or l.lane = any (p_lanes)) and (p_kind is null or l.kind = p_kind)
       and (p_state is null or l.state = p_state)
     from leases as l
     where l.job_id < p_before and (p_state is null or p_state = 'waiting_external')
     order by l.job_id desc limit v_rows)
  ),
  -- Below the last row of a place that has more, something may be missing.
  reach as materialized (
    select max(k.last_id) as job_id
    from (select min(l.job_id) as last_id from looked as l group by l.place having count(*) = v_rows) as k
  )
  select array(
      select distinct l.job_id from looked as l
      where l.fits and l.job_id >= coalesce((select r.job_id from reach as r), 0)
      order by l.job_id desc
      limit p_max),
    (select r.job_id from reach as r) is null
  into ids, complete;
  complete := complete or cardinality(ids) = p_max;
end;
$$;

-- Ids of jobs that may be available, newest first: ready rows that the cursor of their lane has
-- not gone past and that nobody took before their turn. In each segment, counted back from its
-- last, they are numbered from where it has come to, or are of transactions that were in progress
-- when its windows began and have ended.
create or replace function {{ .schema }}._waiting_candidates (p_lanes bigint[], p_kind text, p_before bigint, p_max integer)
  returns bigint[]
  language plpgsql
  stable
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
as $$
begin
  return array(
    select distinct w.job_id
    from (select distinct q.lane from queue_lanes as q where p_lanes is null or q.lane = any (p_lanes)) as l
    left join lateral (select k.* from lane_cursors as k where k.lane = l.lane order by k.generation desc limit 1) as c on true
    cross join generate_series(coalesce(c.last_segment, 0) - {{ sub (int .segments) 1 }}, coalesce(c.last_segment, 0)) as g (segment)
    cross join lateral (
      select s.xid, case when s.xid = c.pos_xid and g.segment = c.segment then c.pos_job_id else -1 end, '18446744073709551615'::xid8
      from (
        select case
          when c.lane is null then '0'
          when c.drained or g.segment < c.segment then pg_snapshot_xmax(c.s_cur)
          when g.segment = c.segment then greatest(pg_snapshot_xmax(c.s_prev), c.pos_xid)
          else pg_snapshot_xmax(c.s_prev) end as xid
      ) as s
      union all
      select x.xid, -1, x.xid
      from (select * from pg_snapshot_xip(c.s_cur) union select * from pg_snapshot_xip(c.s_prev)) as x (xid)
      where pg_visible_in_snapshot(x.xid, pg_current_snapshot()) or x.xid = pg_current_xact_id_if_assigned()
    ) as f (xid, job_id, to_xid)
    cross join lateral (
      select r.job_id
      from ready_entries as r
      where r.ready_slot = (g.segment + {{ .segments }}) % {{ .segments }} and r.lane = l.lane and (r.xid, r.job_id) > (f.xid, f.job_id) and r.xid <= f.to_xid
        and r.job_id < p_before and (p_kind is null or r.kind = p_kind)
        and (
{{ template "internal/row_passed.sql" . }}    or
{{ template "internal/row_taken.sql" "r" }}        ) is not true
      offset 0
    ) as w
    order by w.job_id desc
    limit p_max);
end;
$$;

-- Ids of jobs that may be in p_state, newest first. Most of history is completed: the newest
-- rows are candidates for that, unless few of the last ones were.
create or replace function {{ .schema }}._candidates (
  p_lanes bigint[], p_kind text, p_state {{ .schema }}.job_state, p_before bigint, p_max integer, p_few boolean
)
  returns bigint[]
  language plpgsql
  volatile
  set plan_cache_mode = force_custom_plan
  set enable_seqscan = on
  set enable_nestloop = off
  set enable_mergejoin = off
  set work_mem = '64MB'
as $$
declare
  v_newest record;
begin
  if p_state is null or p_state in ('scheduled', 'available', 'retryable', 'waiting_external') or p_state = 'completed' and not p_few then
    select n.* into v_newest from _newest_candidates(p_lanes, p_kind, p_state, p_before, p_max) as n;
    if v_newest.complete then
      return v_newest.ids;
    end if;
  end if;
  if p_state = 'available' then
    return _waiting_candidates(p_lanes, p_kind, p_before, p_max);
  elsif p_state in ('completed', 'failed', 'cancelled') then
    return array(
      select e.job_id
      -- offset 0: by more than the slot alone are they joined.
      from (
        select o.ready_slot, j.job_id, coalesce(j.run_lease, 1) as run_lease
        from attempt_outcomes as o
        left join claims as c on c.ready_slot = o.ready_slot and c.batch_id = o.batch_id and o.job_ids is null
        cross join lateral unnest(
          coalesce(o.job_ids, c.job_ids),
          case when o.job_ids is null then c.run_leases else o.run_leases end) as j (job_id, run_lease)
        where o.outcome = case p_state when 'completed' then 'c'::"char" when 'failed' then 'f'::"char" else 'x'::"char" end
          and (p_lanes is null or o.lane = any (p_lanes)) and j.job_id < p_before
        offset 0
      ) as e
      -- Not by exists, which beside an or is evaluated for each job by itself.
      left join ready_entries as r
        on p_kind is not null and r.ready_slot = e.ready_slot and r.job_id = e.job_id and r.run_lease = e.run_lease and r.kind = p_kind
      where (p_kind is null or r.kind is not null)
        and not exists (
          select from outcome_removals as m
          where m.ready_slot = e.ready_slot and m.job_id = e.job_id and m.run_lease = e.run_lease)
      order by e.job_id desc
      limit p_max);
  elsif p_state = 'running' then
    return array(
      select u.job_id
      from (
        select j.job_id
        from _open_in_ring(p_lanes) as j
        where j.job_id < p_before
          and (p_kind is null or exists (
            select from ready_entries as r
            where r.ready_slot = j.ready_slot and r.job_id = j.job_id and r.run_lease = j.run_lease and r.kind = p_kind))
        union
        select l.job_id from leases as l
        where l.state = 'running' and (p_lanes is null or l.lane = any (p_lanes)) and l.job_id < p_before and (p_kind is null or l.kind = p_kind)
      ) as u
      order by u.job_id desc
      limit p_max);
  end if;
  -- The state alone tells which places can have such a job. Each gives its newest ids, none of
  -- them twice: a place that gave fewer would end above where the others do.
  return array(
    select u.job_id
    from (
      (select distinct r.job_id from ready_entries as r
       where p_state is null
         and (p_lanes is null or r.lane = any (p_lanes)) and r.job_id < p_before and (p_kind is null or r.kind = p_kind)
         and (select true from dlq_entries as q where q.id = r.job_id) is not true
       order by r.job_id desc limit p_max)
      union
      (select d.job_id from deferred_jobs as d
       where (p_state is null or p_state in ('scheduled', 'retryable') and d.state = p_state)
         and (p_lanes is null or d.lane = any (p_lanes)) and d.job_id < p_before and (p_kind is null or d.kind = p_kind)
       order by d.job_id desc limit p_max)
      union
      (select l.job_id from leases as l
       where (p_state is null or p_state = 'waiting_external' and l.state = p_state)
         and (p_lanes is null or l.lane = any (p_lanes)) and l.job_id < p_before and (p_kind is null or l.kind = p_kind)
       order by l.job_id desc limit p_max)
    ) as u
    order by u.job_id desc
    limit p_max);
end;
$$;
