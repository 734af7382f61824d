package lifecycle_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/pgtest"
)

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

// TestAListOfWaitingJobsDoesNotReadHistory counts the rows that the plans of such a list work on
// where few jobs wait beside many that are done: some of one large transaction that is claimed
// up to its middle, the others of small ones.
func TestAListOfWaitingJobsDoesNotReadHistory(t *testing.T) {
	exec, worked := working(t)
	const jobs = 5000
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q')`, jobs)
	exec(`select awa.complete_many(array(select c.receipt from awa.claim('q', 2500) as c))`)
	exec(`select awa.rotate()`)
	for range 10 {
		exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[250]), queue => 'q')`)
		exec(`select awa.complete_many(array(select c.receipt from awa.claim('q', 500) as c))`)
	}
	exec(`select awa.complete_many(array(select c.receipt from awa.claim('q', 3000) as c))`)
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[3000]), queue => 'r')`)
	exec(`select awa.complete_many(array(select c.receipt from awa.claim('r', 2990) as c))`)
	exec(`select awa.enqueue('k', queue => 'q')`)
	for _, statistics := range []string{"", ".*", "ready_entries", "lane_cursors"} {
		exec(knowing(statistics))
		for _, call := range []string{
			`select awa.list_jobs('q', state => 'available', max_jobs => 50)`,
			`select awa.list_jobs('r', state => 'available', max_jobs => 50)`,
			`select awa.list_jobs(kind => 'k', state => 'available', max_jobs => 50)`,
			`select awa.list_jobs(kind => 'none', state => 'available', max_jobs => 50)`,
		} {
			if n := worked(call); n > 8*jobs {
				t.Errorf("with %q believed empty %s worked on %d rows", statistics, call, n)
			}
		}
	}
}

// TestAListOfTheNewestCompletedJobsDoesNotReadHistory counts the rows that the plans of such a
// list work on, also where some of the newest jobs have failed or wait.
func TestAListOfTheNewestCompletedJobsDoesNotReadHistory(t *testing.T) {
	exec, worked := working(t)
	const jobs = 50_000
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q')`, jobs)
	exec(`select awa.complete_many(array(select c.receipt from generate_series(9991, 9995) as g, awa.claim('q', g) as c))`)
	exec(`select awa.fail_many(array(select c.receipt from awa.claim('q', 10) as c), terminal => true)`)
	exec(`select awa.complete_many(array(select c.receipt from awa.claim('q', 15) as c))`)
	exec(`analyze`)
	for _, call := range []string{
		`select awa.list_jobs('q', state => 'completed', max_jobs => 50)`,
		`select awa.list_jobs(kind => 'k', state => 'completed')`,
	} {
		if n := worked(call); n > jobs {
			t.Errorf("%s worked on %d rows beside %d jobs", call, n, jobs)
		}
	}
}

// TestAListOfWaitingJobsDoesNotLookUpWhatWasTakenFromTheirLane counts the rows that the plans of
// such a list work on where many jobs were taken out of a lane before their turn, and claims have
// not gone past them yet.
func TestAListOfWaitingJobsDoesNotLookUpWhatWasTakenFromTheirLane(t *testing.T) {
	exec, worked := working(t)
	const jobs = 3000
	exec(`select awa.enqueue('first', queue => 'q'), awa.enqueue('second', queue => 'q')`)
	exec(`select awa.claim('q')`)
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q')`, jobs)
	exec(`delete from awa.jobs where queue = 'q' and kind = 'k'`)
	for _, statistics := range []string{"", ".*", "ready_entries", "ready_tombstones"} {
		exec(knowing(statistics))
		if n := worked(`select awa.list_jobs('q', state => 'available', max_jobs => 50)`); n > 10*jobs {
			t.Errorf("with %q believed empty a list worked on %d rows", statistics, n)
		}
	}
}

