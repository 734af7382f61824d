-- Limits of concurrency: of the jobs of a key, named by awa:concurrency_key in
-- their metadata, no more than the queue's concurrency_limit run at a time. A slot
-- is taken when a job is claimed and is free as soon as that attempt is closed, by
-- whatever way: nothing on a job's way gives it back.

-- A job's key. What is no text of 1 to 200 characters, put into the metadata by hand,
-- is none.
create or replace function {{ .schema }}._concurrency_key (p_metadata jsonb)
  returns text
  language sql
  immutable
  parallel safe
as $$
  select case
    when pg_catalog.jsonb_typeof(p_metadata -> 'awa:concurrency_key') = 'string'
      and pg_catalog.length(p_metadata ->> 'awa:concurrency_key') between 1 and 200
      then p_metadata ->> 'awa:concurrency_key' end
$$;

-- The free slots of some keys: those that were never taken, or whose attempt was
-- closed before the moment of the claim that is to have them.
create or replace function {{ .schema }}._free_slots (p_queue text, p_keys text[], p_limit integer, p_claimed_at timestamptz)
  returns table (key text, slot integer, point bigint)
  language plpgsql
  volatile
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
as $$
begin
  if exists (select from queue_meta as m where m.queue = p_queue and m.concurrency_slots > p_limit) then
    return query select b.* from _slots_below(p_queue, p_keys, p_limit, p_claimed_at) as b;
    return;
  end if;
  return query
  select k.key, s.slot, e.point
  from unnest(p_keys) as k (key)
  cross join generate_series(1, p_limit) as s (slot)
{{ template "internal/slot_entry.sql" }}
  where not e.held;
end;
$$;

-- Which keys with parked jobs to look at: some of them, from a random one on, so
-- that many that are taken do not hide a free one for long.
create or replace function {{ .schema }}._parked_keys (p_queue text, p_max integer)
  returns text[]
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_first bigint := (select min(p.job_id) from parked_jobs as p where p.queue = p_queue);
  v_last  bigint := (select max(p.job_id) from parked_jobs as p where p.queue = p_queue);
  v_start bigint := v_first + floor(random() * (v_last - v_first + 1))::bigint;
  -- The key of a random one of them.
  v_from  text := (
    select p.key from parked_jobs as p where p.queue = p_queue and p.job_id >= v_start order by p.job_id limit 1);
begin
  return array(
    with recursive after as (
      (select p.key, 1 as n from parked_jobs as p where p.queue = p_queue and p.key >= coalesce(v_from, '') order by p.key limit 1)
      union all
      select x.key, a.n + 1
      from after as a
      cross join lateral (
        select p.key from parked_jobs as p where p.queue = p_queue and p.key > a.key order by p.key limit 1
      ) as x
      where a.n < p_max
    ),
    before as (
      (select p.key, 1 as n from parked_jobs as p where p.queue = p_queue and p.key < v_from order by p.key limit 1)
      union all
      select x.key, b.n + 1
      from before as b
      cross join lateral (
        select p.key from parked_jobs as p where p.queue = p_queue and p.key > b.key and p.key < v_from order by p.key limit 1
      ) as x
      where b.n < p_max
    )
    select a.key from after as a
    union all
    select b.key from before as b
    limit p_max);
end;
$$;

-- Claims parked jobs whose key has a slot again, oldest first within a key. No
-- window offers them any more: their claim is counted by a delta, as of jobs that
-- a transaction enqueued itself.
create or replace function {{ .schema }}._claim_parked (
  p_queue text, p_max integer, p_worker text, p_lease interval, p_limit integer
)
  returns setof {{ .schema }}.claimed_job
  language plpgsql
  volatile
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
declare
  v_now  timestamptz := _now();
  v_xid  xid8 := pg_current_xact_id();  -- before the ring is read, see enqueue
  v_slot smallint := _current_slot();
  v_ids  bigint[];
  v_gone bigint[];
  v_job  deferred_jobs;
