package lifecycle_test

import (
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

// A pass that releases some of those that waited for one job does not read those that
// are left.
func TestReleaseDoesNotReadWhoIsLeft(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	exec := execOn(t, conn)
	exec(`create table first as select awa.enqueue('k', queue => 'first') as id`)
	exec(`select awa.enqueue('k', queue => 'next', after => array[f.id]) from first as f, generate_series(1, 5000)`)
	exec(`select awa.maintain()`) // a pass has seen that they wait
	exec(`select awa.complete_many(array(select c.receipt from awa.claim('first') as c))`)

	for _, planned := range []string{"for empty tables", "with statistics"} {
		var read [2]tableReads
		for i := range read {
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			from := rowsRead(t, tx)
			var released int64
			if err := tx.QueryRow(t.Context(), `select affected from awa.maintain() where task = 'dependents'`).Scan(&released); err != nil {
				t.Fatal(err)
			}
			if released != 1000 {
				t.Fatalf("a pass released %d jobs", released)
			}
			read[i] = rowsRead(t, tx).since(from)
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n, fewer := read[0].sum(), read[1].sum(); n > fewer+200 {
			t.Errorf("planned %s, a pass read %d rows, and %d when 1000 fewer were left, less by %v",
				planned, n, fewer, read[0].since(read[1]))
		}
		exec(`analyze`)
	}
}
