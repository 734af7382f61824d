package lifecycle_test

import "testing"

// TestManyJobsAmongSmallClaims counts the rows that the plans of calls about many jobs work on,
// where as many jobs were claimed and closed a few at a time, whatever the server knows of how
// many there are. To compare each job with each outcome of its segment would be a million.
func TestManyJobsAmongSmallClaims(t *testing.T) {
	exec, worked := working(t)
	const jobs = 1000
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'done')`, jobs)
	exec(`select awa.complete(c.receipt) from generate_series(1, $1::integer / 4) as n, awa.claim('done', least(n, 4)) as c`, jobs)
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'waiting')`, jobs)
	exec(`select awa.enqueue('k', queue => 'apart', run_at => now() + interval '1 day') from generate_series(1, $1::integer)`, jobs)
	exec(`select awa.enqueue('dependent', after => array(
		select j.id from awa.jobs as j where j.queue = 'waiting' and j.id % 20 = n)) from generate_series(1, 19) as n`)
	exec(`create table public.ids as select j.id, j.queue from awa.jobs as j`)
	exec(`analyze`)
	for _, ready := range []int{10, 1000} {
		for _, claims := range []int{0, 10, 1000} {
			for _, outcomes := range []int{0, 300, 10000} {
				exec(`begin`)
				exec(`delete from pg_statistic as s using pg_class as c
					where c.oid = s.starelid and c.relnamespace = 'awa'::regnamespace`)
				exec(`update pg_class as c set reltuples = n.rows
					from (values ('ready_entries_0', $1::integer), ('claims_0', $2), ('attempt_outcomes_0', $3)) as n (name, rows)
					where c.relnamespace = 'awa'::regnamespace and c.relname = n.name`, ready, claims, outcomes)
				for _, call := range []string{
					`select count(*) from awa.jobs where state = 'running'`,
					`select awa.enqueue('last', after => array(select i.id from public.ids as i where i.queue = 'waiting'))`,
					`select awa.maintain()`,
					`select awa.rebuild_terminal_counters()`,
					`delete from awa.jobs as j where j.id = any (array(select i.id from public.ids as i where i.queue = 'done'))`,
				} {
					if n := worked(call); n > 300*jobs {
						t.Errorf("%s worked on %d rows for %d jobs; assumed: %d ready, %d claims, %d outcomes",
							call, n, jobs, ready, claims, outcomes)
					}
				}
				exec(`rollback`)
			}
		}
	}
}
