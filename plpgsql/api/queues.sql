-- Queues: settings, pause and resume.

create or replace function {{ .schema }}.configure_queue (queue text, settings jsonb)
  returns void
{{ template "internal/public.sql" . -}}
as $$
declare
  v_bounds constant text :=
    'enqueue_shards goes from 1 to 64, intervals from zero to 100 years, limits above zero, concurrency_limit up to 1000, on_full is reject or warn.';
  v_key text;
begin
  perform _check_name('queue', configure_queue.queue);
  perform _check_settings(configure_queue.settings, array['enqueue_shards', 'dlq_enabled', 'priority_aging_interval', 'rate_limit',
    'rate_burst', 'failed_retention', 'dlq_retention', 'notify', 'max_depth', 'on_full', 'concurrency_limit']);
  -- Beyond these a bucket's arithmetic ends in infinity, NaN or an underflow.
  if (configure_queue.settings ->> 'rate_limit')::float8 not between 1e-9 and 1e9 then
    perform _invalid(format('rate_limit is %s', configure_queue.settings ->> 'rate_limit'),
      'Give jobs a second, from 1e-9 to 1e9, or null for no limit.');
  end if;
  select k.key into v_key
  from jsonb_each_text(configure_queue.settings) as k (key, value)
  where case when k.key in ('failed_retention', 'dlq_retention') then _shortest(k.value::interval) < '0' end
  limit 1;
  if found then
    perform _invalid(format('%s is %s', v_key, configure_queue.settings ->> v_key),
      'Give a time that is zero or more in every month, up to 100 years.');
  end if;
  insert into queue_meta (queue) values (configure_queue.queue) on conflict do nothing;
  update queue_meta as m
  set (enqueue_shards, dlq_enabled, priority_aging_interval, rate_limit, rate_burst, failed_retention,
       dlq_retention, notify, max_depth, on_full, concurrency_limit, concurrency_slots)
    = (select coalesce(n.enqueue_shards, 1), coalesce(n.dlq_enabled, false), n.priority_aging_interval, n.rate_limit,
         n.rate_burst, coalesce(n.failed_retention, '72 hours'), n.dlq_retention, coalesce(n.notify, true), n.max_depth, coalesce(n.on_full, 'reject'),
         n.concurrency_limit, greatest(m.concurrency_slots, n.concurrency_limit)
       from jsonb_populate_record(m, configure_queue.settings) as n)
  where m.queue = configure_queue.queue;
  if not exists (select from queue_meta as m where m.queue = configure_queue.queue and m.concurrency_limit is not null) then
    perform _unpark_queue(configure_queue.queue);
  end if;
exception
  when data_exception then
    perform _invalid(format('settings %s: %s', configure_queue.settings, sqlerrm), v_bounds);
  when check_violation then
    -- Each check of queue_meta is named after its column, which is the setting.
    get stacked diagnostics v_key = constraint_name;
    v_key := substring(v_key from '^queue_meta_(.*)_check$');
    if v_key is null then
      raise;
    end if;
    perform _invalid(format('%s is %s', v_key, configure_queue.settings ->> v_key), v_bounds);
end;
$$;

comment on function {{ .schema }}.configure_queue is
  'Changes the named settings of a queue, creating its entry; a null resets a setting to its default. Waits for a concurrent change of the same queue. Raises AW006 for an unknown key or a value out of bounds.';

create or replace function {{ .schema }}.queue_settings (queue text)
  returns jsonb
{{ template "internal/public.sql" . -}}
as $$
declare
  m queue_meta;
begin
  perform _check_name('queue', queue_settings.queue);
  select q.* into m from queue_meta as q where q.queue = queue_settings.queue;
  return jsonb_build_object(
    'enqueue_shards', coalesce(m.enqueue_shards, 1),
    'dlq_enabled', coalesce(m.dlq_enabled, false),
    'priority_aging_interval', m.priority_aging_interval,
    'rate_limit', m.rate_limit,
    'rate_burst', m.rate_burst,
    'failed_retention', coalesce(m.failed_retention, '72 hours'),
    'dlq_retention', m.dlq_retention,
    'notify', coalesce(m.notify, true),
    'max_depth', m.max_depth,
    'on_full', coalesce(m.on_full, 'reject'),
    'concurrency_limit', m.concurrency_limit);
end;
$$;

comment on function {{ .schema }}.queue_settings is
  'The settings of a queue as configure_queue takes them, all of them; those of an unknown queue are the defaults. Never blocks. Raises AW006 for a bad name.';

create or replace function {{ .schema }}.pause_queue (queue text)
  returns void
{{ template "internal/public.sql" . -}}
as $$
begin
  perform _check_name('queue', pause_queue.queue);
  if not exists (select from queue_lanes as l where l.queue = pause_queue.queue)
    and not exists (select from queue_meta as m where m.queue = pause_queue.queue)
  then
    raise warning using message = format('queue %L is new', pause_queue.queue),
      hint = 'It is paused before its first job. If the name is wrong, resume_queue ends that and remove_queue forgets it.';
  end if;
  insert into queue_meta as m (queue, paused, paused_at) values (pause_queue.queue, true, _now())
  on conflict on constraint queue_meta_pkey do update set paused = true, paused_at = excluded.paused_at;
end;
$$;

comment on function {{ .schema }}.pause_queue is
  'Claims of the queue yield nothing until resume_queue, except that one which waits for its lane already may still get jobs; enqueueing and finishing go on. Warns of a name that no queue had before. Waits for a concurrent change of the same queue. Raises AW006 for a bad name.';

create or replace function {{ .schema }}.resume_queue (queue text)
  returns void
{{ template "internal/public.sql" . -}}
as $$
declare
  v_notify boolean;
begin
  perform _check_name('queue', resume_queue.queue);
  update queue_meta as m set paused = false, paused_at = null where m.queue = resume_queue.queue and m.paused
  returning m.notify into v_notify;
  if v_notify then
    perform _wake(resume_queue.queue);
  end if;
end;
$$;

comment on function {{ .schema }}.resume_queue is
  'Ends pause_queue, and notifies sessions that wait for the queue. A queue that is not paused stays as it is. Waits for a concurrent change of the same queue. Raises AW006 for a bad name.';
