package lifecycle_test

import "testing"

// TestLargeCallsCompareNothingWithEach counts the rows that the plans of calls work on whose
// sets the planner believes to be too large to be hashed for a condition: with little memory, or
// where a table seems to be very large.
func TestLargeCallsCompareNothingWithEach(t *testing.T) {
	exec, worked := working(t)
	const jobs = 6000
	exec(letters, jobs)
	exec(`insert into awa.job_unique_claims (unique_key, job_id, states) select q.unique_key, q.id, q.unique_states from awa.dlq_entries as q`)
	exec(`select awa.configure_queue('limited', '{"concurrency_limit": 1}')`)
	exec(`select awa.enqueue_many(jsonb_agg(jsonb_build_object('kind', 'k', 'queue', 'limited', 'concurrency_key', 'x')))
		from generate_series(1, $1::integer)`, jobs)
	for range 3 {
		exec(`select awa.claim('limited')`) // parks some thousands
	}
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'first')`, jobs)
	exec(`select awa.enqueue('k', queue => 'later', after => array(select j.id from awa.jobs as j where j.queue = 'first' order by j.id limit 1000))`)
	exec(`select awa.maintain()`)
	exec(`analyze`)
	exec(`set work_mem = '64kB'`)
	for _, c := range []struct{ before, call string }{
		{``, `select 1 / (awa.purge_dlq() > 1000)::integer`},
		{``, `select awa.configure_queue('limited', '{"concurrency_limit": null}')`},
		{`update pg_class as c set reltuples = 1e8 where c.oid = 'awa.ready_entries_0'::regclass`, `select awa.check()`},
	} {
		exec(`begin`)
		exec(c.before)
		if n := worked(c.call); n > 200*jobs {
			t.Errorf("%s worked on %d rows for %d jobs", c.call, n, jobs)
		}
		exec(`rollback`)
	}
}
