-- A running attempt, other than finishing it: snooze, cancel, lease, progress.

-- Jobs that were put back without delay need not wait for a pass of promotion, except those
-- whose key counts from then on.
create or replace function {{ .schema }}._requeue_now (p_job_ids bigint[])
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  d deferred_jobs;
begin
  for d in
    with gone as (
      delete from deferred_jobs as e where e.job_id = any (p_job_ids) and not _gains_key(e) returning e.*
    )
    select g.* from gone as g order by g.job_id
  loop
    perform _requeue(d);
  end loop;
end;
$$;

create or replace function {{ .schema }}.snooze_many (receipts {{ .schema }}.receipt[], delay interval)
  returns setof {{ .schema }}.receipt
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
declare
  v_taken receipt[];
begin
  perform _check_delay('delay', snooze_many.delay);
  if coalesce(cardinality(snooze_many.receipts), 0) = 0 then
    return;
  end if;
  if _defer_part(snooze_many.receipts, null, snooze_many.delay, 's') then
    v_taken := snooze_many.receipts;
  else
    v_taken := array(select f.receipt from _fail_attempts(snooze_many.receipts, null, snooze_many.delay, false, 's') as f);
  end if;
  if snooze_many.delay = '0' then
    perform _requeue_now(array(select t.job_id from unnest(v_taken) as t));
  end if;
  return query select r.* from unnest(_without(snooze_many.receipts, v_taken)) as r;
end;
$$;

comment on function {{ .schema }}.snooze_many is
  'Puts running jobs back for later, as snooze does; with a delay of zero they are available again at once. Returns the stale receipts; no row means all were accepted. Waits only for concurrent finishes of the same batches. Raises AW006 for a negative delay.';

create or replace function {{ .schema }}.snooze (receipt {{ .schema }}.receipt, delay interval)
  returns boolean
{{ template "internal/public.sql" . -}}
as $$
begin
  return not exists (select from snooze_many(array[snooze.receipt], snooze.delay));
end;
$$;

comment on function {{ .schema }}.snooze is
  'Puts a running job back for later: it is scheduled, or available at once with a delay of zero, and the attempt is not counted. Progress stays. A job whose unique key another job took meanwhile is cancelled. False when the receipt is stale. Waits only for a concurrent finish of the same batch. Raises AW006 for a negative delay.';

create or replace function {{ .schema }}.cancel_attempt (receipt {{ .schema }}.receipt, reason text default null)
  returns boolean
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
declare
  v_error jsonb := _cancellation(cancel_attempt.reason, _now());
begin
  perform _enter_ring();
  if exists (
    select from _close_in_order(array[cancel_attempt.receipt], array['x'::"char"],
      jsonb_build_object((cancel_attempt.receipt).job_id::text, v_error)))
    or exists (select from _close_leases(array[cancel_attempt.receipt], 'x', v_error))
  then
    return true;
  end if;
  perform _refuse_unseen(array[cancel_attempt.receipt]);
  return false;
exception when null_value_not_allowed or invalid_parameter_value then
  return false;  -- a receipt without a job
end;
$$;

comment on function {{ .schema }}.cancel_attempt is
  'Closes a running attempt as cancelled: the worker itself gives the job up for good. False when the receipt is stale. Waits only for a concurrent finish of the same batch. Raises 40001 under a stale REPEATABLE READ snapshot.';

create or replace function {{ .schema }}.extend_lease (receipts {{ .schema }}.receipt[], lease interval default '5 minutes')
  returns setof {{ .schema }}.receipt
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
declare
  v_open receipt[];
begin
  perform _enter_ring();
  perform _check_time('lease', extend_lease.lease);
  v_open := array(select o from _open_receipts(extend_lease.receipts) as o);
  insert into lease_extensions (batch_id, lease_expires_at, ready_slot, job_ids)
  select o.batch_id, _now() + extend_lease.lease, o.ready_slot, array_agg(o.job_id)
  from unnest(v_open) as o
  group by o.ready_slot, o.batch_id;
  with held as materialized (
    select l.job_id
    from leases as l
    where l.job_id = any (array(select r.job_id from unnest(extend_lease.receipts) as r))
      -- As in _take_leases.
      and ((l.job_id, l.batch_id, l.receipt_lease) in (
        select r.job_id, r.batch_id, r.run_lease from unnest(extend_lease.receipts) as r)) is true
    order by l.job_id
    for update of l
  ),
  extended as (
    update leases as l
    set due_at = greatest(l.due_at, case when l.state = 'running' then _now() + extend_lease.lease end)
    where l.job_id = any (array(select h.job_id from held as h))
    returning _receipt_of(l) as receipt
  )
  select v_open || coalesce(array_agg(e.receipt), '{}') into v_open from extended as e;
  return query select r.* from unnest(_without(extend_lease.receipts, v_open)) as r;
  if found then
    perform _refuse_unseen(extend_lease.receipts);
  end if;
end;
$$;

comment on function {{ .schema }}.extend_lease is
  'Gives running attempts a lease of that length from now; one that would end earlier than the present one changes nothing. Returns the stale receipts. An extension after the lease ran out may be too late: a rescue at the same moment wins. Waits only for another call about the same attempt, and only once that has registered a callback. Raises AW006 for a lease of zero or less.';

create or replace function {{ .schema }}.set_progress (
  receipt  {{ .schema }}.receipt,
  percent  integer,
  message  text  default null,
  metadata jsonb default null
)
  returns boolean
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
begin
  perform _enter_ring();
  if set_progress.percent is null then
    perform _invalid('percent is null', 'Give a number from 0 to 100.');
  end if;
  if jsonb_typeof(set_progress.metadata) <> 'object' then
    perform _invalid(format('metadata is a JSON %s', jsonb_typeof(set_progress.metadata)), 'metadata is a JSON object.');
  end if;
  if _report(set_progress.receipt, set_progress.percent, set_progress.message, set_progress.metadata) then
    return true;
  end if;
  update leases as l
  set progress = _progress(l.progress, set_progress.percent, set_progress.message, set_progress.metadata)
  where l.job_id = (set_progress.receipt).job_id and l.batch_id = (set_progress.receipt).batch_id
    and l.receipt_lease = (set_progress.receipt).run_lease;
  if found then
    return true;
  end if;
  perform _refuse_unseen(array[set_progress.receipt]);
  return false;
end;
$$;

comment on function {{ .schema }}.set_progress is
  'Records how far a running attempt has come: percent (kept within 0 to 100), a message that replaces the last one, and metadata whose keys are merged into the earlier ones. Kept when the job is retried, snoozed or rescued and handed to its next attempt; gone once it completes. False when the receipt is stale. Waits only for another report or callback of the same attempt, and builds on it. Raises AW006 without a percent or for metadata that is not an object.';
