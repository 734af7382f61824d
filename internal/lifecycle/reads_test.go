package lifecycle_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/pgtest"
)

// What a call reads does not grow with history, whatever the planner believes: plans that were
// made for few rows, where to read them all is the cheapest, with statistics, and of tables that
// seemed to have no rows.
func TestCallsDoNotReadHistory(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	exec := execOn(t, conn)
	exec(callSetup)
	exec(liveHistory)
	exec(noAutovacuum)

	reads := func() map[string]tableReads {
		t.Helper()
		return perCall(exec, func(call string) tableReads {
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			from := rowsRead(t, tx)
			if _, err := tx.Exec(t.Context(), call); err != nil {
				t.Fatalf("%s: %v", call, err)
			}
			read := rowsRead(t, tx).since(from)
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			return read
		})
	}
	minutes := 0
	live := func(rounds int) {
		t.Helper()
		exec(`call live_history($1)`, rounds)
		minutes = letTimePass(exec, minutes)
	}
	live(1)
	exec(`vacuum analyze`)
	for range 6 { // PL/pgSQL may plan anew for the first five calls
		reads()
	}
	few := reads()
	for _, p := range []struct{ planned, next string }{
		{"for few rows", `analyze`},
		{"with statistics of young tables", rowsUnseen},
		{"for tables that seemed to have no rows", ``},
	} {
		live(100)
		many := reads()
		for _, c := range apiCalls {
			// A query of the view is planned for the tables as they are.
			if strings.Contains(c.call, "awa.jobs") {
				continue
			}
			if n, before := many[c.name].sum(), few[c.name].sum(); n > before+50 {
				t.Errorf("planned %s, %s read %d rows, and %d after more happened, more by %v",
					p.planned, c.name, before, n, many[c.name].since(few[c.name]))
			}
		}
		if p.next != "" {
			exec(p.next)
			few = reads()
		}
	}
}

const callSetup = `select awa.configure_queue('dead', '{"dlq_enabled": true}'), awa.configure_queue('slots', '{"concurrency_limit": 3}'),
		awa.configure_queue('full', '{"max_depth": 1000000}');
	create table held (receipt awa.receipt, job_id bigint, callback_id uuid)`

