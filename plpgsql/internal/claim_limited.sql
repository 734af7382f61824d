-- Claims of a queue with a concurrency limit.

-- Claims p_ask jobs. If more than p_left of them have a slot that is undone, and only so many
-- are claimed that p_left have one. p_aged_at is null while no attempt has outlasted many
-- claims.
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

-- claim, of a queue with a limit of concurrency. Open attempts are read once, and what this
-- call takes is added to them; that is exact because claimers of the queue take turns. First
-- come parked jobs whose key has a slot again, then the lanes; a job there whose key has none
-- is parked. A large call stops once it has half of what it asked for: it would mostly meet
-- keys that are taken.
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
  v_frozen boolean := _keeps_snapshot();
  v_parked boolean;
  v_leases boolean;
  v_aged   boolean;
  v_state  record;
  v_held   text[];
  v_jobs   claimed_job[];
  -- What this call takes; and what one round finds, takes and has to park.
  n_keys     text[];
  n_jobs     bigint[];
  n_batches  bigint[];
  w_keys     text[];
  o_receipts receipt[];
  t_keys     text[];
  t_jobs     bigint[];
  t_batches  bigint[];
  v_key      text;
  v_receipt  receipt;
begin
  perform _enter_ring();
  if not _await_turn(p_queue) then
    return;
  end if;
  -- After a rotation others note what they take in another segment, where this call's row
  -- conflicts with none of theirs.
  if v_frozen then
    lock table lane_cursors in access share mode;
    if _snapshot_is_stale() then
      perform _stale_snapshot(format('claim of queue %L', p_queue));
    end if;
  end if;
  v_slot := _current_slot();
  -- A claim writes into the current segment, so if that has any row it has the newest.
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
      -- Keys that came free since the last claim. Every tenth claim, and each that would
      -- otherwise return nothing, also looks at others, since a limit may have been raised.
      w_keys := v_state.freed_keys;
      if v_aged or v_pass = 2 or random() < 0.1 then
        w_keys := w_keys || _parked_keys(p_queue, case when v_aged then v_left * 2 + 100 else 100 end);
      end if;
      v_jobs := case when w_keys <> '{}' then array(
        select j
        from _claim_parked(
          p_queue, w_keys, v_held || case when v_aged then _aged_keys(p_queue, w_keys, v_at) end, v_left, p_worker, p_lease, p_limit) as j) end;
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
      o_receipts := null;
      if cardinality(v_jobs) = 1 then
        v_key := _concurrency_key(v_jobs[1].metadata);
        if v_key is not null then
          if cardinality(array_positions(v_held || case when v_aged then _aged_keys(p_queue, array[v_key], v_at) end, v_key)) < p_limit then
            v_receipt := v_jobs[1].receipt;
            v_held := v_held || v_key;
            n_keys := n_keys || v_key;
            n_jobs := n_jobs || v_receipt.job_id;
            n_batches := n_batches || v_receipt.batch_id;
          else
            o_receipts := array[v_jobs[1].receipt];
          end if;
        end if;
      else
        if v_aged then
          w_keys := array(select _concurrency_key(j.metadata) from unnest(v_jobs) as j);
        end if;
        with job as materialized (
          select j.nth, _concurrency_key(j.metadata) as key, j.receipt
          from (
            select u.nth, (u.job).metadata, (u.job).receipt
            from (select unnest(v_jobs) as job, generate_series(1, cardinality(v_jobs)) as nth) as u
            offset 0
          ) as j
        ),
        -- Grouped, not numbered: keys with more than their limit are few.
        crowded as materialized (
          select count(*) filter (where u.nth = 0) as held, array_agg(u.nth) filter (where u.nth > 0) as nths
          from (
            select 0 as nth, h.key
            from (select unnest(v_held || case when v_aged then _aged_keys(p_queue, w_keys, v_at) end) as key) as h
            where (h.key in (select j.key from job as j)) is true
            union all
            select j.nth, j.key from job as j where j.key is not null
          ) as u
          group by u.key
          having count(*) > p_limit
        ),
        late as materialized (
          select n.nth
          from crowded as c
          cross join lateral (select x.nth from unnest(c.nths) as x (nth) order by x.nth offset greatest(p_limit - c.held, 0)) as n
        )
        select array_agg(w.key) filter (where w.taken), array_agg((w.receipt).job_id) filter (where w.taken),
          array_agg((w.receipt).batch_id) filter (where w.taken), array_agg(w.receipt) filter (where not w.taken)
        into t_keys, t_jobs, t_batches, o_receipts
        from (
          -- In the order of the claim: such a batch can be taken as a whole.
          select j.key, j.receipt, j.nth not in (select l.nth from late as l) as taken
          from job as j
          where j.key is not null
          offset 0
        ) as w;
        v_held := v_held || t_keys;
        n_keys := n_keys || t_keys;
        n_jobs := n_jobs || t_jobs;
        n_batches := n_batches || t_batches;
      end if;
      if o_receipts is null then
        return query select j.* from unnest(v_jobs) as j;
      else
        perform _park_jobs(p_queue, o_receipts);
        return query select j.* from unnest(v_jobs) as j where j.job_id not in (select o.job_id from unnest(o_receipts) as o);
      end if;
      get diagnostics v_got = row_count;
      v_left := v_left - v_got;
      if v_rate is not null and v_got < cardinality(v_jobs) then
        -- Those that were parked give their tokens back.
        perform _spend_tokens(p_queue, v_rate, v_burst, v_got - cardinality(v_jobs));
      end if;
      -- A long row of jobs whose keys are taken is parked by several calls: a call that has
      -- nothing yet parks many, one that has something parks few, since others wait for it.
      v_most := case when v_left < v_asked then 100 + 2 * v_asked else 5000 end;
      exit when v_met >= v_most;
      -- And a call that wants few jobs does not walk it in small steps.
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
    -- Free keys for which a job is still parked. Where there are very many, looking at a few is
    -- enough. One such key of a batch settles it; the others are not looked up.
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
          -- Not by exists, which may be planned to read them all.
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
