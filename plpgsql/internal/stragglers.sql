-- How many open jobs prune moves out of its way.

-- Few of them in any case, and many where nobody works their lanes and the ring has no other slot
-- left to open: as many as were enqueued into the current segment. So a queue that is paused for
-- weeks does not make all others' history grow, and moving its jobs costs no more than enqueueing
-- the others did. While there is such a slot, few means one in a hundred of p_rows, if that is given.
create or replace function {{ .schema }}._straggler_limits (p_oldest bigint, p_current smallint, p_rows bigint, out few bigint, out many bigint)
  language plpgsql
  stable
as $$
begin
  few := (select s.straggler_limit::bigint from storage_settings as s);
  if p_oldest + {{ sub (int .segments) 1 }} > (select max(r.generation) from segment_rotations as r) then
    few := least(few, p_rows / 100);
    many := few;
  else
    many := greatest(few, least(1000000, (select coalesce(sum(t.enqueued), 0)::bigint from _newest_totals(p_current) as t)));
  end if;
end;
$$;

-- Those of some lanes that somebody has claimed from lately. Not since the last rotation: while
-- the ring is full there is none. A claim that is far ahead, before the clock was set back, does
-- not count.
create or replace function {{ .schema }}._worked_lanes (p_lanes bigint[])
  returns setof bigint
  language plpgsql
  stable
  set enable_seqscan = off
as $$
declare
  v_now   timestamptz := _now();
  v_since timestamptz := v_now - (select least(s.segment_max_age, '1 minute') from storage_settings as s);
begin
  return query
  select l.lane
  from (select distinct u.lane from unnest(p_lanes) as u (lane)) as l
  cross join lateral (
    select o.batch_id from lane_cursors as o
    where o.lane = l.lane and o.batch_id is not null
    order by o.generation desc
    limit 1
  ) as c
  cross join lateral (select k.claimed_at from claims as k where k.batch_id = c.batch_id limit 1) as k
  where k.claimed_at > v_since and not _is_ahead(k.claimed_at, v_now);
end;
$$;

-- Whether, by the counters, more jobs hold a segment than prune would move. The counters may
-- have drifted, so this only saves counting the rows at every call, and decides nothing for
-- good.
create or replace function {{ .schema }}._seems_held (p_oldest bigint, p_current smallint)
  returns boolean
  language plpgsql
  stable
as $$
declare
  v_few   bigint;
  v_many  bigint;
  v_jobs  bigint;
  v_lanes bigint[];
  v_open  bigint[];
begin
  select coalesce(sum(k.open), 0)::bigint, array_agg(k.lane), array_agg(k.open) into v_jobs, v_lanes, v_open
  from (select t.lane, t.enqueued - t.closed as open from _newest_totals((p_oldest % {{ .segments }})::smallint) as t) as k
  where k.open <> 0;
  select l.few, l.many into v_few, v_many from _straggler_limits(p_oldest, p_current, null) as l;
  return v_jobs > v_many or v_jobs > v_few and v_few < (
    select coalesce(sum(u.open), 0)
    from unnest(v_lanes, v_open) as u (lane, open)
    where u.lane in (select w from _worked_lanes(v_lanes) as w));
end;
$$;
