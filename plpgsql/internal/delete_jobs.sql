-- Deleting jobs wherever they are, in the one order in which every call takes
-- what it may have to wait for: unique keys, deferred jobs, leases, lanes, batches,
-- removals from history, dead letters; each class in ascending order.

-- One round over all classes; returns the jobs that it removed. One that moved back to an
-- earlier class meanwhile is not among them. Those of p_ended are removed from history alone.
create or replace function {{ .schema }}._delete_round (p_ids bigint[], p_ended bigint[])
  returns bigint[]
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_left bigint[];
  v_open bigint[];
  v_gone bigint[];
  v_more bigint[];
begin
  v_gone := array(select d.job_id from _take_deferred(p_ids) as d);
  v_gone := v_gone || array(select l.job_id from _take_leased(p_ids, 'deleted') as l);
  perform _depart(v_gone);

  v_left := _less(p_ids, v_gone);
  v_open := array(select l.job_id from _locate(v_left) as l where l.outcome is null);
  v_more := array(select t.job_id from _take_waiting(v_open, 'd') as t);
  v_more := v_more || _close_running(_less(v_open, v_more), 'd', 'deleted');
  v_gone := v_gone || v_more;

  v_left := _less(v_left, v_more);
  v_more := array(select t.job_id from _take_terminal(v_left || p_ended, array['c', 'f', 'x']::"char"[]) as t);
  v_gone := v_gone || v_more;

  with gone as (
    delete from dlq_entries as d
    where d.id = any (array(
      select e.id from dlq_entries as e where e.id = any (_less(v_left, v_more)) order by e.id for update))
    returning d.id
  )
  select v_gone || coalesce(array_agg(g.id), '{}') into v_gone from gone as g;
  return v_gone;
end;
$$;

-- The ids without those that are gone.
create or replace function {{ .schema }}._less (p_ids bigint[], p_gone bigint[])
  returns bigint[]
  language sql
  immutable
  parallel safe
as $$
  select case when p_gone = '{}' then p_ids else array(
    select u.id from unnest(p_ids) as u (id) except select g.id from unnest(p_gone) as g (id)) end
$$;

-- Takes the rows and lanes where jobs are now, and raises 55P03 if anybody holds one.
create or replace function {{ .schema }}._take_places_nowait (p_ids bigint[])
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  perform from deferred_jobs as d where d.job_id = any (p_ids) for update nowait;
  perform from leases as l where l.job_id = any (p_ids) for update nowait;
  perform from dlq_entries as q where q.id = any (p_ids) for update nowait;
  if exists (
    select from (select distinct l.lane from _locate(p_ids) as l where l.batch_id is null and not l.own) as n
    where not pg_try_advisory_xact_lock(_lock_class(1), _lane_key(n.lane)))
  then
    raise lock_not_available;
  end if;
end;
$$;

-- A round that holds locks of an earlier one must not wait: if somebody waits for those locks,
-- even a brief wait here could end in a deadlock, with the other as its victim. So it takes
-- what it can without a wait. Where there is no such way, at a batch that another session is
-- closing, it waits for a moment, lets go of what it took and looks who has come to wait.
create or replace function {{ .schema }}._delete_round_holding (p_ids bigint[], p_ended bigint[])
  returns bigint[]
  language plpgsql
  volatile
  set lock_timeout = '1ms'
as $$
begin
  for v_try in 1 .. 20 loop
    begin
      perform _take_places_nowait(p_ids || p_ended);
      return _delete_round(p_ids, p_ended);
    exception when lock_not_available then
      exit when _is_awaited();
      perform pg_sleep(0.002);
    end;
  end loop;
  perform _serialization_failure(format('job %s moved on while it was deleted', (p_ids || p_ended)[1]));
  return null;
end;
$$;

-- Removes the jobs and returns how many there were. Goes round for those that somebody else
-- moved meanwhile, until they are gone or nowhere. Those of p_ended were terminal when the
-- caller found them: one that was brought back since is not meant.
create or replace function {{ .schema }}._delete_jobs (p_ids bigint[], p_ended bigint[] default '{}')
  returns bigint
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
declare
  v_left  bigint[] := p_ids;
  v_ended bigint[] := p_ended;
  v_gone  bigint[];
  v_jobs  bigint := 0::bigint;
  v_back  bigint;
begin
  perform _refuse_stale(format('delete of job %s', (p_ids || p_ended)[1]));
  perform _lock_keys(p_ids || p_ended);
  loop
    if v_jobs = 0 then
      v_gone := _delete_round(v_left, v_ended);
    else
      v_gone := _delete_round_holding(v_left, v_ended);
    end if;
    v_jobs := v_jobs + cardinality(v_gone);
    v_left := _less(v_left, v_gone);
    v_ended := _less(v_ended, v_gone);
    exit when v_left = '{}' and v_ended = '{}';
    -- One snapshot over every place. Not by exists, as in _holds_key.
    v_left := array(
      select u.id from unnest(v_left) as u (id)
      where (select count(*) from _jobs_by_key as j where j.id = u.id) > 0 or exists (select from dlq_entries as q where q.id = u.id));
    select array_agg(u.id), min(u.id) filter (where u.state not in ('completed', 'failed', 'cancelled')) into v_ended, v_back
    from (
      select n.id, coalesce((select min(j.state) from _jobs_by_key as j where j.id = n.id)::text,
          (select 'a dead letter' from dlq_entries as q where q.id = n.id)) as state
      from unnest(v_ended) as n (id)
    ) as u
    where u.state is not null;
    if v_back is not null then
      perform _serialization_failure(format('job %s was over when this DELETE found it, and is not any more', v_back));
    end if;
    v_ended := coalesce(v_ended, '{}');
    exit when v_left = '{}' and v_ended = '{}';
  end loop;
  perform _release_keys(p_ids || p_ended);
  return v_jobs;
end;
$$;
