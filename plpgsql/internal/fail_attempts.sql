-- Attempts that did not succeed: the way that sorts them out.

-- Closes attempts that did not succeed, and retries, fails or dead-letters their jobs. p_how is
-- r for a failure, e for a rescue, s for a snooze, which counts no attempt and records no
-- error. Returns each accepted receipt with the state its job came to.
create or replace function {{ .schema }}._fail_attempts (
  p_receipts {{ .schema }}.receipt[], p_errors text[], p_retry_after interval, p_terminal boolean, p_how "char"
)
  returns table (receipt {{ .schema }}.receipt, state {{ .schema }}.job_state)
  language plpgsql
  volatile
as $$
declare
  v_state job_state := _state_after(p_how);
begin
  if not p_terminal and (p_receipts[1]).ready_slot = all (array(select u.ready_slot from unnest(p_receipts) as u))
    and _defer_together((p_receipts[1]).ready_slot, p_receipts, p_errors, p_retry_after, p_how)
  then
    return query select u.*::receipt, v_state from unnest(p_receipts) as u;
    return;
  end if;
  perform _enter_ring();
  if _any_leased(p_receipts) then
    return query select f.* from _fail_with_leases(p_receipts, p_errors, p_retry_after, p_terminal, p_how) as f;
  else
    return query select f.* from _fail_batches(p_receipts, p_errors, p_retry_after, p_terminal, p_how) as f;
  end if;
end;
$$;

-- The same for attempts of which none is leased.
create or replace function {{ .schema }}._fail_batches (
  p_receipts {{ .schema }}.receipt[], p_errors text[], p_retry_after interval, p_terminal boolean, p_how "char"
)
  returns table (receipt {{ .schema }}.receipt, state {{ .schema }}.job_state)
  language plpgsql
  volatile
as $$
declare
  v_now      timestamptz := _now();
  v_snooze   boolean := p_how = 's';
  v_state    job_state := _state_after(p_how);
  v_progress boolean;
  v_receipts receipt[];
  v_outcomes "char"[];
  v_errors   jsonb;
  v_keyed    bigint[];
  -- What this call closed, and how.
  v_closed   receipt[];
  v_ended    "char"[];
