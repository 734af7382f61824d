-- Limits of concurrency: of the jobs of a key, named by awa:concurrency_key in their metadata,
-- no more than the queue's concurrency_limit run at a time. A slot is taken when a job is
-- claimed, and is free as soon as that attempt is closed in any way: nothing has to give it
-- back.

-- A job's key. A value put into the metadata by hand that is not a text of 1 to 200 characters
-- counts as none.
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

-- What the batches at some points hold: the keys of their open attempts, one for each, and the
-- keys of the others. A claim reads the clock only after this. So its time is later than the
-- outcomes that freed its slots, and the stored times prove that the limit was kept.
--
-- The batches are first looked for in the current segment alone, and only if one is elsewhere in
-- all of them. Mostly a batch is open or closed as a whole, and its keys are taken as they
-- stand. An attempt that waits for an answer is closed as m in its batch and still holds a slot:
-- for such batches, and those of which a prune took a part, leases are read job by job, in the
-- snapshot of the outcomes.
create or replace function {{ .schema }}._slot_state (
  p_queue text, p_open bigint[], p_slot smallint, p_parked boolean,
  out held_keys text[], out open_points bigint[], out freed_keys text[], out freed_points bigint[]
)
  language plpgsql
  volatile
as $$
declare
  v_met  bigint := 0::bigint;
  v_torn boolean := false;
  r      record;
begin
  held_keys := '{}';
  open_points := '{}';
  case p_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    for r in
      select b.point, b.keys, o.closed, o.closed >= cardinality(c.job_ids) as done, o.waits, c.job_ids = b.job_ids as intact
      from unnest(p_open) as p (point)
      cross join lateral (select n.* from slot_batches_{{ $i }} as n where n.queue = p_queue and n.point = p.point limit 1) as b
      cross join lateral (select k.job_ids from claims_{{ $i }} as k where k.batch_id = b.batch_id limit 1) as c
      cross join lateral (
        select coalesce(sum(n.jobs), 0) as closed, bool_or(n.outcome = 'm') as waits
        from attempt_outcomes_{{ $i }} as n
        where n.batch_id = b.batch_id
      ) as o
    loop
      v_met := v_met + 1;
      if r.done and r.intact and not r.waits then
        if p_parked then
          freed_keys := freed_keys || r.keys;
          freed_points := freed_points || array_fill(r.point, array[cardinality(r.keys)]);
        end if;
      elsif r.closed = 0 and r.intact then
        held_keys := held_keys || r.keys;
        open_points := open_points || r.point;
      else
        v_torn := true;
        exit;
      end if;
    end loop;
{{ end }}
  end case;
  if not v_torn and v_met = cardinality(p_open) then
    return;
  end if;
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

-- Whether an attempt is open, or waits for an answer.
create or replace function {{ .schema }}._holds_slot (p_batch_id bigint, p_job_id bigint)
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
          where o.batch_id = p_batch_id and (o.job_ids is null or p_job_id = any (o.job_ids))))
    -- Not by exists, which may be planned to read them all.
    or coalesce((select true from leases as l where l.job_id = p_job_id and l.batch_id = p_batch_id), false);
end;
$$;

-- The slots of some keys that attempts took which outlasted many claims: each slot's newest
-- row, and whether the attempt of that row is open.
create or replace function {{ .schema }}._aged_slots (p_queue text, p_keys text[])
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
  -- The newest row of slot s of key k, and whether its attempt is open.
  left join lateral (
    select n.point, n.batch_id, n.job_id from slot_entries as n
    where n.queue = p_queue and n.key = k.key and n.slot = s.slot
    order by n.point desc
    limit 1
  ) as n on true
  cross join lateral (
    select coalesce(n.point, 0) as point, case when n.batch_id is null then false else _holds_slot(n.batch_id, n.job_id) end as held
  ) as e;
end;
$$;

-- Some keys, each as often as it has open attempts that outlasted many claims.
create or replace function {{ .schema }}._aged_keys (p_queue text, p_keys text[])
  returns text[]
  language plpgsql
  volatile
as $$
begin
  return array(
    select a.key
    from _aged_slots(p_queue, array(select distinct k.key from unnest(p_keys) as k (key))) as a
    where a.held);
end;
$$;

-- Attempts that are still open after many claims: each has a slot of its key from
-- now on, and its batch is no longer looked at.
create or replace function {{ .schema }}._age_slots (p_queue text, p_keys text[], p_jobs bigint[], p_batches bigint[])
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
    from _aged_slots(p_queue, array(select distinct k.key from unnest(p_keys) as k (key))) as a
    where not a.held
  ) as f on f.key = w.key and f.turn = w.turn;
end;
$$;
