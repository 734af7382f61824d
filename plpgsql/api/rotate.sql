-- Rotate: seal the current segment and open the next slot.

-- Whether the current segment's jobs are larger than p_max_bytes, not counting failed ones and
-- stragglers that prunes moved there: if these alone could fill a segment, the ring would turn
-- at every call and only carry them on. Their size is estimated by their share of the rows, as
-- of the newest checkpoint.
create or replace function {{ .schema }}._is_full (p_current {{ .schema }}.segment_rotations, p_max_bytes bigint)
  returns boolean
  language plpgsql
  volatile
as $$
declare
  v_bytes   bigint := pg_total_relation_size(format('%I.%I', '{{ .schema }}', 'ready_entries_' || p_current.slot));
  v_brought numeric;
  v_moved   numeric;
  v_own     numeric;
begin
  if v_bytes <= p_max_bytes then
    return false;
  end if;
  select coalesce(sum(p.carried + p.relocated), 0), sum(p.relocated) into v_brought, v_moved
  from segment_prunes as p
  where p.generation > p_current.generation - {{ .segments }} and p.pruned_at >= p_current.rotated_at;
  if v_brought = 0 then
    return true;
  end if;
  -- Stragglers that wait count as enqueued where they were moved to.
  select greatest(coalesce(sum(t.enqueued), 0) - v_moved, 0) into v_own from _newest_totals(p_current.slot) as t;
  return v_bytes * v_own > p_max_bytes * (v_own + v_brought);
end;
$$;

create or replace function {{ .schema }}.rotate ()
  returns text
{{ template "internal/public.sql" . -}}
as $$
declare
  v_current segment_rotations;
  v_next    bigint;
begin
  perform _require_read_committed('rotate');
  if not _try_singleton(1) then
    return 'busy';
  end if;
  perform _settle_epoch();
  select r.* into v_current from segment_rotations as r order by r.generation desc limit 1;
  if not found then
    perform _no_segment();
  end if;
  v_next := v_current.generation + 1;

  -- Workers send heartbeats even where no job comes: some ten thousand, judged by the size of
  -- their table, are reason enough.
  if not exists (select from ready_entries as r where r.ready_slot = v_current.slot)
    and pg_relation_size(format('%I.%I', '{{ .schema }}', 'workers_' || v_current.slot)) <= 1048576
  then
    return 'idle';
  end if;
  if v_next >= {{ .segments }} and not exists (
    select from segment_prunes as p where p.generation = v_next - {{ .segments }})
  then
    return 'blocked';
  end if;

  -- The epoch moves first and outside the transaction: whoever still reads
  -- the old ring under an old snapshot can notice.
  insert into segment_rotations (generation, slot, epoch, xid)
  values (v_next, v_next % {{ .segments }}, nextval('storage_epoch'), pg_current_xact_id());
  return 'rotated';
end;
$$;

comment on function {{ .schema }}.rotate is
  'Seals the current segment and opens the next. Returns rotated; idle when the current segment has no jobs and few heartbeats; blocked when the next slot is not pruned yet (see storage_status); busy while another session rotates or prunes. Never blocks others. Raises 25001 outside READ COMMITTED.';
