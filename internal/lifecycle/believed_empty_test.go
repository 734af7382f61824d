package lifecycle_test

import (
	"fmt"
	"testing"
)

// working returns what executes a statement, and what tells on how many rows the plans of one
// work.
func working(t *testing.T) (exec func(sql string, args ...any), worked func(call string) int) {
	t.Helper()
	met := 0
	conn := explaining(t, func(message string) { met += rowsInPlan(message) })
	exec = execOn(t, conn)
	exec(noAutovacuum)
	exec(`set jit = off;
		set auto_explain.log_nested_statements = on; set auto_explain.log_analyze = on; set auto_explain.log_timing = off`)
	return exec, func(call string) int {
		t.Helper()
		exec(`set auto_explain.log_min_duration = 0; set client_min_messages = log`)
		met = 0
		exec(call)
		n := met
		exec(`set auto_explain.log_min_duration = -1; set client_min_messages = notice`)
		return n
	}
}

// believe has the server know no more of awa's tables than that those whose names match are
// empty, as vacuum leaves them beside a large transaction, and that each other has many rows.
const believe = `
with forgotten as (
	delete from pg_statistic as s using pg_class as c
	where c.oid = s.starelid and c.relnamespace = 'awa'::regnamespace
)
update pg_class as c
set reltuples = case when c.relname ~ '^(%s)(_[0-9]+)?$' or pg_relation_size(c.oid) = 0 then 0 else 10000 end,
	relpages = pg_relation_size(c.oid) / 8192
where c.relnamespace = 'awa'::regnamespace and c.relkind = 'r'`

// knowing has the server know the tables, or those that match empty believed so.
func knowing(empty string) string {
	if empty == "" {
		return `analyze`
	}
	return fmt.Sprintf(believe, empty)
}

// TestManyJobsInTablesBelievedEmpty counts the rows that the plans of calls about many jobs work
// on. To compare each with each would be a million.
func TestManyJobsInTablesBelievedEmpty(t *testing.T) {
	exec, worked := working(t)
	const jobs = 1000
	exec(`select awa.configure_queue('slots', '{"concurrency_limit": 1}'), awa.configure_storage('{"straggler_limit": 100000}')`)
	exec(`select awa.enqueue('k', queue => 'slots', concurrency_key => n::text) from generate_series(1, $1::integer * 2) as n`, jobs)
	for range jobs / 5 {
		exec(`select awa.claim('slots', 10, lease => '90 years')`)
	}
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'failed')`, jobs)
	exec(`select awa.fail(c.receipt, terminal => true) from generate_series(1, $1::integer / 2) as n, awa.claim('failed', least(n + 1, 2)) as c`, jobs)
	exec(`select awa.upsert_schedule('s' || n, '0 0 1 1 *', 'k', queue => 'cron') from generate_series(1, $1::integer) as n`, jobs)
	exec(`select awa.rotate()`)
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => q) from unnest(array['resumed', 'own']) as q`, jobs)
	exec(`create table public.held as select c.receipt, awa.register_callback(c.receipt, '1 hour') as id from awa.claim('resumed', $1, lease => '90 years') as c`, jobs)
	exec(`select awa.resume_callback(h.id) from public.held as h`)
	exec(`select awa.configure_queue('dead', '{"dlq_enabled": true}')`)
	exec(`select awa.enqueue('k', queue => 'dead', unique_key => int8send(n)) from generate_series(1, $1::integer) as n`, jobs)
	exec(`select awa.fail_many(array(select c.receipt from awa.claim('dead', $1) as c), terminal => true)`, jobs)
	exec(`select awa.maintain()`)
	// A full ring is pruned whatever still runs there.
	for range 10 {
		exec(`select awa.enqueue('k', queue => 'ring'), awa.rotate()`)
	}
	for _, empty := range []string{"none", "claims", "ready_entries", "leases", "schedules|cron_fires", "slot_entries", "job_unique_claims", "job_unique_claims|ready_entries", ".*"} {
		for _, c := range []struct{ before, call string }{
			{``, `select awa.start_batch_operation('retry', '{"queue": "failed"}')`},
			{`select awa.enqueue_many('k', array_fill('1'::jsonb, array[500]), queue => 'own')`, `select awa.claim('own', 1500)`},
			{``, `select awa.extend_lease(array(select h.receipt from public.held as h))`},
			{``, `select awa.fail_many(array(select h.receipt from public.held as h), retry_after => '1 hour')`},
			{``, `select awa.purge_dlq()`},
			{``, `select awa.discard_failed_by_kind('k')`},
			{``, `select 1 / (awa.prune() = 'pruned')::integer`},
			{`set local awa.now = '2050-01-01 00:00:01'`, `select awa.maintain()`},
		} {
			exec(`begin`)
			exec(c.before)
			exec(fmt.Sprintf(believe, empty))
			if n := worked(c.call); n > 300*jobs {
				t.Errorf("%s worked on %d rows for %d jobs; believed empty: %s", c.call, n, jobs, empty)
			}
			exec(`rollback`)
		}
	}
}