begin
  -- Whether an attempt was the last stands in its immutable ready row. Keys are
  -- taken in their order and before any batch.
  select array_agg(row(t.ready_slot, t.batch_id, t.job_id, t.run_lease)::receipt),
    array_agg(case
      when t.last then case when t.dlq_enabled then 'q'::"char" else 'f'::"char" end
      -- Another job holds its unique key by now, so this one is cancelled.
      when t.nth > 1 or t.unique_key is not null
        and _take_key(t.unique_key, t.unique_states, t.job_id, v_state) <> t.job_id then 'x'::"char"
      else p_how end),
    jsonb_object_agg(t.job_id, _failure(t.error, t.attempt, v_now)),
    array_agg(t.job_id) filter (where t.unique_key is not null)
  into v_receipts, v_outcomes, v_errors, v_keyed
  from (
    select o.ready_slot, o.batch_id, o.job_id, o.run_lease, r.attempt, r.unique_key, r.unique_states, g.error,
      m.dlq_enabled, l.last,
      -- Of several jobs with one key only one may come back: the key's holder, or the first.
      case when r.unique_key is not null and not l.last and _in_mask(v_state, r.unique_states) then row_number() over (
        partition by r.unique_key, l.last, case when r.unique_key is not null then _in_mask(v_state, r.unique_states) end
        order by (u.job_id is not null and _in_mask('running', r.unique_states)) desc, r.job_id) end as nth
    from _open_receipts(p_receipts) as o
    -- Not a join, here and below: where the table is believed to be empty that may walk all of it for each.
    cross join lateral (
      select e.* from ready_entries as e
      where e.ready_slot = o.ready_slot and e.job_id = o.job_id and e.run_lease = o.run_lease
      limit 1
    ) as r
    join (
      select distinct on (u.batch_id, u.job_id, u.run_lease) u.batch_id, u.job_id, u.run_lease, u.error
      from unnest(p_receipts, p_errors) as u (ready_slot, batch_id, job_id, run_lease, error)
    ) as g on g.batch_id = o.batch_id and g.job_id = o.job_id and g.run_lease = o.run_lease
    cross join lateral (
      select q.queue, not v_snooze and (p_terminal or r.attempt >= r.max_attempts) as last
      from queue_lanes as q where q.lane = r.lane limit 1
    ) as l
    left join queue_meta as m on m.queue = l.queue
    left join lateral (
      select k.job_id from job_unique_claims as k where k.unique_key = r.unique_key and k.job_id = r.job_id limit 1
    ) as u on true
    order by r.unique_key
  ) as t;
  if 'x' = any (v_outcomes) then
    v_errors := (
      select jsonb_object_agg(o.job_id, case when o.outcome = 'x' then _key_lost(e.error) else e.error end)
      from unnest(v_receipts, v_outcomes) as o (ready_slot, batch_id, job_id, run_lease, outcome)
      cross join lateral (select v_errors -> o.job_id::text) as e (error));
  end if;
  if v_receipts is not null then
    v_closed := array(
      select c from _close_in_order(v_receipts, v_outcomes,
        case when not v_snooze or 'x' = any (v_outcomes) then v_errors end) as c);
    v_ended := array(
      select o.outcome
      from unnest(v_closed) with ordinality as c (ready_slot, batch_id, job_id, run_lease, n)
      join unnest(v_receipts, v_outcomes) as o (ready_slot, batch_id, job_id, run_lease, outcome)
        on o.batch_id = c.batch_id and o.job_id = c.job_id
      order by c.n);
  end if;
  -- Not before: what was reported while this call waited is handed on as well.
  v_progress := exists (select from progress_entries);

  insert into deferred_jobs (
    job_id, lane, state, run_at, created_at, run_lease, attempt, max_attempts, kind, args,
    metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline, xid)
  select r.job_id, r.lane, v_state,
    v_now + coalesce(p_retry_after, _backoff(r.attempt)), r.created_at, r.run_lease + 1,
    r.attempt + (not v_snooze)::integer, r.max_attempts, r.kind, r.args, r.metadata, r.tags,
    -- One less than the bound, because the error of a last attempt is kept apart from these.
    case when v_snooze then r.errors else _bounded_errors(r.errors, v_errors -> r.job_id::text, 49) end,
    case when v_progress then _progress_of(c.ready_slot, r.job_id, r.run_lease) else r.progress end, r.unique_key, r.unique_states, r.ordering_key, r.deadline,
    pg_current_xact_id()
  from unnest(v_closed, v_ended) as c (ready_slot, batch_id, job_id, run_lease, outcome)
  cross join lateral (
    select e.* from ready_entries as e
    where e.ready_slot = c.ready_slot and e.job_id = c.job_id and e.run_lease = c.run_lease
    limit 1
  ) as r
  where c.outcome = p_how
  order by r.job_id;

  perform _dead_letter(
    row(r.job_id, r.lane, 'retryable', r.run_at, r.created_at, r.run_lease, r.attempt, r.max_attempts, r.kind, r.args,
      r.metadata, r.tags, _bounded_errors(r.errors, v_errors -> r.job_id::text),
      case when v_progress then _progress_of(c.ready_slot, r.job_id, r.run_lease) else r.progress end,
      r.unique_key, r.unique_states, r.ordering_key, r.deadline, null)::deferred_jobs,
    case when r.attempt >= r.max_attempts then 'max_attempts_exhausted' else 'terminal_error' end, k.claimed_at)
  from unnest(v_closed, v_ended) as c (ready_slot, batch_id, job_id, run_lease, outcome)
  cross join lateral (
    select e.* from ready_entries as e
    where e.ready_slot = c.ready_slot and e.job_id = c.job_id and e.run_lease = c.run_lease
    limit 1
  ) as r
  cross join lateral (
    select i.claimed_at from claims as i where i.ready_slot = c.ready_slot and i.batch_id = c.batch_id offset 0
  ) as k
  where c.outcome = 'q'
  order by r.job_id;

  -- Gives up keys that were taken for attempts which somebody else closed first. Jobs whose
  -- attempts this call closed are in their places by now.
  if v_keyed is not null and cardinality(v_closed) < cardinality(v_receipts) then
    perform _release_absent(v_keyed);
  end if;

  if 'f' = any (v_ended) or 'q' = any (v_ended) then
    perform _follow(array(
      select row(c.ready_slot, c.batch_id, c.job_id, c.run_lease)::receipt
      from unnest(v_closed, v_ended) as c (ready_slot, batch_id, job_id, run_lease, outcome)
      where c.outcome in ('f', 'q')), null);
  end if;

  return query
  select row(u.ready_slot, u.batch_id, u.job_id, u.run_lease)::receipt,
    (case c.outcome when 'r' then 'retryable' when 'e' then 'retryable' when 's' then 'scheduled' when 'x' then 'cancelled'
      else 'failed' end)::job_state
  from unnest(p_receipts) with ordinality as u (ready_slot, batch_id, job_id, run_lease, n)
  join unnest(v_closed, v_ended) as c (ready_slot, batch_id, job_id, run_lease, outcome)
    on c.batch_id = u.batch_id and c.job_id = u.job_id and c.run_lease = u.run_lease
  order by u.n;
  if coalesce(cardinality(v_closed), 0) < cardinality(p_receipts) then
    perform _refuse_unseen(p_receipts);
  end if;
