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

-- What the batches at some points hold at a moment: a key for each attempt that is
-- open, and those of the others. The batches of the current segment are looked for
-- there alone; if one is not, in every segment.
create or replace function {{ .schema }}._slot_state (
  p_queue text, p_open bigint[], p_at timestamptz, p_slot smallint, p_leases boolean, p_parked boolean,
  out held_keys text[], out open_points bigint[], out freed_keys text[], out freed_points bigint[]
)
  language plpgsql
  volatile
as $$
declare
  v_met bigint;
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
{{ template "internal/slot_state.sql" (print "_" $i) }}
{{ end }}
  end case;
  if v_met < cardinality(p_open) then
{{ template "internal/slot_state.sql" "" }}
  end if;
end;
$$;

-- Whether an attempt is open at a moment, or waits for an answer.
create or replace function {{ .schema }}._holds_slot (p_batch_id bigint, p_job_id bigint, p_at timestamptz)
  returns boolean
  language plpgsql
  stable
as $$
begin
  return exists (
      select from claims as c
      where c.batch_id = p_batch_id and p_job_id = any (c.job_ids)
        and not exists (
          select from attempt_outcomes as o
          where o.batch_id = p_batch_id and (o.job_ids is null or p_job_id = any (o.job_ids)) and o.finalized_at <= p_at))
    -- Not exists: it may be planned to read them all.
    or coalesce((select true from leases as l where l.job_id = p_job_id and l.batch_id = p_batch_id), false);
end;
$$;

-- The slots of some keys, as to attempts that outlasted many claims: their newest
-- row, and whether that one's attempt is open.
create or replace function {{ .schema }}._aged_slots (p_queue text, p_keys text[], p_claimed_at timestamptz)
  returns table (key text, slot integer, point bigint, held boolean)
  language plpgsql
  volatile
  set enable_hashjoin = off
  set enable_mergejoin = off
as $$
begin
  return query
  select k.key, s.slot, e.point, e.held
  from unnest(p_keys) as k (key)
  cross join generate_series(1, (select m.concurrency_slots from queue_meta as m where m.queue = p_queue)) as s (slot)
  -- The newest row of slot s of key k, and whether its attempt was open at p_claimed_at.
  left join lateral (
    select n.point, n.batch_id, n.job_id from slot_entries as n
    where n.queue = p_queue and n.key = k.key and n.slot = s.slot
    order by n.point desc
    limit 1
  ) as n on true
  cross join lateral (
    select coalesce(n.point, 0) as point, case when n.batch_id is null then false else _holds_slot(n.batch_id, n.job_id, p_claimed_at) end as held
  ) as e;
end;
$$;

-- Of some keys, one for each open attempt that outlasted many claims.
create or replace function {{ .schema }}._aged_keys (p_queue text, p_keys text[], p_claimed_at timestamptz)
  returns text[]
  language plpgsql
  volatile
as $$
begin
  return array(
    select a.key
    from _aged_slots(p_queue, array(select distinct k.key from unnest(p_keys) as k (key)), p_claimed_at) as a
    where a.held);
end;
$$;

-- Attempts that are still open after many claims: each has a slot of its key from
-- now on, and its batch is no longer looked at.
create or replace function {{ .schema }}._age_slots (
  p_queue text, p_keys text[], p_jobs bigint[], p_batches bigint[], p_claimed_at timestamptz
)
  returns void
  language plpgsql
  volatile
  set enable_nestloop = off
