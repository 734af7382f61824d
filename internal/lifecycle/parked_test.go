package lifecycle_test

import (
	"fmt"
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

// TestClaimReadsFewOfManyParked: a claim, or a move, that is planned by statistics of when
// no job was parked reads no more of those that are than it takes.
func TestClaimReadsFewOfManyParked(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	exec := execOn(t, conn)
	exec(`alter table awa.parked_jobs set (autovacuum_enabled = false)`)
	exec(`select awa.configure_queue('q', '{"concurrency_limit": 1}')`)
	fill := func(jobs int) {
		exec(`
			select awa.enqueue_many(jsonb_agg(jsonb_build_object('kind', 'k', 'queue', 'q', 'concurrency_key', 'key ' || i % 10)))
			from generate_series(1, $1::integer) as i`, jobs)
	}
	claim := func() { exec(`select awa.claim('q', 10)`) }
	complete := func() {
		exec(`
			select awa.complete_many(array(
			  select row(c.ready_slot, c.batch_id, j.job_id, coalesce(j.run_lease, 1))::awa.receipt
			  from awa.claims as c cross join lateral unnest(c.job_ids, c.run_leases) as j (job_id, run_lease)))`)
	}
	parkedRead := func(call func()) int64 {
		t.Helper()
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		from := rowsRead(t, tx)
		call()
		read := rowsRead(t, tx).since(from)["parked_jobs"]
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		return read
	}

	exec(`analyze awa.parked_jobs`)
	fill(400)
	for range 3 {
		claim()
		claim() // parks the rest
		complete()
	}
	fill(12_000)
	claim()
	for range 4 {
		claim() // parks some thousands
	}
	complete()
	if many := parkedRead(claim); many > 500 {
		t.Errorf("a claim read %d rows of parked_jobs", many)
	}
	exec(`create table newest as select array_agg(m.job_id) as ids from (select p.job_id from awa.parked_jobs as p order by p.job_id desc limit 50) as m`)
	if many := parkedRead(func() {
		exec(`
			select awa.run_batch_operation(awa.start_batch_operation('move', jsonb_build_object('ids', n.ids), '{"queue": "elsewhere"}'))
			from newest as n`)
	}); many > 500 {
		t.Errorf("a move of 50 parked jobs read %d rows of parked_jobs", many)
	}
}

// TestLimitedClaimReadsTheBatchesThatAreOpen: a claim under a limit looks at the claims that
// are open, and not at those of before.
func TestLimitedClaimReadsTheBatchesThatAreOpen(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	exec := execOn(t, conn)
	exec(noAutovacuum)
	const before, open = 400, 3
	exec(`select awa.configure_queue('q', '{"concurrency_limit": 1}')`)
	exec(`
		select awa.enqueue_many(jsonb_agg(jsonb_build_object('kind', 'k', 'queue', 'q', 'concurrency_key', 'key ' || i)))
		from generate_series(1, $1::integer) as i`, before+open+1)
	work := func(claims int) {
		t.Helper()
		exec(fmt.Sprintf(`
			do $$ begin
			  for i in 1 .. %d loop
			    perform awa.complete(c.receipt) from awa.claim('q') as c;
			    commit;
			  end loop;
			end $$`, claims))
	}
	work(5)
	exec(`analyze`) // what follows is planned for as few
	work(before - 5)
	for range open {
		exec(`select awa.claim('q')`)
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	from := rowsRead(t, tx)
	exec(`select awa.claim('q')`)
	read := rowsRead(t, tx).since(from)
	if n := read["slot_batches_0"]; n == 0 || n > 4*open {
		t.Errorf("beside %d open claims and %d of before a claim read %d batches", open, before, n)
	}
}
