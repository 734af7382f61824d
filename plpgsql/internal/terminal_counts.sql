-- Totals per segment: a checkpoint holds in one snapshot, and the tail is what that snapshot
-- does not show. Both are read in one statement.

-- What a segment's counters say and what its rows say, per lane, for rows visible in p_cur.
-- enqueued counts rows that windows offer (xid above 0); closed counts every closure;
-- completed, failed and cancelled count history. Deferred jobs belong to no segment: for them
-- the rows counted are the deltas.
create or replace function {{ .schema }}._segment_truth (p_slot integer, p_cur pg_snapshot)
  returns table (
    lane bigint, enqueued bigint, closed bigint, completed bigint, failed bigint, cancelled bigint, scheduled bigint, retryable bigint)
  language plpgsql
  stable
  -- As in _open_attempts.
  set enable_nestloop = off
as $$
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    return query
    select t.lane, sum(t.enqueued)::bigint, sum(t.closed)::bigint, sum(t.completed)::bigint,
      sum(t.failed)::bigint, sum(t.cancelled)::bigint, sum(t.scheduled)::bigint, sum(t.retryable)::bigint
    from (
      select r.lane, count(*) as enqueued, 0::bigint as closed, 0::bigint as completed, 0::bigint as failed, 0::bigint as cancelled,
        0::bigint as scheduled, 0::bigint as retryable
      from ready_entries_{{ $i }} as r
      where r.xid > '0' and pg_visible_in_snapshot(r.xid, p_cur)
      group by r.lane
      union all
      select o.lane, 0, n.jobs,
        case when o.outcome = 'c' then n.jobs else 0 end,
        case when o.outcome = 'f' then n.jobs else 0 end,
        case when o.outcome = 'x' then n.jobs else 0 end,
        0, 0
      from attempt_outcomes_{{ $i }} as o
      left join claims_{{ $i }} as c on c.batch_id = o.batch_id and o.job_ids is null
      cross join lateral (select cardinality(coalesce(o.job_ids, c.job_ids))::bigint as jobs) as n
      where pg_visible_in_snapshot(o.xid, p_cur)
      union all
      select m.lane, 0, 0,
        case when m.outcome = 'c' then -1 else 0 end,
        case when m.outcome = 'f' then -1 else 0 end,
        case when m.outcome = 'x' then -1 else 0 end,
        0, 0
      from outcome_removals_{{ $i }} as m
      where pg_visible_in_snapshot(m.xid, p_cur)
      union all
      select c.lane, 0, -cardinality(c.job_ids), 0, 0, 0, 0, 0
      from claims_{{ $i }} as c
      where c.bypassed_by is not null and pg_visible_in_snapshot(c.bypassed_by, p_cur)
      union all
      select d.lane, 0, 0, 0, 0, 0, d.scheduled, d.retryable
      from terminal_count_deltas_{{ $i }} as d
      where (d.scheduled <> 0 or d.retryable <> 0) and pg_visible_in_snapshot(d.xid, p_cur)
    ) as t
    group by t.lane;
{{ end }}
  end case;
end;
$$;

-- Each lane's totals in a slot as of its newest checkpoint.
create or replace function {{ .schema }}._newest_totals (p_slot smallint)
  returns table (lane bigint, enqueued bigint, closed bigint)
  language plpgsql
  stable
  set enable_seqscan = off
as $$
begin
  return query
  select l.lane, k.enqueued, k.closed
  from (select distinct q.lane from queue_lanes as q) as l
  cross join lateral (
    select c.enqueued, c.closed from terminal_count_checkpoints as c
    where c.ready_slot = p_slot and c.lane = l.lane
    order by c.checkpoint desc
    limit 1
  ) as k;
end;
$$;

-- What the counters add up to for rows visible in p_cur, or without it to the caller's
-- statement, and not in p_prev, the snapshot of the newest checkpoint.
create or replace function {{ .schema }}._segment_tail (p_slot integer, p_prev pg_snapshot, p_cur pg_snapshot)
  returns table (
    lane bigint, enqueued bigint, closed bigint, completed bigint, failed bigint, cancelled bigint, scheduled bigint, retryable bigint)
  language plpgsql
  stable
