-- Jobs that a claim met while their key had no slot: set aside, and claimed once it has one.

-- Whether a listed job is parked. One that left may stay on the list for a while, and an UPDATE
-- may have put it off until infinity for good.
create or replace function {{ .schema }}._is_parked (p_job {{ .schema }}.deferred_jobs)
  returns boolean
  language sql
  immutable
as $$
  select (p_job.run_at = 'infinity' and p_job.metadata ? 'awa:run_at') is true
$$;

-- The next keys with parked jobs after one: of fifty jobs at a time as long as those have more
-- than one, then from key to key. Each step reads the rest of an index page, which is most of it.
create or replace function {{ .schema }}._parked_keys_after (p_queue text, p_round integer, p_key text, p_max integer)
  returns text[]
  language plpgsql
  stable
  set enable_seqscan = off
as $$
begin
  return array(
    with recursive step as (
      select array[p_key] as keys, 0 as met, 50 as jobs
      union all
      select x.keys, s.met + cardinality(x.keys), case when cardinality(x.keys) > 1 then 50 else 1 end
      from step as s
      cross join lateral (
        select array(
          select n.key
          from (
            select p.key from parked_jobs as p
            where p.queue = p_queue and p.round = p_round and p.key > s.keys[cardinality(s.keys)]
            order by p.key
            limit s.jobs
          ) as n
          group by n.key
          order by n.key) as keys
        offset 0
      ) as x
      where x.keys <> '{}' and s.met < p_max
    )
    select k.key from step as s cross join lateral unnest(s.keys) as k (key) where s.met > 0 limit p_max);
end;
$$;

-- Some keys with parked jobs, from a random one on, so that many keys that are taken do not
-- hide a free one for long. A key may be named twice.
create or replace function {{ .schema }}._parked_keys (p_queue text, p_round integer, p_max integer)
  returns text[]
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_start bigint := hashint8extended((random() * 1e15)::bigint, 0);
  -- After the key of a random one of them.
  v_keys  text[] := _parked_keys_after(p_queue, p_round, coalesce(
    (select p.key from parked_jobs as p
     where p.queue = p_queue and p.round = p_round and hashint8extended(p.job_id, 0) >= v_start
     order by hashint8extended(p.job_id, 0) limit 1),
    ''), p_max);
begin
  if cardinality(v_keys) < p_max then
    v_keys := v_keys || _parked_keys_after(p_queue, p_round, '', p_max - cardinality(v_keys));
  end if;
  return v_keys;
end;
$$;

-- Takes jobs off the list of parked ones, and says how many: each by its key and id, not by a
-- join, which may be planned as a walk through all parked jobs of the queue for each. Waits for
-- nobody: a later claim removes what is left on the list.
create or replace function {{ .schema }}._forget_parked (p_queue text, p_round integer, p_keys text[], p_job_ids bigint[])
  returns bigint
  language plpgsql
  volatile
as $$
declare
  v_jobs bigint;
begin
  delete from parked_jobs as p
  where p.ctid = any (array(
    select f.ctid from parked_jobs as f
    where f.ctid = any (array(
      select n.ctid
      from unnest(p_keys, p_job_ids) as u (key, job_id)
      cross join lateral (
        select x.ctid, x.job_id from parked_jobs as x
        where x.queue = p_queue and x.round = p_round and x.key = u.key and x.job_id >= u.job_id
        order by x.job_id
        limit 1
      ) as n
      where n.job_id = u.job_id))
    for update skip locked));
  get diagnostics v_jobs = row_count;
  return v_jobs;
end;
$$;

-- The same for jobs of any lanes that leave in another way, so that no claim has to walk over
-- them.
create or replace function {{ .schema }}._forget_parked_of (p_lanes bigint[], p_keys text[], p_job_ids bigint[])
  returns void
  language plpgsql
  volatile
as $$
declare
  v_queue text;
  v_round integer;
  v_keys  text[];
  v_ids   bigint[];
