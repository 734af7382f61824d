-- The ring: segment g lives in slot g mod {{ .segments }}.

-- Advisory locks of this schema are pairs of a class and a key. Class 1 is lanes, by
-- _lane_key(); class 2 workers that wait for a queue's jobs and class 3 turns at limited
-- queues, by _queue_key(). Class 0 has fixed keys: the singletons, of which one session at a
-- time does the work of ring (1), counters (2), rescue (3), promotion (4), schedules (5),
-- dependents (6) and batch operations (7), and the gate of the ring (8).
create or replace function {{ .schema }}._lock_class (p_class integer)
  returns integer
  language sql
  immutable
  parallel safe
as $$
  select pg_catalog.hashtext('awa/{{ .schema }}') + p_class
$$;

-- What a dump of definitions alone leaves out, and what a reset leaves of an older snapshot.
create or replace function {{ .schema }}._no_segment ()
  returns void
  language plpgsql
  volatile
as $$
begin
  perform _refuse_torn('the ring');
  raise exception using errcode = '55000',
    message = 'the storage has no segment: it was restored without its rows',
    hint = 'Empty and ready: select {{ .schema }}.reset(). Else restore the data too.';
end;
$$;

create or replace function {{ .schema }}._current_slot ()
  returns smallint
  language plpgsql
  stable
as $$
declare
  v_slot smallint := (select r.slot from segment_rotations as r order by r.generation desc limit 1);
begin
  if v_slot is null then
    perform _no_segment();
  end if;
  return v_slot;
end;
$$;

create or replace function {{ .schema }}._try_singleton (p_key integer)
  returns boolean
  language sql
  volatile
as $$
  select pg_catalog.pg_try_advisory_xact_lock({{ .schema }}._lock_class(0), p_key)
$$;

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

-- Shuts the gate before every table is taken. Nothing is in hand yet, so it is waited for
-- until who is inside has left. With the gate in hand each table is waited for briefly: who
-- has it may be at the gate by now, and would be the one whom a deadlock ends. Sets
-- lock_timeout accordingly.
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

-- Whether a session that may hold something waits for what this transaction holds. A call that
-- is about to wait in turn, however briefly, checks this first: the other's deadlock_timeout
-- could end just then.
create or replace function {{ .schema }}._is_awaited ()
  returns boolean
  language plpgsql
  volatile
as $$
begin
  -- The lock table is read once: it is costly, and everybody's locks wait meanwhile.
  return (
    with lock as materialized (
      select k.* from pg_locks as k where k.locktype in ('transactionid', 'advisory')
    )
    select exists (
        select from lock as w
        where w.locktype = 'transactionid' and not w.granted and pg_backend_pid() = any (pg_blocking_pids(w.pid)))
      -- A lane's claimers mostly hold nothing while they wait: they have no transaction id yet.
      or exists (
        select from lock as w
        join lock as k on k.locktype = 'advisory' and k.granted and k.pid = pg_backend_pid()
          and k.database = w.database and k.classid = w.classid and k.objid = w.objid and k.objsubid = w.objsubid
        where w.locktype = 'advisory' and not w.granted and w.classid::bigint = _lock_class(1)::bigint & 4294967295
          and exists (select from lock as x where x.pid = w.pid and x.locktype = 'transactionid' and x.granted)));
end;
$$;

-- The epoch of the newest rotation, prune or removal of a queue that is visible.
create or replace function {{ .schema }}._epoch ()
  returns bigint
  language plpgsql
  stable
as $$
begin
  return greatest(
    (select r.epoch from segment_rotations as r order by r.generation desc limit 1),
    (select p.epoch from segment_prunes as p order by p.generation desc limit 1),
    (select q.epoch from queue_removals as q order by q.epoch desc limit 1));
end;
$$;

-- Whether this transaction has one snapshot for all its statements.
create or replace function {{ .schema }}._keeps_snapshot ()
  returns boolean
  language sql
  stable
as $$
  select pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable')
$$;

-- True when this transaction's snapshot may predate one of them: only a transaction-long
-- snapshot can, and the epoch sequence, which is not transactional, reveals it.
create or replace function {{ .schema }}._snapshot_is_stale ()
  returns boolean
  language plpgsql
  volatile
  -- A sequence has no index. Where callers disable sequential scans, the cost of this one would
  -- trigger JIT compilation.
  set jit = off
as $$
begin
  if not _keeps_snapshot() then
    return false;
  end if;
  return (select s.last_value from storage_epoch as s) is distinct from _epoch();
end;
$$;

-- Whether something was emptied since this transaction's snapshot. TRUNCATE is not versioned:
-- the rows that the snapshot should show are missing, and the table has another file than in
-- the snapshot. A reset may leave every segment alone, but never the ledger of rotations. Checked
-- after reading, when the tables that were read are locked and no other prune or reset can come.
-- READ COMMITTED needs no check: a statement locks before it takes its snapshot.
create or replace function {{ .schema }}._is_torn ()
  returns boolean
  language plpgsql
  stable
as $$
begin
  if not _keeps_snapshot() then
    return false;
  end if;
  return exists (
    select from pg_class as c
    where c.oid in ('{{ .schema }}.segment_rotations'::regclass
{{- range $i := until (int .segments) }}, '{{ $.schema }}.ready_entries_{{ $i }}'::regclass{{ end }})
      and c.relfilenode <> pg_relation_filenode(c.oid));
end;
$$;

create or replace function {{ .schema }}._refuse_torn (p_what text)
  returns void
  language plpgsql
  volatile
as $$
begin
  if _is_torn() then
    perform _stale_snapshot(p_what);
  end if;
end;
$$;

-- Under a stale snapshot a call that finds nothing cannot know that there is nothing.
create or replace function {{ .schema }}._refuse_stale (p_what text)
  returns void
  language plpgsql
  volatile
as $$
begin
  if _snapshot_is_stale() then
    perform _stale_snapshot(p_what);
  end if;
end;
$$;

-- Sets the sequence back after a rotation, prune or removal that was rolled back. The
-- caller holds the ring's lock.
create or replace function {{ .schema }}._settle_epoch ()
  returns void
  language plpgsql
  volatile
as $$
declare
  v_epoch bigint := _epoch();
begin
  if v_epoch <> (select s.last_value from storage_epoch as s) then
    perform setval('storage_epoch', v_epoch);
  end if;
end;
$$;

-- Storage work proves something in one snapshot and checks it again in a later one, which a
-- transaction-long snapshot does not allow.
create or replace function {{ .schema }}._require_read_committed (p_what text)
  returns void
  language plpgsql
  volatile
as $$
begin
  if _keeps_snapshot() then
    raise exception using errcode = '25001',
      message = format('%s in a %s transaction', p_what, current_setting('transaction_isolation')),
      hint = 'Call it in a READ COMMITTED transaction.';
  end if;
end;
$$;