begin
  loop
    select array_agg(n.job_id) into v_ids
    from (
      select p.job_id
      from (
        select f.key, count(*) as free
        from _free_slots(p_queue, _parked_keys(p_queue, p_max * 2 + 100), p_limit, v_now) as f
        group by f.key
      ) as k
      cross join lateral (
        select j.job_id from parked_jobs as j where j.queue = p_queue and j.key = k.key order by j.job_id limit k.free
      ) as p
      limit p_max
    ) as n;
    if v_ids is null then
      return;
    end if;
    -- Those that were cancelled, deleted or moved meanwhile leave the list, and others
    -- are looked for in their stead: one may wait for a slot of another queue by now.
    -- Those that somebody holds do not come along.
    v_gone := _less(v_ids, array(
      select d.job_id
      from deferred_jobs as d
      where d.job_id = any (v_ids) and d.run_at = 'infinity'
        and exists (select from queue_lanes as l where l.lane = d.lane and l.queue = p_queue)));
    exit when v_gone = '{}';
    -- As they may be many, those behind them as well.
    v_gone := v_gone || array(
      select j.job_id
      from (
        select p.job_id from parked_jobs as p where p.queue = p_queue and p.job_id > v_gone[1] order by p.job_id limit 1000
      ) as j
      where not exists (
        select from deferred_jobs as d
        where d.job_id = j.job_id and d.run_at = 'infinity'
          and exists (select from queue_lanes as l where l.lane = d.lane and l.queue = p_queue)));
    delete from parked_jobs as p where p.queue = p_queue and p.job_id = any (v_gone);
  end loop;
  -- Those whose unique key counts from now on go by way of promotion.
  for v_job in
    with gone as (
      delete from deferred_jobs as e where e.job_id = any (v_ids) and e.run_at = 'infinity' and _gains_key(e) returning e.*
    ),
    unlisted as (
      delete from parked_jobs as p using gone as g where p.queue = p_queue and p.job_id = g.job_id
    )
    select g.* from gone as g
  loop
    perform _bring_back(v_job);
  end loop;
  return query
  with taken as (
    delete from deferred_jobs as d
    using (
      select e.job_id from deferred_jobs as e
      where e.job_id = any (v_ids) and e.run_at = 'infinity'
      order by e.job_id
      for update skip locked
    ) as e
    where d.job_id = e.job_id
    returning d.*
  ),
  gone as (
    delete from parked_jobs as p using taken as t where p.queue = p_queue and p.job_id = t.job_id
  ),
  put as (
    insert into ready_entries (
      lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
      metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline)
    select t.lane, '0', t.job_id, coalesce(nullif(_instant(t.metadata ->> 'awa:run_at'), 'infinity'), t.created_at), t.created_at, t.run_lease, v_slot, t.attempt, t.max_attempts,
      t.kind, t.args, nullif(t.metadata - 'awa:run_at', '{}'), t.tags, t.errors, t.progress, t.unique_key, t.unique_states,
      t.ordering_key, t.deadline
    from taken as t
    returning *
  ),
  batch as materialized (
    select p.lane, _batch_id(v_slot, max(p.job_id * 16 + p.run_lease % 16), max(p.run_lease)) as batch_id, count(*)::integer as jobs,
      min(p.deadline) as deadline, bool_or(p.metadata ? 'awa:follow_ups') as follows, array_agg(p.job_id order by p.job_id) as job_ids,
      array_agg(p.run_lease order by p.job_id) as run_leases
    from put as p
    group by p.lane
  ),
  claimed as (
    insert into claims (
      batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, worker, deadline_at, bypassed_by,
      follows)
    select b.batch_id, b.lane, v_now, v_now + p_lease, v_slot, b.job_ids, b.run_leases, p_worker, v_now + b.deadline, v_xid,
      nullif(b.follows, false)
    from batch as b
  ),
  counted as (
    insert into terminal_count_deltas (lane, xid, ready_slot, closed, completed, failed, cancelled)
    select b.lane, v_xid, v_slot, -b.jobs, 0, 0, 0 from batch as b
  ),
  watched as (
    insert into watched_claims (batch_id, lane, ready_slot, look_at)
    select b.batch_id, b.lane, v_slot, v_now + least(p_lease, b.deadline) from batch as b
  )
  select row(v_slot, b.batch_id, p.job_id, p.run_lease)::receipt,
    p.job_id, p.kind, p.args, p_queue, l.priority, p.attempt, p.max_attempts, p.run_at, p.created_at,
    coalesce(p.tags, '{}'), coalesce(p.metadata, '{}'), p.progress, coalesce(p.errors, '{}'),
    v_now + p.deadline, v_now + p_lease
  from put as p
  join batch as b on b.lane = p.lane
  cross join lateral (select q.priority from queue_lanes as q where q.lane = p.lane limit 1) as l
  order by l.priority, p.job_id;
end;
$$;

-- Of claimed jobs those that get a slot, or need none; the others are parked.
create or replace function {{ .schema }}._take_slots (
  p_queue text, p_jobs {{ .schema }}.claimed_job[], p_claimed_at timestamptz, p_limit integer
)
  returns setof {{ .schema }}.claimed_job
  language plpgsql
  volatile
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
declare
  v_slot  smallint := _current_slot();
  v_keys  text[];
  v_jobs  bigint;
  v_taken bigint[];
  v_out   receipt[];
