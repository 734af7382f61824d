-- Unique jobs: a key belongs to the job that took it for as long as that job is in a state of
-- its mask. No change of state releases a key: the next job that wants it looks at the holder's
-- state.

-- The bit of a state in a mask, counted from the left.
create or replace function {{ .schema }}._in_mask (p_state {{ .schema }}.job_state, p_states bit(8))
  returns boolean
  language sql
  immutable
  parallel safe
as $$
  select pg_catalog.get_bit(p_states, pg_catalog.array_position(
    array['scheduled', 'available', 'running', 'completed', 'retryable', 'failed', 'cancelled', 'waiting_external'],
    p_state::text) - 1) = 1
$$;

-- Whether the job of a key's row is in a state that holds it. The caller is inside the gate,
-- because nobody may wait there while holding a key.
create or replace function {{ .schema }}._holds_key (p_claim {{ .schema }}.job_unique_claims)
  returns boolean
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  -- Not by exists: without statistics that may be planned, for a fast first row, as a walk
  -- through the lanes until it meets the job.
  return coalesce((select bool_or(_in_mask(j.state, p_claim.states)) from _jobs_by_key as j where j.id = p_claim.job_id), false)
    or (_in_mask('failed', p_claim.states) and exists (select from dlq_entries as q where q.id = p_claim.job_id));
end;
$$;

-- Whether a job may have a key, as far as can be told without locks.
create or replace function {{ .schema }}._key_is_free (p_key bytea, p_job_id bigint)
  returns boolean
  language plpgsql
  volatile
as $$
begin
  return not exists (
    select from job_unique_claims as u where u.unique_key = p_key and u.job_id <> p_job_id and _holds_key(u));
end;
$$;

-- The job that has the key after this call: p_job_id, or the holder.
create or replace function {{ .schema }}._take_key (p_key bytea, p_states bit(8), p_job_id bigint, p_state {{ .schema }}.job_state)
  returns bigint
  language plpgsql
  volatile
as $$
declare
  v_states bit(8) := coalesce(p_states, b'11111000');
  h        job_unique_claims;
begin
  if not _in_mask(p_state, v_states) then
    return p_job_id;
  end if;
  loop
    insert into job_unique_claims (unique_key, job_id, states) values (p_key, p_job_id, v_states)
    on conflict (unique_key) do nothing;
    if found then
      return p_job_id;
    end if;
    perform _enter_ring();
    -- Until commit, the session that holds the row decides about the key.
    select u.* into h from job_unique_claims as u where u.unique_key = p_key for update;
    continue when not found;
    if h.job_id <> p_job_id and _holds_key(h) then
      return h.job_id;
    end if;
    -- A holder that an old snapshot shows nowhere may have moved.
    if h.job_id <> p_job_id and _snapshot_is_stale() then
      perform _stale_snapshot(format('unique key of job %s', h.job_id));
    end if;
    update job_unique_claims as u set job_id = p_job_id, states = v_states where u.unique_key = p_key;
    return p_job_id;
  end loop;
end;
$$;

-- The error of a job that is cancelled because it cannot come back without its key: why, before
-- what is known of its attempt.
create or replace function {{ .schema }}._key_lost (p_error jsonb)
  returns jsonb
  language sql
  immutable
  parallel safe
as $$
  select p_error || pg_catalog.jsonb_build_object('error', pg_catalog.left(
    pg_catalog.concat_ws(': ', 'another job has its unique key', nullif(p_error ->> 'error', '')), 10000))
$$;

-- A job that comes back into a state takes its key, if it has one that counts there, or is
-- refused.
create or replace function {{ .schema }}._need_key (p_key bytea, p_states bit(8), p_job_id bigint, p_state {{ .schema }}.job_state)
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_holder bigint;
begin
  if p_key is null then
    return;
  end if;
  v_holder := _take_key(p_key, p_states, p_job_id, p_state);
  if v_holder <> p_job_id then
    raise exception using errcode = 'AW004',
      message = format('job %s: its unique key is held by job %s', p_job_id, v_holder),
      hint = 'Cancel or delete the other job first.';
  end if;
end;
$$;

-- Whether a job has its key, which it then keeps until commit. The row alone does not tell:
-- while the job is in no state that holds the key, somebody may be taking the key for another
-- job.
create or replace function {{ .schema }}._has_key (p_key bytea, p_job_id bigint)
  returns boolean
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  perform from job_unique_claims as u where u.unique_key = p_key and u.job_id = p_job_id for update skip locked;
  return found;
end;
$$;

-- Keys come before everything else that a call may wait for, in their own
-- order: whoever will move or remove jobs locks their keys first.
create or replace function {{ .schema }}._lock_keys (p_job_ids bigint[])
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  perform from job_unique_claims as u
  where u.job_id = any (p_job_ids)
  -- Sorted, not read in the order of the keys until all jobs are met.
  order by u.unique_key || ''
  for update;
