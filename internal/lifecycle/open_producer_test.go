package lifecycle_test

import (
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

// What a producer has not committed yet is nobody's to walk through, however much it is.
func TestClaimsDoNotWalkWhatIsNotCommitted(t *testing.T) {
	url := pgtest.URL(t)
	conn := pgtest.Conn(t, url)
	exec, produce, later := execOn(t, conn), execOn(t, pgtest.Conn(t, url)), execOn(t, pgtest.Conn(t, url))
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
			if n := touched(q); n > 2*before[q]+200 {
				t.Errorf("five claims of queue %s touched %d pages, and beside 30,000 jobs that are not committed %d; rotated: %t",
					q, before[q], n, rotated)
			}
		}
	}
	produce(`rollback`)
	later(`rollback`)
}
