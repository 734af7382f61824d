-- Callbacks: a running job waits for an answer from outside.

-- Returns the lease that waits for an answer, locked. First takes the key that its job needs in
-- p_state, if any, and gives it up when the answer comes too late. Raises AW002, and AW004 when
-- another job has the key.
create or replace function {{ .schema }}._hold_callback (p_callback_id uuid, p_state {{ .schema }}.job_state default null)
  returns {{ .schema }}.leases
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  l leases;
begin
  perform _refuse_stale(format('callback %s', p_callback_id));
  select k.* into l from leases as k where k.callback_id = p_callback_id;
  if found and p_state is not null then
    perform _need_key(l.unique_key, l.unique_states, l.job_id, p_state);
  end if;
  select k.* into l from leases as k where k.callback_id = p_callback_id for update;
  if not found then
    perform _no_callback(p_callback_id);
  end if;
  return l;
end;
$$;

-- The same, and the lease is taken out.
create or replace function {{ .schema }}._take_callback (p_callback_id uuid, p_state {{ .schema }}.job_state default null)
  returns {{ .schema }}.leases
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  l leases := _hold_callback(p_callback_id, p_state);
begin
  delete from leases as k where k.job_id = l.job_id;
  return l;
end;
$$;

create or replace function {{ .schema }}._no_callback (p_callback_id uuid)
  returns void
  language plpgsql
  volatile
as $$
begin
  if p_callback_id is not null and _keeps_snapshot() then
    perform _probe_callback(p_callback_id);
  end if;
  raise exception using errcode = 'AW002',
    message = format('no job waits for callback %s', coalesce(p_callback_id::text, 'null')),
    hint = 'An id is good for one answer, and only until its timeout or until the job is closed otherwise.';
end;
$$;

-- Under a transaction-long snapshot: whether the id belongs to a lease that the snapshot does
-- not show. Trying to insert the id again finds that lease; the try is undone in any case.
create or replace function {{ .schema }}._probe_callback (p_callback_id uuid)
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  insert into leases (job_id, lane, state, batch_id, receipt_lease, callback_id, due_at, claimed_at, lease, run_at, created_at,
    run_lease, attempt, max_attempts, kind, args)
  values (0, 0, 'waiting_external', 0, 0, p_callback_id, now(), now(), '0', now(), now(), 1, 1, 1, '', '{}');
  raise exception using errcode = 'AW000', message = 'undo';
exception
  when sqlstate 'AW000' then
    null;
  when unique_violation then
    perform _stale_snapshot(format('callback %s', p_callback_id));
end;
$$;

create or replace function {{ .schema }}.register_callback (receipt {{ .schema }}.receipt, timeout interval)
  returns uuid
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
declare
  v_id uuid := gen_random_uuid();
  c    receipt;
begin
  perform _enter_ring();
  perform _check_time('timeout', register_callback.timeout);
  for v_look in 1 .. 2 loop
    update leases as l
    set state = 'waiting_external', callback_id = v_id, due_at = _now() + register_callback.timeout, deadline_at = null, stays = true
    where l.job_id = (register_callback.receipt).job_id and l.batch_id = (register_callback.receipt).batch_id
      and l.receipt_lease = (register_callback.receipt).run_lease;
    if found then
      return v_id;
    end if;
    -- Waits for a report that somebody is just making. It may as well be another callback, and
    -- then the attempt is in leases by now.
    exit when _report(register_callback.receipt, null, null, null);
  end loop;
  select k.* into c from _close_in_order(array[register_callback.receipt], array['m'::"char"], null) as k;
  if not found then
    perform _refuse_unseen(array[register_callback.receipt]);
    return null;
  end if;
  insert into leases (
    job_id, lane, state, batch_id, receipt_lease, callback_id, due_at, claimed_at, lease, worker,
    run_at, created_at, run_lease, attempt, max_attempts, kind, args, metadata, tags, errors, progress,
    unique_key, unique_states, ordering_key, deadline)
  select r.job_id, r.lane, 'waiting_external', k.batch_id, r.run_lease, v_id, _now() + register_callback.timeout, k.claimed_at,
    k.lease_expires_at - k.claimed_at, k.worker,
    r.run_at, r.created_at, r.run_lease + 1, r.attempt, r.max_attempts, r.kind, r.args, r.metadata, r.tags, r.errors,
    _progress_of(r.ready_slot, r.job_id, r.run_lease), r.unique_key, r.unique_states, r.ordering_key, r.deadline
  from ready_entries as r
  cross join lateral (select b.* from claims as b where b.ready_slot = c.ready_slot and b.batch_id = c.batch_id limit 1) as k
  where r.ready_slot = c.ready_slot and r.job_id = c.job_id and r.run_lease = c.run_lease;
  return v_id;
