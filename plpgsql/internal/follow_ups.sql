-- Jobs that follow a job's end: named by it under awa:follow_ups of its metadata,
-- enqueued by the statement that closes it.

-- A bound, because the call that ends a job enqueues all that follow it, and a rescue ends many
-- jobs.
create or replace function {{ .schema }}._check_follow_number (p_jobs jsonb)
  returns void
  language plpgsql
  volatile
as $$
begin
  if jsonb_typeof(p_jobs) = 'array' and jsonb_array_length(p_jobs) > 1000 then
    perform _invalid(format('%s jobs are to follow', jsonb_array_length(p_jobs)), 'Name up to 1000 for each end of a job; one of them may enqueue others.');
  end if;
end;
$$;

-- What a producer names, checked to the last value, so that no finish fails over it.
create or replace function {{ .schema }}._check_follow_ups (p_follow_ups jsonb)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_keys constant text[] := array['kind', 'args', 'queue', 'priority', 'delay', 'max_attempts', 'tags', 'metadata',
    'ordering_key', 'deadline', 'concurrency_key', 'follow_ups'];
  e record;
  j record;
  o record;
  v_bad text;
begin
  if jsonb_typeof(p_follow_ups) <> 'object' then
    perform _invalid(format('follow_ups is a JSON %s', jsonb_typeof(p_follow_ups)), 'Pass an object with arrays of jobs under completed, failed and exhausted.');
  end if;
  for e in select k.key, k.value from jsonb_each(p_follow_ups) as k (key, value) loop
    if e.key not in ('completed', 'failed', 'exhausted') or jsonb_typeof(e.value) <> 'array' then
      perform _invalid(format('follow_ups has %L: %s', e.key, left(e.value::text, 80)), 'Name jobs in arrays under completed, failed and exhausted.');
    end if;
    perform _check_follow_number(e.value);
    for j in select a.value from jsonb_array_elements(e.value) as a (value) loop
      if jsonb_typeof(j.value) <> 'object' then
        perform _invalid(format('follow_ups holds %s', left(j.value::text, 80)), 'Each job is a JSON object.');
      end if;
      select k.key into v_bad from jsonb_object_keys(j.value) as k (key) where k.key <> all (v_keys) limit 1;
      if found then
        perform _invalid(format('unknown key %L in %s', v_bad, left(j.value::text, 80)), format('The keys are %s.', array_to_string(v_keys, ', ')));
      end if;
      perform _check_scalar(k.key, j.value -> k.key) from (values ('kind'), ('queue'), ('delay'), ('deadline'), ('concurrency_key')) as k (key);
      begin
        o := _follow_up(j.value, 'default');
        perform _check_job(o.kind, o.queue, o.priority, o.max_attempts, o.tags, o.args, o.metadata);
        perform _check_deadline(o.deadline);
        if j.value ->> 'concurrency_key' is not null and _concurrency_key(o.metadata) is null then
          perform _invalid(format('concurrency_key is %s', left(j.value ->> 'concurrency_key', 80)), 'A concurrency key is a text of 1 to 200 characters.');
        end if;
        perform _check_delay('delay', o.delay);
      exception when data_exception or program_limit_exceeded then
        perform _invalid(format('%s, in %s', sqlerrm, left(j.value::text, 200)), 'Give each key the type that enqueue takes.');
      end;
      if j.value ->> 'follow_ups' is not null then
        perform _check_follow_ups(j.value -> 'follow_ups');
      end if;
    end loop;
  end loop;
end;
$$;

-- Stored, an interval reads the same in every session: '-1 day 50 hours' is minus 74 hours
-- under one intervalstyle, and whoever ends the job may have another one.
create or replace function {{ .schema }}._iso_interval (p_interval interval)
  returns text
  language sql
  stable
  parallel safe
  set intervalstyle = 'iso_8601'
as $$
  select p_interval::text
$$;

-- Follow-ups that were checked, written so that they read the same in any session.
create or replace function {{ .schema }}._settled_follow_ups (p_follow_ups jsonb)
  returns jsonb
  language plpgsql
  stable
as $$
begin
  return (
    select coalesce(jsonb_object_agg(e.key, (
      select coalesce(jsonb_agg(j.value
        || case when j.value ->> 'delay' is null then '{}'
          else jsonb_build_object('delay', _iso_interval((j.value ->> 'delay')::interval)) end
        || case when j.value ->> 'deadline' is null then '{}'
          else jsonb_build_object('deadline', _iso_interval((j.value ->> 'deadline')::interval)) end
        || case when j.value ->> 'follow_ups' is null then '{}'
          else jsonb_build_object('follow_ups', _settled_follow_ups(j.value -> 'follow_ups')) end
        order by j.n), '[]')
      from jsonb_array_elements(e.value) with ordinality as j (value, n))), '{}')
    from jsonb_each(p_follow_ups) as e);
