-- Storage status: each slot of the ring and what holds it.

create or replace function {{ .schema }}.storage_status ()
  returns table (
    slot smallint, generation bigint, phase text, rotated_at timestamptz, bytes bigint,
    waiting bigint, running bigint, reason text)
{{ template "internal/public.sql" . -}}
as $$
#variable_conflict use_column
declare
  v_current bigint := (select max(r.generation) from segment_rotations as r);
  v_oldest  bigint := (select coalesce(max(p.generation) + 1, 0) from segment_prunes as p);
  v_waiting bigint;
  v_running bigint;
begin
  perform _enter_ring();
  if v_oldest < v_current then
    -- Each row is claimed once and closed once, so the numbers tell.
    select r.jobs - c.jobs, c.jobs - o.jobs into v_waiting, v_running
    from (
      select count(*) as jobs from ready_entries as e where e.ready_slot = v_oldest % {{ .segments }}
    ) as r
    cross join (
      select coalesce(sum(cardinality(e.job_ids)), 0) as jobs from claims as e where e.ready_slot = v_oldest % {{ .segments }}
    ) as c
    cross join (
      select coalesce(sum(e.jobs), 0) as jobs from attempt_outcomes as e where e.ready_slot = v_oldest % {{ .segments }}
    ) as o;
    -- Unless a row was closed twice, which check() reports.
    if least(v_waiting, v_running) < 0 then
      select count(*) filter (where o.batch_id is null), count(o.batch_id) into v_waiting, v_running
      from _open_attempts((v_oldest % {{ .segments }})::integer) as o;
    end if;
  end if;
  return query
  select s.slot::smallint, g.generation, p.phase, g.rotated_at, b.bytes,
    case when g.generation = v_oldest then v_waiting end,
    case when g.generation = v_oldest then v_running end,
    case when p.phase = 'sealed' and g.generation = v_oldest then
      concat_ws('; ',
        case when v_waiting + v_running = 0 then 'ready to prune'
          else format('%s waiting and %s running jobs hold it', v_waiting, v_running) end,
        _lasting_holder(_segment_holders(s.slot)))
    end
  from generate_series(0, {{ sub (int .segments) 1 }}) as s (slot)
  left join lateral (
    select r.generation, r.rotated_at from segment_rotations as r
    where r.slot = s.slot order by r.generation desc limit 1
  ) as g on true
  cross join lateral (
    select case
      when g.generation = v_current then 'current'
      when g.generation >= v_oldest then 'sealed'
      else 'empty' end as phase
  ) as p
  cross join lateral (
    select sum(pg_total_relation_size(c.oid))::bigint as bytes
    from pg_class as c
    where c.relnamespace = '{{ .schema }}'::regnamespace and c.relkind = 'r' and c.relname ~ ('_' || s.slot || '$')
  ) as b
  order by s.slot;
end;
$$;

comment on function {{ .schema }}.storage_status is
  'One row per slot of the ring: its generation, phase (current, sealed, empty) and size, and for the oldest sealed segment how many of its jobs wait or run and hold it, and a transaction that has long been in the way of a prune. Counts that segment''s rows; never blocks others.';