// apiCalls are calls to be looked at, each with what has to be there before.
var apiCalls = []struct{ name, before, call string }{
	{"enqueue", ``, `select awa.enqueue('k', queue => 'a')`},
	{"enqueue, unique", ``, `select awa.enqueue('k', queue => 'a', unique_key => decode(md5(random()::text), 'hex'))`},
	{"enqueue, limited depth", ``, `select awa.enqueue('k', queue => 'full')`},
	{"enqueue after a job", holdNone, `select awa.enqueue('k', queue => 'c', after => array[(select h.job_id from held as h)])`},
	{"enqueue many", ``, `select awa.enqueue_many('k', array['1', '2']::jsonb[], queue => 'a')`},
	{"claim one", `select awa.enqueue('k', queue => 'a')`, `select awa.claim('a')`},
	{"claim many", `select awa.enqueue_many('k', array_fill('1'::jsonb, array[20]), queue => 'b')`, `select awa.claim('b', 10)`},
	{"claim nothing", ``, `select awa.claim('nothing', 10)`},
	{"claim with a limit per key", `select awa.enqueue('k', queue => 'slots', concurrency_key => 'x')`, `select awa.claim('slots', 10)`},
	{"complete", hold, `select awa.complete((select h.receipt from held as h))`},
	{"complete many", holdMany, `select awa.complete_many(array(select h.receipt from held as h))`},
	{"complete a part", holdMany, `select awa.complete_many(array(select h.receipt from held as h limit 5))`},
	{"complete many twice", holdMany + `; select awa.complete_many(array(select h.receipt from held as h))`, `select awa.complete_many(array(select h.receipt from held as h))`},
	{"fail", hold, `select awa.fail((select h.receipt from held as h), 'e', retry_after => '1 h')`},
	{"fail many", holdMany, `select awa.fail_many(array(select h.receipt from held as h), retry_after => '1 h')`},
	{"fail for good", holdMany, `select awa.fail_many(array(select h.receipt from held as h), terminal => true)`},
	{"dead letter", holdDead, `select awa.fail((select h.receipt from held as h), 'e', terminal => true)`},
	{"snooze", hold, `select awa.snooze((select h.receipt from held as h), '1 h')`},
	{"set progress", hold, `select awa.set_progress((select h.receipt from held as h), 5)`},
	{"extend lease", holdMany, `select awa.extend_lease(array(select h.receipt from held as h))`},
	{"cancel attempt", hold, `select awa.cancel_attempt((select h.receipt from held as h))`},
	{"register callback", hold, `select awa.register_callback((select h.receipt from held as h), '1 h')`},
	{"callback status", hold, `select awa.callback_status((select h.receipt from held as h))`},
	{"register worker", ``, `select awa.register_worker('w')`},
	{"heartbeat", ``, `select awa.heartbeat('w')`},
	{"cancel, running", hold, `select awa.cancel((select h.job_id from held as h))`},
	{"cancel, waiting", holdNone, `select awa.cancel((select h.job_id from held as h))`},
	{"cancel, deferred", hold + `; select awa.snooze((select h.receipt from held as h), '1 h')`, `select awa.cancel((select h.job_id from held as h))`},
	{"cancel, done", hold + `; select awa.complete((select h.receipt from held as h))`, `select awa.cancel((select h.job_id from held as h))`},
	{"retry", hold + `; select awa.fail((select h.receipt from held as h), terminal => true)`, `select awa.retry((select h.job_id from held as h))`},
	{"move to the dead letters", hold + `; select awa.fail((select h.receipt from held as h), terminal => true)`, `select awa.move_failed_to_dlq((select h.job_id from held as h))`},
	{"delete, done", hold + `; select awa.complete((select h.receipt from held as h))`, `select awa.delete_job_compat((select h.job_id from held as h))`},
	{"delete by the view", hold + `; select awa.complete((select h.receipt from held as h))`, `delete from awa.jobs where id = (select h.job_id from held as h)`},
	{"read by the view", hold, `select * from awa.jobs where id = (select h.job_id from held as h)`},
	{"delete, waiting", holdNone, `select awa.delete_job_compat((select h.job_id from held as h))`},
	{"priority, waiting", holdNone, `update awa.jobs set priority = 1 where id = (select h.job_id from held as h)`},
	{"cancel by key", `select awa.enqueue('k', queue => 'h', unique_key => '\x01')`, `select awa.cancel_by_unique_key('\x01')`},
	{"retry a dead letter", letter, `select awa.retry_from_dlq((select h.job_id from held as h))`},
	{"delete a dead letter", letter, `select awa.delete_job_compat((select h.job_id from held as h))`},
	{"complete, followed by another", `truncate held; select awa.enqueue('k', queue => 'f', follow_ups => '{"completed": [{"kind": "k", "queue": "f2"}]}');
		insert into held select c.receipt, c.job_id from awa.claim('f') as c`, `select awa.complete((select h.receipt from held as h))`},
	{"fail for good, with progress", hold + `; select awa.set_progress((select h.receipt from held as h), 5)`,
		`select awa.fail((select h.receipt from held as h), 'e', terminal => true)`},
	{"fail, unique", `truncate held; select awa.enqueue('k', queue => 'u', unique_key => decode(md5(random()::text), 'hex'));
		insert into held select c.receipt, c.job_id from awa.claim('u') as c`, `select awa.fail((select h.receipt from held as h), 'e', retry_after => '1 h')`},
	{"enqueue, key taken", ``, `select awa.enqueue('k', queue => 'u', unique_key => '\x02')`},
	{"fail a callback", hold + `; update held as h set callback_id = awa.register_callback(h.receipt, '1 h')`,
		`select awa.fail_callback((select h.callback_id from held as h))`},
	{"retry a callback", hold + `; update held as h set callback_id = awa.register_callback(h.receipt, '1 h')`,
		`select awa.retry_callback((select h.callback_id from held as h))`},
	{"park", hold + `; update held as h set callback_id = awa.register_callback(h.receipt, '1 h')`,
		`select awa.park((select h.receipt from held as h))`},
	{"run a batch operation", holdNone + `; select awa.start_batch_operation('cancel', jsonb_build_object('ids', jsonb_build_array((select h.job_id from held as h))))`,
		`select awa.run_batch_operation((select max(b.id) from awa.list_batch_operations(max_operations => 1) as b))`},
	{"get a job", holdNone, `select awa.get_job((select h.job_id from held as h))`},
	{"complete a callback", hold + `; update held as h set callback_id = awa.register_callback(h.receipt, '1 h')`,
		`select awa.complete_callback((select h.callback_id from held as h))`},
	{"resume a callback", hold + `; update held as h set callback_id = awa.register_callback(h.receipt, '1 h')`,
		`select awa.resume_callback((select h.callback_id from held as h), '1')`},
	{"prolong a callback", hold + `; update held as h set callback_id = awa.register_callback(h.receipt, '1 h')`,
		`select awa.heartbeat_callback((select h.callback_id from held as h), '2 h')`},
	{"insert a row", ``, `select awa.insert_job_compat('k', 'h')`},
	{"enqueue, key of a job that is done", `truncate held; insert into held (job_id) select awa.enqueue('k', queue => 'u', unique_key => '\x03');
		select awa.complete(c.receipt) from awa.claim('u', 10000) as c where c.job_id = (select h.job_id from held as h)`,
		`select awa.enqueue('k', queue => 'u', unique_key => '\x03')`},
	{"retry, unique", `truncate held; select awa.enqueue('k', queue => 'u3', unique_key => decode(md5(random()::text), 'hex'));
		insert into held select c.receipt, c.job_id from awa.claim('u3') as c; select awa.fail((select h.receipt from held as h), terminal => true)`,
		`select awa.retry((select h.job_id from held as h))`},
	{"cancel, comes after another", `truncate held; insert into held (job_id) select awa.enqueue('k', queue => 'h', after => array[awa.enqueue('k', queue => 'h')])`,
		`select awa.cancel((select h.job_id from held as h))`},
	{"retry by a batch operation", hold + `; select awa.fail((select h.receipt from held as h), terminal => true);
		select awa.start_batch_operation('retry', jsonb_build_object('ids', jsonb_build_array((select h.job_id from held as h))))`,
		`select awa.run_batch_operation((select max(b.id) from awa.list_batch_operations(max_operations => 1) as b))`},
	{"upsert a schedule", ``, `select awa.upsert_schedule('again', '@yearly', 'k')`},
	{"pause a schedule", `select awa.upsert_schedule('again', '@yearly', 'k')`, `select awa.pause_schedule('again'), awa.resume_schedule('again')`},
	{"remove a schedule", `select awa.upsert_schedule('again', '@yearly', 'k')`, `select awa.remove_schedule('again')`},
	{"configure a queue", ``, `select awa.configure_queue('a', '{"notify": true}'), awa.pause_queue('nothing'), awa.resume_queue('nothing')`},
	{"counts", ``, `select awa.queue_counts('a')`},
	// A pass that took long keeps the next ones from it for a while.
	{"maintain", `select setval('awa.rescue_clock', 1)`, `select awa.maintain()`},
	{"checkpoint", ``, `select awa.checkpoint_terminal_counters()`},
	{"batch operation", ``, `select awa.start_batch_operation('cancel', '{"queue": "nothing", "state": "available"}')`},
}