end;
$$;

-- The same for a caller that holds other jobs already, whose waiting could close a circle.
-- Locks the keys that jobs have, and those that they need to come into p_state, as far as
-- nobody else holds them, and returns the jobs whose keys somebody holds. A key without a row
-- is reserved, as by _reserve_keys. Whether another session is just adding that row shows only
-- by waiting for it, which is kept as short as possible, and left out while somebody waits for
-- this transaction, who may have the key.
create or replace function {{ .schema }}._lock_free_keys (p_job_ids bigint[], p_state {{ .schema }}.job_state)
  returns bigint[]
  language plpgsql
  volatile
  set enable_seqscan = off
  set lock_timeout = '1ms'
as $$
declare
  v_jobs bigint[];
  v_keys bytea[];
  v_free bytea[];
  v_new  bytea[];
begin
  select array_agg(k.job_id), array_agg(k.unique_key) into v_jobs, v_keys
  from (
    select u.job_id, u.unique_key from job_unique_claims as u where u.job_id = any (p_job_ids)
    union
    select r.job_id, r.unique_key from ready_entries as r
    where r.job_id = any (p_job_ids) and r.unique_key is not null and _in_mask(p_state, r.unique_states)
    union
    select l.job_id, l.unique_key from leases as l
    where l.job_id = any (p_job_ids) and l.unique_key is not null and _in_mask(p_state, l.unique_states)
  ) as k;
  begin
    v_free := array(
      select u.unique_key from job_unique_claims as u where u.unique_key = any (v_keys) for update skip locked);
  exception when lock_not_available then
    -- SKIP LOCKED waits nevertheless if a row's holder commits and another one follows.
    v_free := '{}';
  end;
  v_new := array(
    select distinct k.key from unnest(v_keys) as k (key)
    -- Not by exists, which may be planned to read them all.
    where (select u.job_id from job_unique_claims as u where u.unique_key = k.key) is null
    order by k.key);
  if v_new <> '{}' and not _is_awaited() then
    begin
      with made as (
        insert into job_unique_claims (unique_key, job_id, states)
        select k.key, 0, b'00000000' from unnest(v_new) as k (key)
        on conflict do nothing
        returning unique_key
      )
      select v_free || array_agg(m.unique_key) into v_free from made as m;
    exception when lock_not_available then
      null;
    end;
  end if;
  -- Not by "<> all", which compares each with each.
  return array(
    select k.job_id from unnest(v_jobs, v_keys) as k (job_id, unique_key)
    where k.unique_key not in (select f.key from unnest(v_free) as f (key)));
end;
$$;

-- Locks one key's row for a caller that holds other things already, or raises 55P03. It tells as
-- _lock_free_keys does whether the caller may wait for a row that another session is just adding.
create or replace function {{ .schema }}._lock_key_at_once (p_key bytea)
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  perform from job_unique_claims as u where u.unique_key = p_key for update nowait;
  if not found and _is_awaited() then
    raise lock_not_available;
  end if;
end;
$$;

-- Keys that were reserved for this call's jobs and that none of them took.
create or replace function {{ .schema }}._release_reserved ()
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  delete from job_unique_claims as u where u.job_id = 0;
end;
$$;

-- A job gives its unique key back when it leaves the system. Its keys were locked before this
-- call; one that the job took since then is left alone.
create or replace function {{ .schema }}._release_keys (p_job_ids bigint[])
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  delete from job_unique_claims as u
  where u.unique_key = any (array(
    select k.unique_key from job_unique_claims as k where k.job_id = any (p_job_ids) for update skip locked));
end;
$$;

-- For a call that took the keys of jobs which it then could not move because they were gone.
create or replace function {{ .schema }}._release_absent (p_job_ids bigint[])
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  perform _release_keys(array(
    select u.job_id
    from unnest(p_job_ids) as u (job_id)
    -- Not by exists, which may read all jobs to join them.
    cross join lateral (select count(*) as rows from _jobs_by_key as j where j.id = u.job_id) as j
    where j.rows = 0 and not exists (select from dlq_entries as q where q.id = u.job_id)));
end;
$$;

-- Whether a deferred job's key counts only from its promotion on.
create or replace function {{ .schema }}._gains_key (p_job {{ .schema }}.deferred_jobs)
  returns boolean
  language sql
  immutable
as $$
  select p_job.unique_key is not null
    and {{ .schema }}._in_mask('available'::{{ .schema }}.job_state, p_job.unique_states) and not {{ .schema }}._in_mask(p_job.state, p_job.unique_states)
$$;
