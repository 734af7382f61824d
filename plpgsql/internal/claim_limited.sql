-- Claims of a queue with a concurrency limit.

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
<<claim>>
declare
  queue    text := p_queue;
  worker   text := p_worker;
  lease    interval := p_lease;
  v_left   integer := least(p_max, 10000);
  v_asked  integer;
  v_enough integer;
  v_got    integer;
  v_stop   boolean := false;
  v_rate   double precision;
  v_burst  integer;
  v_here   smallint;
  v_point  bigint;
  v_points bigint[];
  v_frozen boolean := _keeps_snapshot();
  v_paused boolean;
  v_parked boolean;
  v_passed boolean := false;
  v_round  integer;
  v_walk   bigint := _parked_walk();
  v_aged   boolean;
  v_state  record;
  v_held   text[];
  v_jobs   claimed_job[];
  -- Keys with parked jobs, and what this call takes.
  w_keys    text[];
  n_keys    text[];
  n_jobs    bigint[];
  n_batches bigint[];
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
    -- 40001 if the list of parked jobs is at another round by now, where this call's are looked for.
    perform from queue_meta as m where m.queue = p_queue for share skip locked;
  end if;
  v_here := _current_slot();
  -- A claim writes into the segment that is current: if it has a row of a claim, it has
  -- the newest one. Settings may have changed while the turn was awaited.
  case v_here
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    select m.paused, coalesce(m.concurrency_limit, p_limit), m.rate_limit, m.rate_burst, m.parked_round, b.point, b.open, b.aged,
      exists (select from parked_jobs as p where p.queue = p_queue and p.round = m.parked_round)
    into v_paused, p_limit, v_rate, v_burst, v_round, v_point, v_points, v_aged, v_parked
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
  if v_paused then
    return;
  end if;
  if v_point is null then
    select b.point, b.open, b.aged into v_point, v_points, v_aged
    from slot_batches as b where b.queue = p_queue and b.open <> '{}' order by b.point desc limit 1;
  end if;
  if v_rate is not null then
    v_left := least(v_left, _allowed_jobs(p_queue, v_rate, v_burst));
    if v_left < 1 then
      return;
    end if;
  end if;
  v_asked := v_left;
  v_enough := case when v_asked < 20 then 0 else v_asked / 2 end;
  if v_aged is distinct from false then
    v_aged := exists (select from slot_entries as e where e.queue = p_queue);
  end if;
  v_state := _slot_state(p_queue, coalesce(v_points, '{}'), v_here, v_parked);
  v_held := v_state.held_keys;

  for v_pass in 1 .. 2 loop
    if v_parked then
      -- Keys that came free since the last claim. Every tenth claim, and each that would
      -- otherwise return nothing, also looks at others, since a limit may have been raised.
      w_keys := v_state.freed_keys;
      if v_aged or v_pass = 2 or random() < 0.1 then
        w_keys := w_keys || _parked_keys(p_queue, v_round, case when v_aged then v_left * 2 + 100 else 100 end);
      end if;
      v_jobs := null;
      if w_keys <> '{}' then
        select c.jobs, c.passed or v_passed into v_jobs, v_passed
        from _claim_parked(
          p_queue, v_round, w_keys, v_held || case when v_aged then _aged_keys(p_queue, w_keys) end, v_left, p_worker, p_lease, p_limit) as c;
      end if;
      if v_jobs <> '{}' then
        return query select j.* from unnest(v_jobs) as j;
        select array_agg(_concurrency_key(j.metadata)), array_agg(j.job_id), array_agg((j.receipt).batch_id)
        into n_keys, n_jobs, n_batches
        from unnest(v_jobs) as j;
        v_held := v_held || n_keys;
        v_left := v_left - cardinality(v_jobs);
      end if;
    end if;
    exit when v_pass = 2;
    if v_left > v_enough then
      <<claim_body>>
{{ template "internal/claim_body.sql" (dict "schema" .schema "segments" .segments "limited" true) }}      end;
    end if;
    exit when v_left < v_asked or not v_parked;
  end loop;

  -- What it costs to move the list is paid when as much was read in vain: on the average, so
  -- that no count has to be kept.
  v_walk := _parked_walk() - v_walk;
  if v_walk > 1000 and not v_frozen
    and random() * (20000 + 10 * pg_stat_get_live_tuples('{{ .schema }}.parked_jobs'::regclass)) < v_walk
  then
    v_round := _renew_parked(p_queue, v_round);
  end if;
  if v_rate is not null and v_left < v_asked then
    perform _spend_tokens(p_queue, v_rate, v_burst, v_asked - v_left);
  end if;
  if n_keys is null then
    return;
  end if;
  v_points := v_state.open_points;
  if cardinality(v_points) > 128 then
    perform _age_slots(p_queue, array_agg(u.key), array_agg(u.job_id), array_agg(b.batch_id))
    from unnest(v_points[:64]) as p (point)
    cross join lateral (select n.* from slot_batches as n where n.queue = p_queue and n.point = p.point offset 0) as b
    cross join lateral unnest(b.keys, b.job_ids) as u (key, job_id)
    where _holds_slot(b.batch_id, u.job_id);
    v_points := v_points[65:];
    v_aged := true;
  end if;
  if v_parked and (v_left = 0 or v_passed) then
    -- Batches that freed a key which nobody has yet, though jobs are parked for it, stay on the
    -- list, so that the next claim comes to the key again. No more than 64 of them: where there
    -- are more, _parked_keys meets one soon. The first such key of a batch is enough.
    v_points := v_points || array(
      select b.point
      from (
        select f.point, array_agg(f.key) as keys
        from unnest(v_state.freed_keys, v_state.freed_points) as f (key, point)
        where f.point <> all (v_points)
        group by f.point
      ) as b
      where coalesce((
        select true from unnest(b.keys) as f (key)
        where f.key not in (select h.key from unnest(v_held) as h (key) group by h.key having count(*) >= p_limit)
          -- Not by exists, which may be planned to read them all.
          and coalesce((select true from parked_jobs as p where p.queue = p_queue and p.round = v_round and p.key = f.key order by p.job_id limit 1), false)
        limit 1), false)
      limit 64);
  end if;
  v_point := coalesce(v_point, 0);
  if n_batches[1] = all (n_batches) then
    case v_here
{{ range $i := until (int .segments) }}
    when {{ $i }} then
      insert into slot_batches_{{ $i }} (queue, point, batch_id, keys, job_ids, open, aged, ready_slot)
      values (p_queue, v_point + 1, n_batches[1], n_keys, n_jobs, v_points || (v_point + 1), v_aged, {{ $i }});
{{ end }}
    end case;
    return;
  end if;
  insert into slot_batches (queue, point, batch_id, keys, job_ids, open, aged, ready_slot)
  select p_queue, g.point, g.batch_id, g.keys, g.job_ids, v_points || array_agg(g.point) over (), v_aged, v_here
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
