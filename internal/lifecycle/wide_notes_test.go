package lifecycle_test

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// wideSamples hold at every moment.
var wideSamples = map[string]string{
	"counters differ from history": driftQuery,
	"jobs of one key run beyond its limit": `
select awa._concurrency_key(j.metadata), count(*), array_agg(j.id) from awa.jobs as j
where j.queue = 'limited' and j.state in ('running', 'waiting_external') and j.metadata ? 'awa:concurrency_key'
group by 1 having count(*) > 2`,
	"jobs share a unique key": `
select j.unique_key, array_agg((j.id, j.state, j.unique_states)::text) from awa.jobs as j
where j.unique_key is not null and j.state in ('scheduled', 'available', 'retryable') and awa._in_mask(j.state, j.unique_states)
group by j.unique_key having count(*) > 1`,
	"a call waits for long": `
select a.query, now() - a.query_start, a.wait_event, pg_blocking_pids(a.pid) from pg_stat_activity as a
where a.wait_event_type = 'Lock' and a.query_start < clock_timestamp() - interval '40 seconds' and a.query !~ 'reset|rebase'`,
}

// sample looks at what must hold at every moment.
func (w *wide) sample(conn *pgx.Conn, over chan struct{}) {
	_, _ = conn.Exec(context.Background(), `set jit = off; set deadlock_timeout = '5s'`)
	for !w.t.Failed() {
		for what, sql := range wideSamples {
			bad, err := read(context.Background(), conn, sql)
			if err != nil {
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
		for k in select j.id from awa.jobs as j where j.state in ('scheduled', 'retryable') and j.run_at < 'infinity' order by j.run_at loop
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
		if time.Since(began) > 2*time.Minute {
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
