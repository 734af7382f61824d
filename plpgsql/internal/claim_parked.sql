-- Parked jobs are claimed once their key has a slot again.

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
          select h.key, 1, false, 0 from (select unnest(v_held) as key) as h where (h.key in (select unnest(p_keys))) is true
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
      perform _bring_back(v_gone, true);
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