begin
  if p_job_ids is null then
    return;
  end if;
  for v_queue, v_round, v_keys, v_ids in
    select l.queue, (select m.parked_round from queue_meta as m where m.queue = l.queue), array_agg(u.key), array_agg(u.job_id)
    from unnest(p_lanes, p_keys, p_job_ids) as u (lane, key, job_id)
    join queue_lanes as l on l.lane = u.lane
    where u.key is not null
    group by l.queue
  loop
    perform _forget_parked(v_queue, v_round, v_keys, v_ids);
  end loop;
end;
$$;

-- Claims parked jobs of some keys that have a slot again, oldest first within a key;
-- p_held has a key for each attempt that is open. No window offers them any more:
-- their claim is counted by a delta, as of jobs that a transaction enqueued itself. A job that
-- cannot be taken keeps nobody waiting: the next one of its key is looked at instead, and passed
-- says that there was such a job.
create or replace function {{ .schema }}._claim_parked (
  p_queue text, p_round integer, p_keys text[], p_held text[], p_max integer, p_worker text, p_lease interval, p_limit integer,
  out jobs {{ .schema }}.claimed_job[], out passed boolean
)
  language plpgsql
  volatile
as $$
declare
  v_now    timestamptz := _now();
  v_xid    xid8 := pg_current_xact_id();  -- before the ring is read, see enqueue
  v_slot   smallint := _current_slot();
  v_lanes  bigint[] := array(select l.lane from queue_lanes as l where l.queue = p_queue);
  v_held   text[] := p_held;
  v_left   integer := p_max;
  v_more   integer := 0;
  v_looks  integer := 0;
  v_off    bigint;
  v_got    claimed_job[];
  v_ids    bigint[];
  v_keys   text[];
  v_places tid[];
  v_gone   bigint[];
  -- All that was looked at.
  s_ids    bigint[];
  s_keys   text[];
