-- Removal of a queue of which nothing is left but its name, settings and totals.

-- Refuses while something belongs to the queue. With a proof, only newer deltas are looked at,
-- of which there may be many: those before it cancelled each other out.
create or replace function {{ .schema }}._refuse_remains (p_queue text, p_lanes bigint[], p_proof pg_snapshot)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_what   text;
  v_remedy text;
begin
  -- One statement, so that a job that moves from one place to another is seen in one of them.
  select r.what, r.remedy into v_what, v_remedy
  from (
    select 1 as nth, format('schedule %L enqueues into it', s.name) as what,
      'Give the schedule another queue, or remove it.' as remedy
    from schedules as s
    where s.queue = p_queue
    union all
    select 2, 'jobs wait or run there', 'Finish, cancel or move them first.'
    where exists (select from deferred_jobs as d where d.lane = any (p_lanes))
      or exists (select from leases as l where l.lane = any (p_lanes))
      or (select c.available + c.running from queue_counts(p_queue) as c) > 0
    union all
    select 3, 'it has dead letters', 'Retry or purge them first.'
    where exists (select from dlq_entries as q where q.queue = p_queue)
    union all
    select 4, 'its history is not pruned yet',
      'Repeat when prune() has taken the segments with its jobs; rotate() seals the current one.'
    where exists (select from ready_entries as e where e.lane = any (p_lanes))
      or exists (
        select from terminal_count_deltas as d
        where p_proof is null and d.lane = any (p_lanes)
        group by d.ready_slot, d.lane
        having (sum(d.closed), sum(d.completed), sum(d.failed), sum(d.cancelled), sum(d.scheduled), sum(d.retryable))
          <> (0, 0, 0, 0, 0, 0))
      or exists (
        select from terminal_count_deltas as d
        where d.xid >= pg_snapshot_xmin(p_proof) and not pg_visible_in_snapshot(d.xid, p_proof)
          and d.xid is distinct from pg_current_xact_id_if_assigned() and d.lane = any (p_lanes))
  ) as r
  order by r.nth, r.what
  limit 1;
  if v_what is not null then
    raise exception using errcode = 'AW003',
      message = format('queue %L cannot be removed: %s', p_queue, v_what), hint = v_remedy;
  end if;
end;
$$;

-- Keeps everybody else from reading the names of queues: a transaction that has read one may
-- use it until it ends, and only then is it certain that nothing more is added under it. Who
-- changes the queue's settings need not have read it, and may be about to: that row is not waited
-- for.
create or replace function {{ .schema }}._lock_lanes (p_queue text)
  returns boolean
  language plpgsql
  volatile
  set lock_timeout = '50ms'
as $$
begin
  for v_try in 1 .. 10 loop
    begin
      lock table queue_lanes in access exclusive mode;
      perform from queue_meta as m where m.queue = p_queue for update nowait;
      return true;
    exception when lock_not_available then
      perform pg_sleep(0.05);
    end;
  end loop;
  return false;
end;
$$;

create or replace function {{ .schema }}.remove_queue (queue text)
  returns boolean
{{ template "internal/public.sql" . -}}
  set lock_timeout = '5s'
as $$
declare
  v_proof pg_snapshot;
  v_lanes bigint[];
begin
  perform _check_name('queue', remove_queue.queue);
  perform _require_read_committed('remove_queue');
  -- No rotation and no prune meanwhile.
  perform pg_advisory_xact_lock(_lock_class(0), 1);
  perform _settle_epoch();

  -- First without making anybody wait.
  v_proof := pg_current_snapshot();
  v_lanes := array(select distinct l.lane from queue_lanes as l where l.queue = remove_queue.queue);
  if v_lanes = '{}' and not exists (select from queue_meta as m where m.queue = remove_queue.queue) then
    return false;
  end if;
  perform _refuse_remains(remove_queue.queue, v_lanes, null);
  if not _lock_lanes(remove_queue.queue) then
    raise exception using errcode = '55P03',
      message = format('queue %L cannot be removed: transactions that use queues are open', remove_queue.queue),
      hint = 'Repeat once they have ended.';
  end if;
  v_lanes := array(select distinct l.lane from queue_lanes as l where l.queue = remove_queue.queue);
  perform _refuse_remains(remove_queue.queue, v_lanes, v_proof);

  -- In a publication, deleted rows need a replica identity, which an upgrade does not set, see
  -- migration 018. Done only where needed, because DDL may be forbidden.
  if (select c.relreplident <> 'f' from pg_class as c where c.oid = '{{ .schema }}.queue_lanes'::regclass)
    and exists (select from pg_publication_tables as t where t.schemaname = '{{ .schema }}' and t.tablename = 'queue_lanes')
  then
    alter table queue_lanes replica identity full;
  end if;
  delete from queue_lanes as l where l.lane = any (v_lanes);
  delete from queue_meta as m where m.queue = remove_queue.queue;
  delete from terminal_rollup_entries as e where e.lane = any (v_lanes);
  delete from lane_cursors as c where c.lane = any (v_lanes);
  delete from rescue_points as p where p.lane = any (v_lanes);
  delete from rate_points as p where p.queue = remove_queue.queue;
  delete from slot_batches as b where b.queue = remove_queue.queue;
  delete from slot_entries as s where s.queue = remove_queue.queue;
  delete from parked_jobs as p where p.queue = remove_queue.queue;  -- of jobs that left otherwise
  delete from queue_removals;
  insert into queue_removals (epoch, queue) values (nextval('storage_epoch'), remove_queue.queue);
  return true;
end;
$$;

comment on function {{ .schema }}.remove_queue is
  'Forgets a queue that holds nothing any more: its name, settings and the totals of what was pruned. False when there is no such queue. Enqueueing there again starts it anew. Raises AW003 while a schedule, a job, a dead letter or unpruned history belongs to it, 55P03 when transactions that use queues stay open (it waits for them in short turns, in which the others wait, too), AW006 for a bad name, 25001 outside READ COMMITTED.';
