-- One job: cancel, retry, delete.

create or replace function {{ .schema }}.cancel (job_id bigint, reason text default null)
  returns boolean
{{ template "internal/public.sql" . -}}
  set enable_seqscan = off
as $$
declare
  v_error jsonb := _cancellation(cancel.reason, _now());
  j record;
  d deferred_jobs;
  k leases;
begin
  perform _enter_ring();
  perform _refuse_stale(format('cancel of job %s', cancel.job_id));
  -- Each turn follows a move that somebody else committed meanwhile, and starts with
  -- nothing in hand. This is _cancel_jobs for one, at half its cost.
  loop
    delete from deferred_jobs as e where e.job_id = cancel.job_id returning e.* into d;
    if found then
      if d.run_at = 'infinity' then
        perform _forget_parked_of(array[d.lane], array[d.metadata ->> 'awa:concurrency_key'], array[d.job_id]);
      end if;
      perform _file_closed(_unpark(d), 'x', v_error);
      return true;
    end if;
    delete from leases as e where e.job_id = cancel.job_id returning e.* into k;
    if found then
      perform _file_closed(_lease_body(k), 'x', v_error, k.claimed_at);
      perform _notify_leased(k, v_error ->> 'error');
      return true;
    end if;
    select l.* into j from _locate(array[cancel.job_id]) as l;
    if not found then
      if not exists (select from deferred_jobs as e where e.job_id = cancel.job_id)
        and not exists (select from leases as e where e.job_id = cancel.job_id)
      then
        return false;
      end if;
    elsif j.outcome is not null then
      return false;
    elsif j.batch_id is null then
      perform from _take_waiting(array[cancel.job_id], 'x', jsonb_build_object(cancel.job_id, v_error));
    else
      perform _notify_workers(array_agg(c), v_error ->> 'error')
      from _close_in_order(array[row(j.ready_slot, j.batch_id, cancel.job_id, j.run_lease)::receipt],
        array['x'::"char"], jsonb_build_object(cancel.job_id, v_error)) as c
      having count(*) > 0;
    end if;
    if found then
      return true;
    end if;
  end loop;
end;
$$;

comment on function {{ .schema }}.cancel is
  'Cancels a job that is not terminal: a waiting or deferred one never runs, a running attempt is closed at once and its worker''s finish is stale. False when the job is terminal or unknown. Waits for a claimer of the job''s lane or a finisher of its batch. Raises 40001 under a stale REPEATABLE READ snapshot.';

create or replace function {{ .schema }}.cancel_by_unique_key (unique_key bytea)
  returns boolean
{{ template "internal/public.sql" . -}}
  set enable_seqscan = off
as $$
begin
  perform _enter_ring();
  return coalesce((
    select cancel(u.job_id, 'cancelled by unique key') from job_unique_claims as u
    where u.unique_key = cancel_by_unique_key.unique_key and _holds_key(u)), false);
end;
$$;

comment on function {{ .schema }}.cancel_by_unique_key is
  'Cancels the job that holds a unique key, as cancel does. False when nobody holds it or its job is terminal.';

create or replace function {{ .schema }}.retry (
  job_id   bigint,
  queue    text        default null,
  priority integer     default null,
  run_at   timestamptz default null
)
  returns boolean
{{ template "internal/public.sql" . -}}
  set enable_seqscan = off
as $$
declare
  j record;
  t record;
  d deferred_jobs;
begin
  perform _check_place(retry.queue, retry.priority);
  perform _enter_ring();
  perform _refuse_stale(format('retry of job %s', retry.job_id));
  select l.* into j from _locate(array[retry.job_id]) as l where l.outcome in ('f', 'x');
  if not found then
    return false;
  end if;
  d := _body(j.ready_slot, j.job_id, j.run_lease);
  perform _need_key(d.unique_key, d.unique_states, d.job_id,
    case when retry.run_at > _now() then 'scheduled' else 'available' end::job_state);
  select k.* into t from _take_terminal(array[retry.job_id], array['f', 'x']::"char"[]) as k;
  if not found then
    perform _release_absent(array[retry.job_id]);
    return false;
  end if;
  d := _body(t.ready_slot, t.job_id, t.run_lease);
  d.lane := _move_lane(d.lane, retry.queue, retry.priority, d.ordering_key);
  d.run_at := coalesce(retry.run_at, _now());
  d.run_lease := d.run_lease + 1;
  d.attempt := 1;
  d.errors := case when t.error is null then d.errors else _bounded_errors(d.errors, t.error, 49) end;
  d.progress := null;
  perform _requeue(d);
  return true;
end;
$$;

comment on function {{ .schema }}.retry is
  'Puts a failed or cancelled job of the history back into its queue, or the given one: attempts start over, errors stay. False when no such job is in history. Of two callers one gets it. Raises AW006 for a bad override, AW004 when another job holds its unique key by now.';

create or replace function {{ .schema }}.delete_job_compat (p_id bigint)
  returns boolean
{{ template "internal/public.sql" . -}}
as $$
begin
  perform _enter_ring();
  return _delete_jobs(array[p_id]) > 0;
end;
$$;

comment on function {{ .schema }}.delete_job_compat is
  'Removes a job wherever it is: waiting, deferred, running (the attempt is closed, its worker''s finish is stale), terminal or dead-lettered. False when it is nowhere. Waits for whoever is moving the job. Raises 40001 under a stale REPEATABLE READ snapshot.';

create or replace function {{ .schema }}.discard_failed_by_kind (kind text, queue text default null)
  returns bigint
{{ template "internal/public.sql" . -}}
  -- All jobs are read; where there seem to be none, not once for each key.
  set enable_nestloop = off
  set enable_mergejoin = off
as $$
declare
  v_ids bigint[];
begin
  if discard_failed_by_kind.kind is null then
    perform _invalid('kind is null', 'Name the kind whose failed jobs are to go.');
  end if;
  perform _enter_ring();
  perform _refuse_stale('discard');
  -- Keys come first; those of the kind's other jobs are locked with them.
  perform from job_unique_claims as u
  where exists (select from ready_entries as r where r.job_id = u.job_id and r.kind = discard_failed_by_kind.kind)
  order by u.unique_key
  for update;
  v_ids := array(
    select k.job_id
    from _take_terminal(null, array['f']::"char"[], discard_failed_by_kind.queue, discard_failed_by_kind.kind) as k);
  perform _release_keys(v_ids);
  return cardinality(v_ids)::bigint;
end;
$$;

comment on function {{ .schema }}.discard_failed_by_kind is
  'Removes the failed jobs of a kind, of one queue or of all, from history and returns their number. Dead letters stay: see purge_dlq. Waits only for others that take the same jobs. Raises AW006 without a kind.';
