-- Attempts outside the ring. In the lock order they come after deferred jobs and before lanes.

create or replace function {{ .schema }}._with_result (p_metadata jsonb, p_result jsonb)
  returns jsonb
  language sql
  immutable
  parallel safe
as $$
  select case when p_result is null then p_metadata
    else coalesce(p_metadata, '{}') || pg_catalog.jsonb_build_object('_awa_callback_result', p_result) end
$$;

-- A lease's body, with the payload of an answer in its metadata.
create or replace function {{ .schema }}._lease_body (l {{ .schema }}.leases)
  returns {{ .schema }}.deferred_jobs
  language sql
  immutable
as $$
  select row(l.job_id, l.lane, 'scheduled', l.run_at, l.created_at, l.run_lease, l.attempt, l.max_attempts, l.kind, l.args,
    {{ .schema }}._with_result(l.metadata, l.result), l.tags, l.errors, l.progress, l.unique_key, l.unique_states, l.ordering_key,
    l.deadline, null)::{{ .schema }}.deferred_jobs
$$;

-- Takes the leased ones among the receipts, in the order of their ids: those that still
-- wait for p_callback_id, or are due at p_due, if that is given.
create or replace function {{ .schema }}._take_leases (
  p_receipts {{ .schema }}.receipt[], p_callback_id uuid default null, p_due timestamptz default null
)
  returns setof {{ .schema }}.leases
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  return query
  with held as materialized (
    select l.job_id
    from leases as l
    where l.job_id = any (array(select r.job_id from unnest(p_receipts) as r))
      -- "is true" keeps this from becoming a join, which may compare each with each.
      and ((l.job_id, l.batch_id, l.receipt_lease) in (select r.job_id, r.batch_id, r.run_lease from unnest(p_receipts) as r)) is true
      and (p_callback_id is null or l.callback_id = p_callback_id)
      and (p_due is null or l.due_at <= p_due or l.deadline_at <= p_due or (l.state = 'running' and l.worker is not null))
    order by l.job_id
    for update of l
  )
  delete from leases as l where l.job_id = any (array(select h.job_id from held as h)) returning l.*;
end;
$$;

create or replace function {{ .schema }}._receipt_of (l {{ .schema }}.leases)
  returns {{ .schema }}.receipt
  language sql
  immutable
as $$
  select row(null, l.batch_id, l.job_id, l.receipt_lease)::{{ .schema }}.receipt
$$;

-- Whether one of the attempts is leased.
create or replace function {{ .schema }}._any_leased (p_receipts {{ .schema }}.receipt[])
  returns boolean
  language plpgsql
  stable
  set enable_seqscan = off
as $$
begin
  return exists (
    select from unnest(p_receipts) as r
    cross join lateral (
      select from leases as l
      where l.job_id = r.job_id and l.batch_id = r.batch_id and l.receipt_lease = r.run_lease
      offset 0
    ) as l);
end;
$$;

-- Closes the leased ones among the receipts for good and returns them.
create or replace function {{ .schema }}._close_leases (p_receipts {{ .schema }}.receipt[], p_outcome "char", p_error jsonb default null)
  returns setof {{ .schema }}.receipt
  language plpgsql
  volatile
as $$
declare
  l leases;
begin
  for l in select t.* from _take_leases(p_receipts) as t loop
    perform _file_closed(_lease_body(l), p_outcome, p_error, l.claimed_at);
    if p_outcome = 'c' then
      perform _follow_job(l.job_id, l.lane, l.metadata, 'completed');
    end if;
    return next _receipt_of(l);
  end loop;
end;
$$;

-- What _fail_attempts does, for the leased ones among the receipts. The keys of all others are
-- taken here too, because keys come before leases.
create or replace function {{ .schema }}._fail_leases (
  p_receipts {{ .schema }}.receipt[], p_errors text[], p_retry_after interval, p_terminal boolean, p_how "char",
  p_callback_id uuid default null
)
  returns table (receipt {{ .schema }}.receipt, state {{ .schema }}.job_state)
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_now   timestamptz := _now();
  v_state job_state := _state_after(p_how);
  v_free  bigint[];
  v_entry jsonb;
  v_came  job_state;
  t       record;
  l       leases;
  d       deferred_jobs;