const (
	holdNone = `truncate held; insert into held (job_id) select awa.enqueue('k', queue => 'h')`
	hold     = `select awa.enqueue('k', queue => 'h1'); truncate held; insert into held select c.receipt, c.job_id from awa.claim('h1') as c`
	holdDead = `select awa.enqueue('k', queue => 'dead'); truncate held; insert into held select c.receipt, c.job_id from awa.claim('dead') as c`
	letter   = holdDead + `; select awa.fail((select h.receipt from held as h), 'e', terminal => true)`
	holdMany = `select awa.enqueue_many('k', array_fill('1'::jsonb, array[10]), queue => 'h10'); truncate held;
		insert into held select c.receipt, c.job_id from awa.claim('h10', 10) as c`
)

// liveHistory lets jobs end in every way, each round in transactions of its own.
const liveHistory = `create procedure live_history(rounds integer) language plpgsql as $$
declare
	r awa.receipt[];
	v_seq bigint;
	v_id bigint;
begin
	for i in 1 .. rounds loop
		perform awa.enqueue_many('k', array_fill('1'::jsonb, array[20]), queue => q) from unnest(array['a', 'b', 'c']) as q;
		commit;
		r := array(select c.receipt from unnest(array['a', 'b', 'c']) as q cross join lateral awa.claim(q, 20) as c);
		commit;
		perform awa.complete_many(r[1:30]);
		commit;
		perform awa.fail_many(r[31:36], retry_after => '1 h');
		perform awa.fail_many(r[37:42], terminal => true);
		perform awa.snooze(r[43], '2 h'), awa.cancel_attempt(r[44]), awa.complete(r[45]), awa.set_progress(r[46], 5);
		commit;
		perform awa.complete_many(r[46:60]), awa.enqueue('k', queue => 'dead');
		perform awa.enqueue('k', queue => 'slots', concurrency_key => 'y') from generate_series(1, 2);
		commit;
		perform awa.fail(c.receipt, 'e', terminal => true) from awa.claim('dead') as c;
		-- And what stays: a queue with a waiting job, jobs that wait for a key's slot, for
		-- another job, for a callback and for their time, a worker, a schedule.
		v_seq := nextval('awa.job_id_seq');
		perform awa.enqueue('k', queue => 'queue ' || v_seq), awa.enqueue('k', queue => 'slots', concurrency_key => 'z');
		v_id := awa.enqueue('k', queue => 'stays', unique_key => int8send(v_seq));
		perform awa.enqueue('k', queue => 'stays', after => array[v_id]), awa.enqueue('k', queue => 'calls'),
			awa.enqueue('k', queue => 'stays', run_at => now() + interval '2 h', unique_key => int8send(-v_seq));
		perform awa.register_worker('worker ' || v_seq), awa.upsert_schedule('schedule ' || v_seq, '@yearly', 'k');
		commit;
		perform awa.register_callback(c.receipt, '3 h') from awa.claim('calls') as c;
		commit;
		for j in 1 .. 2 loop
			perform awa.complete(c.receipt) from awa.claim('slots', 5) as c;
			commit;
		end loop;
		commit;
	end loop;
end $$`

