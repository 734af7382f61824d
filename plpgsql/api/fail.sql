-- Fail, and the clock of retries.

create or replace function {{ .schema }}._backoff (p_attempt integer)
  returns interval
  language sql
  volatile
  parallel safe
as $$
  -- Doubling stops where the cap is reached, so no attempt overflows.
  select least(
    pg_catalog.make_interval(secs => pg_catalog.power(2, least(greatest(p_attempt, 1), 20) - 1) * (1 + pg_catalog.random() * 0.25)),
    interval '24 hours')
$$;

create or replace function {{ .schema }}.backoff (attempt integer)
  returns interval
  language sql
  volatile
  parallel safe
  security definer
  set search_path = pg_catalog, {{ .schema }}, pg_temp
as $$
  select {{ .schema }}._backoff(backoff.attempt)
$$;

comment on function {{ .schema }}.backoff is
  'The default delay after an attempt that failed: 1 s doubled per attempt, up to a quarter more at random, at most 24 hours.';

-- Up to 50 attempts of one batch that all come back, without a unique key. Their errors go with
-- the jobs, not into the outcome. Returns false, with nothing done, when one of them is closed,
-- is its job's last attempt, has a unique key, is given twice or is not where its receipt says,
-- or when it lost the race for the next outcome.
create or replace function {{ .schema }}._defer_part (
  p_receipts {{ .schema }}.receipt[], p_errors text[], p_retry_after interval, p_how "char"
)
  returns boolean
  language plpgsql
  volatile
  set enable_nestloop = off
  set plan_cache_mode = force_generic_plan
as $$
declare
  v_now     timestamptz := _now();
  v_state   job_state := case when p_how = 's' then 'scheduled'::job_state else 'retryable'::job_state end;
  v_xid     xid8 := pg_current_xact_id();
  v_slot    smallint;
  v_batch   bigint;
  v_one     boolean;
  v_ids     bigint[];
  v_leases  integer[];
  v_errors  text[];
  v_first   jsonb[];
  v_lane    bigint;
  v_seq     integer;
  v_jobs    bigint := 0::bigint;
begin
  if cardinality(p_receipts) > 50 or (p_receipts[1]).batch_id <> (p_receipts[cardinality(p_receipts)]).batch_id then
    return false;
  end if;
  select min(u.ready_slot), min(u.batch_id),
    min(u.ready_slot) = max(u.ready_slot) and min(u.batch_id) = max(u.batch_id) and count(distinct u.job_id) = count(*),
    array_agg(u.job_id), array_agg(_as_lease(u.run_lease)), array_agg(u.error)
  into v_slot, v_batch, v_one, v_ids, v_leases, v_errors
  from (
    select u.*
    from unnest(p_receipts, p_errors) as u (ready_slot, batch_id, job_id, run_lease, error)
    order by u.job_id
  ) as u;
  if v_one is not true then
    return false;
  end if;
  -- Attempts that fail together mostly fail for the same reason, and for the first time: their
  -- errors are built once.
  v_first := array[jsonb_build_object('error', left(coalesce(v_errors[1], ''), 10000), 'attempt', 1, 'at', v_now)];
  case v_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    select c.lane, s.seq into v_lane, v_seq
{{ template "internal/open_few.sql" (dict "slot" $i "batch" "v_batch" "ids" "v_ids" "leases" "v_leases") }}    ;
    if not found then
      return false;
    end if;
    with coming as materialized (
      select r.*, g.error
      from unnest(v_ids, v_leases, v_errors) as g (job_id, run_lease, error)
      cross join lateral (
        select e.job_id, e.created_at, e.run_lease, e.attempt, e.max_attempts, e.kind, e.args, e.metadata, e.tags,
          e.errors, e.progress, e.unique_states, e.ordering_key, e.deadline
        from ready_entries_{{ $i }} as e
        where e.job_id = g.job_id and e.run_lease = g.run_lease
          and e.unique_key is null and (p_how = 's' or e.attempt < e.max_attempts)
        offset 0
      ) as r
    ),
    closed as (
      insert into attempt_outcomes_{{ $i }} (
        batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, job_ids, run_leases)
      select v_batch, v_lane, v_xid, v_now, v_seq, cardinality(v_ids), {{ $i }}, p_how, v_ids,
        case when 1 <> any (v_leases) then v_leases end
      where (select count(*) from coming) = cardinality(v_ids)
      on conflict (batch_id, seq) do nothing
      returning jobs
    )
    insert into deferred_jobs (
      job_id, lane, state, run_at, created_at, run_lease, attempt, max_attempts, kind, args,
      metadata, tags, errors, progress, unique_states, ordering_key, deadline, xid)
    select n.job_id, v_lane, v_state, v_now + coalesce(p_retry_after, _backoff(n.attempt)), n.created_at, n.run_lease + 1,
      n.attempt + (p_how <> 's')::integer, n.max_attempts, n.kind, n.args, n.metadata, n.tags,
      case
        when p_how = 's' then n.errors
        when n.attempt = 1 and n.errors is null and n.error is not distinct from v_errors[1] then v_first
        else _bounded_errors(n.errors, jsonb_build_object('error', left(coalesce(n.error, ''), 10000), 'attempt', n.attempt, 'at', v_now), 49)
      end,
      case when (select _any_progress({{ $i }}::smallint)) then _progress_of({{ $i }}::smallint, n.job_id, n.run_lease) else n.progress end,
      n.unique_states, n.ordering_key, n.deadline, v_xid
    from coming as n
    -- The batch is won before anything else is written, because the loser waits there.
    where exists (select from closed);
    get diagnostics v_jobs = row_count;
{{ end }}
  else
    null;
  end case;
  return v_jobs > 0;
