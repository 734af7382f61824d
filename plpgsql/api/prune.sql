-- Prune: reclaim the oldest sealed segment by TRUNCATE.
--
-- Everything is proved and copied without locks; then the segment's tables are locked for a
-- moment and, if nothing has changed since, emptied.

create or replace function {{ .schema }}._prune_segment (p_generation bigint, p_current smallint)
  returns text
  language plpgsql
  volatile
  set work_mem = '64MB'
  set lock_timeout = '50ms'
as $$
declare
  v_slot     integer := (p_generation % {{ .segments }})::integer;
  v_own      xid8 := pg_current_xact_id();
  v_met      text[] := _segment_holders(v_slot);
  v_proof    pg_snapshot;
  v_rows     bigint;
  v_claims   bigint;
  v_closed   bigint;
  v_few      bigint;
  v_many     bigint;
  v_waiting  boolean;
  v_terminal bigint;
  -- Open attempts, the segments that lanes' waiting jobs go to, and failed jobs to keep, column by
  -- column.
  v_lanes    bigint[];
  v_jobs     bigint[];
  v_leases   integer[];
  v_batches  bigint[];
  m_lanes    bigint[];
  m_segments bigint[];
  f_lanes    bigint[];
  f_jobs     bigint[];
  f_leases   integer[];
  f_batches  bigint[];
  f_seqs     integer[];
  f_nths     integer[];
  -- Unique keys that leave with the segment.
  k_places   tid[];
  k_jobs     bigint[];
begin
  if _lasting_holder(v_met) is not null then
    return 'busy';
  end if;
  select count(*) into v_rows from ready_entries as r where r.ready_slot = v_slot;
  select count(*) into v_claims from claims as c where c.ready_slot = v_slot;
  select coalesce(sum(o.jobs), 0) into v_closed from attempt_outcomes as o where o.ready_slot = v_slot;
  select l.few, l.many into v_few, v_many from _straggler_limits(p_generation, p_current, v_rows) as l;
  -- Each row is closed once. A segment may be held for long, while prune is called again and
  -- again: the numbers tell, without looking at rows.
  if v_rows - v_closed > v_many then
    return 'blocked';
  end if;

  -- The proof, in one snapshot.
  select pg_current_snapshot(), array_agg(o.lane), array_agg(o.job_id), array_agg(o.run_lease), array_agg(o.batch_id)
  into v_proof, v_lanes, v_jobs, v_leases, v_batches
  from (select o.* from _open_attempts(v_slot) as o limit v_many + 1) as o;
  if cardinality(v_jobs) > v_many or cardinality(v_jobs) > v_few and v_few < (
      select count(*)
      from unnest(v_lanes, v_batches) as o (lane, batch_id)
      where o.batch_id is not null or o.lane in (select w from _worked_lanes(v_lanes) as w))
  then
    return 'blocked';
  end if;
  v_waiting := array_position(v_batches, null) is not null;
  -- Waiting jobs that move are added to checkpoints.
  if v_waiting and not _try_singleton(2) then
    return 'busy';
  end if;
  select array_agg(f.lane), array_agg(f.job_id), array_agg(f.run_lease), array_agg(f.batch_id), array_agg(f.seq), array_agg(f.nth)
  into f_lanes, f_jobs, f_leases, f_batches, f_seqs, f_nths
  from _retained_failures(v_slot) as f;