end;
$$;

comment on function {{ .schema }}.register_callback is
  'Makes a running job wait for an answer from outside, as waiting_external, and returns the id that the answer must name; an earlier id of the job is void. The attempt stays open without lease or heartbeat, and without a deadline, until it is answered, finished by its receipt, or timeout has passed: then it fails like any attempt. Null when the receipt is stale. Waits only for a concurrent finish of the same batch, or report or callback of the same attempt. Raises AW006 for a timeout of zero or less.';

create or replace function {{ .schema }}.complete_callback (callback_id uuid, result jsonb default null)
  returns boolean
{{ template "internal/public.sql" . -}}
as $$
declare
  l leases := _take_callback(complete_callback.callback_id);
begin
  l.result := coalesce(complete_callback.result, l.result);
  perform _check_size('{}', coalesce(_with_result(l.metadata, l.result), '{}'), null, null);
  perform _file_closed(_lease_body(l), 'c', null, l.claimed_at);
  perform _follow_job(l.job_id, l.lane, l.metadata, 'completed');
  return true;
end;
$$;

comment on function {{ .schema }}.complete_callback is
  'Answers a callback: its job is completed, with the result under _awa_callback_result of its metadata. Waits for another answer to the same callback. Raises AW002 for an id that is unknown, answered, replaced or too late.';

create or replace function {{ .schema }}.fail_callback (callback_id uuid, error text default null)
  returns boolean
{{ template "internal/public.sql" . -}}
  set enable_seqscan = off
as $$
declare
  v_receipt receipt;
begin
  perform _enter_ring();
  perform _refuse_stale(format('callback %s', fail_callback.callback_id));
  select (_receipt_of(l)).* into v_receipt from leases as l where l.callback_id = fail_callback.callback_id;
  -- Of two answers, or an answer and a finish, one gets the lease.
  if v_receipt is null or not exists (
    select from _fail_leases(array[v_receipt], array[fail_callback.error], null, false, 'r', fail_callback.callback_id))
  then
    perform _no_callback(fail_callback.callback_id);
  end if;
  return true;
end;
$$;

comment on function {{ .schema }}.fail_callback is
  'Answers a callback: its attempt failed. As with fail, the job is retried after its backoff, or is failed when its attempts are used up, and a queue with dlq_enabled then keeps it among the dead letters. Waits for another answer to the same callback. Raises AW002 for an id that is unknown, answered, replaced or too late.';

create or replace function {{ .schema }}.retry_callback (callback_id uuid)
  returns boolean
{{ template "internal/public.sql" . -}}
as $$
declare
  l leases := _take_callback(retry_callback.callback_id, 'available');
begin
  l.attempt := 1;
  perform _requeue_leased(l);
  return true;
end;
$$;

comment on function {{ .schema }}.retry_callback is
  'Answers a callback: its job is available again at once and its attempts start over; the old receipt is stale. Waits for another answer to the same callback. Raises AW002 for an id that is unknown, answered, replaced or too late, AW004 when another job holds its unique key by now.';

create or replace function {{ .schema }}.resume_callback (callback_id uuid, payload jsonb default null)
  returns boolean
{{ template "internal/public.sql" . -}}
  set enable_seqscan = off
as $$
declare
  l leases;
begin
  l := _hold_callback(resume_callback.callback_id, 'running');
  perform _check_size('{}', coalesce(_with_result(l.metadata, resume_callback.payload), '{}'), null, null);
  if not l.stays then
    -- That the worker had left was not known when the key was checked.
    perform _need_key_at_once(l);
    delete from leases as k where k.job_id = l.job_id;
    l.result := resume_callback.payload;
    perform _requeue_leased(l);
    return true;
  end if;
  update leases as k
  set state = 'running', callback_id = null, due_at = _now() + k.lease, deadline_at = _now() + k.deadline,
    result = resume_callback.payload
  where k.job_id = l.job_id;
  return true;