as $$
begin
  insert into slot_entries (queue, key, slot, point, batch_id, job_id, ready_slot)
  select p_queue, w.key, f.slot, f.point + 1, w.batch_id, w.job_id, _current_slot()
  from (
    select u.key, u.job_id, u.batch_id, row_number() over (partition by u.key order by u.job_id) as turn
    from unnest(p_keys, p_jobs, p_batches) as u (key, job_id, batch_id)
  ) as w
  join (
    select a.key, a.slot, a.point, row_number() over (partition by a.key order by a.slot) as turn
    from _aged_slots(p_queue, array(select distinct k.key from unnest(p_keys) as k (key)), p_claimed_at) as a
    where not a.held
  ) as f on f.key = w.key and f.turn = w.turn;
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
  v_start bigint := hashint8extended((random() * 1e15)::bigint, 0);
  -- The key of a random one of them.
  v_from  text := coalesce(
    (select p.key from parked_jobs as p
     where p.queue = p_queue and hashint8extended(p.job_id, 0) >= v_start
     order by hashint8extended(p.job_id, 0) limit 1),
    (select p.key from parked_jobs as p
     where p.queue = p_queue and hashint8extended(p.job_id, 0) is not null
     order by hashint8extended(p.job_id, 0) limit 1));
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

-- Takes jobs off the list of those that are parked: each by its key and id, and not by a
-- join, which may be planned as a walk through all of the queue's for each.
create or replace function {{ .schema }}._forget_parked (p_queue text, p_keys text[], p_job_ids bigint[])
  returns void
  language plpgsql
  volatile
as $$
begin
  delete from parked_jobs as p
  where p.ctid = any (array({{ template "internal/parked_rows.sql" (dict "queue" "p_queue" "keys" "p_keys" "ids" "p_job_ids") }}));
end;
$$;

-- The same for jobs of any lanes that leave otherwise, so that no claim has to go through
-- them. Waits for nobody: what is left on the list a claim forgets.
create or replace function {{ .schema }}._forget_parked_of (p_lanes bigint[], p_keys text[], p_job_ids bigint[])
  returns void
  language plpgsql
  volatile
as $$
declare
  v_queue text;
  v_keys  text[];
  v_ids   bigint[];
begin
  if p_job_ids is null then
    return;
  end if;
  for v_queue, v_keys, v_ids in
    select l.queue, array_agg(u.key), array_agg(u.job_id)
    from unnest(p_lanes, p_keys, p_job_ids) as u (lane, key, job_id)
    join queue_lanes as l on l.lane = u.lane
    where u.key is not null
    group by l.queue
  loop
    delete from parked_jobs as p
    where p.ctid = any (array(
      select f.ctid from parked_jobs as f
      where f.ctid = any (array({{ template "internal/parked_rows.sql" (dict "queue" "v_queue" "keys" "v_keys" "ids" "v_ids") }}))
      for update skip locked));
  end loop;
end;
$$;

-- Claims parked jobs of some keys that have a slot again, oldest first within a key;
-- p_held has a key for each attempt that is open. No window offers them any more:
-- their claim is counted by a delta, as of jobs that a transaction enqueued itself.
create or replace function {{ .schema }}._claim_parked (
  p_queue text, p_keys text[], p_held text[], p_max integer, p_worker text, p_lease interval, p_limit integer
)
  returns setof {{ .schema }}.claimed_job
  language plpgsql
  volatile
as $$
declare
  v_now   timestamptz := _now();
  v_xid   xid8 := pg_current_xact_id();  -- before the ring is read, see enqueue
  v_slot  smallint := _current_slot();
  v_lanes bigint[] := array(select l.lane from queue_lanes as l where l.queue = p_queue);
  v_held  text[] := p_held;
  v_left  integer := p_max;
  v_got   integer;
  v_ids   bigint[];
  v_keys  text[];
  v_gone  bigint[];