begin
  passed := false;
  loop
    select array_agg(n.job_id), array_agg(n.key), array_agg(n.place) into v_ids, v_keys, v_places
    from (
      select p.job_id, k.key, p.place
      from (
        select u.key, p_limit - sum(u.held) as free, max(u.seen) as seen
        from (
          select c.key, 0 as held, true as asked, 0 as seen from unnest(p_keys) as c (key)
          union all
          select h.key, 1, false, 0 from unnest(v_held) as h (key)
          union all
          select s.key, 0, false, s.job_id from unnest(s_keys, s_ids) as s (key, job_id)
        ) as u
        group by u.key
        having bool_or(u.asked) and sum(u.held) < p_limit
      ) as k
      cross join lateral (
        select j.job_id, j.ctid as place from parked_jobs as j
        where j.queue = p_queue and j.round = p_round and j.key = k.key and j.job_id > k.seen
        order by j.job_id
        limit k.free
      ) as p
      limit greatest(v_left, v_more)
    ) as n;
    exit when v_ids is null;
    -- Jobs whose unique key counts from now on are left to promotion.
    v_gone := array(
      select d.job_id from deferred_jobs as d
      -- By its id and by no other index, here and below, whatever the statistics say.
      where d.job_id = any (v_ids) and (d.lane = any (v_lanes) and _is_parked(d) and _gains_key(d)) is true
      order by d.job_id
      -- A session that holds one may wait for a lane that this claim holds.
      for update skip locked);
    if v_gone <> '{}' then
      perform _forget_parked(p_queue, p_round, array_agg(u.key), array_agg(u.job_id))
      from unnest(v_ids, v_keys) as u (job_id, key)
      where u.job_id = any (v_gone);
      perform _bring_back(v_gone);
    end if;
    case v_slot
{{ range $i := until (int .segments) }}
    when {{ $i }} then
      with taken as (
        delete from deferred_jobs as d
        -- Locked rows stay where they are: nothing has to be looked up again.
        where d.ctid = any (array(
          select e.ctid from deferred_jobs as e
          where e.job_id = any (v_ids) and (e.lane = any (v_lanes)) is true and _is_parked(e) and not _gains_key(e)
          order by e.job_id
          limit v_left
          for update skip locked))
        returning d.*
      ),
      gone as (
        delete from parked_jobs as p
        -- Somebody may have taken one off meanwhile, and another job may be in its place. By no
        -- index and no join, since there may be many.
        where p.ctid = any (v_places) and (p.queue = p_queue and p.job_id in (select t.job_id from taken as t)) is true
      ),
      put as (
        insert into ready_entries_{{ $i }} (
          lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
          metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline)
        select t.lane, '0', t.job_id, coalesce(nullif(_instant(t.metadata ->> 'awa:run_at'), 'infinity'), t.created_at), t.created_at, t.run_lease, {{ $i }}, t.attempt, t.max_attempts,
          t.kind, t.args, nullif(t.metadata - 'awa:run_at', '{}'), t.tags, t.errors, t.progress, t.unique_key, t.unique_states,
          t.ordering_key, t.deadline
        from taken as t
        returning *
      ),
      batch as materialized (
        select p.lane, _batch_id({{ $i }}, max(p.job_id * 16 + p.run_lease % 16), max(p.run_lease)) as batch_id, count(*)::integer as jobs,
          min(p.deadline) as deadline, bool_or(p.metadata ? 'awa:follow_ups') as follows, array_agg(p.job_id order by p.job_id) as job_ids,
          array_agg(p.run_lease order by p.job_id) as run_leases,
          (select q.priority from queue_lanes as q where q.lane = p.lane limit 1) as priority
        from put as p
        group by p.lane
      ),
      claimed as (
        insert into claims_{{ $i }} (
          batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, worker, deadline_at, bypassed_by,
          follows)
        select b.batch_id, b.lane, v_now, v_now + p_lease, {{ $i }}, b.job_ids, b.run_leases, p_worker, v_now + b.deadline, v_xid,
          nullif(b.follows, false)
        from batch as b
      ),
      counted as (
        insert into terminal_count_deltas_{{ $i }} (lane, xid, ready_slot, closed, completed, failed, cancelled)
        select b.lane, v_xid, {{ $i }}, -b.jobs, 0, 0, 0 from batch as b
      ),
      watched as (
        insert into watched_claims_{{ $i }} (batch_id, lane, ready_slot, look_at)
        select b.batch_id, b.lane, {{ $i }}, v_now + least(p_lease, b.deadline) from batch as b
      )
      select array_agg(row(
          row({{ $i }}, b.batch_id, p.job_id, p.run_lease)::receipt,
          p.job_id, p.kind, p.args, p_queue, b.priority, p.attempt, p.max_attempts, p.run_at, p.created_at,
          coalesce(p.tags, '{}'), coalesce(p.metadata, '{}'), p.progress, coalesce(p.errors, '{}'),
          v_now + p.deadline, v_now + p_lease)::claimed_job
        order by b.priority, p.job_id)
      into v_got
      from put as p
      join batch as b on b.lane = p.lane;
{{ end }}
    end case;
    jobs := jobs || v_got;
    exit when cardinality(v_got) = cardinality(v_ids);
    passed := true;
    v_left := v_left - coalesce(cardinality(v_got), 0);
    exit when v_left < 1;
    -- Jobs that were cancelled, deleted or moved meanwhile leave the list, and others are
    -- looked for instead; one may wait for a slot of another queue by now. Jobs that somebody
    -- holds stay.
    v_gone := array(
      select u.job_id
      from unnest(v_ids, v_keys) as u (job_id, key)
      cross join lateral (
        select from parked_jobs as p where p.queue = p_queue and p.round = p_round and p.key = u.key and p.job_id = u.job_id limit 1
      ) as p
      -- Not by exists, here and below, which may be planned to read them all.
      where (
        select true from deferred_jobs as d
        where d.job_id = u.job_id and (d.lane = any (v_lanes)) is true and _is_parked(d)) is null);
    v_off := 0;
    if v_gone <> '{}' then
      -- There may be many, so those behind them leave as well.
      select _forget_parked(p_queue, p_round, array_agg(j.key), array_agg(j.job_id)) into v_off
      from unnest(v_ids, v_keys) as u (job_id, key)
      cross join lateral (
        select n.key, n.job_id from parked_jobs as n
        where n.queue = p_queue and n.round = p_round and n.key = u.key and n.job_id >= u.job_id
        order by n.job_id
        limit 1000
      ) as j
      where u.job_id in (select g.job_id from unnest(v_gone) as g (job_id))
        and (
          select true from deferred_jobs as d
          where d.job_id = j.job_id and (d.lane = any (v_lanes)) is true and _is_parked(d)) is null;
    end if;
    if v_off = 0 then
      -- A session may hold very many: some more of them are looked at each time, but not all.
      v_looks := v_looks + 1;
      exit when v_looks = 8;
      v_more := least(greatest(v_more, 1) * 4, 1000);
    end if;
    v_held := v_held || array(
      select u.key from unnest(v_ids, v_keys) as u (job_id, key)
      where u.job_id in (select g.job_id from unnest(v_got) as g));
    s_ids := s_ids || v_ids;
    s_keys := s_keys || v_keys;
  end loop;
