-- Claim: hand committed jobs to a worker, each exactly once.

create or replace function {{ .schema }}.claim (
  queue    text,
  max_jobs integer  default 1,
  worker   text     default null,
  lease    interval default '5 minutes'
)
  returns setof {{ .schema }}.claimed_job
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
  set enable_bitmapscan = off
as $$
begin
  if claim.queue is null or claim.max_jobs is null or claim.max_jobs < 1 or claim.lease is null
    or _shortest(claim.lease) <= '0' or claim.lease > '100 years' or length(claim.worker) > 200
    or length(claim.queue) not between 1 and 200
  then
    perform _check_name('queue', claim.queue);
    if length(claim.worker) > 200 then
      -- The index of notices has no room for a longer name, and then only the worker itself
      -- could close its attempts.
      perform _invalid(format('worker %L has %s characters', left(claim.worker, 40), length(claim.worker)),
        'A worker''s name is a text of up to 200 characters.');
    end if;
    perform _invalid(
      format('claim of queue %L, max_jobs %s, lease %s', claim.queue,
        coalesce(claim.max_jobs::text, 'null'), coalesce(claim.lease::text, 'null')),
      'Ask for at least one job and give a lease above zero, up to 100 years.');
  end if;
  if _keeps_snapshot() then
    return query
    select j.* from _claim_frozen(claim.queue collate "default", claim.max_jobs, claim.worker, claim.lease) as j;
    return;
  end if;
  <<claim_body>>
{{ template "internal/claim_body.sql" (dict "schema" .schema "segments" .segments "divert" true) }}  end;
end;
$$;

comment on function {{ .schema }}.claim is
  'Hands up to max_jobs jobs of a queue to a worker: committed ones and those that the same transaction enqueued, lower priority number first, oldest first within a lane. Waits for another claimer of the same lane until that one commits, but never for producers. A paused or unknown queue yields no rows. Raises AW006 for a bad argument, AW005 after a restore from another cluster, 40001 under a stale REPEATABLE READ snapshot.';

-- claim for a transaction that keeps one snapshot: whatever that snapshot cannot see ends in
-- 40001, never in a second hand-out. Its caller checked the arguments.
create or replace function {{ .schema }}._claim_frozen (p_queue text, p_max_jobs integer, p_worker text, p_lease interval)
  returns setof {{ .schema }}.claimed_job
  language plpgsql
  volatile
as $$
#variable_conflict use_variable
<<claim>>
declare
  queue    text := p_queue;
  max_jobs integer := p_max_jobs;
  worker   text := p_worker;
  lease    interval := p_lease;
  v_limit  integer := (select m.concurrency_limit from queue_meta as m where m.queue = p_queue and not m.paused);
begin
  if v_limit is not null then
    return query select j.* from _claim_limited(p_queue, p_max_jobs, p_worker, p_lease, v_limit) as j;
    return;
  end if;
  -- Locked first, no prune is under way and every finished one moved the
  -- epoch.
  perform _enter_ring();
  lock table lane_cursors in access share mode;
  if _snapshot_is_stale() then
    perform _stale_snapshot(format('claim of queue %L', p_queue));
  end if;
  <<claim_body>>
{{ template "internal/claim_body.sql" (dict "schema" .schema "segments" .segments) }}  end;
exception when unique_violation then
  -- Another session has moved the lane's cursor since, or taken slots.
  perform _stale_snapshot(format('claim of queue %L', p_queue));
end;
$$;
