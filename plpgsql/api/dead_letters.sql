-- Dead letters: failed jobs kept aside for an operator.

create or replace function {{ .schema }}.move_failed_to_dlq (job_id bigint, reason text default null)
  returns boolean
{{ template "internal/public.sql" . -}}
as $$
begin
  perform _enter_ring();
  return _move_to_dlq(array[move_failed_to_dlq.job_id], move_failed_to_dlq.reason) = 1;
end;
$$;

comment on function {{ .schema }}.move_failed_to_dlq is
  'Moves a failed job from history to the dead letters, errors and all. False when no such job is in history. Of two callers one gets it.';

create or replace function {{ .schema }}.bulk_move_failed_to_dlq (
  queue    text    default null,
  kind     text    default null,
  reason   text    default null,
  max_jobs integer default null
)
  returns bigint
{{ template "internal/public.sql" . -}}
  set work_mem = '64MB'
as $$
begin
  perform _enter_ring();
  perform _check_max_jobs(bulk_move_failed_to_dlq.max_jobs);
  return _move_to_dlq(null, bulk_move_failed_to_dlq.reason, bulk_move_failed_to_dlq.queue,
    bulk_move_failed_to_dlq.kind, bulk_move_failed_to_dlq.max_jobs);
end;
$$;

comment on function {{ .schema }}.bulk_move_failed_to_dlq is
  'Moves failed jobs, oldest first, from history to the dead letters and returns their number; a null filter matches all. Waits only for others that take the same jobs. Raises AW006 for a negative max_jobs.';

create or replace function {{ .schema }}.retry_from_dlq (
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
  v_later boolean;
  q       dlq_entries;
begin
  perform _check_place(retry_from_dlq.queue, retry_from_dlq.priority);
  select e.* into q from dlq_entries as e where e.id = retry_from_dlq.job_id;
  if not found then
    return false;
  end if;
  v_later := _comes_later(retry_from_dlq.run_at);
  perform _need_key(q.unique_key, q.unique_states, q.id, case when v_later then 'scheduled' else 'available' end::job_state);
  if _retry_dead(array[q.id], retry_from_dlq.queue, retry_from_dlq.priority, retry_from_dlq.run_at, v_later) = 0 then
    perform _release_absent(array[q.id]);
    return false;
  end if;
  return true;
end;
$$;

comment on function {{ .schema }}.retry_from_dlq is
  'Puts a dead letter back into its queue, or the given one: attempts start over, errors stay. False when there is no such dead letter. Raises AW006 for a bad override, AW004 when another job holds its unique key by now; the dead letter then stays.';

create or replace function {{ .schema }}.bulk_retry_from_dlq (
  queue    text    default null,
  kind     text    default null,
  tag      text    default null,
  max_jobs integer default null
)
  returns bigint
{{ template "internal/public.sql" . -}}
  set work_mem = '64MB'
  -- In the order of ids, up to max_jobs.
  set enable_seqscan = off
as $$
declare
  v_later boolean;
  v_state job_state;
  v_ids   bigint[];
  v_jobs  bigint;
begin
  perform _enter_ring();
  perform _check_max_jobs(bulk_retry_from_dlq.max_jobs);
  v_later := _comes_later(null);
  v_state := case when v_later then 'scheduled' else 'available' end::job_state;
  -- Of letters with one key the oldest that needs it may take it, unless another job has it by
  -- now; the others stay. Those whose key does not count where they go need none.
  select array_agg(k.id) into v_ids
  from (
    select e.id, e.unique_key, e.unique_states
    from (
      select d.id, d.unique_key, d.unique_states
      from (
        select n.id, n.unique_key, n.unique_states
        from dlq_entries as n
        where (bulk_retry_from_dlq.queue is null or n.queue = bulk_retry_from_dlq.queue)
          and (bulk_retry_from_dlq.kind is null or n.kind = bulk_retry_from_dlq.kind)
          and (bulk_retry_from_dlq.tag is null or bulk_retry_from_dlq.tag = any (n.tags))
        order by n.id
        offset 0
      ) as d
      -- Keys are looked at in order, for no more letters than are asked for.
      where d.unique_key is null or not _in_mask(v_state, d.unique_states) or (
        _key_is_free(d.unique_key, d.id)
        and not exists (
          select from dlq_entries as o
          where o.unique_key = d.unique_key and o.id < d.id
            -- By the key and by no other index, whatever the statistics say.
            and ((bulk_retry_from_dlq.queue is null or o.queue = bulk_retry_from_dlq.queue)
              and (bulk_retry_from_dlq.kind is null or o.kind = bulk_retry_from_dlq.kind)
              and (bulk_retry_from_dlq.tag is null or bulk_retry_from_dlq.tag = any (o.tags))
              and _in_mask(v_state, o.unique_states)) is true))
      order by d.id
      limit bulk_retry_from_dlq.max_jobs
    ) as e
    order by e.unique_key
    -- offset 0: otherwise the keys would be taken before they are sorted.
    offset 0
  ) as k
  where k.unique_key is null
    or _take_key(k.unique_key, k.unique_states, k.id, v_state) = k.id;
  v_jobs := _retry_dead(v_ids, null, null, null, v_later);
  if v_jobs < cardinality(v_ids) then
    perform _release_absent(v_ids);
  end if;
  return v_jobs;
end;
$$;

comment on function {{ .schema }}.bulk_retry_from_dlq is
  'Puts the matching dead letters back into their queues, oldest id first, and returns their number; a null filter matches all. One whose unique key another job holds by now stays. Waits only for others that take the same letters or decide about their keys. Raises AW006 for a negative max_jobs.';

create or replace function {{ .schema }}.purge_dlq (
  queue      text     default null,
  kind       text     default null,
  tag        text     default null,
  older_than interval default null,
  max_jobs   integer  default null
)
  returns bigint
{{ template "internal/public.sql" . -}}
  set enable_seqscan = off
as $$
begin
  perform _check_max_jobs(purge_dlq.max_jobs);
  if purge_dlq.older_than < '0' or purge_dlq.older_than > '100 years' then
    perform _invalid(format('older_than is %s', purge_dlq.older_than), 'Give an age of zero or more, up to 100 years; null for any.');
  end if;
  return _purge_dead(array(
    select e.id from dlq_entries as e
    where (purge_dlq.queue is null or e.queue = purge_dlq.queue)
      and (purge_dlq.kind is null or e.kind = purge_dlq.kind)
      and (purge_dlq.tag is null or purge_dlq.tag = any (e.tags))
      and (purge_dlq.older_than is null or e.dlq_at < _now() - purge_dlq.older_than)
    order by e.id
    limit purge_dlq.max_jobs));
end;
$$;

comment on function {{ .schema }}.purge_dlq is
  'Deletes the matching dead letters for good, oldest id first, and returns their number; a null filter matches all. Letters that another session holds are skipped. Never blocks. Raises AW006 for a negative max_jobs or age.';

create or replace function {{ .schema }}.dlq_depth (queue text default null)
  returns setof {{ .schema }}.dlq_count
{{ template "internal/public.sql" . -}}
as $$
begin
  return query
  select e.queue, count(*)
  from dlq_entries as e
  where dlq_depth.queue is null or e.queue = dlq_depth.queue
  group by e.queue
  order by e.queue;
end;
$$;

comment on function {{ .schema }}.dlq_depth is
  'The number of dead letters per queue, for one queue or all that have any.';