end;
$$;

-- Jobs that a claim met in their lane while their key had no slot: set aside. The cursor
-- passes them, so they are a batch of their own, p_batch_id or a new one, which is closed
-- at once.
create or replace function {{ .schema }}._park_jobs (
  p_queue text, p_round integer, p_slot smallint, p_lane bigint, p_job_ids bigint[], p_run_leases integer[], p_batch_id bigint, p_worker text, p_lease interval
)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_now timestamptz := _now();
begin
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    with job as materialized (
      select r.*
      from unnest(p_job_ids, p_run_leases) as u (job_id, run_lease)
      cross join lateral (
        select e.* from ready_entries_{{ $i }} as e where e.job_id = u.job_id and e.run_lease = u.run_lease limit 1
      ) as r
    ),
    batch as materialized (
      select coalesce(p_batch_id, _batch_id({{ $i }}, max(j.job_id * 16 + j.run_lease % 16), max(j.run_lease))) as batch_id, count(*) as jobs
      from job as j
    ),
    claimed as (
      insert into claims_{{ $i }} (batch_id, lane, claimed_at, lease_expires_at, ready_slot, job_ids, run_leases, worker)
      select b.batch_id, p_lane, v_now, v_now + p_lease, {{ $i }}, p_job_ids, case when 1 <> any (p_run_leases) then p_run_leases end, p_worker
      from batch as b
      where p_batch_id is null
    ),
    closed as (
      insert into attempt_outcomes_{{ $i }} (batch_id, lane, xid, finalized_at, seq, jobs, ready_slot, outcome)
      select b.batch_id, p_lane, pg_current_xact_id(), v_now, 0, b.jobs, {{ $i }}, 'm'
      from batch as b
    ),
    deferred as (
      insert into deferred_jobs (
        job_id, lane, state, run_at, created_at, run_lease, attempt, max_attempts, kind, args,
        metadata, tags, errors, progress, unique_key, unique_states, ordering_key, deadline, xid)
      select j.job_id, p_lane, 'scheduled', 'infinity', j.created_at, j.run_lease + 1, j.attempt, j.max_attempts, j.kind, j.args,
        j.metadata || jsonb_build_object('awa:run_at', j.run_at), j.tags, j.errors, j.progress, j.unique_key, j.unique_states,
        j.ordering_key, j.deadline, pg_current_xact_id()
      from job as j
    )
    insert into parked_jobs (queue, round, key, job_id)
    select p_queue, p_round, _concurrency_key(j.metadata), j.job_id from job as j
    on conflict do nothing;
{{ end }}
  end case;
end;
$$;

-- Parked jobs of a queue whose limit is gone go back into their lanes. The jobs are locked
-- before they leave the list, as a claim and a move do. One that was parked since may be in the
-- hands of a claim that wants its place on the list: it is left to _unpark_unlimited.
create or replace function {{ .schema }}._unpark_queue (p_queue text)
  returns void
  language plpgsql
  volatile
  -- A custom plan knows how many are held, and does not hash very many.
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
declare
  v_held bigint[] := array(
    select e.job_id from deferred_jobs as e
    where e.job_id = any (array(select p.job_id from parked_jobs as p where p.queue = p_queue)) and _is_parked(e)
    order by e.job_id
    for update);
  v_ids  bigint[];
