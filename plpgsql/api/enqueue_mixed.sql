-- Enqueue jobs of any kind in one call, from a JSON array: enqueue_many of jsonb.

-- Several unique keys of one call are taken in the order of keys, not of the call. A reserved
-- key is nobody's until enqueue takes it over; its row goes if no job does.
create or replace function {{ .schema }}._reserve_keys (p_jobs jsonb)
  returns void
  language plpgsql
  volatile
as $$
declare
  v_keys bytea[] := array(
    select distinct (j ->> 'unique_key')::bytea as key
    from jsonb_array_elements(p_jobs) as j
    where jsonb_typeof(j) = 'object' and j ->> 'unique_key' is not null
      -- A key that is too long is left to enqueue, which reports it.
      and octet_length((j ->> 'unique_key')::bytea) <= 2000
    order by key);
begin
  if cardinality(v_keys) < 2 then
    return;
  end if;
  perform _enter_ring();
  for i in 1 .. cardinality(v_keys) loop
    -- If a row disappears while this waits for it, the key goes to whoever comes next; so this
    -- call takes it before it goes on to a later one.
    loop
      insert into job_unique_claims (unique_key, job_id, states) values (v_keys[i], 0, b'00000000') on conflict do nothing;
      exit when found;
      perform from job_unique_claims as u where u.unique_key = v_keys[i] for update;
      exit when found;
    end loop;
  end loop;
end;
$$;

-- Jobs that need nothing but a place in their lanes, in one statement. Null, with nothing done,
-- when one of them is out of bounds or a queue's lane has a number that does not follow from
-- its name: then enqueue, job by job, reports what is wrong or finds the lane.
create or replace function {{ .schema }}._enqueue_plain (p_jobs jsonb, p_queue text)
  returns bigint[]
  language plpgsql
  volatile
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
declare
  v_xid    xid8 := pg_current_xact_id();  -- before the ring is read, see enqueue
  v_now    timestamptz := _begun();
  v_due    timestamptz := _now();
  v_slot   smallint := _current_slot();
  v_stale  boolean := _snapshot_is_stale();
  v_ids    bigint[];
  v_queues text[];
