-- The gate of the ring (ADR 0018): whoever reads all segments is inside, and whoever empties
-- one shuts it.

-- A call that is about to name a table of all segments first passes the gate, once per
-- transaction, which is inside the ring until it ends. Prune shuts the gate and waits there for
-- those inside: a single lock, while none of them meets a lock of prune. A call that names only
-- the current segment's tables stays outside.
create or replace function {{ .schema }}._enter_ring ()
  returns void
  language sql
  volatile
as $$
  select pg_catalog.pg_advisory_xact_lock_shared({{ .schema }}._lock_class(0), 8)
$$;

-- Shuts the gate for a caller that is about to lock every table. The caller has nothing in hand
-- yet, so this waits until those inside have left. Then it makes lock_timeout short, because each
-- table may only be waited for briefly: whoever has the table may be waiting at the gate by now,
-- and a deadlock would end that one.
create or replace function {{ .schema }}._shut_ring ()
  returns void
  language plpgsql
  volatile
as $$
begin
  perform set_config('lock_timeout', '2s', true);
  perform pg_advisory_xact_lock(_lock_class(0), 8);
  perform set_config('lock_timeout', '50ms', true);
end;
$$;

-- Until when to try that: the caller's lock_timeout, or a minute.
create or replace function {{ .schema }}._shut_until ()
  returns timestamptz
  language plpgsql
  volatile
as $$
begin
  return clock_timestamp() + coalesce(nullif(current_setting('lock_timeout')::interval, '0'), '1 minute');
end;
$$;

-- After a try that failed.
create or replace function {{ .schema }}._shut_again (p_what text, p_until timestamptz)
  returns void
  language plpgsql
  volatile
as $$
begin
  if clock_timestamp() > p_until then
    raise exception using errcode = '55P03',
      message = format('%s: transactions that use queues stay open', p_what),
      hint = 'Repeat once they have ended, best while no client runs. It waits for lock_timeout, or a minute.';
  end if;
  perform pg_sleep(0.05);
end;
$$;

-- The other transactions that are inside the ring or hold a segment's tables.
create or replace function {{ .schema }}._segment_holders (p_slot integer)
  returns text[]
  language plpgsql
  volatile
as $$
declare
  v_database oid := (select d.oid from pg_database as d where d.datname = current_database());
  v_tables   oid[] := array(
    select c.oid from pg_class as c
    where c.relnamespace = '{{ .schema }}'::regnamespace and c.relispartition and c.relkind = 'r'
      and c.relname like E'%\\_' || p_slot);
begin
  return array(
    select distinct k.virtualtransaction
    from pg_locks as k
    where k.database = v_database and k.granted and k.pid is distinct from pg_backend_pid()
      and case k.locktype
        when 'relation' then k.relation = any (v_tables)
        when 'advisory' then k.objsubid = 2 and k.objid = 8 and k.classid::bigint = _lock_class(0)::bigint & 4294967295
        else false end);
end;
$$;
