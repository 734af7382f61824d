-- Closing attempts in general: every finish, rescue and cancel of a claimed job can be done here.
--
-- Exclusion is the unique index on (batch_id, seq): the next outcome of a
-- batch has the next seq, so of two closers that saw the same state one waits
-- for the other's commit and adds nothing. A call meets its batches in order
-- of batch id and never goes back to one it has passed, so no two calls wait
-- for each other.
--
-- An outcome is a code: c completed, f failed, x cancelled; r retried, s snoozed, e rescued, m
-- moved, q dead-lettered, d deleted.

-- A lease as it is stored; 0, which no attempt has, if it is out of range.
create or replace function {{ .schema }}._as_lease (p_lease bigint)
  returns integer
  language sql
  immutable
  parallel safe
as $$
  select case when p_lease between 1 and 2147483647 then p_lease::integer else 0 end
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

-- The receipts without those in p_taken.
create or replace function {{ .schema }}._without (p_receipts {{ .schema }}.receipt[], p_taken {{ .schema }}.receipt[])
  returns {{ .schema }}.receipt[]
  language plpgsql
  immutable
as $$
begin
  return array(
    select r from unnest(p_receipts) as r
    where not exists (
      select from unnest(p_taken) as t
      where t.batch_id = r.batch_id and t.job_id = r.job_id and t.run_lease = r.run_lease));
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
