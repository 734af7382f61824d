package lifecycle_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/pgtest"
)

// A call that names tables of segments other than those of its jobs is inside the
// ring, and no other call is: it would hold prune up for nothing.
func TestWhoEntersTheRing(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	exec := execOn(t, conn)
	exec(`select awa.configure_queue('full', '{"max_depth": 10}'), awa.configure_queue('slots', '{"concurrency_limit": 3}'),
		awa.configure_queue('rate', '{"rate_limit": 100}'), awa.configure_queue('dead', '{"dlq_enabled": true}')`)
	exec(`create table ran (name text, receipt awa.receipt, job_id bigint)`)
	exec(`select awa.upsert_schedule('s', '0 * * * *', 'k')`)
	exec(`select awa.enqueue('k', queue => 'failed'), awa.enqueue('k', queue => 'runs'), awa.enqueue('k', queue => 'dead'),
		awa.enqueue('k', queue => 'waits', unique_key => '\x01')`)
	exec(`insert into ran select 'runs', c.receipt, c.job_id from awa.claim('runs') as c`)
	exec(`select awa.enqueue('k', queue => 'calls', unique_key => '\x03')`)
	exec(`select awa.register_callback(c.receipt, '1 hour') from awa.claim('calls') as c`)
	exec(`insert into ran select 'failed', c.receipt, c.job_id from awa.claim('failed') as c`)
	exec(`select awa.fail(c.receipt, 'e', terminal => true) from awa.claim('dead') as c`)
	exec(`select awa.fail(r.receipt, 'e', terminal => true) from ran as r where r.name = 'failed'`)
	exec(`select awa.rotate()`)
	exec(`select awa.enqueue('k', queue => q) from unnest(array['plain', 'full', 'slots', 'rate', 'full']) as q, generate_series(1, 3)`)
	exec(`insert into ran select 'now', c.receipt, c.job_id from awa.claim('plain') as c`)

	const job = `(select r.job_id from ran as r where r.name = '%s')`
	failed, runs := fmt.Sprintf(job, "failed"), fmt.Sprintf(job, "runs")
	receipt := strings.Replace(runs, "r.job_id", "r.receipt", 1)
	for _, call := range []string{
		`awa.enqueue('k', queue => 'plain')`,
		`awa.enqueue('k', queue => 'full')`,
		`awa.enqueue('k', queue => 'plain', unique_key => '\x01')`,
		`awa.enqueue('k', queue => 'plain', unique_key => '\x02')`,
		`awa.enqueue('k', queue => 'plain', after => array[` + runs + `])`,
		`awa.enqueue('k', queue => 'plain', unique_key => '\x03')`,
		`awa.enqueue('k', queue => 'plain', concurrency_key => 'c')`,
		`awa.enqueue_many('k', array['1']::jsonb[], queue => 'full')`,
		`awa.enqueue_many('[{"kind": "k"}, {"kind": "k", "queue": "full"}]')`,
		`awa.claim('plain')`,
		`awa.claim('plain', 100)`,
		`awa.claim('slots')`,
		`awa.claim('rate')`,
		`awa.claim('runs')`,
		`awa.complete(` + receipt + `)`,
		`awa.complete_many(array[` + receipt + `])`,
		`awa.fail(` + receipt + `, 'e')`,
		`awa.fail_many(array[` + receipt + `], array['e'])`,
		`awa.snooze(` + receipt + `, '1 minute')`,
		`awa.cancel_attempt(` + receipt + `)`,
		`awa.extend_lease(array[` + receipt + `])`,
		`awa.set_progress(` + receipt + `, '1')`,
		`awa.register_callback(` + receipt + `, '1 minute')`,
		`awa.callback_status(` + receipt + `)`,
		`awa.park(` + receipt + `)`,
		`awa.complete_callback((select l.callback_id from awa.leases as l))`,
		`awa.fail_callback((select l.callback_id from awa.leases as l))`,
		`awa.retry_callback((select l.callback_id from awa.leases as l))`,
		`awa.resume_callback((select l.callback_id from awa.leases as l))`,
		`awa.heartbeat_callback((select l.callback_id from awa.leases as l), '1 hour')`,
		`awa.register_worker('w')`,
		`awa.heartbeat('w')`,
		`awa.cancel(` + runs + `)`,
		`awa.cancel_by_unique_key('\x01')`,
		`awa.retry(` + failed + `)`,
		`awa.delete_job_compat(` + failed + `)`,
		`awa.discard_failed_by_kind('k')`,
		`awa.move_failed_to_dlq(` + failed + `)`,
		`awa.bulk_move_failed_to_dlq()`,
		`awa.retry_from_dlq((select min(id) from awa.dlq_entries))`,
		`awa.bulk_retry_from_dlq()`,
		`awa.purge_dlq()`,
		`awa.get_job(` + failed + `)`,
		`awa.list_jobs()`,
		`awa.count_batch_jobs('cancel', '{"queue": "plain"}')`,
		`awa.queue_counts('plain')`,
		`awa.queue_overview()`,
		`awa.upsert_schedule('s', '1 * * * *', 'k')`,
		`awa.remove_schedule('s')`,
		`awa.pause_schedule('s')`,
		`awa.checkpoint_terminal_counters()`,
		`awa.rebuild_terminal_counters()`,
		`awa.check()`,
		`awa.maintain()`,
		`awa.rotate()`,
		`awa.pause_queue('plain')`,
	} {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err = tx.Exec(t.Context(), `select count(*) from `+call+` as c`); err != nil {
			t.Errorf("%s: %v", call, err)
		} else {
			var far, inside bool
			if err := tx.QueryRow(t.Context(), `
				select coalesce(bool_or(k.locktype = 'relation' and c.relname ~ '^[a-z_]+_5$'), false),
					coalesce(bool_or(k.locktype = 'advisory' and k.objsubid = 2 and k.objid = 8
						and k.classid::bigint = awa._lock_class(0)::bigint & 4294967295), false)
				from pg_locks as k left join pg_class as c on c.oid = k.relation and c.relkind = 'r'
				where k.pid = pg_backend_pid()`).Scan(&far, &inside); err != nil {
				t.Fatal(err)
			}
			// Who locks a unique key passes before, whether it then has to look far or not.
			keyed := strings.Contains(call, "retry_callback") || strings.Contains(call, "resume_callback") ||
				strings.Contains(call, "bulk_retry_from_dlq") || strings.Contains(call, "park(")
			if far != inside && (far || !keyed) {
				t.Errorf("%s: locks tables of a segment it has no job in: %v; is inside the ring: %v", call, far, inside)
			}
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// Prune comes through beside sessions that are in the ring one short transaction
// after the other, and loses nothing.
func TestPruneBesideShortTransactions(t *testing.T) {
	const (
		sessions = 8
		prunes   = 12
		tries    = 60 // for one prune, after which it counts as kept out
	)
	url := pgtest.URL(t)
	keeper := pgtest.Conn(t, url)
	exec := execOn(t, keeper)
	exec(`update awa.storage_settings set straggler_limit = 100000`)

	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	defer working.Wait()
	defer stop()
	done := make([]int64, sessions)
	rounds := make(chan int, sessions)
	for i := range sessions {
		conn := pgtest.Conn(t, url)
		working.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				err := pgx.BeginFunc(context.WithoutCancel(ctx), conn, func(tx pgx.Tx) error {
					queue := fmt.Sprintf("q%d", (i+n)%4)
					var jobs int64
					if err := tx.QueryRow(context.Background(), `select count(*) filter (where awa.complete(c.receipt)) from awa.claim($1, 3) as c`, queue).Scan(&jobs); err != nil {
						return err
					}
					if _, err := tx.Exec(context.Background(), `select awa.enqueue_many('k', array['1', '2', '3']::jsonb[], queue => $1)`, queue); err != nil {
						return err
					}
					_, err := tx.Exec(context.Background(), `select available from awa.queue_counts($1)`, queue)
					done[i] += jobs
					return err
				})
				if err != nil {
					t.Errorf("a worker: %v", err)
					return
				}
				select {
				case rounds <- i:
				default:
				}
			}
		})
	}
	outcomes := map[string]int{}
	for n := 0; n < prunes && !t.Failed(); {
		exec(`select awa.rotate()`)
		pruned := false
		for try := 0; try < tries && !pruned; try++ {
			<-rounds
			exec(`select awa.checkpoint_terminal_counters()`)
			var outcome string
			if err := keeper.QueryRow(t.Context(), `select awa.prune()`).Scan(&outcome); err != nil {
				t.Fatal(err)
			}
			outcomes[outcome]++
			pruned = outcome != "busy"
			if outcome == "pruned" {
				n++
			}
		}
		if !pruned {
			t.Errorf("prune was busy %d times in a row", tries)
		}
	}
	stop()
	working.Wait()
	t.Logf("%v", outcomes)

	var finished, counted int64
	for _, n := range done {
		finished += n
	}
	if err := keeper.QueryRow(t.Context(), `
		select sum(c.terminal + c.pruned_terminal)::bigint from generate_series(0, 3) as n, lateral awa.queue_counts('q' || n) as c`).Scan(&counted); err != nil {
		t.Fatal(err)
	}
	if counted != finished {
		t.Errorf("%d jobs were completed, %d are counted", finished, counted)
	}
	sound(t, keeper)
}

