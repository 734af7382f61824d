-- Workers: who is alive, and what became of their attempts.

create or replace function {{ .schema }}._beat (p_worker text, p_seen pg_snapshot, p_info jsonb)
  returns void
  language plpgsql
  volatile
  set enable_seqscan = off
as $$
begin
  perform _check_name('worker', p_worker);
  insert into workers (worker, heartbeat_at, ready_slot, seen, info) values (p_worker, _now(), _current_slot(), p_seen, p_info);
end;
$$;

create or replace function {{ .schema }}.register_worker (worker text, info jsonb default null)
  returns void
{{ template "internal/public.sql" . -}}
  set enable_seqscan = off
as $$
begin
  -- #> makes a copy that is not compressed.
  if pg_column_size(register_worker.info #> '{}') > 65536 then
    perform _invalid(format('info has %s bytes', pg_column_size(register_worker.info #> '{}')),
      'Every heartbeat writes info again: it has up to 64 kB.');
  end if;
  perform _enter_ring();
  -- Notices not yet returned stay: only a heartbeat returns them.
  perform _beat(register_worker.worker, coalesce((
    select w.seen from workers as w where w.worker = register_worker.worker order by w.heartbeat_at desc limit 1),
    _hide_own(pg_current_snapshot())), register_worker.info);
end;
$$;

comment on function {{ .schema }}.register_worker is
  'Makes a worker known. From then on its attempts depend on its heartbeat, not on their leases: when it stays silent for longer than the setting worker_silence, maintain() rescues them. info is for operators, in list_workers. Never blocks. Raises AW006 for a bad name, or info of more than 64 kB.';

create or replace function {{ .schema }}.heartbeat (worker text)
  returns table (receipt {{ .schema }}.receipt, job_id bigint, reason text)
{{ template "internal/public.sql" . -}}
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_seen pg_snapshot;
  v_now  pg_snapshot := _hide_own(pg_current_snapshot());
  v_info jsonb;
begin
  perform _enter_ring();
  select w.seen, w.info into v_seen, v_info
  from workers as w
  where w.worker = heartbeat.worker
  order by w.heartbeat_at desc
  limit 1;
  perform _beat(heartbeat.worker, v_now, v_info);
  v_seen := coalesce(v_seen, '1:1:');
  return query
  select row(coalesce(c.ready_slot, n.ready_slot), n.batch_id, n.job_id, n.run_lease)::receipt, n.job_id, n.reason
  from worker_notices as n
  left join lateral (
    select k.ready_slot from claims as k where k.batch_id = n.batch_id limit 1
  ) as c on true
  where n.worker = heartbeat.worker and n.xid >= pg_snapshot_xmin(v_seen) and not pg_visible_in_snapshot(n.xid, v_seen)
    and (pg_visible_in_snapshot(n.xid, v_now) or n.xid = pg_current_xact_id())
  order by n.xid, n.job_id;
end;
$$;

comment on function {{ .schema }}.heartbeat is
  'Says that a worker is alive, making it known if it was not, and returns which of its attempts others closed since its last heartbeat: cancelled, deleted or rescued. Their finishes are stale. Call it at least three times per the setting worker_silence. Never blocks. Raises AW006 for a bad name.';

create or replace function {{ .schema }}.rescue_unknown (worker text, known {{ .schema }}.receipt[])
  returns bigint
{{ template "internal/public.sql" . -}}
  set enable_seqscan = off
as $$
declare
  v_receipts receipt[];
  v_reasons  text[];
  v_bite     integer;
  v_jobs     bigint := 0::bigint;
begin
  if rescue_unknown.worker is null then
    perform _check_name('worker', null);
  end if;
  if rescue_unknown.known is null then
    perform _invalid('known is null', 'Pass the receipts that the worker has; an empty array if it has none.');
  end if;
  perform _enter_ring();
  -- In the lock order: leases, then batches.
  v_receipts := (_without(
    array(
      select _receipt_of(l) from leases as l where l.worker = rescue_unknown.worker and l.state = 'running' order by l.job_id)
    || array(
      select o
      from _open_receipts(array(
        select row(c.ready_slot, c.batch_id, j.job_id, coalesce(j.run_lease, 1))::receipt
        from _open_claims() as c
        cross join lateral unnest(c.job_ids, c.run_leases) as j (job_id, run_lease)
        where c.worker = rescue_unknown.worker)) as o),
    rescue_unknown.known))[:500];
  if v_receipts <> '{}' then
    select f.p_receipts, f.p_reasons into v_receipts, v_reasons
    from _free_attempts(
      v_receipts,
      array_fill(format('worker %s does not know of the attempt', rescue_unknown.worker), array[cardinality(v_receipts)])) as f;
    if v_receipts is not null then
      v_bite := _rescue_bite(v_receipts);
      v_jobs := (
        select coalesce(sum(r.rescued), 0)::bigint
        from _rescue_attempts(v_receipts[:v_bite], v_reasons[:v_bite], clock_timestamp() + interval '5 seconds') as r);
    end if;
    perform _release_reserved();
  end if;
  return v_jobs;
end;
$$;

comment on function {{ .schema }}.rescue_unknown is
  'Rescues running attempts of a worker other than known, up to 500, and returns their number: those of a claim that was committed but whose answer was lost, which the worker''s heartbeat keeps alive. They are retried as after any failure. To be called by the worker itself, while no claim under its name is under way. Waits for holders of the attempts only briefly, and leaves those alone. Raises AW006 for a null.';

create or replace function {{ .schema }}.list_workers ()
  returns table (worker text, heartbeat_at timestamptz, info jsonb)
{{ template "internal/public.sql" . -}}
as $$
#variable_conflict use_column
begin
  perform _enter_ring();
  return query
  select distinct on (w.worker) w.worker, w.heartbeat_at, w.info
  from workers as w
  order by w.worker, w.heartbeat_at desc;
  perform _refuse_torn('list of workers');
end;
$$;

comment on function {{ .schema }}.list_workers is
  'The workers that have sent a heartbeat, by name, with their last one and the info of register_worker. One that stayed silent longer than the setting worker_silence counts as gone; a prune forgets it after a day. Never blocks. Raises 40001 under a snapshot older than a prune.';
