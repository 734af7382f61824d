package lifecycle_test

import (
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

// TestLookupsPlannedForFew: a session keeps its plans until the statistics change, and beside few
// rows one that reads them all is the cheapest. So what is looked up by a key is found by an
// index, whatever the planner thinks.
func TestLookupsPlannedForFew(t *testing.T) {
	for _, c := range []struct {
		name, table string
		setup       []string
		call        string
		grow        []string
	}{
		{
			"an update of a parked job", "job_dependencies",
			[]string{
				`select awa.configure_queue('q', '{"concurrency_limit": 1}')`,
				`select awa.enqueue('k', queue => 'q', concurrency_key => 'x') from generate_series(1, 40)`,
				`select awa.claim('q')`, `select awa.claim('q')`,
				`create table first as select awa.enqueue('k', queue => 'first') as id`,
				`select awa.enqueue('k', queue => 'later', after => array[f.id]) from first as f`,
			},
			`update awa.jobs as j set tags = '{t}' where j.id = (
				select max(d.job_id) from awa.deferred_jobs as d where d.metadata ? 'awa:run_at' and d.metadata ? 'awa:concurrency_key')`,
			[]string{`select awa.enqueue('k', queue => 'later', after => array[f.id]) from first as f, generate_series(1, 2000)`},
		},
		{
			"a key of a dead letter", "ready_entries_0",
			[]string{
				`select awa.configure_queue('q', '{"dlq_enabled": true}')`,
				`select awa.enqueue('k', queue => 'q', unique_key => '\x01', unique_states => b'11111110')`,
				`select awa.fail(c.receipt, terminal => true) from awa.claim('q') as c`,
				`create function holds_key() returns boolean language plpgsql set search_path = pg_catalog, awa as
				$$ begin return (select _holds_key(u) from job_unique_claims as u); end $$`,
			},
			`select 1 / public.holds_key()::integer`,
			[]string{
				`select awa.enqueue_many('k', array_fill('1'::jsonb, array[2000]), queue => 'q')`,
				`select awa.fail_many(array(select c.receipt from awa.claim('q', 2000) as c), terminal => true)`,
			},
		},
		{
			"a schedule that is there", "schedules",
			[]string{`select awa.upsert_schedule('s', '@yearly', 'k')`},
			`select awa.upsert_schedule('s', '@yearly', 'k')`,
			[]string{`select awa.upsert_schedule('s' || n, '@yearly', 'k') from generate_series(1, 2000) as n`},
		},
	} {
		conn := pgtest.Conn(t, pgtest.URL(t))
		exec := execOn(t, conn)
		exec(noAutovacuum)
		for _, sql := range c.setup {
			exec(sql)
		}
		exec(`vacuum analyze`)
		for range 7 { // PL/pgSQL may plan anew for the first five calls
			exec(c.call)
		}
		for _, sql := range c.grow {
			exec(sql)
		}
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		from := rowsRead(t, tx)
		if _, err := tx.Exec(t.Context(), c.call); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if n := rowsRead(t, tx).since(from)[c.table]; n > 100 {
			t.Errorf("%s: %d rows read of %s", c.name, n, c.table)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
