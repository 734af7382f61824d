-- Completing attempts. The common cases have ways of their own, the quickest first. What none of
-- them can close falls through to _close_in_order, as does every batch with follow-ups, which
-- are enqueued only after that.

-- Some open attempts of one batch. Returns false, with nothing done, unless all
-- of them could be completed.
create or replace function {{ .schema }}._complete_part (
  p_slot smallint, p_batch_id bigint, p_ids bigint[], p_leases bigint[]
)
  returns boolean
  language plpgsql
  volatile
  set enable_nestloop = off
as $$
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    insert into attempt_outcomes_{{ $i }} (
      batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, job_ids, run_leases)
    select c.batch_id, c.lane, pg_current_xact_id(), _now(), s.seq, cardinality(p_ids), {{ $i }}, 'c', p_ids,
      case when 1 <> any (p_leases) then p_leases end
{{ template "internal/open_part.sql" (dict "slot" $i "batch" "p_batch_id" "ids" "p_ids" "leases" "p_leases") }}      and c.follows is null
    on conflict (batch_id, seq) do nothing;
    return found;
{{ end }}
  else
    return false;
  end case;
end;
$$;

-- Whether an attempt is among those in two arrays, in which a job may be more than once.
-- Callers first compare the lease at the job's first place, which mostly settles it.
create or replace function {{ .schema }}._among (p_job_id bigint, p_run_lease integer, p_job_ids bigint[], p_run_leases integer[])
  returns boolean
  language sql
  immutable
  parallel safe
as $$
  select exists (
    select from unnest(p_job_ids, p_run_leases) as u (job_id, run_lease)
    where u.job_id = p_job_id and u.run_lease = p_run_lease)
$$;

-- Many batches of one segment in one statement. p_done is false, with nothing closed, when it
-- lost a race for one of them, or one is not where its receipt says or has jobs with
-- follow-ups: the caller then closes them one by one. p_closed is null when all were accepted.
create or replace function {{ .schema }}._complete_together (
  p_slot smallint, p_batches bigint[], p_ids bigint[], p_leases bigint[],
  out p_done boolean, out p_closed {{ .schema }}.receipt[]
)
  language plpgsql
  volatile
as $$
declare
  v_given     bigint := (-1)::bigint;
  v_found     bigint;
  v_attempted bigint;
  v_inserted  bigint;
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    with given as materialized (
      select u.batch_id, array_agg(u.job_id) as job_ids, array_agg(_as_lease(u.run_lease)) as run_leases
      from unnest(p_batches, p_ids, p_leases) as u (batch_id, job_id, run_lease)
      group by u.batch_id
    ),
    found as materialized (
      select g.batch_id, g.job_ids, g.run_leases, c.lane, c.job_ids as claimed_ids, c.run_leases as claimed_leases, s.seq
      from given as g
      cross join lateral (
        select k.* from claims_{{ $i }} as k where k.batch_id = g.batch_id and k.follows is null offset 0
      ) as c
      cross join lateral (
        select coalesce(max(o.seq) + 1, 0) as seq
        from attempt_outcomes_{{ $i }} as o
        where o.batch_id = g.batch_id
      ) as s
    ),
    closing as materialized (
      select f.batch_id, f.lane, f.seq,
        case when w.whole then f.job_ids else a.job_ids end as job_ids,
        case when w.whole then f.run_leases else a.run_leases end as run_leases,
        w.whole
      from found as f
      cross join lateral (
        select f.seq = 0 and f.job_ids = f.claimed_ids
          and case when f.claimed_leases is null then 1 = all (f.run_leases) else f.run_leases = f.claimed_leases end as whole
      ) as w
      left join lateral (
        select coalesce(bool_or(o.job_ids is null), false) as whole, array_agg(i.job_id) as job_ids
        from attempt_outcomes_{{ $i }} as o
        left join lateral unnest(o.job_ids) as i (job_id) on true
        where o.batch_id = f.batch_id and f.seq > 0
      ) as c on not w.whole
      left join lateral (
        select array_agg(j.job_id order by j.job_id) as job_ids,
          array_agg(coalesce(j.run_lease, 1) order by j.job_id) as run_leases
        from unnest(f.claimed_ids, f.claimed_leases) as j (job_id, run_lease)
        where not c.whole
          and j.job_id = any (f.job_ids)
          and (f.run_leases[array_position(f.job_ids, j.job_id)] = coalesce(j.run_lease, 1)
            or _among(j.job_id, coalesce(j.run_lease, 1), f.job_ids, f.run_leases))
          and (c.job_ids is null or j.job_id <> all (c.job_ids))
      ) as a on not w.whole
      where w.whole or a.job_ids is not null
    ),
    closed as (
      insert into attempt_outcomes_{{ $i }} (
        batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, job_ids, run_leases)
      select k.batch_id, k.lane, pg_current_xact_id(), _now(), k.seq, cardinality(k.job_ids), {{ $i }}, 'c',
        case when not k.whole then k.job_ids end,
        case when not k.whole and 1 <> any (k.run_leases) then k.run_leases end
      from closing as k
      order by k.batch_id
      on conflict (batch_id, seq) do nothing
      returning jobs
    )
    select (select count(*) from given), (select count(*) from found), (select count(*) from closing),
      count(*),
      case when sum(d.jobs) is distinct from cardinality(p_ids) then (
        select coalesce(array_agg(row({{ $i }}, k.batch_id, j.job_id, j.run_lease)::receipt), '{}')
        from closing as k
        cross join lateral unnest(k.job_ids, k.run_leases) as j (job_id, run_lease)) end
    into v_given, v_found, v_attempted, v_inserted, p_closed
    from closed as d;
{{ end }}
  else
    null;
  end case;
  if v_found = v_given and v_inserted = v_attempted then
    p_done := true;
    return;
  end if;
  raise exception using errcode = 'AW000', message = 'undo';