begin
  select array_agg(distinct _concurrency_key(j.metadata)), count(*) into v_keys, v_jobs
  from unnest(p_jobs) as j
  where _concurrency_key(j.metadata) is not null;
  if v_keys is null then
    return query select j.* from unnest(p_jobs) as j;
    return;
  end if;
  with wanted as (
    select j.receipt, j.job_id, _concurrency_key(j.metadata) as key,
      row_number() over (partition by _concurrency_key(j.metadata) order by j.nth) as turn
    from unnest(p_jobs) with ordinality as j (
      receipt, job_id, kind, args, queue, priority, attempt, max_attempts, run_at, created_at, tags, metadata, progress,
      errors, deadline_at, lease_expires_at, nth)
    where _concurrency_key(j.metadata) is not null
  ),
  free as (
    select f.key, f.slot, f.point, row_number() over (partition by f.key order by f.slot) as turn
    from _free_slots(p_queue, v_keys, p_limit, p_claimed_at) as f
  ),
  held as (
    insert into slot_entries (queue, key, slot, point, batch_id, job_id, ready_slot)
    select p_queue, w.key, f.slot, f.point + 1, (w.receipt).batch_id, w.job_id, v_slot
    from wanted as w
    join free as f on f.key = w.key and f.turn = w.turn
    returning job_id
  )
  select array_agg(h.job_id) into v_taken from held as h;

  if cardinality(v_taken) = v_jobs then
    return query select j.* from unnest(p_jobs) as j;
    return;
  end if;
  v_out := array(
    select j.receipt from unnest(p_jobs) as j
    where _concurrency_key(j.metadata) is not null and not exists (select from unnest(v_taken) as t (job_id) where t.job_id = j.job_id));
  if v_out <> '{}' then
    v_out := array(
      select c from _close_in_order(v_out, array_fill('m'::"char", array[cardinality(v_out)]), null) as c);
    insert into deferred_jobs (
      job_id, lane, state, run_at, created_at, run_lease, attempt, max_attempts, kind, args,
      metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline, xid)
    select r.job_id, r.lane, 'scheduled', 'infinity', r.created_at, r.run_lease + 1, r.attempt, r.max_attempts, r.kind, r.args,
      r.metadata || jsonb_build_object('awa:run_at', r.run_at), r.tags, r.errors, r.progress, r.unique_key, r.unique_states,
      r.ordering_key, r.deadline, pg_current_xact_id()
    from unnest(v_out) as c
    join ready_entries as r on r.ready_slot = c.ready_slot and r.job_id = c.job_id and r.run_lease = c.run_lease;
    insert into parked_jobs (queue, key, job_id)
    select p_queue, _concurrency_key(j.metadata), j.job_id
    from unnest(v_out) as c
    join unnest(p_jobs) as j on j.job_id = c.job_id
    on conflict do nothing;
  end if;
  return query
  select j.* from unnest(p_jobs) as j
  where _concurrency_key(j.metadata) is null or exists (select from unnest(v_taken) as t (job_id) where t.job_id = j.job_id);
end;
$$;

-- claim, of a queue with a limit of concurrency.
create or replace function {{ .schema }}._claim_limited (p_queue text, p_max integer, p_worker text, p_lease interval, p_limit integer)
  returns setof {{ .schema }}.claimed_job
  language plpgsql
  volatile
as $$
declare
  v_left integer := least(p_max, 10000);
  v_got  integer;
  v_met  integer := 0;
  v_at   timestamptz;
  v_rate queue_meta;
  v_jobs claimed_job[];
begin
  perform _enter_ring();
  if not _await_turn(p_queue) then
    return;
  end if;
  select m.* into v_rate from queue_meta as m where m.queue = p_queue;
  if v_rate.rate_limit is not null then
    v_left := least(v_left, _await_tokens(p_queue, v_rate.rate_limit, v_rate.rate_burst));
    if v_left < 1 then
      return;
    end if;
  end if;
  if exists (select from parked_jobs as p where p.queue = p_queue) then
    v_at := _now();
    v_jobs := array(select j from _claim_parked(p_queue, v_left, p_worker, p_lease, p_limit) as j);
    return query select s.* from _take_slots(p_queue, v_jobs, v_at, p_limit) as s;
    get diagnostics v_got = row_count;
    v_left := v_left - v_got;
    if v_got > 0 and v_rate.rate_limit is not null then
      perform _spend_tokens(p_queue, v_rate.rate_limit, v_rate.rate_burst, v_got);
    end if;
  end if;
  while v_left > 0 loop
    v_at := _now();
    v_jobs := array(select j from _claim_snapshot(p_queue, v_left, p_worker, p_lease) as j);
    -- A long row of jobs whose keys are taken is parked by several calls.
    v_met := v_met + cardinality(v_jobs);
    exit when v_jobs = '{}';
    return query select s.* from _take_slots(p_queue, v_jobs, v_at, p_limit) as s;
    get diagnostics v_got = row_count;
    v_left := v_left - v_got;
    if v_rate.rate_limit is not null and v_got < cardinality(v_jobs) then
      -- Those that were parked give their tokens back.
      perform _spend_tokens(p_queue, v_rate.rate_limit, v_rate.rate_burst, v_got - cardinality(v_jobs));
    end if;
    exit when v_met >= 5000;
  end loop;
end;
$$;

-- Parked jobs of a queue whose limit is gone go back into their lanes.
create or replace function {{ .schema }}._unpark_queue (p_queue text)
  returns void
  language plpgsql
  volatile
as $$
declare
  d deferred_jobs;
begin
  for d in
    with unlisted as (
      delete from parked_jobs as p where p.queue = p_queue returning p.job_id
    ),
    gone as (
      delete from deferred_jobs as e using unlisted as u where e.job_id = u.job_id and e.run_at = 'infinity' returning e.*
    )
    select g.* from gone as g order by g.job_id
  loop
    perform _bring_back(d);
  end loop;
end;
$$;
