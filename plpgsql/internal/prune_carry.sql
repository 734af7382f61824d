    -- Rows of the segment's ledgers that no later row replaces go to the current segment.

    -- A lane without a later claim keeps its cursor.
    insert into lane_cursors (
      lane, generation, segment, last_segment, base_segment, pos_xid, pos_job_id, floor_xid, settled_segment, settled_xid,
      claimed_total, batch_id, look_at, ready_slot, skips, drained, s_prev, s_cur)
    select c.lane, c.generation, c.segment, c.last_segment, c.base_segment, c.pos_xid, c.pos_job_id, c.floor_xid,
      c.settled_segment, c.settled_xid,
      c.claimed_total, c.batch_id, c.look_at, p_current, c.skips, c.drained, c.s_prev, c.s_cur
    from (
{{ template "internal/newest.sql" (dict "ledger" "lane_cursors" "slot" .slot "key" "lane" "point" "generation") }}    ) as c
    -- offset 0, here and below: otherwise the plan may read the other segments.
    where not exists (select from lane_cursors as n where n.lane = c.lane and n.generation > c.generation offset 0);

    -- So do the newest points of rescue, promotion and rate limits, a live worker's heartbeat,
    -- and what running attempts were given. A watch point may go: then it was the only one, and
    -- claims watched in other segments are looked at once more.
    insert into rescue_points (lane, point, checked, marked, marked_at, ready_slot, open_batches)
    select r.lane, r.point, r.checked, r.marked, r.marked_at, p_current, r.open_batches
    from (
{{ template "internal/newest.sql" (dict "ledger" "rescue_points" "slot" .slot "key" "lane" "point" "point") }}    ) as r
    where not exists (select from rescue_points as n where n.lane = r.lane and n.point > r.point offset 0);
    insert into promotion_points (point, run_at, job_id, ready_slot, seen)
    select p.point, p.run_at, p.job_id, p_current, p.seen
    from (select k.* from promotion_points_{{ .slot }} as k order by k.point desc limit 1) as p
    where not exists (select from promotion_points as n where n.point > p.point);
    insert into rate_points (queue, point, tokens, at, ready_slot)
    select r.queue, r.point, r.tokens, r.at, p_current
    from (
{{ template "internal/newest.sql" (dict "ledger" "rate_points" "slot" .slot "key" "queue" "point" "point") }}    ) as r
    where not exists (select from rate_points as n where n.queue = r.queue and n.point > r.point offset 0);
    insert into dependency_points (point, ready_slot, seen)
    select p.point, p_current, p.seen
    from (select k.* from dependency_points_{{ .slot }} as k order by k.point desc limit 1) as p
    where not exists (select from dependency_points as n where n.point > p.point);
    insert into slot_entries (queue, key, slot, point, batch_id, job_id, ready_slot)
    select s.queue, s.key, s.slot, s.point, s.batch_id, s.job_id, p_current
    from (
      select distinct on (k.queue, k.key, k.slot) k.*
      from slot_entries_{{ .slot }} as k
      order by k.queue, k.key, k.slot, k.point desc
    ) as s
    where not exists (
        select from slot_entries as n where n.queue = s.queue and n.key = s.key and n.slot = s.slot and n.point > s.point offset 0)
      and (exists (select from leases as l where l.batch_id = s.batch_id and l.job_id = s.job_id)
        or exists (select from claims as c where c.batch_id = s.batch_id and c.ready_slot <> {{ .slot }}));
    -- A queue's newest row, which counts as open itself, and the rows of the batches that it
    -- names as open.
    insert into slot_batches (queue, point, batch_id, keys, job_ids, open, aged, ready_slot)
    select k.queue, k.point, k.batch_id, k.keys, k.job_ids, case when k.point = n.point then k.open else '{}' end, k.aged, p_current
    from (
{{ template "internal/newest.sql" (dict "ledger" "slot_batches" "slot" .slot "key" "queue" "point" "point") }}    ) as q
    cross join lateral (
      select b.point, b.open from slot_batches as b where b.queue = q.queue order by b.point desc limit 1
    ) as n
    cross join lateral unnest(n.open) as o (point)
    cross join lateral (
      select b.* from slot_batches_{{ .slot }} as b where b.queue = q.queue and b.point = o.point limit 1
    ) as k;
    insert into workers (worker, heartbeat_at, ready_slot, seen, info)
    select w.worker, w.heartbeat_at, p_current, w.seen, w.info
    from (
{{ template "internal/newest.sql" (dict "ledger" "workers" "slot" .slot "key" "worker" "point" "heartbeat_at") }}    ) as w
    where w.heartbeat_at > _now() - interval '1 day'
      and not exists (select from workers as n where n.worker = w.worker and n.heartbeat_at > w.heartbeat_at offset 0);
    insert into worker_notices (worker, xid, batch_id, job_id, run_lease, ready_slot, reason)
    select n.worker, n.xid, n.batch_id, n.job_id, n.run_lease, p_current, n.reason
    from worker_notices_{{ .slot }} as n
    cross join lateral (
      select w.seen, w.heartbeat_at from workers as w where w.worker = n.worker order by w.heartbeat_at desc limit 1
    ) as w
    where w.heartbeat_at > _now() - interval '1 day' and not pg_visible_in_snapshot(n.xid, w.seen);
    insert into lease_extensions (batch_id, lease_expires_at, ready_slot, job_ids)
    select e.batch_id, e.lease_expires_at, p_current, e.job_ids
    from lease_extensions_{{ .slot }} as e
    where e.batch_id = any (v_batches);
    insert into progress_entries (job_id, run_lease, at, ready_slot, progress)
    select distinct on (p.job_id, p.run_lease) p.job_id, p.run_lease, p.at, p_current, p.progress
    from progress_entries_{{ .slot }} as p
    where p.job_id = any (v_jobs)
    order by p.job_id, p.run_lease, p.at desc;

    if exists (select from cron_fires_{{ .slot }} as k where not pg_visible_in_snapshot(k.xid, v_proof)) then
      perform _carry_fires({{ .slot }}, p_current);
    end if;
    insert into cron_points (point, look_at, fire_point, ready_slot, seen, held, troubled)
    select p.point, p.look_at, p.fire_point, p_current, p.seen, p.held, p.troubled
    from (select k.* from cron_points_{{ .slot }} as k order by k.point desc limit 1) as p
    where not exists (select from cron_points as n where n.point > p.point);