begin
  case v_slot
{{ range $i := until (int .segments) }}
  when {{ $i }} then
    with given as materialized (
      -- Ids ascend as the jobs are listed. A text that begins with [ or { may have been an
      -- array or an object.
      select nextval('job_id_seq') as job_id, o.kind, coalesce(o.args, '{}') as args, coalesce(o.queue, p_queue) as queue,
        coalesce(o.priority, 2) as priority, coalesce(o.run_at, v_now) as run_at, coalesce(o.run_at > v_due, false) or v_stale as later,
        coalesce(o.max_attempts, 25) as max_attempts, nullif(o.tags, '{}') as tags, nullif(o.metadata - 'awa:run_at', '{}') as metadata,
        o.ordering_key, o.deadline::interval as deadline, coalesce(ascii(o.kind) in (91, 123), false)
          or coalesce(ascii(o.queue) in (91, 123), false) or coalesce(ascii(o.deadline) in (91, 123), false) as nested
      from jsonb_to_recordset(p_jobs) as o (
        kind text, args jsonb, queue text, priority integer, run_at timestamptz, max_attempts integer,
        tags text[], metadata jsonb, ordering_key text, deadline text)
    ),
    queues as materialized (
      select q.queue, q.later, q.jobs, coalesce(m.enqueue_shards, 1) as shards, m.notify, m.max_depth
      from (select g.queue, bool_and(g.later) as later, count(*) as jobs from given as g group by g.queue) as q
      left join queue_meta as m on m.queue = q.queue
    ),
    verdict as materialized (
      select coalesce(bool_and(length(g.kind) between 1 and 200 and length(g.queue) between 1 and 200
          and g.priority between 1 and 4 and g.max_attempts between 1 and 1000
          and (g.metadata is null or jsonb_typeof(g.metadata) = 'object')
          and (g.tags is null
            or (array_ndims(g.tags) = 1 and cardinality(g.tags) <= 20 and array_position(g.tags, null) is null))
          and (g.deadline is null or (_shortest(g.deadline) > '0' and g.deadline <= '100 years')) and not g.nested
          and (_is_light(g.args, coalesce(g.metadata, '{}'), g.tags, g.ordering_key)
            or _fits(g.args, coalesce(g.metadata, '{}'), g.tags, g.ordering_key))), false)
        and bool_and(g.kind is not null and g.queue is not null) as sound
      from given as g
    ),
    placed as materialized (
      select g.*, s.shard, _lane(g.queue, g.priority, s.shard) as lane
      from given as g
      join queues as q on q.queue = g.queue
      cross join lateral (
        select case when q.shards > 1 then _shard(g.ordering_key, q.shards) else 0 end as shard) as s
      where (select v.sound from verdict as v)
    ),
    admitted as materialized (
      select count(_check_depth(q.queue, q.max_depth, q.jobs)) as queues
      from queues as q
      where q.max_depth is not null and (select v.sound from verdict as v)
    ),
    registered as materialized (
      -- None when a lane's number belongs to another queue.
      select case when bool_and(r.lane = l.lane) then count(*) else 0 end as lanes
      from (select distinct p.lane, p.queue, p.priority, p.shard from placed as p) as l
      cross join lateral _register_lane(l.queue, l.priority, l.shard) as r (lane)
      where (select a.queues from admitted as a) >= 0
    ),
    ready as (
      insert into ready_entries_{{ $i }} (
        lane, xid, job_id, run_at, created_at, run_lease, ready_slot, attempt, max_attempts, kind, args,
        metadata, tags, ordering_key, deadline)
      select p.lane, v_xid, p.job_id, p.run_at, v_now, 1, {{ $i }}, 1, p.max_attempts, p.kind, p.args,
        p.metadata, p.tags, p.ordering_key, p.deadline
      from placed as p
      where not p.later and (select r.lanes from registered as r) > 0
    ),
    deferred as (
      insert into deferred_jobs (
        job_id, lane, state, run_at, created_at, run_lease, attempt, max_attempts, kind, args,
        metadata, tags, ordering_key, deadline, xid)
      select p.job_id, p.lane, 'scheduled', p.run_at, v_now, 1, 1, p.max_attempts, p.kind, p.args,
        p.metadata, p.tags, p.ordering_key, p.deadline, v_xid
      from placed as p
      where p.later and (select r.lanes from registered as r) > 0
    )
    select array(select p.job_id from placed as p where (select r.lanes from registered as r) > 0 order by p.job_id),
      array(select q.queue from queues as q where not q.later and q.notify is not false)
    into v_ids, v_queues;
{{ end }}
  end case;
  if v_ids = '{}' then
    return null;
  end if;
  perform _wake(u.queue) from unnest(v_queues) as u (queue);
  return v_ids;
exception when data_exception then
  return null;
end;
$$;

create or replace function {{ .schema }}.enqueue_many (
  jobs  jsonb,
  queue text default 'default'
)
  returns bigint[]
{{ template "internal/public.sql" . -}}
as $$
declare
  v_known constant text[] := array['kind', 'args', 'queue', 'priority', 'run_at', 'max_attempts', 'tags',
    'metadata', 'unique_key', 'unique_states', 'ordering_key', 'deadline', 'concurrency_key', 'after',
    'follow_ups'];
  -- A job that has only these keys can go with others in one statement.
  v_plain constant text[] := array['kind', 'args', 'queue', 'priority', 'run_at', 'max_attempts', 'tags',
    'metadata', 'ordering_key', 'deadline'];
  v_few constant integer := 4;
  v_fits boolean[];
  v_run  record;
  v_job  jsonb;
  v_key  text;
  v_new  bigint[];
  v_id   bigint;
  v_ids  bigint[] := array[]::bigint[];
begin
  if enqueue_many.jobs is null or jsonb_typeof(enqueue_many.jobs) <> 'array' then
    perform _invalid(format('jobs is %s', coalesce('a JSON ' || jsonb_typeof(enqueue_many.jobs), 'null')),
      'Pass a JSON array of objects with the argument names of enqueue.');
  end if;
  -- Few jobs are as quick one by one.
  if jsonb_array_length(enqueue_many.jobs) >= v_few then
    v_fits := array(
      select case when jsonb_typeof(j.value) = 'object' then j.value - v_plain = '{}' else false end
      from jsonb_array_elements(enqueue_many.jobs) with ordinality as j (value, n)
      order by j.n);
    if true = all (v_fits) then
      v_new := _enqueue_plain(enqueue_many.jobs, enqueue_many.queue collate "default");
      if v_new is not null then
        return v_new;
      end if;
      v_fits := null;
    end if;
  end if;

  perform _reserve_keys(enqueue_many.jobs);
  -- Neighbours that fit go together, the others one by one, all in their order.
  for v_run in
    select false as fits, enqueue_many.jobs as jobs, 1 as first
    where v_fits is null
    union all
    select f.fits, jsonb_agg(j.value order by j.n), min(f.n)
    from (
      select u.n, u.fits, u.n - row_number() over (partition by u.fits order by u.n) as island
      from unnest(v_fits) with ordinality as u (fits, n)
    ) as f
    join jsonb_array_elements(enqueue_many.jobs) with ordinality as j (value, n) on j.n = f.n
    where v_fits is not null
    group by f.fits, f.island
    order by first
  loop
    if v_run.fits and jsonb_array_length(v_run.jobs) >= v_few then
      v_new := _enqueue_plain(v_run.jobs, enqueue_many.queue collate "default");
      if v_new is not null then
        foreach v_id in array v_new loop
          v_ids := v_ids || v_id;
        end loop;
        continue;
      end if;
    end if;
    for v_job in select j.value from jsonb_array_elements(v_run.jobs) as j loop
      if jsonb_typeof(v_job) <> 'object' then
        perform _invalid(format('jobs holds %s', left(v_job::text, 80)), 'Each job is a JSON object.');
      end if;
      select k.key into v_key from jsonb_object_keys(v_job) as k (key) where k.key <> all (v_known) limit 1;
      if found then
        perform _invalid(format('unknown key %L in %s', v_key, left(v_job::text, 80)),
          'The keys are the argument names of enqueue.');
      end if;
      if '{object, array}' && array[jsonb_typeof(v_job -> 'kind'), jsonb_typeof(v_job -> 'queue'), jsonb_typeof(v_job -> 'unique_key'),
           jsonb_typeof(v_job -> 'deadline'), jsonb_typeof(v_job -> 'concurrency_key')]
      then
        perform _check_scalar(k.key, v_job -> k.key)
        from unnest(array['kind', 'queue', 'unique_key', 'deadline', 'concurrency_key']) as k (key);
      end if;
      v_id := (
        select enqueue(
          kind          => o.kind,
          args          => coalesce(o.args, '{}'),
          queue         => coalesce(o.queue, enqueue_many.queue),
          priority      => coalesce(o.priority, 2),
          run_at        => o.run_at,
          max_attempts  => coalesce(o.max_attempts, 25),
          tags          => coalesce(o.tags, '{}'),
          metadata      => coalesce(o.metadata, '{}'),
          unique_key    => o.unique_key,
          unique_states => o.unique_states,
          ordering_key  => o.ordering_key,
          deadline      => o.deadline,
          concurrency_key => o.concurrency_key,
          after         => o.after,
          follow_ups    => o.follow_ups)
        from jsonb_to_record(v_job) as o (
          kind text, args jsonb, queue text, priority integer, run_at timestamptz, max_attempts integer,
          tags text[], metadata jsonb, unique_key bytea, unique_states bit(8), ordering_key text, deadline interval,
          concurrency_key text, after bigint[], follow_ups jsonb));
      -- Only this form appends in place; otherwise each job would copy the ids of all before
      -- it.
      v_ids := v_ids || v_id;
    end loop;
  end loop;
  perform _release_reserved();
  return v_ids;
exception when data_exception then
  if v_job is null then
    -- Keys are read before the first job.
    for v_job in select j.value from jsonb_array_elements(enqueue_many.jobs) as j loop
      begin
        perform (v_job ->> 'unique_key')::bytea;
      exception when data_exception then
        exit;
      end;
    end loop;
  end if;
  perform _invalid(format('%s, in %s', sqlerrm, left(v_job::text, 200)), 'Give each key the type that enqueue takes.');
  return null;
end;
$$;

comment on function {{ .schema }}.enqueue_many (jsonb, text) is
  'Adds the jobs of a JSON array, each an object with the argument names of enqueue; queue is the default for those that name none. Returns their ids in order; a job whose unique key is held yields the id of the holder. All are added or none. Waits as enqueue does, and raises what enqueue raises.';
