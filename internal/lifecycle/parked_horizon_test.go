package lifecycle_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

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
		read = -entriesRead(t, tx, "parked_jobs")
		if err := tx.QueryRow(t.Context(), `select count(*) from awa.claim('q', 10)`).Scan(&jobs); err != nil {
			t.Fatal(err)
		}
		read += entriesRead(t, tx, "parked_jobs")
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

// TestClaimPassesAnswersThatWereGiven: nor the leases of jobs that waited for an answer, in
// whatever queue, and have it.
func TestClaimPassesAnswersThatWereGiven(t *testing.T) {
	url := pgtest.URL(t)
	conn, other := pgtest.Conn(t, url), pgtest.Conn(t, url)
	exec := execOn(t, conn)
	if _, err := other.Exec(t.Context(), `begin isolation level repeatable read; select`); err != nil {
		t.Fatal(err)
	}
	exec(`select awa.configure_queue('q', '{"concurrency_limit": 1}')`)
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[2000]), queue => 'answered')`)
	exec(`select awa.complete_callback(awa.register_callback(c.receipt, '1 hour')) from awa.claim('answered', 2000) as c`)
	exec(`select awa.enqueue('k', queue => 'q', concurrency_key => 'key ' || n) from generate_series(1, 4) as n`)
	exec(`select awa.complete(c.receipt) from awa.claim('q') as c`)

	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	from := entriesRead(t, tx, "leases")
	var jobs int
	if err := tx.QueryRow(t.Context(), `select count(*) from awa.claim('q', 10)`).Scan(&jobs); err != nil || jobs != 3 {
		t.Fatal(jobs, err)
	}
	if read := entriesRead(t, tx, "leases") - from; read > 100 {
		t.Errorf("a claim read %d entries of leases that are gone", read)
	}
}

// entriesRead is how many entries of a table's indexes the transaction has read.
func entriesRead(t *testing.T, tx pgx.Tx, table string) (n int64) {
	t.Helper()
	err := tx.QueryRow(t.Context(), `
		select sum(pg_stat_get_xact_tuples_returned(i.indexrelid))
		from pg_index as i where i.indrelid = ('awa.' || $1)::regclass`, table).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