// TestPruneReadsTheNewestOfEachLedger counts what prune reads of the ledgers that it copies
// the newest rows of, for it does so while it has the segment locked: after one-job claims
// and heartbeats, and after eight times as many.
func TestPruneReadsTheNewestOfEachLedger(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	exec := execOn(t, conn)
	ledgers := []string{"lane_cursors_0", "rate_points_0", "slot_batches_0", "workers_0"}
	for _, ledger := range ledgers {
		exec(`alter table awa.` + ledger + ` set (autovacuum_enabled = false)`)
	}
	read := func(claims int) tableReads {
		t.Helper()
		exec(`select awa.reset()`)
		exec(`select awa.configure_queue('rate', '{"rate_limit": 1000000000}'),
			awa.configure_queue('slots', '{"concurrency_limit": 1000}')`)
		exec(`select awa.enqueue('k', queue => q, concurrency_key => 'c')
			from unnest(array['plain', 'rate', 'slots']) as q, generate_series(1, $1::integer)`, claims)
		exec(`select awa.complete(c.receipt)
			from generate_series(1, $1::integer) as n, unnest(array['plain', 'rate', 'slots']) as q
			cross join lateral awa.claim(q, worker => 'w' || n % 2) as c`, claims)
		exec(`select count(*) from generate_series(1, $1::integer) as n cross join lateral awa.heartbeat('w' || n % 2)`, claims)
		exec(`select awa.rotate()`)
		return readByOutcome(t, conn, `select awa.prune()`, "pruned")
	}
	few, many := read(100), read(800)
	for _, ledger := range ledgers {
		if many[ledger] > few[ledger]+50 {
			t.Errorf("%s: %d rows read, and of eight times as many %d", ledger, few[ledger], many[ledger])
		}
	}
}

