package lifecycle_test

import (
	"fmt"
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

// TestABatchOperationDoesNotLookUpHistory counts the rows that the plans of a batch operation
// work on where few jobs wait or run beside many that are done, in one lane and in many.
func TestABatchOperationDoesNotLookUpHistory(t *testing.T) {
	exec, worked := working(t)
	const jobs = 5000
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q')`, jobs/2)
	exec(`select awa.complete_many(array(select c.receipt from awa.claim('q', 2000) as c))`)
	exec(`select awa.rotate()`)
	for range 5 {
		exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[200]), queue => 'q')`)
		exec(`select awa.complete_many(array(select c.receipt from awa.claim('q', 300) as c))`)
	}
	exec(`select awa.enqueue('k', queue => 'q/' || n) from generate_series(1, $1::integer / 4) as n`, jobs)
	exec(`select awa.complete_many(array(select c.receipt from generate_series(1, $1::integer / 4) as n, awa.claim('q/' || n) as c))`, jobs)
	exec(`select awa.enqueue('k', queue => 'q') from generate_series(1, 60)`)
	exec(`select awa.claim('q', 10) from generate_series(1, 5)`)
	for _, statistics := range []string{"", "lane_cursors"} {
		exec(knowing(statistics))
		for _, call := range []string{
			`select awa.count_batch_jobs('cancel', '{"kind": "k"}')`,
			`select awa.count_batch_jobs('reprioritize', '{"kind": "k"}', '{"priority": 1}')`,
			`select awa.run_batch_operation(awa.start_batch_operation('cancel', '{"kind": "k"}'), null)`,
			`select awa.run_batch_operation(awa.start_batch_operation('move', '{"kind": "k"}', '{"queue": "r"}'), null)`,
		} {
			exec(`begin`)
			if n := worked(call); n > 30*jobs {
				t.Errorf("with %q believed empty %s worked on %d rows", statistics, call, n)
			}
			exec(`rollback`)
		}
	}
}

// TestABatchOperationMeetsWhatIsOpenBehindHistory has jobs in every state that is not done
// between others that are, far enough for pages in which nothing matches.
func TestABatchOperationMeetsWhatIsOpenBehindHistory(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	exec := execOn(t, conn)
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[6000]), queue => 'q')`)
	exec(`create temp table got as
		select c.receipt, row_number() over (order by c.job_id) as n from generate_series(1400, 1600, 100) as g, awa.claim('q', g) as c`)
	exec(`select awa.complete_many(array(select g.receipt from got as g where g.n % 1100 > 4))`)
	exec(`select awa.register_callback(g.receipt, '1 day') from got as g where g.n % 1100 = 1`)
	exec(`select awa.fail(g.receipt, retry_after => '1 day') from got as g where g.n % 1100 = 2`)
	exec(`select awa.snooze(g.receipt, '1 day') from got as g where g.n % 1100 = 3`)
	exec(`select awa.claim('q', 1)`)
	exec(`select awa.complete_many(array(select c.receipt from awa.claim('q', 1400) as c))`)
	for _, c := range []struct{ call, open string }{
		{`'cancel', '{"queue": "q"}'`, `scheduled,available,retryable,running,waiting_external`},
		{`'cancel', '{"queue": "q", "state": "running"}'`, `running`},
		{`'cancel', '{"queue": "q", "state": ["running", "waiting_external"]}'`, `running,waiting_external`},
		{`'cancel', '{"queue": "q", "state": "waiting_external"}'`, `waiting_external`},
		{`'reprioritize', '{"queue": "q"}', '{"priority": 1}'`, `scheduled,available,retryable`},
		{`'move', '{"queue": "q", "state": "available"}', '{"queue": "r"}'`, `available`},
		{`'delete', '{"queue": "q", "state": "running"}'`, `running`},
	} {
		exec(`begin`)
		var open, counted, affected int
		if err := conn.QueryRow(t.Context(), fmt.Sprintf(`
			select (select count(*) from awa.jobs as j where j.queue = 'q' and j.state = any ('{%s}')), awa.count_batch_jobs(%s),
				(select r.affected from awa.run_batch_operation(awa.start_batch_operation(%[2]s), null) as r)`, c.open, c.call),
		).Scan(&open, &counted, &affected); err != nil {
			t.Fatal(err)
		}
		if open == 0 || counted != open || affected != open {
			t.Errorf("%s: %d jobs counted and %d changed of %d", c.call, counted, affected, open)
		}
		exec(`rollback`)
	}
}
