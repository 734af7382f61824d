package lifecycle_test

import "testing"

// TestAListDoesNotReadAllLanesForEachJob counts the rows that the plans of a list work on where
// there are a few hundred lanes, all of which are soon read.
func TestAListDoesNotReadAllLanesForEachJob(t *testing.T) {
	exec, worked := working(t)
	const jobs = 300
	exec(`select awa.enqueue('k', queue => 'q' || n) from generate_series(1, $1::integer) as n`, jobs)
	for _, statistics := range []string{
		`analyze`,
		// As an analyze beside the transaction that makes the lanes leaves them.
		`update pg_class as c set reltuples = 0 where c.oid = 'awa.queue_lanes'::regclass`,
	} {
		exec(statistics)
		for _, call := range []string{
			`select awa.list_jobs(max_jobs => 10000)`,
			`select awa.list_jobs(state => 'available', kind => 'k', max_jobs => 10000)`,
		} {
			if n := worked(call); n > 100*jobs {
				t.Errorf("%s: %s worked on %d rows for %d jobs", statistics, call, n, jobs)
			}
		}
	}
}