begin
  for v_ids in
    with unlisted as (
      delete from parked_jobs as p
      -- Not a join, which may be planned as a walk through all of them for each.
      where p.queue = p_queue and (p.job_id in (select h.job_id from unnest(v_held) as h (job_id))) is true
      returning p.job_id
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

-- Parked jobs of queues whose limit is gone, up to p_max of each: a claim that read the limit
-- before may park after _unpark_queue looked, and no other claim comes for these jobs. Waits
-- for nobody: what somebody holds comes with another pass.
create or replace function {{ .schema }}._unpark_unlimited (p_max integer)
  returns bigint
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_jobs  bigint := 0::bigint;
  v_queue text;
  v_round integer;
  v_keys  text[];
  v_ids   bigint[];
  v_held  bigint[];
begin
  for v_queue, v_round in
    select m.queue, m.parked_round from queue_meta as m
    where m.concurrency_limit is null and m.concurrency_slots is not null
      and (select true from parked_jobs as p where p.queue = m.queue and p.round = m.parked_round limit 1)
  loop
    select array_agg(n.key), array_agg(n.job_id) into v_keys, v_ids
    from (
      select p.key, p.job_id from parked_jobs as p
      where p.queue = v_queue and p.round = v_round
      order by p.key, p.job_id
      limit p_max
      for update skip locked
    ) as n;
    v_held := array(
      select e.job_id from deferred_jobs as e
      where e.job_id = any (v_ids) and _is_parked(e)
      order by e.job_id
      for update skip locked);
    v_jobs := v_jobs + _bring_back(v_held);
    -- Those that left otherwise leave the list as well.
    perform _forget_parked(v_queue, v_round, array_agg(u.key), array_agg(u.job_id))
    from unnest(v_ids, v_keys) as u (job_id, key)
    where u.job_id = any (v_held)
      or (select true from deferred_jobs as d where d.job_id = u.job_id and _is_parked(d)) is null;
  end loop;
  return v_jobs;
end;
$$;

-- How many entries of the lists of parked jobs this transaction has read in vain so far. While
-- an old snapshot is open they stay there, of jobs that left long ago. One expression, so that
-- it is inlined.
create or replace function {{ .schema }}._parked_walk ()
  returns bigint
  language sql
  volatile
as $$
  select pg_catalog.pg_stat_get_xact_tuples_returned('{{ .schema }}.parked_jobs_pkey'::regclass)
    - pg_catalog.pg_stat_get_xact_tuples_fetched('{{ .schema }}.parked_jobs_pkey'::regclass)
    + pg_catalog.pg_stat_get_xact_tuples_returned('{{ .schema }}.parked_jobs_mixed_idx'::regclass)
    - pg_catalog.pg_stat_get_xact_tuples_fetched('{{ .schema }}.parked_jobs_mixed_idx'::regclass)
$$;

-- Moves a queue's list to a new round, where nothing is in the way of a look at it. The caller
-- has the queue's turn, so nobody adds to the list meanwhile. Waits for nobody: if somebody
-- holds a part of the list, the round stays as it is. Returns the round.
create or replace function {{ .schema }}._renew_parked (p_queue text, p_round integer)
  returns integer
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  perform from queue_meta as m where m.queue = p_queue for no key update nowait;
  perform from parked_jobs as p where p.queue = p_queue and p.round = p_round for update nowait;
  with moved as (
    delete from parked_jobs as p where p.queue = p_queue and p.round = p_round returning p.key, p.job_id
  )
  insert into parked_jobs (queue, round, key, job_id)
  select p_queue, p_round + 1, m.key, m.job_id from moved as m;
  update queue_meta as m set parked_round = p_round + 1 where m.queue = p_queue;
  return p_round + 1;
exception when lock_not_available then
  return p_round;
end;
$$;