end;
$$;

-- The same when some are leased: these first, then the others. If another one comes to the
-- leases meanwhile, all of them are let go, as in _complete_with_leases. Not in a rescue: it is not
-- due.
create or replace function {{ .schema }}._fail_with_leases (
  p_receipts {{ .schema }}.receipt[], p_errors text[], p_retry_after interval, p_terminal boolean, p_how "char"
)
  returns table (receipt {{ .schema }}.receipt, state {{ .schema }}.job_state)
  language plpgsql
  volatile
as $$
declare
  v_closed receipt[];
  v_states job_state[];
  v_others receipt[];
  v_errors text[];
begin
  loop
    begin
      select array_agg(f.receipt), array_agg(f.state) into v_closed, v_states
      from _fail_leases(p_receipts, p_errors, p_retry_after, p_terminal, p_how) as f;
      select array_agg(row(u.ready_slot, u.batch_id, u.job_id, u.run_lease)::receipt), array_agg(u.error)
      into v_others, v_errors
      from unnest(p_receipts, p_errors) as u (ready_slot, batch_id, job_id, run_lease, error)
      -- Not by exists, which may be planned to compare each with each.
      where ((u.batch_id, u.job_id, u.run_lease) in (
        select c.batch_id, c.job_id, c.run_lease from unnest(v_closed) as c)) is not true;
      if v_others is not null then
        select v_closed || array_agg(f.receipt), v_states || array_agg(f.state) into v_closed, v_states
        from _fail_batches(v_others, v_errors, p_retry_after, p_terminal, p_how) as f;
      end if;
      exit when p_how = 'e' or not _any_leased(_without(v_others, v_closed));
      raise exception using errcode = 'AW000', message = 'undo';
    exception when sqlstate 'AW000' then
      null;
    end;
  end loop;
  return query
  -- As they were given, because a lease does not know its segment.
  select row(u.ready_slot, u.batch_id, u.job_id, u.run_lease)::receipt, c.state
  from unnest(p_receipts) with ordinality as u (ready_slot, batch_id, job_id, run_lease, n)
  join (
    select distinct k.batch_id, k.job_id, k.run_lease, k.state
    from unnest(v_closed, v_states) as k (ready_slot, batch_id, job_id, run_lease, state)
  ) as c on c.batch_id = u.batch_id and c.job_id = u.job_id and c.run_lease = u.run_lease
  order by u.n;
end;
$$;