end;
$$;

-- Attempts of one segment that all come back, without a unique key: closed and deferred in one
-- statement. Returns false, with nothing done, when one of them is closed, is its job's last
-- attempt, has a unique key, is not where its receipt says, or lost the race for its batch: the
-- caller then sorts them out one by one.
create or replace function {{ .schema }}._defer_together (
  p_slot smallint, p_receipts {{ .schema }}.receipt[], p_errors text[], p_retry_after interval, p_how "char"
)
  returns boolean
  language plpgsql
  volatile
  set enable_nestloop = off
  set plan_cache_mode = force_generic_plan
as $$
declare
  v_now      timestamptz := _now();
  v_state    job_state := case when p_how = 's' then 'scheduled'::job_state else 'retryable'::job_state end;
  v_xid      xid8 := pg_current_xact_id();
  -- As in _defer_part.
  v_reason   text := left(coalesce(p_errors[1], ''), 10000);
  v_first    jsonb := jsonb_build_object('error', v_reason, 'attempt', 1, 'at', v_now);
  v_jobs     bigint;
  v_outcomes bigint;
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    with given as materialized (
      select u.batch_id, array_agg(u.job_id) as job_ids, array_agg(u.run_lease) as run_leases, array_agg(u.error) as errors
      from (
        select n.batch_id, n.job_id, _as_lease(n.run_lease) as run_lease, left(coalesce(n.error, ''), 10000) as error
        from unnest(p_receipts, p_errors) as n (ready_slot, batch_id, job_id, run_lease, error)
        order by n.batch_id, n.job_id
      ) as u
      group by u.batch_id
    ),
    batch as materialized (
      select g.*, b.lane, b.seq
      from given as g
      cross join lateral (
        select c.lane, s.seq
{{ template "internal/open_few.sql" (dict "slot" $i "batch" "g.batch_id" "ids" "g.job_ids" "leases" "g.run_leases") }}        offset 0
      ) as b
    ),
    coming as materialized (
      select b.batch_id, r.*,
        case
          when p_how = 's' then null
          when r.attempt = 1 and u.error = v_reason then v_first
          else jsonb_build_object('error', u.error, 'attempt', r.attempt, 'at', v_now)
        end as entry
      from batch as b
      cross join lateral unnest(b.job_ids, b.run_leases, b.errors) as u (job_id, run_lease, error)
      cross join lateral (
        select e.* from ready_entries_{{ $i }} as e where e.job_id = u.job_id and e.run_lease = u.run_lease offset 0
      ) as r
      where r.unique_key is null and (p_how = 's' or r.attempt < r.max_attempts)
    ),
    closed as (
      insert into attempt_outcomes_{{ $i }} (
        batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, job_ids, run_leases)
      select b.batch_id, b.lane, v_xid, v_now, b.seq, cardinality(k.job_ids), {{ $i }}, p_how, k.job_ids, k.run_leases
      from (
        select n.batch_id, array_agg(n.job_id) as job_ids,
          case when max(n.run_lease) > 1 then array_agg(n.run_lease) end as run_leases
        from (select m.batch_id, m.job_id, m.run_lease from coming as m order by m.batch_id, m.job_id) as n
        group by n.batch_id
      ) as k
      join batch as b on b.batch_id = k.batch_id
      order by b.batch_id
      on conflict (batch_id, seq) do nothing
      returning jobs
    ),
    deferred as (
      insert into deferred_jobs (
        job_id, lane, state, run_at, created_at, run_lease, attempt, max_attempts, kind, args,
        metadata, tags, errors, progress, unique_states, ordering_key, deadline, xid)
      select n.job_id, n.lane, v_state, v_now + coalesce(p_retry_after, _backoff(n.attempt)), n.created_at, n.run_lease + 1,
        n.attempt + (p_how <> 's')::integer, n.max_attempts, n.kind, n.args, n.metadata, n.tags,
        case when p_how = 's' then n.errors else _bounded_errors(n.errors, n.entry, 49) end,
        case when (select _any_progress({{ $i }}::smallint)) then _progress_of({{ $i }}::smallint, n.job_id, n.run_lease) else n.progress end,
        n.unique_states, n.ordering_key, n.deadline, v_xid
      from coming as n
      -- Batches are won before anything else is written, because the loser waits there.
      where (select sum(c.jobs) from closed as c) = cardinality(p_receipts)
      order by n.job_id
      returning job_id
    )
    select (select count(*) from deferred), (select sum(c.jobs) from closed as c) into v_jobs, v_outcomes;
{{ end }}
  else
    null;
  end case;
  if v_jobs = cardinality(p_receipts) and v_outcomes = v_jobs then
    return true;
  end if;
  raise exception using errcode = 'AW000', message = 'undo';
