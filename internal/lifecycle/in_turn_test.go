package lifecycle_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/pgtest"
)

// TestADeleteThatWaitsInTurnMakesNobodyAVictim has a DELETE come to a lane that another
// session holds, with a deferred job in hand, and the other come for that job just then:
// isolation/specs/delete_holding.spec, with the other one last.
func TestADeleteThatWaitsInTurnMakesNobodyAVictim(t *testing.T) {
	url := pgtest.URL(t)
	deleter, mover, other, watch := pgtest.Conn(t, url), pgtest.Conn(t, url), pgtest.Conn(t, url), pgtest.Conn(t, url)
	execOn(t, other)(`set deadlock_timeout = '20ms'`)
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
		awaitMet(t, watch, deleter, other, deleted)
		execOn(t, other)(`delete from awa.jobs where kind = 'later'`)
		execOn(t, other)(`commit`)
		if err := <-deleted; err != nil && sqlState(err) != "40001" {
			t.Errorf("the DELETE: %v", err)
		}
		execOn(t, watch)(`delete from awa.jobs`)
	}
}

// TestABiteThatWaitsInTurnMakesNobodyAVictim has a bite of a batch operation come to a job that
// another session holds, with those of its first step in hand, and the other come for one of
// these just then.
func TestABiteThatWaitsInTurnMakesNobodyAVictim(t *testing.T) {
	url := pgtest.URL(t)
	keeper, other, watch := pgtest.Conn(t, url), pgtest.Conn(t, url), pgtest.Conn(t, url)
	execOn(t, other)(`set deadlock_timeout = '20ms'`)
	for range 3 {
		var first, last int64
		err := watch.QueryRow(t.Context(), `select min(e.id), max(e.id)
			from (select awa.enqueue('k', run_at => '2100-01-01') as id from generate_series(1, 201)) as e`).Scan(&first, &last)
		if err != nil {
			t.Fatal(err)
		}
		execOn(t, watch)(`select awa.start_batch_operation('cancel', '{"queue": "default"}')`)
		execOn(t, other)(`begin`)
		execOn(t, other)(`update awa.jobs set priority = 4 where id = $1`, last)
		kept := async(func() error {
			_, err := keeper.Exec(t.Context(), `select awa.maintain()`)
			return err
		})
		awaitMet(t, watch, keeper, other, kept)
		execOn(t, other)(`delete from awa.jobs where id = $1`, first)
		execOn(t, other)(`commit`)
		if err := <-kept; err != nil {
			t.Error(err)
		}
		execOn(t, watch)(`delete from awa.jobs`)
		execOn(t, watch)(`select awa.cancel_batch_operation(b.id) from awa.list_batch_operations() as b where b.finished_at is null`)
	}
}

// awaitMet returns once a session waits for another, or its call is over.
func awaitMet(t *testing.T, conn, session, other *pgx.Conn, over chan error) {
	t.Helper()
	for waits := false; !waits && len(over) == 0; {
		err := conn.QueryRow(t.Context(), `select $1::integer = any (pg_blocking_pids($2))`, other.PgConn().PID(), session.PgConn().PID()).Scan(&waits)
		if err != nil {
			t.Fatal(err)
		}
	}
}