as $$
declare
  v_snap   pg_snapshot := coalesce(p_cur, pg_current_snapshot());
  v_shown  pg_snapshot := coalesce(p_cur, '9223372036854775807:9223372036854775807:');
  v_filled boolean;
  v_cuts   integer := 8;
  v_lo     xid8[];
  v_hi     xid8[];
  v_after  xid8[];
  v_before xid8[];
begin
  -- Every lane is searched in every part.
  if pg_snapshot_xmin(v_snap) < pg_snapshot_xmax(v_snap) then
    v_cuts := (select case when count(*) < 100 then 8 else 1 end from (select from queue_lanes limit 100) as l);
  end if;
  select array_agg(u.lo), array_agg(u.hi), array_agg(u.after), array_agg(u.before)
  into v_lo, v_hi, v_after, v_before
  from _unseen(array[p_prev], v_snap, case when p_cur is null then pg_current_xact_id_if_assigned() end, v_cuts) as u;
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    v_filled := pg_relation_size('ready_entries_{{ $i }}') > 0;
    return query
    select t.lane, sum(t.enqueued)::bigint, sum(t.closed)::bigint, sum(t.completed)::bigint,
      sum(t.failed)::bigint, sum(t.cancelled)::bigint, sum(t.scheduled)::bigint, sum(t.retryable)::bigint
    from unnest(v_lo, v_hi, v_after, v_before) as u (lo, hi, after, before)
    cross join lateral (
      select l.lane, r.rows as enqueued, 0::bigint as closed, 0::bigint as completed, 0::bigint as failed, 0::bigint as cancelled,
        0::bigint as scheduled, 0::bigint as retryable
      from (select distinct q.lane from queue_lanes as q where v_filled) as l
      cross join lateral (
        select count(*) as rows from ready_entries_{{ $i }} as r
        where r.lane = l.lane and r.xid >= u.lo and r.xid <= u.hi and r.xid > u.after and r.xid < u.before
          and pg_visible_in_snapshot(r.xid, v_shown)
      ) as r
      where r.rows > 0
      union all
      select o.lane, 0, o.jobs,
        case when o.outcome = 'c' then o.jobs else 0 end,
        case when o.outcome = 'f' then o.jobs else 0 end,
        case when o.outcome = 'x' then o.jobs else 0 end,
        0, 0
      from attempt_outcomes_{{ $i }} as o
      where o.xid >= u.lo and o.xid <= u.hi and o.xid > u.after and o.xid < u.before
        and pg_visible_in_snapshot(o.xid, v_shown)
      union all
      select d.lane, 0, d.closed, d.completed, d.failed, d.cancelled, d.scheduled, d.retryable
      from terminal_count_deltas_{{ $i }} as d
      where d.xid >= u.lo and d.xid <= u.hi and d.xid > u.after and d.xid < u.before
        and pg_visible_in_snapshot(d.xid, v_shown)
    ) as t
    group by t.lane;
{{ end }}
  end case;
end;
$$;

-- Every prune leaves a row per lane, which readers of the counts add up. So that this does not
-- take longer over the years, a lane's rows become one at every 16th prune: at each prune,
-- those of one lane in 16.
create or replace function {{ .schema }}._fold_rollups (p_generation bigint)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_lanes bigint[] := array(
    select distinct l.lane from queue_lanes as l
    where (hashint8(l.lane) - p_generation) % 16 = 0
      and exists (select from terminal_rollup_entries as e where e.lane = l.lane offset 1));
begin
  with folded as (
    delete from terminal_rollup_entries as e where e.lane = any (v_lanes) returning e.*
  )
  insert into terminal_rollup_entries (lane, generation, ready, closed, completed, failed, cancelled, scheduled, retryable)
  select f.lane, max(f.generation), sum(f.ready), sum(f.closed), sum(f.completed), sum(f.failed), sum(f.cancelled),
    sum(f.scheduled), sum(f.retryable)
  from folded as f
  group by f.lane;
end;
$$;
