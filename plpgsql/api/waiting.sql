-- Sessions that wait for jobs of queues, and are notified: see internal/wake.sql.

-- Takes all of the locks or none: if a call is cancelled while it waits for the next one, those
-- it has would stay. A lock and the note of it are taken in one expression, so that no cancel
-- can come in between.
create or replace function {{ .schema }}.start_waiting (queues text[])
  returns void
{{ template "internal/public.sql" . -}}
as $$
declare
  v_class integer := _lock_class(2);
  v_key   integer;
  v_held  integer[] := array[]::integer[];
begin
  foreach v_key in array array(select _queue_key(u.queue) from unnest(start_waiting.queues) as u (queue) where u.queue is not null) loop
    v_held := v_held || case when pg_advisory_lock_shared(v_class, v_key) is not null then v_key end;
  end loop;
exception when query_canceled or others then
  perform pg_advisory_unlock_shared(v_class, u.key) from unnest(v_held) as u (key);
  raise;
end;
$$;

comment on function {{ .schema }}.start_waiting is
  'Says that this session waits for jobs of these queues: until stop_waiting, or the end of the session, whoever makes a job of theirs claimable notifies the channel named after the schema, with the queue as payload. LISTEN first, then call this, then claim once more before you sleep. Needs a session of its own: behind a transaction pool, poll instead. Waits at most for a producer in the middle of a call.';

create or replace function {{ .schema }}.stop_waiting (queues text[])
  returns void
{{ template "internal/public.sql" . -}}
  -- The server warns of a lock that is not held, as of a queue that the session does not wait for.
  set client_min_messages = error
as $$
begin
  perform pg_advisory_unlock_shared(_lock_class(2), _queue_key(u.queue)) from unnest(stop_waiting.queues) as u (queue);
end;
$$;

comment on function {{ .schema }}.stop_waiting is
  'Takes back one start_waiting of each of these queues, if there was one. A worker that is awake or busy should not wait, since notifying costs producers time. Never blocks.';
