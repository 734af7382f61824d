package lifecycle_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/pgtest"
)

// A call that reads all segments queues for who takes every table at the gate, before it has
// a table in hand. Else calls that meet the tables in other orders would wait for that one
// and keep it waiting, at every attempt.
func TestWhoTakesAllShutsTheGate(t *testing.T) {
	t.Parallel()
	statement := func(sql string) func(*pgx.Conn) error {
		return func(conn *pgx.Conn) error {
			_, err := conn.Exec(context.Background(), sql)
			return err
		}
	}
	ways := map[string]func(*pgx.Conn) error{
		"upgrade": func(conn *pgx.Conn) error {
			_, err := install.Migrate(context.Background(), conn, install.Options{})
			return err
		},
		"rebase": statement(`select awa.rebase()`),
		"reset":  statement(`select awa.reset()`),
	}
	for name, takeAll := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			conn := pgtest.Conn(t, url)
			mustExec(t, conn, `comment on schema awa is 'of another release'`)

			// It holds a table that is wanted, and ends when it is told to.
			holder := pgtest.Conn(t, url)
			mustExec(t, holder, `begin; lock table awa.deferred_jobs in row exclusive mode`)
			taker, reader := pgtest.Conn(t, url), pgtest.Conn(t, url)
			takes := async(func() error { return takeAll(taker) })
			awaitBlocked(t, conn, taker)
			reads := async(func() error {
				var err error
				for n := 0; n < 1000 && err == nil; n++ {
					_, err = reader.Exec(context.Background(), `select awa.queue_counts('gate')`)
				}
				return err
			})
			awaitAtGate(t, conn, reader)
			mustExec(t, holder, `commit`)
			for _, done := range []chan error{takes, reads} {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func async(f func() error) chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// awaitAtGate returns once a session waits for an advisory lock and has no table of awa.
func awaitAtGate(t *testing.T, conn, session *pgx.Conn) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		waits := lines(t, conn, `select k.locktype from pg_locks as k where k.pid = $1 and not k.granted
			and not exists (select from pg_locks as h join pg_class as c on c.oid = h.relation
				where h.pid = k.pid and h.granted and c.relnamespace = 'awa'::regnamespace)`, session.PgConn().PID())
		if slices.Equal(waits, []string{"advisory"}) {
			return
		}
	}
	t.Fatal("the call does not wait at the gate")
}
