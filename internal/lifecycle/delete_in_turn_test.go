package lifecycle_test

import (
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

// TestADeleteThatWaitsInTurnMakesNobodyAVictim has a DELETE come to a lane that another
// session holds, with a deferred job in hand, and the other come for that job just then:
// isolation/specs/delete_holding.spec, with the other one last.
func TestADeleteThatWaitsInTurnMakesNobodyAVictim(t *testing.T) {
	url := pgtest.URL(t)
	deleter, mover, other, watch := pgtest.Conn(t, url), pgtest.Conn(t, url), pgtest.Conn(t, url), pgtest.Conn(t, url)
	execOn(t, other)(`set deadlock_timeout = '10ms'`)
	for range 3 {
		execOn(t, watch)(`select awa.enqueue('later', queue => 'q', run_at => '2100-01-01'), awa.enqueue('moves', queue => 'q'),
			awa.enqueue('stays', queue => 'q/other')`)
		execOn(t, other)(`begin`)
		execOn(t, other)(`select awa.cancel(j.id) from awa.jobs as j where j.kind = 'stays'`)
		execOn(t, mover)(`begin`)
		execOn(t, mover)(`update awa.jobs set queue = 'q/other' where kind = 'moves'`)
		deleted := async(func() error {
			_, err := deleter.Exec(t.Context(), `delete from awa.jobs where kind in ('later', 'moves')`)
			return err
		})
		awaitBlocked(t, watch, deleter)
		execOn(t, mover)(`commit`)
		for waits := false; !waits && len(deleted) == 0; {
			err := watch.QueryRow(t.Context(), `select $1::integer = any (pg_blocking_pids($2))`, other.PgConn().PID(), deleter.PgConn().PID()).Scan(&waits)
			if err != nil {
				t.Fatal(err)
			}
		}
		execOn(t, other)(`delete from awa.jobs where kind = 'later'`)
		execOn(t, other)(`commit`)
		if err := <-deleted; err != nil && sqlState(err) != "40001" {
			t.Errorf("the DELETE: %v", err)
		}
		execOn(t, watch)(`delete from awa.jobs`)
	}
}