end;
$$;

-- A job that is to follow, as it is named, with the defaults for what is left out.
create or replace function {{ .schema }}._follow_up (
  p_job jsonb, p_queue text,
  out kind text, out args jsonb, out queue text, out priority integer, out delay interval, out max_attempts integer, out tags text[],
  out metadata jsonb, out ordering_key text, out deadline interval
)
  language plpgsql
  immutable
as $$
begin
  select r.kind, coalesce(r.args, '{}'), coalesce(r.queue, p_queue), coalesce(r.priority, 2), coalesce(r.delay, '0'),
    coalesce(r.max_attempts, 25), coalesce(r.tags, '{}'),
    coalesce(r.metadata, '{}')
      || case when r.concurrency_key is null then '{}' else jsonb_build_object('awa:concurrency_key', r.concurrency_key) end
      || case when r.follow_ups is null then '{}' else jsonb_build_object('awa:follow_ups', r.follow_ups) end,
    r.ordering_key, r.deadline
  into kind, args, queue, priority, delay, max_attempts, tags, metadata, ordering_key, deadline
  from jsonb_to_record(p_job) as r (
    kind text, args jsonb, queue text, priority integer, delay interval, max_attempts integer, tags text[], metadata jsonb,
    ordering_key text, deadline interval, concurrency_key text, follow_ups jsonb);
end;
$$;

-- Enqueues what follows one job's end. A full queue takes it all the same: the end
-- must not fail over it.
create or replace function {{ .schema }}._follow_job (p_job_id bigint, p_lane bigint, p_metadata jsonb, p_event text)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_now   timestamptz := _now();
  v_queue text := (select q.queue from queue_lanes as q where q.lane = p_lane limit 1);
  v_shard integer;
  v_lane  bigint;
  j       record;
  o       record;
begin
  perform _check_follow_number(p_metadata -> 'awa:follow_ups' -> p_event);
  for j in
    select e.job
    from jsonb_path_query(p_metadata -> 'awa:follow_ups' -> p_event, '$[*]') as e (job)
    where jsonb_typeof(e.job) = 'object'
  loop
    o := _follow_up(j.job, v_queue);
    perform _check_job(o.kind, o.queue, o.priority, o.max_attempts, o.tags, o.args, o.metadata);
    -- A deadline that no timestamp can hold would fail every claim of the queue.
    perform _check_deadline(o.deadline), _check_delay('delay', o.delay);
    v_shard := _shard(o.ordering_key, coalesce((select m.enqueue_shards from queue_meta as m where m.queue = o.queue), 1));
    v_lane := _register_lane(o.queue, o.priority, v_shard);
    perform _requeue(row(nextval('job_id_seq'), v_lane, 'scheduled', v_now + o.delay, v_now, 1, 1, o.max_attempts, o.kind, o.args,
      o.metadata - 'awa:run_at' || jsonb_build_object('awa:follows', p_job_id), nullif(o.tags, '{}'), null, null, null, null,
      o.ordering_key, o.deadline, null)::deferred_jobs);
  end loop;
exception
  -- Only of what was put into the metadata by hand, past all checks.
  when data_exception or integrity_constraint_violation or program_limit_exceeded or sqlstate 'AW006' then
    raise warning using message = format('job %s: what follows it is not enqueued: %s', p_job_id, sqlerrm),
      hint = 'Name follow-up jobs by follow_ups of enqueue.';
end;
$$;

-- The same for attempts that were just closed in the ring.
create or replace function {{ .schema }}._follow (p_receipts {{ .schema }}.receipt[], p_event text)
  returns void
  language plpgsql
  volatile
as $$
begin
  perform _follow_job(r.job_id, r.lane, r.metadata, coalesce(p_event,
    case when r.attempt >= r.max_attempts then 'exhausted' else 'failed' end))
  from unnest(p_receipts) as u
  cross join lateral (
    select from claims as k
    where k.ready_slot = u.ready_slot and k.batch_id = u.batch_id and k.follows
    offset 0
  ) as c
  cross join lateral (
    select e.* from ready_entries as e
    where e.ready_slot = u.ready_slot and e.job_id = u.job_id and e.run_lease = u.run_lease
    offset 0
  ) as r
  where r.metadata ? 'awa:follow_ups';
end;
$$;
