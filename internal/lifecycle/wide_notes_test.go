package lifecycle_test

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/localpg"
)

// wideSamples hold at every moment.
var wideSamples = map[string]string{
	"counters differ from history": driftQuery,
	"jobs of one key run beyond its limit": `
select awa._concurrency_key(j.metadata), count(*), array_agg(j.id) from awa.jobs as j
where j.queue in ('limited', 'rated') and (j.queue = 'rated' or (select count(*) from limits) = 2) and j.state in ('running', 'waiting_external') and j.metadata ? 'awa:concurrency_key'
group by j.queue, 1 having count(*) > case j.queue when 'rated' then 1 else 2 end`,
	"jobs share a unique key": `
select j.unique_key, array_agg((j.id, j.state, j.unique_states)::text) from awa.jobs as j
where j.unique_key is not null and awa._in_mask(j.state, j.unique_states)
  -- No claim looks at a key: who runs or was set aside has it if his mask had it before.
  and (j.state in ('available', 'retryable') or j.state = 'running' and j.unique_states & b'11101000' = b'11101000'
    or j.state = 'scheduled' and (j.unique_states & b'01000000' = b'01000000' or j.run_at > clock_timestamp() and j.run_at < 'infinity'))
group by j.unique_key having count(*) > 1`,
	"a call waits for long": `
select a.query, now() - a.query_start, a.wait_event, pg_blocking_pids(a.pid) from pg_stat_activity as a
where a.wait_event_type = 'Lock' and a.query_start < clock_timestamp() - interval '3 minutes' and a.query !~ 'reset|rebase'`,
}

