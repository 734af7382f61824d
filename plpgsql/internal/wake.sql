-- Waking workers. Transactions that notify commit one after the other, so producers
-- notify only while somebody waits. A waiting session holds the queue's advisory lock
-- shared: a producer that gets it exclusively, for a moment, knows that nobody waits.

-- The key of a queue among advisory locks: class 2 is held by those who wait for its jobs,
-- class 3 by the one whose turn it is at its bucket and its slots.
create or replace function {{ .schema }}._queue_key (p_queue text)
  returns integer
  language sql
  immutable
  parallel safe
as $$
  select pg_catalog.hashtext(p_queue collate "C")
$$;

-- Called by whoever makes jobs claimable. The channel is the schema's name and the payload the
-- queue, so no queue name is too long to notify. The lock is taken and given back in one
-- expression, so that no cancel can come in between and leave it behind.
create or replace function {{ .schema }}._wake (p_queue text)
  returns void
  language plpgsql
  volatile
as $$
begin
  if not (
    pg_try_advisory_lock(_lock_class(2), _queue_key(p_queue))
    and pg_advisory_unlock(_lock_class(2), _queue_key(p_queue)))
  then
    perform pg_notify('{{ .schema }}', p_queue);
  end if;
end;
$$;

create or replace function {{ .schema }}._wake_lanes (p_lanes bigint[])
  returns void
  language plpgsql
  volatile
as $$
begin
  perform _wake(q.queue)
  from (select distinct l.queue from queue_lanes as l where l.lane = any (p_lanes)) as q
  left join queue_meta as m on m.queue = q.queue
  where m.notify is not false;
end;
$$;
