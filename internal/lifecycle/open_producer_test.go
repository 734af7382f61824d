package lifecycle_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/pgtest"
)

// What a producer has not committed yet is nobody's to walk through, however much it is.
func TestClaimsDoNotWalkWhatIsNotCommitted(t *testing.T) {
	url := pgtest.URL(t)
	conn := pgtest.Conn(t, url)
	exec, produce, later := execOn(t, conn), execOn(t, pgtest.Conn(t, url)), execOn(t, pgtest.Conn(t, url))
	exec(noAutovacuum)
	// A lane, and a queue of several.
	const lanes = `(values ('one', 1), ('many', 1), ('many', 2)) as u (q, p)`
	exec(`select awa.enqueue('k', queue => q, priority => p) from ` + lanes)
	touched := func(queue string) int64 {
		t.Helper()
		from := pagesTouched(t, conn)
		for range 5 {
			exec(`select from awa.claim($1, 10)`, queue)
		}
		return pagesTouched(t, conn).since(from).sum()
	}
	queues := []string{"one", "many"}
	before := map[string]int64{}
	for range 3 {
		for _, q := range queues {
			before[q] = touched(q)
		}
	}
	const many = `select awa.enqueue_many('k', array_fill('1'::jsonb, array[30000]), queue => q, priority => p) from ` + lanes
	produce(`begin`)
	produce(many)
	// Snapshots show that it is in progress once a later transaction has ended.
	exec(`select awa.enqueue('k', queue => q, priority => p) from ` + lanes)
	for _, rotated := range []bool{false, true} {
		if rotated {
			exec(`select awa.rotate()`)
			later(`begin`)
			later(many)
		}
		for _, q := range queues {
			if n := touched(q); n > 2*before[q]+500 {
				t.Errorf("five claims of queue %s touched %d pages, and beside 30,000 jobs that are not committed %d; rotated: %t",
					q, before[q], n, rotated)
			}
		}
	}
	produce(`rollback`)
	later(`rollback`)
}

// Nor do those walk through it who count, whether or not a later transaction or a
// checkpoint shows that it is in progress.
func TestCountsDoNotWalkWhatIsNotCommitted(t *testing.T) {
	url := pgtest.URL(t)
	conn := pgtest.Conn(t, url)
	exec, produce := execOn(t, conn), execOn(t, pgtest.Conn(t, url))
	exec(noAutovacuum)
	exec(`select awa.enqueue('k', queue => 'q')`)
	calls := []string{
		`select awa.queue_counts('q')`,
		`select awa.queue_overview()`,
		`select awa.checkpoint_terminal_counters()`,
	}
	touched := func(call string) int64 {
		t.Helper()
		from := pagesTouched(t, conn)
		exec(call)
		return pagesTouched(t, conn).since(from).sum()
	}
	exec(`select awa.checkpoint_terminal_counters()`)
	before := map[string]int64{}
	for range 7 { // PL/pgSQL may plan anew for the first five calls
		for _, c := range calls {
			before[c] = touched(c)
		}
	}
	compare := func(what string) {
		t.Helper()
		for _, c := range calls {
			if n := touched(c); n > before[c]+500 {
				t.Errorf("%s touched %d pages, and %s %d", c, before[c], what, n)
			}
		}
	}
	produce(`begin`)
	produce(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[60000]), queue => 'q')`)
	compare("beside 60,000 jobs that are not committed")
	exec(`select awa.enqueue('k', queue => 'q')`)
	compare("after a later transaction")
	exec(`select awa.rotate()`)
	compare("after a rotation")
	produce(`commit`)
	var available int
	if err := conn.QueryRow(t.Context(), `select c.available from awa.queue_counts('q') as c`).Scan(&available); err != nil {
		t.Fatal(err)
	}
	if available != 60002 {
		t.Errorf("%d available when they are committed, want 60002", available)
	}
}

// Counted are the jobs of the transactions that the statement's snapshot shows and of its
// own, beside more that are in progress than are left out.
func TestCountsBesideManyProducers(t *testing.T) {
	url := pgtest.URL(t)
	conn, frozen := pgtest.Conn(t, url), pgtest.Conn(t, url)
	exec := execOn(t, conn)
	counted := func(what string, conn *pgx.Conn, want int) {
		t.Helper()
		var counts, overview int
		err := conn.QueryRow(t.Context(), `select c.available, o.available
			from awa.queue_counts('q') as c join awa.queue_overview() as o on o.queue = 'q'`).Scan(&counts, &overview)
		if err != nil {
			t.Fatal(err)
		}
		if counts != want || overview != want {
			t.Errorf("%s: queue_counts says %d and queue_overview %d, want %d", what, counts, overview, want)
		}
	}
	exec(`select awa.enqueue('k', queue => 'q')`)
	exec(`select awa.checkpoint_terminal_counters()`)
	const producers = 13
	conns := make([]*pgx.Conn, producers)
	for i := range conns {
		conns[i] = pgtest.Conn(t, url)
		produce := execOn(t, conns[i])
		if i%3 == 0 {
			produce(`begin isolation level repeatable read`)
		} else {
			produce(`begin`)
		}
		produce(`select awa.enqueue('k', queue => 'q')`)
		produce(`savepoint s`)
		produce(`select awa.enqueue('k', queue => 'q', priority => 1)`)
		if i%4 == 1 {
			produce(`rollback to s`)
			produce(`select awa.enqueue('k', queue => 'q')`)
		}
		counted("own jobs", conns[i], 3)
		counted("nobody's jobs", conn, 1)
	}
	execOn(t, frozen)(`begin isolation level repeatable read`)
	counted("before any commit, repeatable read", frozen, 1)
	total := 1
	for n := range conns {
		i := n * 5 % producers
		produce := execOn(t, conns[i])
		produce(`select awa.enqueue('k', queue => 'q')`)
		if n%4 == 3 {
			exec(`select awa.checkpoint_terminal_counters()`)
		}
		if i%3 != 0 {
			counted("own jobs and what has committed", conns[i], total+3)
		} else {
			counted("own jobs, repeatable read", conns[i], 1+3)
		}
		if n%5 == 4 {
			produce(`rollback`)
		} else {
			produce(`commit`)
			total += 3
		}
		counted("what has committed", conn, total)
	}
	counted("after all commits, repeatable read", frozen, 1)
	execOn(t, frozen)(`commit`)
	exec(`select awa.checkpoint_terminal_counters()`)
	counted("at the end", conn, total)
}
