package lifecycle_test

import (
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

// TestClaimPassesJobsThatLeftTheList: a snapshot that stays open keeps the entries of jobs that
// were parked and brought back, and claims do not read them for ever.
func TestClaimPassesJobsThatLeftTheList(t *testing.T) {
	url := pgtest.URL(t)
	conn, other := pgtest.Conn(t, url), pgtest.Conn(t, url)
	exec := execOn(t, conn)
	if _, err := other.Exec(t.Context(), `begin isolation level repeatable read; select`); err != nil {
		t.Fatal(err)
	}
	exec(`
		create procedure park (p_jobs integer) language plpgsql as $$
		declare v_held awa.receipt[];
		begin
		  perform awa.enqueue_many(jsonb_agg(jsonb_build_object('kind', 'k', 'queue', 'q', 'concurrency_key', 'key ' || i % 10)))
		  from generate_series(1, p_jobs) as i;
		  commit;
		  v_held := array(select c.receipt from awa.claim('q', 10) as c);
		  commit;
		  while (select c.available > 0 from awa.queue_counts('q') as c) loop
		    perform awa.claim('q', 10);
		    commit;
		  end loop;
		  perform awa.complete_many(v_held);
		end $$`)
	exec(`
		create procedure drain () language plpgsql as $$
		declare v_held awa.receipt[];
		begin
		  loop
		    v_held := array(select c.receipt from awa.claim('q', 5000) as c);
		    exit when v_held = '{}';
		    perform awa.complete_many(v_held);
		    commit;
		  end loop;
		end $$`)
	// Entries of the list that a claim reads, and how many jobs it takes.
	claim := func() (read, jobs int64) {
		t.Helper()
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(t.Context())
		entries := func() (n int64) {
			t.Helper()
			err := tx.QueryRow(t.Context(), `
				select sum(pg_stat_get_xact_tuples_returned(i.indexrelid))
				from pg_index as i where i.indrelid = 'awa.parked_jobs'::regclass`).Scan(&n)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		read = -entries()
		if err := tx.QueryRow(t.Context(), `select count(*) from awa.claim('q', 10)`).Scan(&jobs); err != nil {
			t.Fatal(err)
		}
		read += entries()
		return read, jobs
	}

	exec(`select awa.configure_queue('q', '{"concurrency_limit": 1}')`)
	exec(`call park(4000)`)
	exec(`select awa.configure_queue('q', '{"concurrency_limit": 1000}')`)
	exec(`call drain()`)
	exec(`select awa.configure_queue('q', '{"concurrency_limit": 1}')`)
	// Each may read all of them, until one moves the list.
	exec(`do $$ begin for i in 1 .. 200 loop perform awa.claim('q'); commit; end loop; end $$`)
	if read, jobs := claim(); read > 1000 || jobs != 0 {
		t.Errorf("a claim of an empty queue read %d entries of the list for %d jobs", read, jobs)
	}
	exec(`call park(100)`)
	if read, jobs := claim(); read > 1000 || jobs != 10 {
		t.Errorf("a claim read %d entries of the list for %d jobs", read, jobs)
	}
	exec(`call drain()`)
	var left int
	if err := conn.QueryRow(t.Context(), `select count(*) from awa.parked_jobs`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d jobs are left on the list (%v)", left, err)
	}
}
