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

-- Raises, for a caller that found no row in the ledger of segments. A restore of definitions alone
-- has none, and after a reset an older snapshot shows none.
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
