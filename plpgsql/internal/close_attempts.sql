-- Closing attempts: every finish, rescue and cancel of a claimed job.
--
-- Exclusion is the unique index on (batch_id, seq): the next outcome of a
-- batch has the next seq, so of two closers that saw the same state one waits
-- for the other's commit and adds nothing. Batches are visited by slot and
-- batch id, the one order in which they are ever waited for.

-- The errors of jobs in the order of their ids; null for an outcome without.
create or replace function {{ .schema }}._errors_of (p_job_ids bigint[], p_errors jsonb)
  returns jsonb[]
  language sql
  immutable
  parallel safe
as $$
  select case when p_errors is not null then
    array(select p_errors -> j.job_id::text from unnest(p_job_ids) with ordinality as j (job_id, n) order by j.n)
  end
$$;

-- Which of the receipts are open now, each with the slot where its claim
-- stands: a straggler's claim moves when its segment is pruned.
create or replace function {{ .schema }}._open_receipts (p_receipts {{ .schema }}.receipt[])
  returns setof {{ .schema }}.receipt
  language sql
  volatile
as $$
  select distinct row(c.ready_slot, c.batch_id, r.job_id, r.run_lease)::receipt
  from unnest(p_receipts) as r
  join claims as c on c.batch_id = r.batch_id
  where array_position(c.job_ids, r.job_id) is not null
    and coalesce(c.run_leases[array_position(c.job_ids, r.job_id)], 1) = r.run_lease
    and not exists (
      select from attempt_outcomes as o
      where o.ready_slot = c.ready_slot and o.batch_id = c.batch_id
        and (o.job_ids is null or r.job_id = any (o.job_ids)))
$$;

-- Closes the open ones among p_receipts and returns the others. p_errors, when
-- given, maps job ids to the error that closes them.
create or replace function {{ .schema }}._close_attempts (
  p_receipts {{ .schema }}.receipt[], p_outcome "char", p_errors jsonb default null
)
  returns setof {{ .schema }}.receipt
  language plpgsql
  volatile
as $$
declare
  v_todo    receipt[] := p_receipts;
  v_now     timestamptz := clock_timestamp();
  v_slots   smallint[];
  v_batches bigint[];
  v_ids     bigint[];
  v_leases  bigint[];
  v_slot    smallint;
  v_closed  bigint := 0;
  v_jobs    bigint;
  v_whole   bigint[];
  v_some    receipt[];
  v_wholes  bigint[];
  v_somes   receipt[];