begin
  loop
    select array_agg(n.job_id), array_agg(n.key) into v_ids, v_keys
    from (
      select p.job_id, k.key
      from (
        select u.key, p_limit - sum(u.held) as free
        from (
          select c.key, 0 as held, true as asked from unnest(p_keys) as c (key)
          union all
          select h.key, 1, false from unnest(v_held) as h (key)
        ) as u
        group by u.key
        having bool_or(u.asked) and sum(u.held) < p_limit
      ) as k
      cross join lateral (
        select j.job_id from parked_jobs as j where j.queue = p_queue and j.key = k.key order by j.job_id limit k.free
      ) as p
      limit v_left
    ) as n;
    if v_ids is null then
      return;
    end if;
    -- Those whose unique key counts from now on go by way of promotion.
    if exists (select from deferred_jobs as d where d.run_at = 'infinity' and d.unique_key is not null) then
      v_gone := array(
        select d.job_id from deferred_jobs as d
        where d.job_id = any (v_ids) and d.run_at = 'infinity' and d.lane = any (v_lanes) and _gains_key(d)
        order by d.job_id
        -- Whoever holds one may wait for a lane that this claim has in hand.
        for update skip locked);
      perform _forget_parked(p_queue, array_agg(u.key), array_agg(u.job_id))
      from unnest(v_ids, v_keys) as u (job_id, key)
      where u.job_id = any (v_gone);
      perform _bring_back(v_gone);
    end if;
    return query
    with taken as (
      delete from deferred_jobs as d
      where d.job_id = any (array(
        select e.job_id from deferred_jobs as e
        -- By its id and by no other index, whatever the statistics say.
        where e.job_id = any (v_ids) and (e.run_at = 'infinity' and e.lane = any (v_lanes)) is true and not _gains_key(e)
        order by e.job_id
        for update skip locked))
      returning d.*
    ),
    gone as (
      delete from parked_jobs as p
      where p.ctid = any (array({{ template "internal/parked_rows.sql" (dict "queue" "p_queue" "keys" "v_keys" "ids" "v_ids") }}
          -- Not a join: those few may be many.
          and (u.job_id in (select t.job_id from taken as t)) is true))
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
        array_agg(p.run_lease order by p.job_id) as run_leases,
        (select q.priority from queue_lanes as q where q.lane = p.lane limit 1) as priority
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
      p.job_id, p.kind, p.args, p_queue, b.priority, p.attempt, p.max_attempts, p.run_at, p.created_at,
      coalesce(p.tags, '{}'), coalesce(p.metadata, '{}'), p.progress, coalesce(p.errors, '{}'),
      v_now + p.deadline, v_now + p_lease
    from put as p
    join batch as b on b.lane = p.lane
    order by b.priority, p.job_id;
    get diagnostics v_got = row_count;
    exit when v_got = cardinality(v_ids);
    v_left := v_left - v_got;
    -- Those that were cancelled, deleted or moved meanwhile leave the list, and others
    -- are looked for in their stead: one may wait for a slot of another queue by now.
    -- Those that somebody holds stay.
    v_gone := array(
      select u.job_id
      from unnest(v_ids, v_keys) as u (job_id, key)
      cross join lateral (
        select from parked_jobs as p where p.queue = p_queue and p.key = u.key and p.job_id = u.job_id limit 1
      ) as p
      where not exists (
        select from deferred_jobs as d where d.job_id = u.job_id and (d.run_at = 'infinity' and d.lane = any (v_lanes)) is true));
    exit when v_gone = '{}';
    -- As they may be many, those behind them as well.
    perform _forget_parked(p_queue, array_agg(j.key), array_agg(j.job_id))
    from unnest(v_ids, v_keys) as u (job_id, key)
    cross join lateral (
      select n.key, n.job_id from parked_jobs as n
      where n.queue = p_queue and n.key = u.key and n.job_id >= u.job_id
      order by n.job_id
      limit 1000
    ) as j
    where u.job_id in (select g.job_id from unnest(v_gone) as g (job_id))
      and not exists (
        select from deferred_jobs as d where d.job_id = j.job_id and (d.run_at = 'infinity' and d.lane = any (v_lanes)) is true);
    v_held := v_held || array(
      select u.key from unnest(v_ids, v_keys) as u (job_id, key)
      where u.job_id not in (select g.job_id from unnest(v_gone) as g (job_id)));
  end loop;
end;
$$;

-- Jobs that were claimed just now although their key has no slot: set aside. Nobody
-- else has seen these attempts, so they are closed without a look at other outcomes.
create or replace function {{ .schema }}._park_jobs (
  p_queue text, p_slots smallint[], p_batches bigint[], p_jobs bigint[], p_leases bigint[], p_keys text[]
)
  returns void
  language plpgsql
  volatile
as $$
begin
  with job as materialized (
    select r.*, u.batch_id, u.key
    from unnest(p_slots, p_batches, p_jobs, p_leases, p_keys) as u (slot, batch_id, job_id, run_lease, key)
    cross join lateral (
      select e.* from ready_entries as e
      where e.ready_slot = u.slot and e.job_id = u.job_id and e.run_lease = u.run_lease
      limit 1
    ) as r
  ),
  closed as (
    insert into attempt_outcomes (batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome, job_ids, run_leases)
    select j.batch_id, j.lane, pg_current_xact_id(), _now(), 0, count(*), j.ready_slot, 'm',
      array_agg(j.job_id order by j.job_id), case when max(j.run_lease) > 1 then array_agg(j.run_lease order by j.job_id) end
    from job as j
    group by j.batch_id, j.lane, j.ready_slot
  ),
  deferred as (
    insert into deferred_jobs (
      job_id, lane, state, run_at, created_at, run_lease, attempt, max_attempts, kind, args,
      metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline, xid)
    select j.job_id, j.lane, 'scheduled', 'infinity', j.created_at, j.run_lease + 1, j.attempt, j.max_attempts, j.kind, j.args,
      j.metadata || jsonb_build_object('awa:run_at', j.run_at), j.tags, j.errors, j.progress, j.unique_key, j.unique_states,
      j.ordering_key, j.deadline, pg_current_xact_id()
    from job as j
  )
  insert into parked_jobs (queue, key, job_id)
  select p_queue, j.key, j.job_id from job as j
  on conflict do nothing;
end;
$$;

-- Claims p_ask jobs, but fewer if more than p_left of them would have a slot: what was
-- claimed then is undone, and so many are claimed that p_left have one. p_aged_at is
-- null while no attempt has outlasted many claims.
create or replace function {{ .schema }}._claim_ahead (
  p_queue text, p_ask integer, p_left integer, p_worker text, p_lease interval, p_limit integer,
  p_held text[], p_aged_at timestamptz, p_frozen boolean
)
  returns {{ .schema }}.claimed_job[]
  language plpgsql
  volatile
as $$
declare
  v_ask  integer := p_ask;
  v_jobs claimed_job[];
  v_keys text[];
begin
  loop
    begin
      v_jobs := case when p_frozen then array(select j from _claim_snapshot(p_queue, v_ask, p_worker, p_lease) as j)
        else array(select j from _claim_lanes(p_queue, v_ask, p_worker, p_lease) as j) end;
      v_keys := array(select _concurrency_key(j.metadata) from unnest(v_jobs) as j);
      select g.nth::integer - 1 into v_ask
      from (
        select f.nth, count(*) over (order by f.nth) as fit
        from (
          select u.key, u.nth, row_number() over (partition by u.key order by u.nth) as turn
          from (
            select h.key, 0 as nth
            from unnest(p_held || case when p_aged_at is not null then _aged_keys(p_queue, v_keys, p_aged_at) end) as h (key)
            union all
            select k.key, k.nth from unnest(v_keys) with ordinality as k (key, nth)
          ) as u
        ) as f
        where f.nth > 0 and (f.key is null or f.turn <= p_limit)
      ) as g
      where g.fit > p_left
      order by g.nth
      limit 1;
      exit when not found;
      raise exception using errcode = 'AW000', message = 'undo';
    exception when sqlstate 'AW000' then
      null;
    end;
  end loop;
  return v_jobs;
end;
$$;

-- claim, of a queue with a limit of concurrency. What is open is read once, and what
-- this call takes is added to it: a claimer of the queue waits for the one before.
-- First come parked jobs whose key has a slot again, then the lanes; a job there whose
-- key has none is parked. A large call that has half of what it asked for does not go
-- on: the rest would mostly meet keys that are taken.
create or replace function {{ .schema }}._claim_limited (p_queue text, p_max integer, p_worker text, p_lease interval, p_limit integer)
  returns setof {{ .schema }}.claimed_job
  language plpgsql
  volatile
as $$
#variable_conflict use_column
declare
  v_left   integer := least(p_max, 10000);
  v_asked  integer;
  v_enough integer;
  v_got    integer;
  v_met    integer := 0;
  v_most   integer;
  v_next   integer := 0;
  v_at     timestamptz;
  v_rate   double precision;
  v_burst  integer;
  v_slot   smallint;
  v_point  bigint;
  v_open   bigint[];
  v_frozen boolean := current_setting('transaction_isolation') in ('repeatable read', 'serializable');
  v_parked boolean;
  v_leases boolean;
  v_aged   boolean;
  v_state  record;
  v_held   text[];
  v_jobs   claimed_job[];
  -- What this call takes; of one round what it finds, takes and has to park.
  n_keys    text[];
  n_jobs    bigint[];
  n_batches bigint[];
  w_keys    text[];
  w_jobs    bigint[];
  w_batches bigint[];
  w_slots   smallint[];
  w_leases  bigint[];
  o_keys    text[];
  o_jobs    bigint[];
  o_batches bigint[];
  o_slots   smallint[];
  o_leases  bigint[];
  t_keys    text[];
  t_jobs    bigint[];
  t_batches bigint[];
  v_key     text;
  v_receipt receipt;
begin
  perform _enter_ring();
  if not _await_turn(p_queue) then
    return;
  end if;
  v_slot := _current_slot();
  -- A claim writes into the segment that is current: if it has a row of a claim, it has
  -- the newest one.
  case v_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    select m.rate_limit, m.rate_burst, b.point, b.open, b.aged,
      exists (select from parked_jobs as p where p.queue = p_queue), exists (select from leases)
    into v_rate, v_burst, v_point, v_open, v_aged, v_parked, v_leases
    from queue_meta as m
    left join lateral (
      select o.point, o.open, o.aged from slot_batches_{{ $i }} as o
      where o.queue = m.queue and o.open <> '{}'
      order by o.point desc
      limit 1
    ) as b on true
    where m.queue = p_queue;
{{ end }}
  end case;
  if v_point is null then
    select b.point, b.open, b.aged into v_point, v_open, v_aged
    from slot_batches as b where b.queue = p_queue and b.open <> '{}' order by b.point desc limit 1;
  end if;
  if v_rate is not null then
    v_left := least(v_left, _await_tokens(p_queue, v_rate, v_burst));
    if v_left < 1 then
      return;
    end if;
  end if;
  v_asked := v_left;
  v_enough := case when v_asked < 20 then 0 else v_asked / 2 end;
  v_at := _now();
  if v_aged is distinct from false then
    v_aged := exists (select from slot_entries as e where e.queue = p_queue);
  end if;
  v_state := _slot_state(p_queue, coalesce(v_open, '{}'), v_at, v_slot, v_leases, v_parked);
  v_held := v_state.held_keys;

  for v_pass in 1 .. 2 loop
    if v_parked then
      -- Keys that came free since the last claim, and a few others: a limit may have been
      -- raised. Who would return with nothing looks at more.
      w_keys := v_state.freed_keys || _parked_keys(p_queue, case when v_aged then v_left * 2 + 100 when v_pass = 2 then 100 else 10 end);
      v_jobs := array(
        select j
        from _claim_parked(
          p_queue, w_keys, v_held || case when v_aged then _aged_keys(p_queue, w_keys, v_at) end, v_left, p_worker, p_lease, p_limit) as j);
      if v_jobs <> '{}' then
        return query select j.* from unnest(v_jobs) as j;
        select array_agg(_concurrency_key(j.metadata)), array_agg(j.job_id), array_agg((j.receipt).batch_id)
        into n_keys, n_jobs, n_batches
        from unnest(v_jobs) as j;
        v_held := v_held || n_keys;
        v_left := v_left - cardinality(v_jobs);
        if v_rate is not null then
          perform _spend_tokens(p_queue, v_rate, v_burst, cardinality(v_jobs));
        end if;
      end if;
    end if;
    exit when v_pass = 2;
    while v_left > v_enough loop
      v_jobs := case
        when v_next > v_left then _claim_ahead(p_queue, v_next, v_left, p_worker, p_lease, p_limit,
          v_held, case when v_aged then v_at end, v_frozen)
        when v_frozen then array(select j from _claim_snapshot(p_queue, v_left, p_worker, p_lease) as j)
        else array(select j from _claim_lanes(p_queue, v_left, p_worker, p_lease) as j) end;
      -- A round costs as much as some jobs.
      v_met := v_met + greatest(cardinality(v_jobs), case when v_left < v_asked then 10 else 50 end);
      exit when v_jobs = '{}';
      o_jobs := null;
      if cardinality(v_jobs) = 1 then
        v_key := _concurrency_key(v_jobs[1].metadata);
        if v_key is not null then
          v_receipt := v_jobs[1].receipt;
          if cardinality(array_positions(v_held || case when v_aged then _aged_keys(p_queue, array[v_key], v_at) end, v_key)) < p_limit then
            v_held := v_held || v_key;
            n_keys := n_keys || v_key;
            n_jobs := n_jobs || v_receipt.job_id;
            n_batches := n_batches || v_receipt.batch_id;
          else
            o_keys := array[v_key];
            o_jobs := array[v_receipt.job_id];
            o_batches := array[v_receipt.batch_id];
            o_slots := array[v_receipt.ready_slot];
            o_leases := array[v_receipt.run_lease];
          end if;
        end if;
      else
        select array_agg(j.key), array_agg(j.job_id), array_agg((j.receipt).batch_id), array_agg((j.receipt).ready_slot),
          array_agg((j.receipt).run_lease)
        into w_keys, w_jobs, w_batches, w_slots, w_leases
        from (
          select _concurrency_key(u.metadata) as key, u.job_id, u.receipt from unnest(v_jobs) as u offset 0
        ) as j
        where j.key is not null;
        if w_keys is not null then
          select array_agg(w.key) filter (where w.taken), array_agg(w.job_id) filter (where w.taken), array_agg(w.batch_id) filter (where w.taken),
            array_agg(w.key) filter (where not w.taken), array_agg(w.job_id) filter (where not w.taken),
            array_agg(w.batch_id) filter (where not w.taken), array_agg(w.slot) filter (where not w.taken),
            array_agg(w.run_lease) filter (where not w.taken)
          into t_keys, t_jobs, t_batches, o_keys, o_jobs, o_batches, o_slots, o_leases
          from (
            -- The open attempts of a key come first, so that its jobs count on from there.
            select u.nth, u.key, u.job_id, u.batch_id, u.slot, u.run_lease,
              row_number() over (partition by u.key collate "C" order by u.nth) <= p_limit as taken
            from (
              select 0 as nth, h.key, null::bigint as job_id, null::bigint as batch_id, null::smallint as slot, null::bigint as run_lease
              from unnest(v_held || case when v_aged then _aged_keys(p_queue, w_keys, v_at) end) as h (key)
              where (h.key in (select k.key from unnest(w_keys) as k (key))) is true
              union all
              select w.nth, w.key, w.job_id, w.batch_id, w.slot, w.run_lease
              from unnest(w_keys, w_jobs, w_batches, w_slots, w_leases) with ordinality as w (key, job_id, batch_id, slot, run_lease, nth)
            ) as u
            -- As they were claimed: such a batch is known as a whole.
            order by u.nth
          ) as w
          where w.nth > 0;
          v_held := v_held || t_keys;
          n_keys := n_keys || t_keys;
          n_jobs := n_jobs || t_jobs;
          n_batches := n_batches || t_batches;
        end if;
      end if;
      if o_jobs is null then
        return query select j.* from unnest(v_jobs) as j;
      else
        perform _park_jobs(p_queue, o_slots, o_batches, o_jobs, o_leases, o_keys);
        return query select j.* from unnest(v_jobs) as j where j.job_id not in (select o.id from unnest(o_jobs) as o (id));
      end if;
      get diagnostics v_got = row_count;
      v_left := v_left - v_got;
      if v_rate is not null and v_got < cardinality(v_jobs) then
        -- Those that were parked give their tokens back.
        perform _spend_tokens(p_queue, v_rate, v_burst, v_got - cardinality(v_jobs));
      end if;
      -- A long row of jobs whose keys are taken is parked by several calls: many who has
      -- nothing yet, few who keeps others waiting with something in hand.
      v_most := case when v_left < v_asked then 100 + 2 * v_asked else 5000 end;
      exit when v_met >= v_most;
      -- And it is not walked step by step by who wants few.
      v_next := case when v_got = 0 then least(greatest(v_next * 4, 20), 1000, v_most - v_met) else 0 end;
    end loop;
    exit when v_left < v_asked or not v_parked;
  end loop;

  if n_keys is null then
    return;
  end if;
  v_open := v_state.open_points;
  if cardinality(v_open) > 128 then
    perform _age_slots(p_queue, array_agg(u.key), array_agg(u.job_id), array_agg(b.batch_id), v_at)
    from unnest(v_open[:64]) as p (point)
    cross join lateral (select n.* from slot_batches as n where n.queue = p_queue and n.point = p.point offset 0) as b
    cross join lateral unnest(b.keys, b.job_ids) as u (key, job_id)
    where _holds_slot(b.batch_id, u.job_id, v_at);
    v_open := v_open[65:];
    v_aged := true;
  end if;
  if v_parked and v_left = 0 then
    -- Keys that came free and have nobody yet. Where they are very many, a look at any
    -- finds one. The first such key of a batch tells: the others are not looked up.
    v_open := v_open || array(
      select b.point
      from (
        select f.point, array_agg(f.key) as keys
        from unnest(v_state.freed_keys, v_state.freed_points) as f (key, point)
        where f.point <> all (v_open)
        group by f.point
      ) as b
      where coalesce((
        select true from unnest(b.keys) as f (key)
        where f.key not in (select h.key from unnest(v_held) as h (key) group by h.key having count(*) >= p_limit)
          -- Not exists: it may be planned to read them all.
          and coalesce((select true from parked_jobs as p where p.queue = p_queue and p.key = f.key order by p.job_id limit 1), false)
        limit 1), false)
      limit 64);
  end if;
  v_point := coalesce(v_point, 0);
  if n_batches[1] = all (n_batches) then
    case v_slot
{{ range $i := until (int .segments) }}
    when {{ $i }} then
      insert into slot_batches_{{ $i }} (queue, point, batch_id, keys, job_ids, open, aged, ready_slot)
      values (p_queue, v_point + 1, n_batches[1], n_keys, n_jobs, v_open || (v_point + 1), v_aged, {{ $i }});
{{ end }}
    end case;
    return;
  end if;
  insert into slot_batches (queue, point, batch_id, keys, job_ids, open, aged, ready_slot)
  select p_queue, g.point, g.batch_id, g.keys, g.job_ids, v_open || array_agg(g.point) over (), v_aged, v_slot
  from (
    select v_point + row_number() over () as point, n.batch_id, n.keys, n.job_ids
    from (
      select u.batch_id, array_agg(u.key) as keys, array_agg(u.job_id) as job_ids
      from unnest(n_batches, n_keys, n_jobs) as u (batch_id, key, job_id)
      group by u.batch_id
    ) as n
  ) as g;
end;
$$;

-- Parked jobs of a queue whose limit is gone go back into their lanes. The jobs are locked
-- before they leave the list, as a claim and a move do.
create or replace function {{ .schema }}._unpark_queue (p_queue text)
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_ids bigint[];
begin
  perform from deferred_jobs as e
  where e.job_id = any (array(select p.job_id from parked_jobs as p where p.queue = p_queue))
  order by e.job_id
  for update;
  for v_ids in
    with unlisted as (
      delete from parked_jobs as p where p.queue = p_queue returning p.job_id
    )
    select array_agg(n.job_id order by n.nth)
    from (select u.job_id, row_number() over (order by u.job_id) as nth from unlisted as u) as n
    group by (n.nth - 1) / 1000
    order by (n.nth - 1) / 1000
  loop
    perform _bring_back(v_ids);
  end loop;
end;
$$;
