-- Limits of concurrency that were lowered: attempts in slots above the limit count
-- against it until they are closed.

-- The free slots of some keys, as by _free_slots, less one for each attempt in a slot
-- above the limit.
create or replace function {{ .schema }}._slots_below (p_queue text, p_keys text[], p_limit integer, p_claimed_at timestamptz)
  returns table (key text, slot integer, point bigint)
  language plpgsql
  volatile
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_hashjoin = off
  set enable_mergejoin = off
as $$
begin
  return query
  select f.key, f.slot, f.point
  from (
    select x.key, x.slot, x.point, x.held, row_number() over (partition by x.key, x.held order by x.slot) as turn,
      count(*) filter (where x.held) over (partition by x.key) as taken
    from (
      select k.key, s.slot, e.point, e.held
      from unnest(p_keys) as k (key)
      cross join lateral (
        select g.slot from generate_series(1, p_limit) as g (slot)
        union
        select n.slot from slot_entries as n where n.queue = p_queue and n.key = k.key and n.slot > p_limit
      ) as s
{{ template "internal/slot_entry.sql" }}
    ) as x
  ) as f
  where not f.held and f.slot <= p_limit and f.turn <= p_limit - f.taken;
end;
$$;
