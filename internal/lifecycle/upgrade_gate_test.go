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

// A call that reads all segments queues for an upgrade at the gate, before it has a table
// in hand. Else calls that meet the tables in other orders would wait for the upgrade and
// keep it waiting, at every attempt.
func TestUpgradeShutsTheGate(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	conn := pgtest.Conn(t, url)
	mustExec(t, conn, `comment on schema awa is 'of another release'`)

	// It holds a table that the upgrade wants, and ends when it is told to.
	holder := pgtest.Conn(t, url)
	mustExec(t, holder, `begin; lock table awa.deferred_jobs in row exclusive mode`)
	upgrader := pgtest.Conn(t, url)
	upgrade := async(func() error {
		_, err := install.Migrate(context.Background(), upgrader, install.Options{})
		return err
	})
	awaitBlocked(t, conn, upgrader)

	reader := pgtest.Conn(t, url)
	reads := async(func() error {
		var err error
		for n := 0; n < 1000 && err == nil; n++ {
			_, err = reader.Exec(context.Background(), `select awa.queue_counts('gate')`)
		}
		return err
	})
	awaitAtGate(t, conn, reader)
	mustExec(t, holder, `commit`)
	for _, done := range []chan error{upgrade, reads} {
		if err := <-done; err != nil {
			t.Error(err)
		}
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
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		waits := lines(t, conn, `select k.locktype from pg_locks as k where k.pid = $1 and not k.granted
			and not exists (select from pg_locks as h join pg_class as c on c.oid = h.relation
				where h.pid = k.pid and h.granted and c.relnamespace = 'awa'::regnamespace)`, session.PgConn().PID())
		if slices.Equal(waits, []string{"advisory"}) {
			return
		}
	}
	t.Fatal("the call does not wait at the gate")
}
