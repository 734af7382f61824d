package lifecycle_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/pgtest"
)

// TestABiteDoesNotReadAllThereIs counts the rows and pages that a call reads which takes
// some of many, beside few and four times as many: without statistics, as after the tables
// were filled, with those that somebody takes who does not see the rows yet, and with true ones.
func TestABiteDoesNotReadAllThereIs(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	exec := execOn(t, conn)
	exec(noAutovacuum)
	exec(`set jit = off`)
	for _, c := range bites {
		read := func(jobs int, statistics string) tableReads {
			t.Helper()
			exec(`select awa.reset()`)
			// What an earlier round made known is forgotten.
			exec(`delete from pg_statistic as s using pg_class as c
				where c.oid = s.starelid and c.relnamespace = 'awa'::regnamespace`)
			exec(c.before, jobs)
			if c.then != "" {
				exec(c.then)
			}
			if statistics != "" {
				exec(statistics)
			}
			exec(`discard plans`)
			count := rowsAndPages
			if statistics == rowsUnseen {
				// Of two indexes that seem to have a page each, the larger one may be read.
				count = rowsOnly
			}
			from := count(t, conn)
			exec(c.call)
			return count(t, conn).since(from)
		}
		for _, s := range []struct{ name, take string }{
			{"none", ``},
			{"true", `analyze`},
			{"of unseen rows", rowsUnseen},
		} {
			few, many := read(1000, s.take), read(4000, s.take)
			if n, before := many.sum(), few.sum(); n > before+before/2+100 {
				t.Errorf("%s, statistics: %s: read %d rows and pages, and beside four times as many jobs %d, more by %v",
					c.name, s.name, before, n, many.since(few))
			}
		}
	}
}

// noAutovacuum keeps it off awa's tables: it reads their pages, and takes statistics.
const noAutovacuum = `do $$
	declare
		v_table regclass;
	begin
		for v_table in select c.oid from pg_class as c where c.relnamespace = 'awa'::regnamespace and c.relkind = 'r' loop
			execute format('alter table %s set (autovacuum_enabled = false)', v_table);
		end loop;
	end $$`

// rowsUnseen leaves what vacuum and analyze leave of a table whose rows are all deleted, or of
// transactions that are open, before others come: it seems to have pages, but no rows.
const rowsUnseen = `update pg_class as c set reltuples = 0, relpages = pg_relation_size(c.oid) / 8192
	where c.relnamespace = 'awa'::regnamespace and c.relkind = 'r' and pg_relation_size(c.oid) > 0`

// rowsAndPages is what has been read of awa's tables, whoever did.
func rowsAndPages(t *testing.T, conn *pgx.Conn) tableReads {
	t.Helper()
	read := pagesTouched(t, conn)
	for table, rows := range rowsOnly(t, conn) {
		read[table] += rows
	}
	return read
}

func rowsOnly(t *testing.T, conn *pgx.Conn) tableReads {
	t.Helper()
	if _, err := conn.Exec(t.Context(), `select pg_stat_force_next_flush()`); err != nil {
		t.Fatal(err)
	}
	return perTable(t, conn, `
		select s.relname, s.seq_tup_read + coalesce(s.idx_tup_fetch, 0)
		from pg_stat_user_tables as s where s.schemaname = 'awa'`)
}

// bites are calls that take some of many, each with what puts that many there.
var bites = []struct{ name, before, then, call string }{
	{"a batch operation",
		`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer * 3]), queue => 'q'),
			awa.start_batch_operation('cancel', '{"queue": "q"}')`, ``,
		`select awa.run_batch_operation((select max(b.id) from awa.list_batch_operations() as b), 200)`},
	{"a claim after one that found all jobs gone",
		`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q')`,
		`do $$ begin delete from awa.jobs where queue = 'q'; perform awa.claim('q'); end $$`,
		`select awa.claim('q')`},
	{"list what runs beside what ran",
		`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q')`,
		`select awa.complete_many(array(select c.receipt from awa.claim('q', 10000) as c))`,
		`select awa.list_jobs(state => 'running')`},
	{"list what waits",
		`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q')`, ``,
		`select awa.list_jobs(queue => 'q', state => 'available')`},
	{"list what is scheduled",
		`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q', run_at => now() + interval '1 hour')`, ``,
		`select awa.list_jobs(queue => 'q', state => 'scheduled')`},
	{"list what there is",
		`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q', run_at => r.at)
		from (values (now() + interval '1 hour'), (null)) as r (at)`, ``,
		`select awa.list_jobs()`},
	{"claim what the transaction enqueued",
		`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q')`, ``,
		`begin; select awa.enqueue('k', queue => 'own'); select awa.claim('own'); commit`},
	{"promote jobs with keys",
		`select awa.enqueue('k', queue => 'q', run_at => now() + interval '1 hour', unique_key => int8send(n))
		from generate_series(1, $1::integer) as n`, `select awa.maintain()`,
		`begin; set local awa.now = '2100-01-01'; select awa.maintain(); commit`},
	{"enqueue with keys that were taken before",
		`select awa.enqueue('k', queue => 'q', unique_key => int8send(n)) from generate_series(1, $1::integer) as n`,
		`select awa.complete_many(array(select c.receipt from awa.claim('q', 10000) as c))`,
		`select awa.enqueue('k', queue => 'q', unique_key => u.unique_key)
		from (select k.unique_key from awa.job_unique_claims as k order by k.unique_key desc limit 20) as u`},
	{"fail some for good", enqueueKeyed, holdSome, `select awa.fail_many(array(select h.receipt from held as h), terminal => true)`},
	{"retry some", enqueueKeyed, holdSome + `; select awa.fail_many(array(select h.receipt from held as h), terminal => true);
			select awa.start_batch_operation('retry', '{"queue": "q"}')`,
		`select awa.run_batch_operation((select max(b.id) from awa.list_batch_operations() as b), 100)`},
	{"delete some", enqueueKeyed, `select awa.start_batch_operation('delete', '{"queue": "q"}')`,
		`select awa.run_batch_operation((select max(b.id) from awa.list_batch_operations() as b), 100)`},
	{"look for queues whose limit is gone",
		`insert into awa.queue_meta (queue, concurrency_limit, concurrency_slots)
		select 'q' || n, 1, 1 from generate_series(1, $1::integer) as n`, ``,
		`begin; set local search_path = awa; select awa._unpark_unlimited(1000); commit`},
	{"retry dead letters with keys", letters, ``, `select awa.bulk_retry_from_dlq(max_jobs => 100)`},
	{"purge dead letters", letters, ``, `select awa.purge_dlq(max_jobs => 100)`},
	{"give back the keys of jobs that are gone",
		`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q')`, ``,
		`begin; set local search_path = awa; select awa._release_absent(array[-1]); commit`},
}

const (
	enqueueKeyed = `select awa.enqueue('k', queue => 'q', unique_key => int8send(n)) from generate_series(1, $1::integer) as n`
	holdSome     = `drop table if exists held; create table held as select c.receipt from awa.claim('q', 50) as c`
)

const letters = `insert into awa.dlq_entries (id, kind, queue, args, priority, attempt, max_attempts, run_at, created_at, errors, metadata,
			tags, unique_key, unique_states, run_lease, original_run_lease)
		select nextval('awa.job_id_seq'), 'k', 'q', '{}', 2, 1, 1, now(), now(), '{}', '{}', '{}', int8send(n), b'11111000', 1, 1
		from generate_series(1, $1::integer) as n`
