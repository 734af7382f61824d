-- Where jobs are.

-- Jobs' live or historical attempts: the ready row and, once claimed, batch
-- and outcome. A job without a row is deferred, dead-lettered, pruned or
-- unknown.
create or replace function {{ .schema }}._locate (p_job_ids bigint[])
  returns table (
    job_id bigint, ready_slot smallint, lane bigint, run_lease integer, own boolean, batch_id bigint, outcome "char")
  language plpgsql
  volatile
  set enable_seqscan = off
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  if p_job_ids = '{}' then
    return;  -- the query names every segment: only to start it takes long
  elsif cardinality(p_job_ids) > 200 and cardinality(p_job_ids) > _by_key_at_most() then
    return query select l.* from _locate_many(p_job_ids) as l;
    return;
  end if;
  return query
  select r.job_id, r.ready_slot, r.lane, r.run_lease, r.xid is not distinct from pg_current_xact_id_if_assigned(),
    k.batch_id, k.outcome
  from (select distinct u.id from unnest(p_job_ids) as u (id)) as u
  -- Not a join: where the table is believed to be empty that may walk all of it for each.
  cross join lateral (select e.* from ready_entries as e where e.job_id = u.id offset 0) as r
  left join lateral (
    select c.* from lane_cursors as c where c.lane = r.lane order by c.generation desc limit 1
  ) as c on true
  cross join lateral _attempt_of(r.ready_slot, r.lane, r.job_id, r.run_lease,
{{ template "internal/row_passed.sql" . }}    or
{{ template "internal/row_taken.sql" "r" }}  ) as k
  where k.outcome is null or (k.outcome in ('c', 'f', 'x') and not k.removed);
end;
$$;

-- _locate for more jobs than are worth an index lookup each: reads all claims
-- and outcomes and joins by hash.
create or replace function {{ .schema }}._locate_many (p_job_ids bigint[])
  returns table (
    job_id bigint, ready_slot smallint, lane bigint, run_lease integer, own boolean, batch_id bigint, outcome "char")
  language plpgsql
  volatile
  set plan_cache_mode = force_custom_plan
  set enable_seqscan = on
  set enable_nestloop = off
  set enable_mergejoin = off
  set work_mem = '64MB'
as $$
#variable_conflict use_column
begin
  return query
  -- Arrays are taken apart in select lists, which is no nested loop: a plan that needs one
  -- counts as so dear that other joins of it are chosen at random.
  with claimed as (
    select j.ready_slot, j.batch_id, j.job_id, coalesce(j.run_lease, 1) as run_lease
    from (
      select c.ready_slot, c.batch_id, unnest(c.job_ids) as job_id, unnest(c.run_leases) as run_lease from claims as c
    ) as j
  ),
  closed as (
    select j.ready_slot, j.outcome, j.job_id, coalesce(j.run_lease, 1) as run_lease
    from (
      select o.ready_slot, o.outcome, unnest(coalesce(o.job_ids, c.job_ids)) as job_id,
        unnest(case when o.job_ids is null then c.run_leases else o.run_leases end) as run_lease
      from attempt_outcomes as o
      left join claims as c on c.ready_slot = o.ready_slot and c.batch_id = o.batch_id and o.job_ids is null
    ) as j
  )
  select r.job_id, r.ready_slot, r.lane, r.run_lease, r.xid is not distinct from pg_current_xact_id_if_assigned(),
    c.batch_id, o.outcome
  from (select distinct u.id from unnest(p_job_ids) as u (id)) as u
  join ready_entries as r on r.job_id = u.id
  left join claimed as c on c.ready_slot = r.ready_slot and c.job_id = r.job_id and c.run_lease = r.run_lease
  left join closed as o on o.ready_slot = r.ready_slot and o.job_id = r.job_id and o.run_lease = r.run_lease
  left join outcome_removals as m
    on m.ready_slot = r.ready_slot and m.job_id = r.job_id and m.run_lease = r.run_lease
  where o.outcome is null or (o.outcome in ('c', 'f', 'x') and m.job_id is null);
end;
$$;