exception
  -- The same receipt twice is a second row of one job.
  when sqlstate 'AW000' or unique_violation then
    return false;
end;
$$;

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
  v_now      timestamptz := _now();
  v_snooze   boolean := p_how = 's';
  v_state    job_state := case when p_how = 's' then 'scheduled'::job_state else 'retryable'::job_state end;
  v_progress boolean;
  v_receipts receipt[];
  v_outcomes "char"[];
  v_errors   jsonb;
  v_keyed    bigint[];
  v_closed   receipt[];
begin
  if not p_terminal and (p_receipts[1]).ready_slot = all (array(select u.ready_slot from unnest(p_receipts) as u))
    and _defer_together((p_receipts[1]).ready_slot, p_receipts, p_errors, p_retry_after, p_how)
  then
    return query select u.*::receipt, v_state from unnest(p_receipts) as u;
    return;
  end if;
  perform _enter_ring();
  if exists (
    select from unnest(p_receipts) as u
    cross join lateral (
      select from leases as l
      where l.job_id = u.job_id and l.batch_id = u.batch_id and l.receipt_lease = u.run_lease
      offset 0
    ) as l)
  then
    return query
    with leased as materialized (
      select f.receipt, f.state from _fail_leases(p_receipts, p_errors, p_retry_after, p_terminal, p_how) as f
    ),
    other as (
      select array_agg(row(u.ready_slot, u.batch_id, u.job_id, u.run_lease)::receipt) as receipts, array_agg(u.error) as errors
      from unnest(p_receipts, p_errors) as u (ready_slot, batch_id, job_id, run_lease, error)
      -- Not by exists, which may be planned to compare each with each.
      where ((u.batch_id, u.job_id, u.run_lease) in (
          select (l.receipt).batch_id, (l.receipt).job_id, (l.receipt).run_lease from leased as l)) is not true
        -- Nor those that were leased and not taken, because they are not due any more.
        and (select true from leases as l where l.job_id = u.job_id and l.batch_id = u.batch_id and l.receipt_lease = u.run_lease) is null
    ),
    closed (batch_id, job_id, run_lease, state) as (
      select (l.receipt).batch_id, (l.receipt).job_id, (l.receipt).run_lease, l.state from leased as l
      union
      select (f.receipt).batch_id, (f.receipt).job_id, (f.receipt).run_lease, f.state
      from other as o
      cross join lateral _fail_attempts(o.receipts, o.errors, p_retry_after, p_terminal, p_how) as f
      where o.receipts is not null
    )
    -- As they were given, because a lease does not know its segment.
    select row(u.ready_slot, u.batch_id, u.job_id, u.run_lease)::receipt, c.state
    from unnest(p_receipts) with ordinality as u (ready_slot, batch_id, job_id, run_lease, n)
    join closed as c on c.batch_id = u.batch_id and c.job_id = u.job_id and c.run_lease = u.run_lease
    order by u.n;
    return;
  end if;
  -- Whether an attempt was the last stands in its immutable ready row. Keys are
  -- taken in their order and before any batch.
  select array_agg(row(t.ready_slot, t.batch_id, t.job_id, t.run_lease)::receipt),
    array_agg(case
      when t.last then case when t.dlq_enabled then 'q'::"char" else 'f'::"char" end
      -- Another job holds its unique key by now, so this one is cancelled.
      when t.nth > 1 or t.unique_key is not null
        and _take_key(t.unique_key, t.unique_states, t.job_id, v_state) <> t.job_id then 'x'::"char"
      else p_how end),
    jsonb_object_agg(t.job_id, jsonb_build_object(
      'error', left(coalesce(t.error, ''), 10000), 'attempt', t.attempt, 'at', v_now)),
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
  from unnest(v_closed) as c
  join unnest(v_receipts, v_outcomes) as o (ready_slot, batch_id, job_id, run_lease, outcome)
    on o.batch_id = c.batch_id and o.job_id = c.job_id
  cross join lateral (
    select e.* from ready_entries as e
    where e.ready_slot = c.ready_slot and e.job_id = c.job_id and e.run_lease = c.run_lease
    limit 1
  ) as r
  where o.outcome = p_how
  order by r.job_id;

  perform _dead_letter(
    row(r.job_id, r.lane, 'retryable', r.run_at, r.created_at, r.run_lease, r.attempt, r.max_attempts, r.kind, r.args,
      r.metadata, r.tags, _bounded_errors(r.errors, v_errors -> r.job_id::text),
      case when v_progress then _progress_of(c.ready_slot, r.job_id, r.run_lease) else r.progress end,
      r.unique_key, r.unique_states, r.ordering_key, r.deadline, null)::deferred_jobs,
    case when r.attempt >= r.max_attempts then 'max_attempts_exhausted' else 'terminal_error' end, k.claimed_at)
  from unnest(v_closed) as c
  join unnest(v_receipts, v_outcomes) as o (ready_slot, batch_id, job_id, run_lease, outcome)
    on o.batch_id = c.batch_id and o.job_id = c.job_id
  cross join lateral (
    select e.* from ready_entries as e
    where e.ready_slot = c.ready_slot and e.job_id = c.job_id and e.run_lease = c.run_lease
    limit 1
  ) as r
  cross join lateral (
    select i.claimed_at from claims as i where i.ready_slot = c.ready_slot and i.batch_id = c.batch_id offset 0
  ) as k
  where o.outcome = 'q'
  order by r.job_id;

  -- Gives up keys that were taken for attempts which somebody else closed first. Jobs whose
  -- attempts this call closed are in their places by now.
  if v_keyed is not null and cardinality(v_closed) < cardinality(v_receipts) then
    perform _release_absent(v_keyed);
  end if;

  if 'f' = any (v_outcomes) or 'q' = any (v_outcomes) then
    perform _follow(array(
      select c
      from unnest(v_closed) as c
      join unnest(v_receipts, v_outcomes) as o (ready_slot, batch_id, job_id, run_lease, outcome)
        on o.batch_id = c.batch_id and o.job_id = c.job_id
      where o.outcome in ('f', 'q')), null);
  end if;

  return query
  select row(u.ready_slot, u.batch_id, u.job_id, u.run_lease)::receipt,
    (case o.outcome when 'r' then 'retryable' when 'e' then 'retryable' when 's' then 'scheduled' when 'x' then 'cancelled'
      else 'failed' end)::job_state
  from unnest(p_receipts) with ordinality as u (ready_slot, batch_id, job_id, run_lease, n)
  join unnest(v_closed) as c on c.batch_id = u.batch_id and c.job_id = u.job_id and c.run_lease = u.run_lease
  join unnest(v_receipts, v_outcomes) as o (ready_slot, batch_id, job_id, run_lease, outcome)
    on o.batch_id = c.batch_id and o.job_id = c.job_id
  order by u.n;
  if coalesce(cardinality(v_closed), 0) < cardinality(p_receipts) then
    perform _refuse_unseen(p_receipts);
  end if;