exception when sqlstate 'AW000' then
  p_done := false;
end;
$$;

-- Completes the open ones among p_receipts and returns the others.
create or replace function {{ .schema }}._complete_attempts (p_receipts {{ .schema }}.receipt[])
  returns setof {{ .schema }}.receipt
  language plpgsql
  volatile
as $$
declare
  v_slots   smallint[];
  v_batches bigint[];
  v_ids     bigint[];
  v_leases  bigint[];
  v_others  receipt[];
begin
  if coalesce(cardinality(p_receipts), 0) = 0 then
    return;
  end if;
  select array_agg(r.ready_slot), array_agg(r.batch_id), array_agg(r.job_id), array_agg(r.run_lease)
  into v_slots, v_batches, v_ids, v_leases
  from unnest(p_receipts) as r;

  if v_batches[1] = all (v_batches) and v_slots[1] = all (v_slots) then
    -- A whole batch, as it was claimed: nothing to sort out.
    case v_slots[1]
{{ range $i := until (int .segments) }}
    when {{ $i }} then
      insert into attempt_outcomes_{{ $i }} (
        batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome)
      select c.batch_id, c.lane, pg_current_xact_id(), _now(), 0, cardinality(v_ids), {{ $i }}, 'c'
      from claims_{{ $i }} as c
      where c.batch_id = v_batches[1]
        and c.job_ids = v_ids
        and c.follows is null
        and case when c.run_leases is null then 1 = all (v_leases) else c.run_leases::bigint[] = v_leases end
        and not exists (select from attempt_outcomes_{{ $i }} as o where o.batch_id = c.batch_id)
      on conflict (batch_id, seq) do nothing;
      if found then
        return;
      end if;
      insert into attempt_outcomes_{{ $i }} (
        batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, job_ids, run_leases)
      select c.batch_id, c.lane, pg_current_xact_id(), _now(), s.seq, cardinality(v_ids), {{ $i }}, 'c', v_ids,
        case when 1 <> any (v_leases) then v_leases end
{{ template "internal/open_few.sql" (dict "slot" $i "batch" "v_batches[1]" "ids" "v_ids" "leases" "v_leases"
  "few" "cardinality(v_ids) <= 50 or c.run_leases is null and cardinality(c.job_ids) * cardinality(v_ids) <= 50000") }}        and c.follows is null
        and cardinality(v_ids) = (select count(distinct i.job_id) from unnest(v_ids) as i (job_id))
      on conflict (batch_id, seq) do nothing;
      if found then
        return;
      end if;
{{ end }}
    else
      null;
    end case;
  end if;
  -- Leases come before batches in the lock order, and only attempts that registered a callback
  -- have one.
  if exists (select from leases) then
    v_others := _complete_with_leases(p_receipts);
    if v_others is not null then
      return query select r.* from unnest(v_others) as r;
      return;
    end if;
  end if;
  return query select r.* from _complete_batches(p_receipts) as r;
end;
$$;

-- The same for attempts of which none is leased.
create or replace function {{ .schema }}._complete_batches (p_receipts {{ .schema }}.receipt[])
  returns setof {{ .schema }}.receipt
  language plpgsql
  volatile
as $$
declare
  v_slots   smallint[];
  v_batches bigint[];
  v_ids     bigint[];
  v_leases  bigint[];
  v_done    boolean := false;
  v_closed  receipt[];
begin
  select array_agg(r.ready_slot), array_agg(r.batch_id), array_agg(r.job_id), array_agg(r.run_lease)
  into v_slots, v_batches, v_ids, v_leases
  from unnest(p_receipts) as r;
  -- For fewer, everything that open_part.sql checks was checked above.
  if cardinality(v_ids) > 50 and v_batches[1] = all (v_batches) and v_slots[1] = all (v_slots) then
    if _complete_part(v_slots[1], v_batches[1], v_ids, v_leases) then
      return;
    end if;
  end if;
  if v_slots[1] = all (v_slots) then
    select t.p_done, t.p_closed into v_done, v_closed
    from _complete_together(v_slots[1], v_batches, v_ids, v_leases) as t;
    if v_done and v_closed is null then
      return;
    end if;
  end if;
  if not v_done then
    v_closed := array(
      select c from _close_in_order(p_receipts, array_fill('c'::"char", array[cardinality(p_receipts)]), null) as c);
    perform _follow(v_closed, 'completed');
  end if;

  return query select r.* from unnest(_without(p_receipts, v_closed)) as r;
  if found then
    perform _refuse_unseen(p_receipts);
  end if;
end;
$$;

-- The same when some are leased: these first, then the others. Null, with nothing done, when
-- none is. If another one comes to the leases meanwhile, those in hand are let go, because each
-- call meets leases in the order of their jobs.
create or replace function {{ .schema }}._complete_with_leases (p_receipts {{ .schema }}.receipt[])
  returns {{ .schema }}.receipt[]
  language plpgsql
  volatile
as $$
declare
  v_closed receipt[];
  v_others receipt[];
begin
  loop
    begin
      v_closed := array(select l from _close_leases(p_receipts, 'c') as l);
      v_others := case when v_closed <> '{}' then _without(p_receipts, v_closed) end;
      if v_others <> '{}' then
        v_others := array(select r from _complete_batches(v_others) as r);
      end if;
      exit when v_others is null or not _any_leased(v_others);
      raise exception using errcode = 'AW000', message = 'undo';
    exception when sqlstate 'AW000' then
      null;
    end;
  end loop;
  return v_others;
end;
$$;

