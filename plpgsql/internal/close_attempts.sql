-- Closing attempts: every finish, rescue and cancel of a claimed job.
--
-- Exclusion is the unique index on (batch_id, seq): the next outcome of a
-- batch has the next seq, so of two closers that saw the same state one waits
-- for the other's commit and adds nothing. A call meets its batches in order
-- of batch id and never goes back to one it has passed, so no two calls wait
-- for each other.

-- A lease as it is stored; 0, which no attempt has, if it is out of range.
create or replace function {{ .schema }}._as_lease (p_lease bigint)
  returns integer
  language sql
  immutable
  parallel safe
as $$
  select case when p_lease between 1 and 2147483647 then p_lease::integer else 0 end
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

-- Which of the receipts are open now, each with the slot where its claim
-- stands: a straggler's claim moves when its segment is pruned.
create or replace function {{ .schema }}._open_receipts (p_receipts {{ .schema }}.receipt[])
  returns setof {{ .schema }}.receipt
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  perform _enter_ring();
  return query
  -- Outcomes are read once per batch, not once per job.
  with batch as materialized (
    select c.ready_slot, c.batch_id, c.job_ids as claimed_ids, c.run_leases as claimed_leases, g.job_ids, g.run_leases,
      closed.job_ids as closed_ids
    from (
      select r.batch_id, array_agg(r.job_id) as job_ids, array_agg(_as_lease(r.run_lease)) as run_leases
      from unnest(p_receipts) as r
      group by r.batch_id
    ) as g
    cross join lateral (select k.* from claims as k where k.batch_id = g.batch_id offset 0) as c
    cross join lateral (
      select coalesce(bool_or(o.job_ids is null), false) as whole, coalesce(array_agg(i.job_id), '{}') as job_ids
      from attempt_outcomes as o
      left join lateral unnest(o.job_ids) as i (job_id) on true
      where o.ready_slot = c.ready_slot and o.batch_id = c.batch_id
    ) as closed
    where not closed.whole
  )
  select b.ready_slot, b.batch_id, j.job_id, j.run_lease::bigint
  from batch as b
  cross join lateral (
    select distinct u.job_id, u.run_lease from unnest(b.job_ids, b.run_leases) as u (job_id, run_lease)
  ) as j
  cross join lateral (select array_position(b.claimed_ids, j.job_id) as n offset 0) as i
  where i.n is not null and coalesce(b.claimed_leases[i.n], 1) = j.run_lease and j.job_id <> all (b.closed_ids);
end;
$$;

-- Closes one batch after the other, each until it is won or found closed.
-- p_outcomes has one code per receipt; p_errors, when given, maps job ids to
-- the error that closes them. An outcome has the errors of jobs that end with it: others
-- carry theirs with them. Returns the receipts it closed.
create or replace function {{ .schema }}._close_in_order (
  p_receipts {{ .schema }}.receipt[], p_outcomes "char"[], p_errors jsonb
)
  returns setof {{ .schema }}.receipt
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  g        record;
  v_now    timestamptz := _now();
  v_slot   smallint;
  v_ids    bigint[];
  v_leases integer[];
begin
  perform _enter_ring();
  for g in
    -- Errors are looked up job by job: no outcome row holds more than 50.
    select r.batch_id, r.outcome, array_agg(r.job_id) as job_ids, array_agg(_as_lease(r.run_lease)) as run_leases
    from (
      select u.batch_id, u.job_id, u.run_lease, u.outcome,
        case when p_errors is not null and u.outcome in ('f', 'x') then
          (row_number() over (partition by u.batch_id, u.outcome order by u.job_id) - 1) / 50 end as part
      from unnest(p_receipts, p_outcomes) as u (ready_slot, batch_id, job_id, run_lease, outcome)
      where u.batch_id is not null and u.job_id is not null and u.run_lease is not null
    ) as r
    group by r.batch_id, r.outcome, r.part
    order by r.batch_id, r.outcome, r.part
  loop
    loop
      insert into attempt_outcomes (
        batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, job_ids, run_leases, errors)
      select c.batch_id, c.lane, pg_current_xact_id(), v_now, s.seq, cardinality(a.job_ids), c.ready_slot, g.outcome,
        a.job_ids, a.run_leases, case when g.outcome in ('f', 'x') then _errors_of(a.job_ids, p_errors) end
      from claims as c
      cross join lateral (
        select coalesce(max(o.seq) + 1, 0) as seq, coalesce(bool_or(o.job_ids is null), false) as whole,
          array_agg(i.job_id) as job_ids
        from attempt_outcomes as o
        left join lateral unnest(o.job_ids) as i (job_id) on true
        where o.ready_slot = c.ready_slot and o.batch_id = c.batch_id
      ) as s
      cross join lateral (
        -- Each given job is looked up in the batch: mostly they are a few of many.
        select array_agg(j.job_id order by j.job_id) as job_ids,
          case when max(j.run_lease) > 1 then array_agg(j.run_lease order by j.job_id) end as run_leases
        from (select distinct u.job_id, u.run_lease from unnest(g.job_ids, g.run_leases) as u (job_id, run_lease)) as j
        cross join lateral (select array_position(c.job_ids, j.job_id) as n offset 0) as i
        where i.n is not null and coalesce(c.run_leases[i.n], 1) = j.run_lease and (s.job_ids is null or j.job_id <> all (s.job_ids))
      ) as a
      where c.batch_id = g.batch_id and not s.whole and a.job_ids is not null
      on conflict do nothing
      returning ready_slot, job_ids, run_leases into v_slot, v_ids, v_leases;
      if found then
        return query
        select v_slot, g.batch_id, j.job_id, coalesce(j.run_lease, 1)::bigint
        from unnest(v_ids, v_leases) as j (job_id, run_lease);
        exit;
      end if;
      -- If it lost a race for seq it looks again; if nothing is open it is done.
      exit when not exists (
        select from _open_receipts(array(
          select row(null, g.batch_id, u.job_id, u.run_lease)::receipt
          from unnest(g.job_ids, g.run_leases) as u (job_id, run_lease))));
    end loop;
  end loop;
