-- Maintain: whatever is due, in small bites.

create or replace function {{ .schema }}.maintain ()
  returns table (task text, outcome text, affected bigint, detail text)
{{ template "internal/public.sql" . -}}
as $$
#variable_conflict use_column
declare
  v_settings storage_settings;
  v_current  segment_rotations;
  v_oldest   bigint;
  v_prune    text;
  v_reason   text;
  v_rows     bigint;
begin
  -- Otherwise, with nothing due, it would write nothing, and a loop would go on here for ever.
  if pg_is_in_recovery() then
    raise exception using errcode = '25006',
      message = 'cannot execute maintain() during recovery',
      hint = 'Call it on the primary: this server is a standby.';
  end if;
  perform _enter_ring();
  select s.* into v_settings from storage_settings as s;

  perform _require_read_committed('maintain');
  -- The only task whose time grows with a segment. A call that prunes does nothing else: other
  -- sessions do the other tasks meanwhile, whose locks would be held until it ends. History
  -- stays until it is old or the ring needs the slot.
  select r.* into v_current from segment_rotations as r order by r.generation desc limit 1;
  if not found then
    perform _no_segment();
  end if;
  select coalesce(max(p.generation) + 1, 0) into v_oldest from segment_prunes as p;
  if v_oldest < v_current.generation and (
      v_current.generation - v_oldest >= {{ sub (int .segments) 2 }}
      or exists (
        select from segment_rotations as r
        where r.generation = v_oldest + 1 and r.rotated_at < clock_timestamp() - v_settings.history_retention))
    -- A transaction_timeout ends the session, and with it whatever the call would do. So where
    -- there is one, half of the calls are left for the other tasks.
    and (coalesce(current_setting('transaction_timeout', true), '0') = '0' or random() < 0.5)
    and _try_singleton(1)
  then
    v_reason := format('segment %s', v_oldest);
    -- What ends it, such as a statement_timeout or a full disk, would end it each time and undo
    -- the others.
    begin
      -- A queue that is paused may hold it for weeks. Now and then the rows are counted all
      -- the same, for the counters may have drifted.
      perform _checkpoint(array[(v_oldest % {{ .segments }})::integer]);
      if random() < 0.95 and _seems_held(v_oldest, v_current.slot) then
        v_prune := 'blocked';
      else
        v_prune := prune();
      end if;
    exception when others or query_canceled then
      v_prune := 'failed';
      v_reason := format('segment %s: %s', v_oldest, sqlerrm);
    end;
    if v_prune = 'busy' then
      v_reason := concat_ws(': ', v_reason, _lasting_holder(_segment_holders((v_oldest % {{ .segments }})::integer)));
    elsif v_prune = 'pruned' then
      return query select 'prune', v_prune, 1::bigint, v_reason;
      return;
    end if;
  end if;

  -- First the tasks that may have to wait, briefly, for others' jobs, because nothing that
  -- others may wait for is in hand yet; the rest never waits.
  select r.rescued, r.detail into v_rows, detail from _rescue(5000) as r;
  return query select 'rescue', case when v_rows > 0 then 'rescued' when detail = 'another session is at it' then 'busy' else 'idle' end, v_rows, detail;

  return query select 'batch', b.* from _batch_maintain(v_rows > 0) as b;

  v_rows := _unpark_unlimited(1000);
  if v_rows > 0 then
    return query select 'unpark', 'released', v_rows, null::text;
  end if;

  select p.promoted, p.trouble into v_rows, detail from _promote(1000) as p;
  return query select 'promote', case when v_rows > 0 then 'promoted' when detail = 'another session is at it' then 'busy' else 'idle' end, v_rows, detail;

  select f.fired, f.trouble into v_rows, detail from _fire_due(10000) as f;
  if v_rows > 0 or detail is not null then
    return query select 'cron', case when v_rows > 0 then 'fired' else 'idle' end, v_rows, detail;
  end if;

  select d.released into v_rows from _release_dependents(1000) as d;
  if v_rows > 0 then
    return query select 'dependents', 'released', v_rows, null::text;
  end if;

  v_rows := _checkpoint_pass();
  return query select 'checkpoint', case when v_rows > 0 then 'written' else 'idle' end, v_rows, null::text;

  v_rows := _fold_lanes();
  if v_rows > 0 then
    return query select 'lanes', 'folded', v_rows, null::text;
  end if;

  v_rows := _purge_dead(_expired_letters(1000));
  if v_rows > 0 then
    return query select 'dlq', 'purged', v_rows, null::text;
  end if;

  if not _try_singleton(1) then
    return query select 'ring', 'busy', 0::bigint, 'another session rotates or prunes';
    return;
  end if;
  perform _settle_epoch();
  select r.* into v_current from segment_rotations as r order by r.generation desc limit 1;
  if clock_timestamp() - v_current.rotated_at > v_settings.segment_max_age
    or _is_ahead(v_current.rotated_at, clock_timestamp())
    or _is_full(v_current, v_settings.segment_max_bytes)
  then
    outcome := rotate();
    return query select 'rotate', outcome, (outcome = 'rotated')::integer::bigint, format('segment %s', v_current.generation);
  end if;

  if v_prune is not null then
    return query select 'prune', v_prune, 0::bigint, v_reason;
  end if;
  -- Last, because it holds the lanes until it commits.
  v_rows := _move_idle_lanes(50);
  if v_rows > 0 then
    return query select 'lanes', 'moved', v_rows, null::text;
  end if;
end;
$$;

comment on function {{ .schema }}.maintain is
  'Runs the due housekeeping in small bites and reports each task: rescues attempts whose worker is gone, promotes due jobs, fires due schedules, releases jobs that come after others, checkpoints the counters, purges old dead letters, rotates and prunes segments, works on the oldest batch operation. Call it every second or more often, from one session or many; each task is done by one session at a time and skipped by the others. A call that prunes a segment does nothing else. An error that ends a prune, also a timeout or a cancel, is reported as failed, and the other tasks are done. Raises 25001 outside READ COMMITTED.';