end;
$$;

create or replace function {{ .schema }}._check_retry_after (p_delay interval)
  returns void
  language plpgsql
  volatile
as $$
begin
  if p_delay < '0' or p_delay > '100 years' then
    perform _invalid(format('retry_after is %s', p_delay), 'Pass a delay of zero or more, up to 100 years.');
  end if;
end;
$$;

create or replace function {{ .schema }}.fail_many (
  receipts    {{ .schema }}.receipt[],
  errors      text[]   default null,
  retry_after interval default null,
  terminal    boolean  default false
)
  returns table (receipt {{ .schema }}.receipt, state {{ .schema }}.job_state)
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
begin
  if fail_many.errors is not null and cardinality(fail_many.errors) <> coalesce(cardinality(fail_many.receipts), 0) then
    perform _invalid(
      format('%s receipts and %s errors', coalesce(cardinality(fail_many.receipts), 0), cardinality(fail_many.errors)),
      'Pass one error per receipt, or none.');
  end if;
  perform _check_retry_after(fail_many.retry_after);
  if not coalesce(fail_many.terminal, false)
    and _defer_part(fail_many.receipts, fail_many.errors, fail_many.retry_after, 'r')
  then
    return query select u, 'retryable'::job_state from unnest(fail_many.receipts) as u;
    return;
  end if;
  return query
  select f.receipt, f.state
  from _fail_attempts(fail_many.receipts, fail_many.errors, fail_many.retry_after, coalesce(fail_many.terminal, false), 'r') as f;
