package lifecycle_test

import "testing"

// TestAPassOfRescueReadsLittleOfWhatGoesOn counts the rows that the plans of a pass work on where
// attempts outlasted the lease of their claim, and nothing is to be rescued.
func TestAPassOfRescueReadsLittleOfWhatGoesOn(t *testing.T) {
	const jobs, extensions = 500, 100
	for _, c := range []struct {
		name, worker string
		most         int
	}{
		{"extended", `null`, 20 * jobs},
		{"of a live worker", `'w'`, 4 * jobs},
	} {
		exec, worked := working(t)
		exec(`select awa.register_worker('w')`)
		exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q')`, jobs)
		exec(`create table public.held as select x.receipt from awa.claim('q', $1, worker => `+c.worker+`, lease => '1 minute') as x`, jobs)
		exec(`select awa.extend_lease(array(select h.receipt from public.held as h), '1 minute') from generate_series(1, $1::integer)`, extensions)
		exec(`select awa.extend_lease(array(select h.receipt from public.held as h), '10 minutes')`)
		exec(`analyze`)
		exec(`select set_config('awa.now', (now() + interval '2 minutes')::text, false); select awa.heartbeat('w')`)
		n := worked(`select 1 / (m.affected = 0)::integer from awa.maintain() as m where m.task = 'rescue'`)
		if n > c.most {
			t.Errorf("%s: a pass worked on %d rows for %d jobs, each extended %d times", c.name, n, jobs, extensions)
		}
	}
}