end;
$$;

-- Some open attempts of one batch. Returns false, with nothing done, unless all
-- of them could be closed.
create or replace function {{ .schema }}._close_part (
  p_slot smallint, p_batch_id bigint, p_ids bigint[], p_leases bigint[], p_outcome "char"
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
    select c.batch_id, c.lane, pg_current_xact_id(), _now(), s.seq, cardinality(p_ids), {{ $i }}, p_outcome, p_ids,
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

-- Many batches of one segment in one statement. p_done is false, with nothing closed, when it
-- lost a race for one of them, or one is not where its receipt says or has jobs with
-- follow-ups: the caller then closes them one by one. p_closed is null when all were accepted.
create or replace function {{ .schema }}._close_together (
  p_slot smallint, p_batches bigint[], p_ids bigint[], p_leases bigint[], p_outcome "char",
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
      select k.batch_id, k.lane, pg_current_xact_id(), _now(), k.seq, cardinality(k.job_ids), {{ $i }}, p_outcome,
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

-- Closes the open ones among p_receipts and returns the others.
create or replace function {{ .schema }}._close_attempts (p_receipts {{ .schema }}.receipt[], p_outcome "char")
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
      select c.batch_id, c.lane, pg_current_xact_id(), _now(), 0, cardinality(v_ids), {{ $i }}, p_outcome
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
      select c.batch_id, c.lane, pg_current_xact_id(), _now(), s.seq, cardinality(v_ids), {{ $i }}, p_outcome, v_ids,
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
    v_others := _close_with_leases(p_receipts, p_outcome);
    if v_others is not null then
      return query select r.* from unnest(v_others) as r;
      return;
    end if;
  end if;
  return query select r.* from _close_batches(p_receipts, p_outcome) as r;
end;
$$;

-- The same for attempts of which none is leased.
create or replace function {{ .schema }}._close_batches (p_receipts {{ .schema }}.receipt[], p_outcome "char")
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
    if _close_part(v_slots[1], v_batches[1], v_ids, v_leases, p_outcome) then
      return;
    end if;
  end if;
  if v_slots[1] = all (v_slots) then
    select t.p_done, t.p_closed into v_done, v_closed
    from _close_together(v_slots[1], v_batches, v_ids, v_leases, p_outcome) as t;
    if v_done and v_closed is null then
      return;
    end if;
  end if;
  if not v_done then
    v_closed := array(
      select c from _close_in_order(p_receipts, array_fill(p_outcome, array[cardinality(p_receipts)]), null) as c);
    if p_outcome = 'c' then
      perform _follow(v_closed, 'completed');
    end if;
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
create or replace function {{ .schema }}._close_with_leases (p_receipts {{ .schema }}.receipt[], p_outcome "char")
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
      v_closed := array(select l from _close_leases(p_receipts, p_outcome) as l);
      v_others := case when v_closed <> '{}' then _without(p_receipts, v_closed) end;
      if v_others <> '{}' then
        v_others := array(select r from _close_batches(v_others, p_outcome) as r);
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

-- Under a transaction-long snapshot a receipt may be of a claim that the snapshot does not
-- show, and then it must not pass for stale. Adding a claim of that name tells: against one
-- that only later snapshots show PostgreSQL raises 40001, and where there is none the new one is
-- undone. A prune that came since the snapshot took claims away and left what runs in leases
-- that it does not show; one before it left leases that the caller has looked at.
create or replace function {{ .schema }}._refuse_unseen (p_receipts {{ .schema }}.receipt[])
  returns void
  language plpgsql
  volatile
as $$
declare
  v_absent receipt[];
begin
  if not _keeps_snapshot() then
    return;
  end if;
  v_absent := array(
    select row(r.ready_slot, r.batch_id, null, null)::receipt
    from unnest(p_receipts) as r
    where r.ready_slot between 0 and {{ int .segments }} - 1
      and r.batch_id is not null
      and not exists (select from claims as c where c.batch_id = r.batch_id));
  if v_absent = '{}' then
    return;
  end if;
  perform _refuse_torn('finish');
  begin
    insert into claims (batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids)
    select distinct a.batch_id, 0, _now(), _now(), a.ready_slot, '{}'::bigint[]
    from unnest(v_absent) as a
    order by a.ready_slot, a.batch_id
    on conflict do nothing;
    raise exception using errcode = 'AW000', message = 'undo';
  exception
    when sqlstate 'AW000' then
      null;
    when serialization_failure then
      perform _stale_snapshot('finish');
  end;
end;
$$;