end;
$$;

comment on function {{ .schema }}.resume_callback is
  'Answers a callback: its attempt runs on under its old receipt, with the lease of its claim and its deadline from now. callback_status returns the payload, which also stays under _awa_callback_result of the job''s metadata. The attempt may wait again. When its worker has left it, by park, the job is available again instead, and the attempt is not counted. Waits for another answer to the same callback. Raises AW002 for an id that is unknown, answered, replaced or too late, AW004 when another job holds its unique key by now, 40001 when another session has that key in hand.';

-- Puts a job back into its lane, the attempt not counted.
create or replace function {{ .schema }}._requeue_leased (l {{ .schema }}.leases)
  returns void
  language plpgsql
  volatile
as $$
declare
  d deferred_jobs := _lease_body(l);
begin
  d.run_lease := d.run_lease + 1;
  d.run_at := _now();
  perform _requeue(d);
end;
$$;

-- Takes a key that counts while the job is available and not while it runs, without waiting:
-- otherwise the call must be repeated.
create or replace function {{ .schema }}._need_key_at_once (l {{ .schema }}.leases)
  returns void
  language plpgsql
  volatile
  set lock_timeout = '1ms'
as $$
begin
  if _in_mask('available', l.unique_states) then
    perform _lock_key_at_once(l.unique_key);
  end if;
  perform _need_key(l.unique_key, l.unique_states, l.job_id, 'available');
exception when lock_not_available then
  perform _serialization_failure(format('job %s: another session has its unique key in hand', l.job_id));
end;
$$;

create or replace function {{ .schema }}.park (receipt {{ .schema }}.receipt)
  returns boolean
{{ template "internal/public.sql" . -}}
  set enable_seqscan = off
as $$
declare
  l leases;
begin
  perform _enter_ring();
  update leases as k set stays = false
  where k.job_id = (park.receipt).job_id and k.batch_id = (park.receipt).batch_id and k.receipt_lease = (park.receipt).run_lease
  returning k.* into l;
  if not found then
    perform _refuse_unseen(array[park.receipt]);
    return false;
  end if;
  if l.state = 'running' then
    -- It was resumed before its worker left.
    perform _need_key_at_once(l);
    delete from leases as k where k.job_id = l.job_id;
    perform _requeue_leased(l);
  end if;
  return true;
end;
$$;

comment on function {{ .schema }}.park is
  'Says that the worker of a waiting attempt has left it: resume_callback then makes the job available again, for whoever claims it, instead of letting the attempt run on. One that was resumed already is available at once. False when the receipt is stale or never registered a callback. Waits for an answer to its callback. Raises AW004 when another job holds its unique key by now, 40001 when another session has that key in hand.';

create or replace function {{ .schema }}.heartbeat_callback (callback_id uuid, timeout interval)
  returns boolean
{{ template "internal/public.sql" . -}}
  set enable_seqscan = off
as $$
begin
  perform _check_time('timeout', heartbeat_callback.timeout);
  perform _refuse_stale(format('callback %s', heartbeat_callback.callback_id));
  update leases as l set due_at = _now() + heartbeat_callback.timeout where l.callback_id = heartbeat_callback.callback_id;
  if not found then
    perform _no_callback(heartbeat_callback.callback_id);
  end if;
  return true;
end;
$$;

comment on function {{ .schema }}.heartbeat_callback is
  'Whoever is to answer a callback still works on it: it times out that long from now instead. Waits for an answer to the same callback. Raises AW002 for an id that is unknown, answered, replaced or too late, AW006 for a timeout of zero or less.';

create or replace function {{ .schema }}.callback_status (receipt {{ .schema }}.receipt)
  returns table (callback_id uuid, payload jsonb)
{{ template "internal/public.sql" . -}}
  set enable_seqscan = off
as $$
begin
  return query
  select l.callback_id, case when l.callback_id is null then l.result end
  from leases as l
  where l.job_id = (callback_status.receipt).job_id and l.batch_id = (callback_status.receipt).batch_id
    and l.receipt_lease = (callback_status.receipt).run_lease;
end;
$$;

comment on function {{ .schema }}.callback_status is
  'For a worker that registered a callback: one row while the attempt is open, with the id that it waits for, or null and the payload once it was resumed. No row if the attempt was closed or never waited. Never blocks.';