begin
  select array_agg(r.ready_slot), array_agg(r.batch_id), array_agg(r.job_id), array_agg(r.run_lease)
  into v_slots, v_batches, v_ids, v_leases
  from unnest(p_receipts) as r;
  v_jobs := cardinality(v_ids);

  -- A whole batch, as it was claimed: nothing to sort out.
  if v_batches[1] = all (v_batches) and v_slots[1] = all (v_slots) then
    case v_slots[1]
{{ range $i := until (int .segments) }}
    when {{ $i }} then
      insert into attempt_outcomes_{{ $i }} (
        batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, job_ids, run_leases, errors)
      select c.batch_id, c.lane, pg_current_xact_id(), v_now, 0, v_jobs, {{ $i }}, p_outcome, null, null,
        _errors_of(c.job_ids, p_errors)
      from claims_{{ $i }} as c
      where c.batch_id = v_batches[1]
        and c.job_ids = v_ids
        and case when c.run_leases is null then 1 = all (v_leases) else c.run_leases::bigint[] = v_leases end
        and not exists (select from attempt_outcomes_{{ $i }} as o where o.batch_id = c.batch_id)
      on conflict (batch_id, seq) do nothing;
{{ end }}
    else
      v_jobs := 0;
    end case;
    if found then
      return;
    end if;
  end if;

  loop
    for v_slot in
      select distinct r.ready_slot from unnest(v_todo) as r
      where r.ready_slot between 0 and {{ sub (int .segments) 1 }}
      order by r.ready_slot
    loop
      case v_slot
{{ range $i := until (int .segments) }}
      when {{ $i }} then
        with given as materialized (
          select r.batch_id, array_agg(r.job_id) as job_ids, array_agg(r.run_lease::integer) as run_leases
          from unnest(v_todo) as r
          where r.ready_slot = {{ $i }}
          group by r.batch_id
        ),
        closing as (
          select g.batch_id, c.lane, s.seq, w.whole,
            case when w.whole then c.job_ids else a.job_ids end as jobs,
            a.job_ids, a.run_leases
          from given as g
          join claims_{{ $i }} as c on c.batch_id = g.batch_id
          cross join lateral (
            select coalesce(max(o.seq) + 1, 0) as seq
            from attempt_outcomes_{{ $i }} as o
            where o.batch_id = g.batch_id
          ) as s
          cross join lateral (
            select s.seq = 0 and g.job_ids = c.job_ids
              and case when c.run_leases is null then 1 = all (g.run_leases) else g.run_leases = c.run_leases end as whole
          ) as w
          left join lateral (
            select array_agg(j.job_id order by j.job_id) as job_ids,
              case when max(j.run_lease) > 1 then array_agg(j.run_lease order by j.job_id) end as run_leases
            from (
              select distinct u.job_id, u.run_lease
              from unnest(g.job_ids, g.run_leases) as u (job_id, run_lease)
              where array_position(c.job_ids, u.job_id) is not null
                and coalesce(c.run_leases[array_position(c.job_ids, u.job_id)], 1) = u.run_lease
            ) as j
            where s.seq = 0 or not exists (
              select from attempt_outcomes_{{ $i }} as o
              where o.batch_id = g.batch_id and (o.job_ids is null or j.job_id = any (o.job_ids)))
          ) as a on not w.whole
          where w.whole or a.job_ids is not null
          order by g.batch_id
        ),
        closed as (
          insert into attempt_outcomes_{{ $i }} (
            batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, job_ids, run_leases, errors)
          select k.batch_id, k.lane, pg_current_xact_id(), v_now, k.seq, cardinality(k.jobs), {{ $i }}, p_outcome,
            k.job_ids, k.run_leases, _errors_of(k.jobs, p_errors)
          from closing as k
          on conflict (batch_id, seq) do nothing
          returning batch_id, jobs, job_ids, run_leases
        )
        select coalesce(sum(d.jobs), 0), array_agg(d.batch_id) filter (where d.job_ids is null),
          (select array_agg(row({{ $i }}, e.batch_id, j.job_id, coalesce(j.run_lease, 1))::receipt)
           from closed as e cross join lateral unnest(e.job_ids, e.run_leases) as j (job_id, run_lease))
        into v_jobs, v_whole, v_some
        from closed as d;
        v_closed := v_closed + v_jobs;
        v_wholes := v_wholes || v_whole;
        v_somes := v_somes || v_some;
{{ end }}
      end case;
    end loop;
    exit when v_closed = cardinality(p_receipts);

    -- Some were not accepted. Those still open lost a race for their batch's
    -- seq or moved with a pruned segment: once more. The rest is stale.
    v_todo := array(select o from _open_receipts(p_receipts) as o);
    if v_todo = '{}' then
      return query
      select r.ready_slot, r.batch_id, r.job_id, r.run_lease
      from unnest(p_receipts) as r
      where not exists (
          select from unnest(v_somes) as s
          where s.batch_id = r.batch_id and s.job_id = r.job_id and s.run_lease = r.run_lease)
        and not exists (
          select from unnest(v_wholes) as b (batch_id)
          join claims as c on c.batch_id = b.batch_id
          where b.batch_id = r.batch_id
            and array_position(c.job_ids, r.job_id) is not null
            and coalesce(c.run_leases[array_position(c.job_ids, r.job_id)], 1) = r.run_lease);
      if found and _snapshot_is_stale() then
        perform _stale_snapshot('finish');
      end if;
      return;
    end if;
  end loop;
end;
$$;
