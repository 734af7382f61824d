package lifecycle_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/pgtest"
)

// TestCallsDoNotWalkTheDead counts the pages that calls touch while a snapshot keeps
// vacuum from removing anything, beside few and many rows that came and went.
func TestCallsDoNotWalkTheDead(t *testing.T) {
	url := pgtest.URL(t)
	conn, pin := pgtest.Conn(t, url), pgtest.Conn(t, url)
	exec := execOn(t, conn)
	exec(callSetup)
	exec(comingAndGoing)
	exec(noAutovacuum)
	touched := func() map[string]tableReads {
		t.Helper()
		return perCall(exec, func(call string) tableReads {
			from := pagesTouched(t, conn)
			exec(call)
			return pagesTouched(t, conn).since(from)
		})
	}
	for range 6 {
		touched()
	}
	tx, err := pin.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), `select from awa.queue_lanes`); err != nil {
		t.Fatal(err)
	}
	exec(`call coming_and_going($1)`, 10)
	minutes := letTimePass(exec, 0)
	few := touched()
	exec(`call coming_and_going($1)`, 200)
	letTimePass(exec, minutes)
	// Twice: a plan made anew in between reads the ends of indexes.
	many, again := touched(), touched()
	for _, c := range apiCalls {
		if n, before := min(many[c.name].sum(), again[c.name].sum()), few[c.name].sum(); n > before+before/2+100 {
			t.Errorf("%s touched %d pages, and beside 20 times as many dead rows %d, more by %v", c.name, before, n, many[c.name].since(few[c.name]))
		}
	}
}

// comingAndGoing lets rows outside of the ring come and go: deferred jobs, leases, unique
// keys, dead letters, jobs that wait for a slot or for another job.
const comingAndGoing = `create procedure coming_and_going(rounds integer) language plpgsql as $$
declare
	r awa.receipt;
	v_seq bigint;
	v_id bigint;
begin
	for i in 1 .. rounds loop
		v_seq := nextval('awa.job_id_seq');
		v_id := awa.enqueue('k', queue => 'gone', run_at => now() + interval '2 h', unique_key => int8send(v_seq));
		perform awa.enqueue('k', queue => 'calls'), awa.enqueue('k', queue => 'dead'), awa.enqueue('k', queue => 'gone', after => array[v_id]);
		perform awa.enqueue('k', queue => 'slots', concurrency_key => 'y') from generate_series(1, 2);
		commit;
		perform awa.cancel(v_id);
		r := (select c.receipt from awa.claim('calls') as c);
		perform awa.register_callback(r, '1 h');
		perform awa.fail(c.receipt, 'e', terminal => true) from awa.claim('dead') as c;
		commit;
		perform awa.complete(r), awa.purge_dlq(queue => 'dead');
		for j in 1 .. 2 loop
			perform awa.complete(c.receipt) from awa.claim('slots', 5) as c;
			commit;
		end loop;
		perform awa.fail(c.receipt, 'e', retry_after => '1 ms') from awa.claim('a', 5) as c;
		commit;
		perform awa.maintain();
		commit;
	end loop;
end $$`

// pagesTouched is how many pages of awa's tables and of their indexes have been looked
// at, whoever did.
func pagesTouched(t *testing.T, conn *pgx.Conn) tableReads {
	t.Helper()
	if _, err := conn.Exec(t.Context(), `select pg_stat_force_next_flush()`); err != nil {
		t.Fatal(err)
	}
	return perTable(t, conn, `
		select s.relname, s.heap_blks_hit + s.heap_blks_read + coalesce(s.idx_blks_hit, 0) + coalesce(s.idx_blks_read, 0)
		from pg_statio_user_tables as s where s.schemaname = 'awa'`)
}