// A prune that many jobs hold up is called again and again, for as long as they do. It
// counts the rows, and joins none of them.
func TestPruneThatIsBlockedOnlyCounts(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	exec := execOn(t, conn)
	const jobs = 5000
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]))`, jobs)
	exec(`select awa.complete_many(array(select c.receipt from awa.claim('default', $1::integer) as c))`, jobs/2)
	exec(`select awa.rotate()`)
	if read := readByOutcome(t, conn, `select awa.prune()`, "blocked")["ready_entries_0"]; read > jobs {
		t.Errorf("a prune that was blocked read %d of %d rows", read, jobs)
	}
}

// A prune that a long transaction keeps from a segment is called again and again, for as
// long as that lasts. It says so before it reads and copies what it could not give back, and
// names the transaction to who asks.
func TestPruneBesideALongTransactionReadsNothing(t *testing.T) {
	server := pgtest.Server(t, localpg.Options{Settings: map[string]string{"max_prepared_transactions": "4"}})
	conn, holder := pgtest.Conn(t, server.URL()), pgtest.Conn(t, server.URL())
	exec := execOn(t, conn)
	exec(`select awa.configure_storage('{"segment_max_age": "1 second", "history_retention": "0"}')`)
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[1000]))`)
	exec(`select awa.fail_many(array(select c.receipt from awa.claim('default', 1000) as c), terminal => true)`)
	exec(`select awa.rotate()`)

	lasting := func(since, named string) {
		t.Helper()
		exec(`do $$ begin
			while not exists (` + since + ` < clock_timestamp() - interval '1 second') loop
				perform pg_sleep(0.05), pg_stat_clear_snapshot();
			end loop;
		end $$`)
		if read := readByOutcome(t, conn, `select awa.prune()`, "busy")["ready_entries_0"]; read > 0 {
			t.Errorf("beside a transaction of which %s, a prune that was busy read %d rows", since, read)
		}
		for _, told := range []string{
			`select m.detail from awa.maintain() as m where m.task = 'prune' and m.outcome = 'busy'`,
			`select s.reason from awa.storage_status() as s where s.slot = 0`,
		} {
			var reason string
			if err := conn.QueryRow(t.Context(), told).Scan(&reason); err != nil || !strings.Contains(reason, named) {
				t.Errorf("%s: %q, %v; want it to name %s", told, reason, err, named)
			}
		}
	}
	held := execOn(t, holder)
	held(`begin; select count(*) from awa.ready_entries`)
	lasting(`select from pg_stat_activity as a where a.datname = current_database() and a.state = 'idle in transaction' and a.xact_start`,
		fmt.Sprintf("session %d ", holder.PgConn().PID()))
	held(`prepare transaction 'long'`)
	lasting(`select from pg_prepared_xacts as p where p.database = current_database() and p.prepared`,
		"transaction 'long'")
	held(`rollback prepared 'long'`)
	var outcome string
	if err := conn.QueryRow(t.Context(), `select awa.prune()`).Scan(&outcome); err != nil || outcome != "pruned" {
		t.Error(outcome, err)
	}
}