begin
  v_free := array(
    select k.job_id
    from (
      select c.job_id, c.unique_key, c.unique_states,
        -- Of several jobs with one key only one may come back: the key's holder, or the first.
        row_number() over (
          partition by c.unique_key order by (u.job_id is not null and _in_mask(c.state, c.unique_states)) desc, c.job_id) as nth
      from (
        select n.job_id, n.state, n.attempt, n.max_attempts, n.unique_key, n.unique_states
        from unnest(p_receipts) as r
        cross join lateral (
          select l.* from leases as l
          where l.job_id = r.job_id and l.batch_id = r.batch_id and l.receipt_lease = r.run_lease
          offset 0
        ) as n
        union
        select e.job_id, 'running', e.attempt, e.max_attempts, e.unique_key, e.unique_states
        from _open_receipts(p_receipts) as o
        cross join lateral (
          select r.* from ready_entries as r
          where r.ready_slot = o.ready_slot and r.job_id = o.job_id and r.run_lease = o.run_lease
          offset 0
        ) as e
      ) as c
      left join lateral (
        select k.job_id from job_unique_claims as k where k.unique_key = c.unique_key and k.job_id = c.job_id limit 1
      ) as u on true
      where c.unique_key is not null and _in_mask(v_state, c.unique_states)
        and (p_how = 's' or not p_terminal and c.attempt < c.max_attempts)
      order by c.unique_key
      -- offset 0: otherwise the keys would be taken before they are sorted.
      offset 0
    ) as k
    where k.nth = 1 and _take_key(k.unique_key, k.unique_states, k.job_id, v_state) = k.job_id);
  for t in
    select n::leases as lease, g.error
    from _take_leases(p_receipts, p_callback_id, case when p_how = 'e' then v_now end) as n
    left join (
      select distinct on (u.job_id, u.batch_id, u.run_lease) u.*
      from unnest(p_receipts, p_errors) as u (ready_slot, batch_id, job_id, run_lease, error)
    ) as g on g.job_id = n.job_id and g.batch_id = n.batch_id and g.run_lease = n.receipt_lease
  loop
    l := t.lease;
    if p_how = 'e' then
      perform _notify_leased(l, 'rescued');
    end if;
    v_entry := _failure(t.error, l.attempt, v_now);
    d := _lease_body(l);
    if p_how <> 's' and (p_terminal or l.attempt >= l.max_attempts) then
      if exists (
        select from queue_lanes as q join queue_meta as m on m.queue = q.queue where q.lane = l.lane and m.dlq_enabled)
      then
        d.errors := _bounded_errors(d.errors, v_entry);
        perform _depart(array[l.job_id]);
        perform _dead_letter(d,
          case when p_how = 'e' and l.state = 'waiting_external' then 'callback_timeout'
            when l.attempt >= l.max_attempts then 'max_attempts_exhausted' else 'terminal_error' end, l.claimed_at);
      else
        perform _file_closed(d, 'f', v_entry, l.claimed_at);
      end if;
      v_came := 'failed';
      perform _follow_job(l.job_id, l.lane, l.metadata, case when l.attempt >= l.max_attempts then 'exhausted' else 'failed' end);
    elsif l.unique_key is not null and _in_mask(v_state, l.unique_states) and l.job_id <> all (v_free) then
      perform _file_closed(d, 'x', _key_lost(v_entry), l.claimed_at);
      v_came := 'cancelled';
    else
      if p_how <> 's' then
        d.errors := _bounded_errors(d.errors, v_entry, 49);
        d.attempt := (d.attempt + 1)::smallint;
      end if;
      d.run_lease := d.run_lease + 1;
      d.run_at := v_now + coalesce(p_retry_after, _backoff(l.attempt));
      d.state := v_state;
      d.xid := pg_current_xact_id();
      insert into deferred_jobs select d.*;
      v_came := v_state;
    end if;
    return query select _receipt_of(l), v_came;
  end loop;
  if v_free <> '{}' then
    perform _release_absent(v_free);
  end if;
end;
$$;

-- Leased attempts that are due, and why.
create or replace function {{ .schema }}._due_leases (p_now timestamptz, p_silence interval, p_max integer)
  returns table (receipt {{ .schema }}.receipt, reason text)
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  return query
  select _receipt_of(l), w.reason
  from (
    -- In the order of its index: of a few leases the planner would read any other as well. By
    -- that of running ones the second part.
    (select d.* from leases as d where d.due_at <= p_now order by d.due_at)
    union all
    select d.* from leases as d
    where d.state = 'running' and (d.worker is not null or d.deadline_at <= p_now) and (d.due_at <= p_now) is false
  ) as l
  left join lateral (
    select b.heartbeat_at from workers as b
    where b.worker = l.worker and not _is_ahead(b.heartbeat_at, p_now)
    order by b.heartbeat_at desc
    limit 1
  ) as b on true
  cross join lateral (
    select case
      when l.state = 'waiting_external' then 'callback timed out'
      when l.deadline_at <= p_now then 'deadline exceeded'
      when b.heartbeat_at is not null then
        case when b.heartbeat_at <= p_now - p_silence and _is_past(l.due_at - l.lease, p_now, p_silence)
          then format('worker %s is silent since %s', l.worker, b.heartbeat_at) end
      when l.due_at <= p_now then 'lease expired'
      end as reason
  ) as w
  where w.reason is not null
  limit p_max;
end;
$$;
