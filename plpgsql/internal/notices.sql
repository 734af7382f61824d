-- Notices tell a worker, at its next heartbeat, that somebody else closed one of its attempts.

-- Tells the workers of attempts that were just closed in the ring.
create or replace function {{ .schema }}._notify_workers (p_receipts {{ .schema }}.receipt[], p_reason text)
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  insert into worker_notices (worker, xid, batch_id, job_id, run_lease, ready_slot, reason)
  select c.worker, pg_current_xact_id(), r.batch_id, r.job_id, r.run_lease, _current_slot(), p_reason
  from unnest(p_receipts) as r
  cross join lateral (
    select b.worker from claims as b where b.ready_slot = r.ready_slot and b.batch_id = r.batch_id limit 1
  ) as c
  where c.worker is not null;
end;
$$;

-- Tells the worker of a leased attempt.
create or replace function {{ .schema }}._notify_leased (l {{ .schema }}.leases, p_reason text)
  returns void
  language plpgsql
  volatile
as $$
begin
  if l.worker is not null then
    insert into worker_notices (worker, xid, batch_id, job_id, run_lease, ready_slot, reason)
    values (l.worker, pg_current_xact_id(), l.batch_id, l.job_id, l.receipt_lease, _current_slot(), p_reason);
  end if;
end;
$$;