end;
$$;

comment on function {{ .schema }}.fail_many is
  'Closes attempts as failed: each is deferred for a retry after retry_after (default backoff(attempt)), or failed for good when terminal or when its attempts are used up; a queue with dlq_enabled then keeps it among the dead letters. A job whose unique key another job took meanwhile is cancelled instead of retried. Returns each accepted receipt, in the order given, with the state its job came to; stale ones are left out. Waits for concurrent finishes of the same batches and for holders of the jobs'' unique keys. Raises AW006 for mismatched arrays or a negative delay.';

create or replace function {{ .schema }}.fail (
  receipt     {{ .schema }}.receipt,
  error       text     default null,
  retry_after interval default null,
  terminal    boolean  default false
)
  returns {{ .schema }}.job_state
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
begin
  perform _check_retry_after(fail.retry_after);
  if not coalesce(fail.terminal, false)
    and _defer_part(array[fail.receipt], array[fail.error], fail.retry_after, 'r')
  then
    return 'retryable'::job_state;
  end if;
  return (
    select f.state
    from _fail_attempts(array[fail.receipt], array[fail.error], fail.retry_after, coalesce(fail.terminal, false), 'r') as f);
end;
$$;

comment on function {{ .schema }}.fail is
  'Closes an attempt as failed and returns the state of the job: retryable, after retry_after or the default backoff; failed when terminal or when its attempts are used up, and in a queue with dlq_enabled then a dead letter; cancelled when another job took its unique key meanwhile. Null when the receipt is stale. Waits for a concurrent finish of the same batch and for holders of the job''s unique key. Raises AW006 for a negative delay, 40001 under a stale REPEATABLE READ snapshot.';
