-- Rotate: seal the current segment and open the next slot.

create or replace function {{ .schema }}.rotate ()
  returns text
{{ template "internal/public.sql" . -}}
as $$
declare
  v_current segment_rotations;
  v_next    bigint;
  v_used    boolean;
begin
  perform _require_read_committed('rotate');
  if not _try_singleton(1) then
    return 'busy';
  end if;
  perform _settle_epoch();
  select r.* into v_current from segment_rotations as r order by r.generation desc limit 1;
  v_next := v_current.generation + 1;

  -- Workers send heartbeats also where no job comes: some ten thousand, by the size of
  -- their table, are reason enough.
  select exists (select from ready_entries as r where r.ready_slot = v_current.slot)
    or pg_relation_size(format('%I.%I', '{{ .schema }}', 'workers_' || v_current.slot)) > 1048576
  into v_used;
  if not v_used then
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