// perCall measures each of apiCalls. What a call before it left to do is no part of it.
func perCall(exec func(string, ...any), measure func(call string) tableReads) map[string]tableReads {
	read := map[string]tableReads{}
	for _, c := range apiCalls {
		exec(`select awa.maintain()`)
		if c.before != "" {
			exec(c.before)
		}
		read[c.name] = measure(c.call)
	}
	return read
}

// letTimePass lets two minutes pass for the storage: what is claimed lately is rescue's to
// look at in every pass.
func letTimePass(exec func(string, ...any), minutes int) int {
	for range 2 {
		minutes++
		exec(`select set_config('awa.now', (clock_timestamp() + make_interval(mins => $1))::text, false)`, minutes)
		exec(`select awa.maintain()`)
	}
	return minutes
}

// tableReads is how many rows of each table were read.
type tableReads map[string]int64

func (r tableReads) sum() (n int64) {
	for _, rows := range r {
		n += rows
	}
	return n
}

func (r tableReads) since(from tableReads) tableReads {
	read := tableReads{}
	for table, rows := range r {
		if rows > from[table] {
			read[table] = rows - from[table]
		}
	}
	return read
}

// readByOutcome commits a call and returns the rows that it read. The call returns want.
func readByOutcome(t *testing.T, conn *pgx.Conn, call, want string) tableReads {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	from := rowsRead(t, tx)
	var outcome string
	if err := tx.QueryRow(t.Context(), call).Scan(&outcome); err != nil || outcome != want {
		t.Fatal(outcome, err)
	}
	read := rowsRead(t, tx).since(from)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return read
}

// rowsRead is what the session has read of awa's tables. There are as many lanes as
// queues, whatever was done.
func rowsRead(t *testing.T, tx pgx.Tx) tableReads {
	t.Helper()
	return perTable(t, tx, `
		select s.relname, s.seq_tup_read + coalesce(s.idx_tup_fetch, 0)
		from pg_stat_xact_user_tables as s where s.schemaname = 'awa' and s.relname <> 'queue_lanes'`)
}

func perTable(t *testing.T, db interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}, sql string) tableReads {
	t.Helper()
	rows, err := db.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	read := tableReads{}
	var table string
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&table, &n}, func() error { read[table] = n; return nil }); err != nil {
		t.Fatal(err)
	}
	return read
}