{{ template "internal/prune_keep.sql" . }}
  perform _fold_rollups(p_generation);

  -- The rows, less those that survive, become the permanent record.
  with kept as (
    select k.lane, sum(k.waiting) as waiting, sum(k.failed) as failed
    from (
      select o.lane, 1 as waiting, 0 as failed
      from unnest(v_lanes, v_batches) as o (lane, batch_id) where o.batch_id is null
      union all
      select f.lane, 0, 1 from unnest(f_lanes) as f (lane)
    ) as k
    group by k.lane
  ),
  folded as (
    insert into terminal_rollup_entries (lane, generation, ready, closed, completed, failed, cancelled, scheduled, retryable)
    select t.lane, p_generation, t.enqueued - coalesce(k.waiting, 0), t.closed - coalesce(k.failed, 0),
      t.completed, t.failed - coalesce(k.failed, 0), t.cancelled, t.scheduled, t.retryable
    from _segment_truth(v_slot, '9223372036854775807:9223372036854775807:') as t
    left join kept as k on k.lane = t.lane
    returning completed + failed + cancelled as terminal
  )
  select coalesce(sum(f.terminal), 0)::bigint into v_terminal from folded as f;

  -- Mostly done already here, where nobody waits for it.
  perform _carry_fires(v_slot, p_current);

  -- Keys of jobs that leave with the segment and are nowhere else. They are dropped only once
  -- the segment is locked: somebody who waited for one might keep this from locking it.
  k_jobs := array(select r.job_id from ready_entries as r where r.ready_slot = v_slot and r.unique_key is not null);
  if k_jobs <> '{}' then
    select k.places, k.jobs into k_places, k_jobs from _leaving_keys(v_slot, k_jobs) as k;
  end if;

  if v_waiting then
    perform _extend_windows(p_generation, p_current, m_lanes, m_segments);
  end if;
  if not _lock_segment(v_slot, v_met) then
    raise exception using errcode = '55P03', message = 'the segment is in use';
  end if;
  case v_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    -- Nobody can be writing here any more. If anything came that the proof did not see, it
    -- takes another prune.
    if _segment_changed({{ $i }}, v_proof, v_own) or not _dependents_know({{ $i }})
      or (v_waiting and v_claims <> (select count(*) from claims_{{ $i }}))
    then
      raise exception using errcode = '55P03', message = 'the segment changed while it was pruned';
    end if;

    perform _drop_keys(k_places, k_jobs);

{{ template "internal/prune_carry.sql" (dict "slot" $i) }}
    -- Also where it has no row: by its new file readers with an older snapshot notice the prune.
    truncate ready_entries_{{ $i }};
{{- template "internal/ring_tables.sql" (dict "schema" $.schema "suffix" (print "_" $i) "empty" true) }}
{{ end }}
  end case;

  insert into segment_prunes (generation, slot, epoch, ready_rows, terminal_jobs, relocated, carried)
  values (p_generation, v_slot, nextval('storage_epoch'), v_rows, v_terminal,
    coalesce(cardinality(v_jobs), 0), coalesce(cardinality(f_jobs), 0));
  return 'pruned';
exception
  when lock_not_available or deadlock_detected or unique_violation then
    -- At the end: once in thousands of times a carried batch has been given a relocated batch's
    -- id. The next prune draws again.
    return 'busy';
end;
$$;

create or replace function {{ .schema }}.prune ()
  returns text
{{ template "internal/public.sql" . -}}
as $$
declare
  v_current    segment_rotations;
  v_generation bigint;
begin
  perform _require_read_committed('prune');
  if not _try_singleton(1) then
    return 'busy';
  end if;
  perform _settle_epoch();
  -- Jobs that wait for others must have seen those outcomes before these go.
  if not (select d.settled from _release_dependents(10000) as d) then
    return 'busy';
  end if;
  select r.* into v_current from segment_rotations as r order by r.generation desc limit 1;
  select coalesce(max(p.generation) + 1, 0) into v_generation from segment_prunes as p;
  if v_generation >= v_current.generation then
    return 'empty';
  end if;
  return _prune_segment(v_generation, v_current.slot);
end;
$$;

comment on function {{ .schema }}.prune is
  'Empties the oldest sealed segment, whose history becomes totals in queue_terminal_rollups; failed jobs inside their queue''s failed_retention and a few stragglers move to later segments, jobs that wait without losing their place. Once no slot is left to open, so do up to a million that wait where nobody has claimed for a minute, if the current segment has as many jobs. Returns pruned; empty when no segment is sealed; blocked when more than a few of its jobs wait or run (see storage_status); busy when the segment is in use. Holds ACCESS EXCLUSIVE on that segment for milliseconds, once transactions that use it have ended, for which it waits about 100 ms. Calls that read all segments meanwhile wait some tens of milliseconds. Raises 25001 outside READ COMMITTED.';
