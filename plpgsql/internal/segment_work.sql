-- What prune must know about a segment, read without locks.

-- Attempts of a slot that no outcome closed, with the batch that claimed them
-- (null: not claimed yet).
create or replace function {{ .schema }}._open_attempts (p_slot integer)
  returns table (lane bigint, job_id bigint, run_lease integer, batch_id bigint)
  language plpgsql
  stable
  -- All of the segment is read; if it is believed to be empty, not once for each row.
  set enable_nestloop = off
as $$
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    return query
    with claimed as (
      select c.batch_id, j.job_id, coalesce(j.run_lease, 1) as run_lease
      from claims_{{ $i }} as c
      cross join lateral unnest(c.job_ids, c.run_leases) as j (job_id, run_lease)
    ),
    closed as (
      select j.job_id, coalesce(j.run_lease, 1) as run_lease
      from attempt_outcomes_{{ $i }} as o
      left join claims_{{ $i }} as c on c.batch_id = o.batch_id and o.job_ids is null
      cross join lateral unnest(
        coalesce(o.job_ids, c.job_ids),
        case when o.job_ids is null then c.run_leases else o.run_leases end) as j (job_id, run_lease)
    ),
    open as materialized (
      select r.lane, r.job_id, r.run_lease
      from ready_entries_{{ $i }} as r
      where not exists (select from closed as x where x.job_id = r.job_id and x.run_lease = r.run_lease)
    )
    select o.lane, o.job_id, o.run_lease, c.batch_id
    from open as o
    left join claimed as c on c.job_id = o.job_id and c.run_lease = o.run_lease;
{{ end }}
  end case;
end;
$$;

-- Failed jobs of a slot that their queue's failed_retention still keeps, each with the place
-- of its error in its outcome, not the error: an array of a million errors may be too large.
create or replace function {{ .schema }}._retained_failures (p_slot integer)
  returns table (lane bigint, job_id bigint, run_lease integer, batch_id bigint, seq integer, nth integer)
  language plpgsql
  stable
  set enable_nestloop = off
as $$
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    return query
    select o.lane, j.job_id, coalesce(j.run_lease, 1), o.batch_id, o.seq, j.n::integer
    from attempt_outcomes_{{ $i }} as o
    join (select distinct q.lane, q.queue from queue_lanes as q) as l on l.lane = o.lane
    left join queue_meta as m on m.queue = l.queue
    left join claims_{{ $i }} as c on c.batch_id = o.batch_id
    cross join lateral unnest(
      coalesce(o.job_ids, c.job_ids),
      case when o.job_ids is null then c.run_leases else o.run_leases end
    ) with ordinality as j (job_id, run_lease, n)
    where o.outcome = 'f'
      and o.finalized_at > _now() - coalesce(m.failed_retention, '72 hours')
      and not exists (
        select from outcome_removals_{{ $i }} as x
        where x.job_id = j.job_id and x.run_lease = coalesce(j.run_lease, 1));
{{ end }}
  end case;
end;
$$;

-- Keys of some jobs of a slot that are nowhere else, each with its row's place.
create or replace function {{ .schema }}._leaving_keys (p_slot integer, p_job_ids bigint[], out places tid[], out jobs bigint[])
  language plpgsql
  stable
  set enable_seqscan = off
as $$
begin
  select array_agg(k.ctid), array_agg(k.job_id) into places, jobs
  from unnest(p_job_ids) as j (job_id)
  -- Neither joins nor exists, which may read all of a table that is believed to be empty for each.
  cross join lateral (select u.ctid, u.job_id from job_unique_claims as u where u.job_id = j.job_id offset 0) as k
  where coalesce(
    (select false from ready_entries as r where r.job_id = j.job_id and r.ready_slot <> p_slot limit 1),
    (select false from deferred_jobs as d where d.job_id = j.job_id limit 1),
    (select false from leases as l where l.job_id = j.job_id limit 1),
    (select false from dlq_entries as q where q.id = j.job_id limit 1),
    true);
end;
$$;

-- Whether a slot has rows of other transactions that p_proof does not show. Called under the
-- segment's lock, so it reads by index only.
create or replace function {{ .schema }}._segment_changed (p_slot integer, p_proof pg_snapshot, p_own xid8)
  returns boolean
  language plpgsql
  volatile
  set enable_seqscan = off
  set enable_bitmapscan = off
as $$
declare
  v_above xid8 := pg_snapshot_xmax(p_proof);
  v_late  xid8[] := array(select x from pg_snapshot_xip(p_proof) as x where x <> p_own);
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    return exists (select from attempt_outcomes_{{ $i }} as o where o.xid >= v_above and o.xid <> p_own)
      or exists (select from unnest(v_late) as late (xid) join attempt_outcomes_{{ $i }} as o on o.xid = late.xid)
      or exists (select from terminal_count_deltas_{{ $i }} as d where d.xid >= v_above and d.xid <> p_own)
      or exists (select from unnest(v_late) as late (xid) join terminal_count_deltas_{{ $i }} as d on d.xid = late.xid)
      or exists (
        select from (select distinct q.lane from queue_lanes as q) as l
        join ready_entries_{{ $i }} as r on r.lane = l.lane and r.xid >= v_above and r.xid <> p_own)
      or exists (
        select from (select distinct q.lane from queue_lanes as q) as l
        cross join unnest(v_late) as late (xid)
        join ready_entries_{{ $i }} as r on r.lane = l.lane and r.xid = late.xid);
{{ end }}
  end case;
end;
$$;
