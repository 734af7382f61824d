-- How prune gets exclusive locks on a segment's tables (ADR 0018).

-- Locks a segment's tables. p_met are the transactions that held them or were inside the ring
-- when the caller began. Those must have ended first, and nobody waits meanwhile, so the gate
-- is shut only where transactions are short. Transactions that kept it from being shut must
-- have ended before the next try.
create or replace function {{ .schema }}._lock_segment (p_slot integer, p_met text[])
  returns boolean
  language plpgsql
  volatile
  set lock_timeout = '50ms'
as $$
declare
  v_met   text[] := p_met;
  v_left  text[];
  v_stuck boolean;
begin
  for v_try in 1 .. 3 loop
    for v_look in 1 .. 6 loop
      v_met := array(select unnest(v_met) intersect select unnest(_segment_holders(p_slot)));
      exit when v_met = '{}';
      if v_look = 6 then
        return false;
      end if;
      perform pg_sleep(0.02);
    end loop;
    begin
      -- A transaction that waits for something this one holds may be inside. Each would wait
      -- for the other, and the deadlock check might end that one.
      if _is_awaited() then
        raise lock_not_available;
      end if;
      v_met := _segment_holders(p_slot);
      perform set_config('lock_timeout', '50ms', true);
      perform pg_advisory_xact_lock(_lock_class(0), 8);
      -- Holders that are left never passed the gate: a producer as old as the segment, a reader
      -- of the views, or an UPDATE of jobs, which comes to the gate holding the tables and
      -- would deadlock if this queued for their locks. So this polls for them to leave. Only
      -- the last try queues, since readers may leave no moment between them.
      for v_look in 1 .. 8 loop
        select array_agg(h.id), bool_or(exists (select from pg_locks as w where not w.granted and w.virtualtransaction = h.id))
        into v_left, v_stuck
        from unnest(_segment_holders(p_slot)) as h (id);
        exit when v_left is null or (v_try = 3 and v_look = 8 and not v_stuck);
        if v_look = 8 or v_stuck then
          raise lock_not_available;
        end if;
        perform pg_sleep(0.003);
      end loop;
      perform set_config('lock_timeout', case when v_left is null then '1ms' else '20ms' end, true);
      case p_slot
{{ range $i := until (int .segments) }}
      when {{ $i }} then
        lock table {{ template "internal/ring_tables.sql" (dict "suffix" (print "_" $i)) }} in access exclusive mode;
{{ end }}
      end case;
      return true;
    exception when lock_not_available then
      perform pg_sleep(0.02);
    end;
  end loop;
  return false;
end;
$$;

-- Drops the unique keys that leave with a locked segment, by their places in the table. Calls
-- of awa that lock a key are inside the gate, so only a statement by hand can hold one.
create or replace function {{ .schema }}._drop_keys (p_places tid[], p_jobs bigint[])
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
  set lock_timeout = '1ms'
as $$
begin
  delete from job_unique_claims as u
  using unnest(p_places, p_jobs) as k (place, job_id)
  where u.ctid = k.place and u.job_id = k.job_id;
end;
$$;

-- The oldest of these transactions, if it has lasted so long, as a dump's does, that prune does
-- not wait for it: what prune proves and copies would be wasted, at each call again. When a
-- transaction of another role began is shown only to a schema's owner who may read all
-- statistics.
create or replace function {{ .schema }}._lasting_holder (p_met text[])
  returns text
  language plpgsql
  volatile
as $$
declare
  v_since timestamptz := clock_timestamp() - (
    select least(greatest(s.segment_max_age, '1 second'), '1 minute') from storage_settings as s);
begin
  return (
    select case
      when p.gid is not null then format('prepared transaction %L is in the way since %s', p.gid, p.prepared)
      else format('session %s is in the way, in a transaction since %s', a.pid, a.xact_start) end
    from pg_locks as k
    left join pg_stat_activity as a on a.pid = k.pid
    left join pg_prepared_xacts as p on k.pid is null and k.locktype = 'transactionid' and p.transaction = k.transactionid
    where k.virtualtransaction = any (p_met) and coalesce(a.xact_start, p.prepared) < v_since
    order by coalesce(a.xact_start, p.prepared)
    limit 1);
end;
$$;