// A prune that takes longer than the session may have for a transaction leaves nothing of its
// call, not even a report. The other tasks are done all the same.
func TestMaintainWherePrunesEndTheSession(t *testing.T) {
	url := pgtest.URL(t)
	exec := execOn(t, pgtest.Conn(t, url))
	var version int
	conn := pgtest.Conn(t, url)
	if err := conn.QueryRow(t.Context(), `select current_setting('server_version_num')::integer`).Scan(&version); err != nil {
		t.Fatal(err)
	}
	if version < 170000 {
		t.Skip("before 17 there is no transaction_timeout")
	}
	exec(`select awa.configure_storage('{"history_retention": "0"}')`)
	exec(`select awa.enqueue('k')`)
	exec(`select awa.complete(c.receipt) from awa.claim('default') as c`)
	exec(`select awa.rotate()`)
	exec(`create function awa.dawdle () returns trigger language plpgsql as 'begin perform pg_sleep(600); return new; end'`)
	exec(`create trigger dawdle before insert on awa.segment_prunes for each row execute function awa.dawdle()`)
	exec(`select awa.enqueue('k', run_at => now() + interval '0.1 seconds')`)

	ended := 0
	for range 15 {
		session, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		_, err = session.Exec(t.Context(), `set transaction_timeout = '1s'; select awa.maintain()`)
		_ = session.Close(t.Context()) // it may have been ended
		if err != nil {
			ended++
		}
		var available int64
		if err := conn.QueryRow(t.Context(), `select available from awa.queue_counts('default')`).Scan(&available); err != nil {
			t.Fatal(err)
		}
		if available == 1 && ended > 0 {
			return
		}
	}
	t.Errorf("of 15 calls %d were ended, and none promoted the job that was due", ended)
}

// Jobs that hold a segment may do so for weeks. maintain does not count them at every call.
func TestMaintainBesideAHeldSegmentCountsSeldom(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	exec := execOn(t, conn)
	const jobs, passes = 3000, 12
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]))`, jobs)
	exec(`select awa.maintain()`)
	exec(`select awa.rotate()`)
	exec(`update awa.segment_rotations set rotated_at = now() - interval '1 day' where generation = 0`)
	exec(`update awa.segment_rotations set rotated_at = now() - interval '2 hours' where generation = 1`)
	var read int64
	for range passes {
		read += readByOutcome(t, conn, `select outcome from awa.maintain() where task = 'prune'`, "blocked")["ready_entries_0"]
	}
	if read > jobs*passes/2 {
		t.Errorf("%d passes read %d rows of a segment that %d jobs hold", passes, read, jobs)
	}

	// Counters that have drifted put it off, and keep nobody from it.
	exec(`select awa.complete_many(array(select c.receipt from awa.claim('default', $1::integer) as c))`, jobs)
	exec(`select awa.checkpoint_terminal_counters()`)
	exec(`update awa.terminal_count_checkpoints set closed = 0`)
	for outcome := "blocked"; outcome == "blocked"; {
		if err := conn.QueryRow(t.Context(), `select outcome from awa.maintain() where task = 'prune'`).Scan(&outcome); err != nil {
			t.Fatal(err)
		}
	}
}

// Who watches the storage asks every few seconds. What holds the oldest segment is counted,
// and no job is looked for among the claims and outcomes.
func TestStorageStatusOnlyCounts(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	exec := execOn(t, conn)
	const claims = 100
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]))`, claims*10+9)
	exec(`create table held as select n, c.receipt from generate_series(1, $1::integer) as n cross join lateral awa.claim('default', 10 + 0 * n) as c`, claims)
	exec(`select awa.complete_many(array(select h.receipt from held as h where h.n > 1))`)
	// Whatever leaves its place unclaimed is closed there all the same.
	exec(`create table left_over as select j.id, row_number() over () as n from awa.jobs as j where j.state = 'available'`)
	exec(`select case l.n when 1 then awa.cancel(l.id) else awa.delete_job_compat(l.id) end from left_over as l where l.n <= 2`)
	exec(`update awa.jobs set priority = 1 where id = (select l.id from left_over as l where l.n = 3)`)
	exec(`select awa.rotate()`)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	from := rowsRead(t, tx)
	var waiting, running int
	if err := tx.QueryRow(t.Context(), `select s.waiting, s.running from awa.storage_status() as s where s.generation = 0`).Scan(&waiting, &running); err != nil {
		t.Fatal(err)
	}
	if waiting != 7 || running != 10 {
		t.Errorf("%d jobs wait and %d run", waiting, running)
	}
	if read := rowsRead(t, tx).since(from)["claims_0"]; read > claims+3 {
		t.Errorf("of %d claims it read %d", claims, read)
	}
}