// sample looks at what must hold at every moment.
func (w *wide) sample(server *localpg.Server, over chan struct{}) {
	conn := w.connect(server, `set jit = off; set deadlock_timeout = '5s'`)
	defer func() { _ = conn.Close(context.Background()) }()
	for !w.t.Failed() {
		for what, sql := range wideSamples {
			bad, err := read(context.Background(), conn, sql)
			if err != nil && w.crashing && conn.IsClosed() {
				conn = w.connect(server, `set jit = off; set deadlock_timeout = '5s'`)
			} else if err != nil {
				w.t.Errorf("%s: %v", what, err)
			} else if len(bad) > 0 {
				w.t.Errorf("%s: %s", what, strings.Join(bad, "; "))
			}
		}
		select {
		case <-over:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// drain has workers finish all that is left: nothing waits for ever, and then the ring empties.
func (w *wide) drain(conn *pgx.Conn) {
	exec := execOn(w.t, conn)
	exec(`select awa.remove_schedule(name) from awa.cron_schedules`)
	exec(`select awa.cancel_batch_operation(id) from awa.batch_operations where finished_at is null`)
	exec(`select awa.resume_queue(m.queue), awa.configure_queue(m.queue, '{"rate_limit": null, "max_depth": null}') from awa.queue_meta as m`)
	exec(`select awa.configure_storage('{"segment_max_age": "1 second", "history_retention": "0", "straggler_limit": 1000, "worker_silence": "1 second"}')`)
	exec(`do $do$
	declare
		k bigint;
	begin
		for k in
			-- All but those that wait for others, or for a slot.
			select j.id from awa.jobs as j
			where j.state in ('scheduled', 'retryable') and (j.run_at < 'infinity'
				or not j.metadata ? 'awa:run_at' and not exists (select from awa.job_dependencies as d where d.job_id = j.id))
			order by j.run_at
		loop
			begin
				update awa.jobs set run_at = clock_timestamp() where id = k;
			exception when sqlstate 'AW003' or sqlstate 'AW004' then
				perform awa.cancel(k); -- another job has its key
			end;
		end loop;
	end $do$`)
	const left = `select j.state, count(*), array_agg(j.id || ' ' || j.run_at::text) from awa.jobs as j
		where j.finalized_at is null and j.state not in ('completed', 'failed', 'cancelled') group by 1`
	began := time.Now()
	for {
		exec(`select awa.maintain()`)
		exec(`select awa.complete_many(array(select c.receipt from awa.claim(q.queue, 1000) as c)) from (select distinct queue from awa.queue_lanes) as q`)
		exec(`select awa.complete_many(array(
			select row(k.ready_slot, k.batch_id, j.job_id, coalesce(j.run_lease, 1))::awa.receipt
			from awa.claims as k cross join lateral unnest(k.job_ids, k.run_leases) as j (job_id, run_lease)))`)
		exec(`select awa.complete_many(array(select row(0, l.batch_id, l.job_id, l.receipt_lease)::awa.receipt from awa.leases as l))`)
		bad := lines(w.t, conn, left)
		if len(bad) == 0 {
			break
		}
		if time.Since(began) > 10*time.Minute {
			w.t.Errorf("jobs wait for ever: %s", strings.Join(bad, "; "))
			return
		}
	}
	w.t.Logf("drained in %v", time.Since(began))
	exec(`select awa.bulk_move_failed_to_dlq()`) // prune keeps what failed by a clock that is ahead
	exec(`select awa.purge_dlq()`)
	exec(`select awa.configure_queue(m.queue, '{"failed_retention": "0"}') from awa.queue_meta as m`)
	for n := 0; n < 200 && len(lines(w.t, conn, `select from awa.ready_entries limit 1`)) > 0; n++ {
		exec(`select awa.rotate()`)
		exec(`select awa.prune()`)
		exec(`select awa.maintain()`)
	}
	for what, sql := range map[string]string{
		"check of the empty ring": `select c::text from awa.check() as c`,
		"what the ring keeps": `select 'ready', count(*) from awa.ready_entries having count(*) > 0
			union all select 'deferred', count(*) from awa.deferred_jobs having count(*) > 0
			union all select 'leases', count(*) from awa.leases having count(*) > 0
			union all select 'dependencies', count(*) from awa.job_dependencies having count(*) > 0
			union all select 'claims', count(*) from awa.claims having count(*) > 0`,
		"counts of nothing": `select c::text from awa.queue_meta as m cross join lateral awa.queue_counts(m.queue) as c
			where (c.available, c.scheduled, c.retryable, c.running, c.waiting_external, c.terminal, c.dlq) <> (0, 0, 0, 0, 0, 0, 0)`,
	} {
		if bad := lines(w.t, conn, sql); len(bad) > 0 {
			w.t.Errorf("%s: %s", what, strings.Join(bad, "\n"))
		}
	}
	for _, queue := range lines(w.t, conn, `select distinct l.queue from awa.queue_lanes as l`) {
		exec(`select awa.remove_queue($1)`, queue)
	}
}

// noting writes down where jobs come to, and how they leave.
const noting = `
create table noted (what text, job_id bigint, run_lease bigint, batch_id bigint);
create table resets (id bigint);
-- Limits, each from since until the next one.
create table limits (queue text, since timestamptz, slots integer);
create function note_limit() returns trigger language plpgsql as $$
begin
  insert into public.limits values (new.queue, clock_timestamp(), coalesce(new.concurrency_limit, 1000000));
  return null;
end $$;
create constraint trigger note_limit after update of concurrency_limit on awa.queue_meta deferrable initially deferred
  for each row when (new.queue in ('limited', 'rated') and new.concurrency_limit is distinct from old.concurrency_limit) execute function note_limit();
create table handed (
  queue text, batch_id bigint, job_id bigint, key text, began timestamptz default transaction_timestamp(), claimed_at timestamptz, closed_at timestamptz,
  parked boolean default false);
create index on handed (batch_id, job_id);
create index on handed (job_id);
create index on handed (queue, key);
create function note() returns trigger language plpgsql as $$
begin
  case tg_argv[0]
  when 'job' then
    insert into public.noted values ('there', new.job_id, new.run_lease);
  when 'letter' then
    if tg_op = 'INSERT' then
      insert into public.noted values ('there', new.id, new.run_lease);
    else
      insert into public.noted values ('gone', old.id, old.run_lease);
    end if;
  when 'outcome' then
    insert into public.noted
    select new.outcome, j.job_id, coalesce(j.run_lease, 1)
    from awa.claims as c
    cross join lateral unnest(coalesce(new.job_ids, c.job_ids), case when new.job_ids is null then c.run_leases else new.run_leases end)
      as j (job_id, run_lease)
    where c.ready_slot = new.ready_slot and c.batch_id = new.batch_id;
  when 'claim' then
    insert into public.noted
    select 'handed', j.job_id, coalesce(j.run_lease, 1), new.batch_id from unnest(new.job_ids, new.run_leases) as j (job_id, run_lease);
  when 'departure' then
    insert into public.noted select 'gone', u, 1000000 from unnest(new.job_ids) as u;
  end case;
  return null;
end $$;
create function note_handed() returns trigger language plpgsql set enable_seqscan = off as $$
begin
  if tg_argv[0] = 'claim' then
    if new.claimed_at = new.lease_expires_at then
      return null; -- what was cancelled or moved before its turn
    end if;
    insert into public.handed (queue, batch_id, job_id, key, claimed_at, parked)
    -- What is set aside at once is closed by the same statement.
    select l.queue, new.batch_id, r.job_id, awa._concurrency_key(r.metadata), new.claimed_at,
      exists (select from awa.attempt_outcomes as o where o.batch_id = new.batch_id and o.outcome = 'm')
    from unnest(new.job_ids, new.run_leases) as j (job_id, run_lease)
    join awa.ready_entries as r on r.job_id = j.job_id and r.run_lease = coalesce(j.run_lease, 1) and r.ready_slot = new.ready_slot
    cross join lateral (select q.queue from awa.queue_lanes as q where q.lane = new.lane limit 1) as l
    where l.queue in ('limited', 'rated')
      and not exists (select from public.handed as h where h.job_id = r.job_id and (h.batch_id = new.batch_id or h.claimed_at = new.claimed_at));
  elsif new.outcome <> 'm' then
    update public.handed as h set closed_at = new.finalized_at
    where h.batch_id = new.batch_id and (new.job_ids is null or h.job_id = any (new.job_ids));
  else
    -- Set aside, or gone to leases.
    update public.handed as h set parked = true
    where h.batch_id = new.batch_id and (new.job_ids is null or h.job_id = any (new.job_ids))
      and exists (select from awa.deferred_jobs as d where d.job_id = h.job_id and d.run_at = 'infinity');
  end if;
  return null;
end $$;
create trigger note_handed after insert on awa.claims for each row execute function note_handed('claim');
create trigger note_handed after insert on awa.attempt_outcomes for each row execute function note_handed('outcome');
create trigger note after insert on awa.ready_entries for each row execute function note('job');
create trigger note after insert on awa.claims for each row execute function note('claim');
create trigger note after insert on awa.deferred_jobs for each row execute function note('job');
create trigger note after insert on awa.leases for each row execute function note('job');
create trigger note after insert or delete on awa.dlq_entries for each row execute function note('letter');
create trigger note after insert on awa.attempt_outcomes for each row execute function note('outcome');
create trigger note after insert on awa.job_departures for each row execute function note('departure')`

// lostQuery lists jobs that are nowhere although their newest attempt did not end.
const lostQuery = `
select l.job_id, l.run_lease
from (select n.job_id, max(n.run_lease) as run_lease from noted as n where n.what = 'there' group by n.job_id) as l
where not exists (select from awa.jobs as j where j.id = l.job_id)
  and not exists (select from awa.dlq_entries as q where q.id = l.job_id)
  and not exists (
    select from noted as n
    where n.job_id = l.job_id and n.run_lease >= l.run_lease and n.what in ('c', 'f', 'x', 'd', 'gone'))
limit 20`

// overrunQuery lists claims of a job beside more of its key than may run, by the times of claims
// and outcomes. A limit holds until some time after it was changed: that was not committed yet.
// Who was claimed without one counts for nothing, and nor does who waited for an answer, but
// while it is open.
const overrunQuery = `
with "limit" as (
  select l.queue, l.slots, l.since, coalesce(lead(l.since) over (partition by l.queue order by l.since), 'infinity') + interval '3 seconds' as until from limits as l
),
claim as materialized (
  select h.*, (select max(l.slots) from "limit" as l where l.queue = h.queue and l.since <= h.claimed_at and l.until > h.began) as slots
  from (
    select n.queue, n.key, n.job_id, n.batch_id, n.began, n.claimed_at,
      coalesce(n.closed_at, case when not exists (select from handed as l where l.job_id = n.job_id and l.claimed_at > n.claimed_at)
        and exists (select from awa.jobs as j where j.id = n.job_id and j.state in ('running', 'waiting_external') and j.queue = n.queue) then 'infinity'::timestamptz end) as closed_at
    from handed as n where not n.parked and n.key is not null
  ) as h
)
select c.queue, c.key, c.job_id, c.began, c.claimed_at, c.slots, array_agg((o.job_id, o.batch_id, o.claimed_at, o.closed_at)::text)
from claim as c
join claim as o on o.queue = c.queue and o.key = c.key and o.claimed_at <= c.claimed_at and o.closed_at > c.claimed_at and o.slots < 1000000
where c.slots < 1000000
group by 1, 2, 3, 4, 5, 6, c.batch_id
having count(*) > c.slots
limit 5`

// overspentQuery lists stretches of time in which a queue handed out more than its bucket can have held.
const overspentQuery = `
select a.claimed_at, b.claimed_at, b.so_far - a.so_far + a.n from (
  select h.claimed_at, count(*) as n, sum(count(*)) over (order by h.claimed_at) as so_far from handed as h where h.queue = 'rated' and not h.parked group by 1) as a
join (
  select h.claimed_at, sum(count(*)) over (order by h.claimed_at) as so_far from handed as h where h.queue = 'rated' and not h.parked group by 1) as b
  on b.claimed_at >= a.claimed_at
where b.so_far - a.so_far + a.n > 10 + 50 * (extract(epoch from b.claimed_at - a.claimed_at) + 1) limit 5`
