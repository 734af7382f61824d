-- Transactions that keep one snapshot: it may be older than a rotation, a prune or a reset.

-- Whether this transaction has one snapshot for all its statements.
create or replace function {{ .schema }}._keeps_snapshot ()
  returns boolean
  language sql
  stable
as $$
  select pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable')
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