// TestAListDoesNotLookUpDeadLetters counts the rows that the plans of a list of jobs in any state
// work on where most of what was enqueued are dead letters by now.
func TestAListDoesNotLookUpDeadLetters(t *testing.T) {
	exec, worked := working(t)
	const jobs = 3000
	exec(`select awa.configure_queue('q', '{"dlq_enabled": true}')`)
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q')`, jobs+10)
	exec(`select awa.complete_many(array(select c.receipt from awa.claim('q', 10) as c))`)
	exec(`select awa.fail_many(array(select c.receipt from awa.claim('q', $1) as c), terminal => true)`, jobs)
	for _, statistics := range []string{"", "dlq_entries"} {
		exec(knowing(statistics))
		for _, call := range []string{`select awa.list_jobs('q')`, `select awa.list_jobs(kind => 'k')`} {
			if n := worked(call); n > 15*jobs {
				t.Errorf("with %q believed empty %s worked on %d rows", statistics, call, n)
			}
		}
	}
}

// TestAListOfFailedJobsDoesNotLookUpThoseThatLeftHistory counts the rows that the plans of such a
// list work on where few are left of many.
func TestAListOfFailedJobsDoesNotLookUpThoseThatLeftHistory(t *testing.T) {
	exec, worked := working(t)
	const jobs = 3000
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q')`, jobs)
	exec(`select awa.fail_many(array(select c.receipt from awa.claim('q', $1) as c), terminal => true)`, jobs)
	exec(`select awa.bulk_move_failed_to_dlq('q', max_jobs => $1)`, jobs-10)
	for _, statistics := range []string{"", ".*", "attempt_outcomes", "outcome_removals"} {
		exec(knowing(statistics))
		if n := worked(`select awa.list_jobs('q', state => 'failed', max_jobs => 50)`); n > 15*jobs {
			t.Errorf("with %q believed empty a list worked on %d rows", statistics, n)
		}
	}
}

// TestAListOfRunningJobsDoesNotLookUpTheRestOfTheirBatches counts the rows that the plans of such
// a list work on where of each large batch one job still runs.
func TestAListOfRunningJobsDoesNotLookUpTheRestOfTheirBatches(t *testing.T) {
	exec, worked := working(t)
	const jobs = 3000
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q')`, jobs)
	for range 3 {
		exec(`select awa.complete_many((array(select c.receipt from awa.claim('q', $1) as c))[2:])`, jobs/3)
	}
	for _, statistics := range []string{"", ".*", "claims", "attempt_outcomes"} {
		exec(knowing(statistics))
		for _, call := range []string{
			`select awa.list_jobs('q', state => 'running', max_jobs => 50)`,
			`select awa.list_jobs(kind => 'k', state => 'running', max_jobs => 50)`,
		} {
			if n := worked(call); n > 15*jobs {
				t.Errorf("with %q believed empty %s worked on %d rows", statistics, call, n)
			}
		}
	}
}

// TestAListShowsWhatOneTransactionAddedToTwoSegments has a transaction add to both sides of a
// rotation, first a new job and then an older one, and the first of them claimed.
func TestAListShowsWhatOneTransactionAddedToTwoSegments(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	exec := execOn(t, conn)
	exec(`select awa.enqueue('old', queue => 'q')`)
	exec(`select awa.fail(c.receipt, terminal => true) from awa.claim('q') as c`)
	// More than the newest ones, which a list looks at first.
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[2000]), queue => 'r')`)
	exec(`select awa.complete_many(array(select c.receipt from awa.claim('r', 2000) as c))`)
	exec(`select awa.enqueue('first', queue => 'q')`)
	// The first transaction that the snapshot of its claim leaves out is itself.
	exec(`do $$ begin
		perform awa.complete(c.receipt) from awa.claim('q') as c;
		perform awa.enqueue('new', queue => 'q');
		perform awa.rotate();
		perform awa.retry(j.id) from awa.list_jobs('q', state => 'failed') as j;
	end $$`)
	exec(`select awa.claim('q')`)
	rows, _ := conn.Query(t.Context(), `select kind from awa.list_jobs('q', state => 'available', max_jobs => $1)`, 10)
	if kinds, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || !slices.Equal(kinds, []string{"old"}) {
		t.Errorf("%v are listed as waiting: %v", kinds, err)
	}
}
