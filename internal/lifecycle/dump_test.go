package lifecycle_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/pgtest"
)

// past are the transactions after which there is a job in every state, in two segments. What
// the clients hold is written down beside.
var past = []string{
	// Ahead of the other cluster.
	`do $$ begin for n in 1 .. 10000 loop perform pg_current_xact_id(); commit; end loop; end $$`,
	`select awa.configure_queue('dump', '{"enqueue_shards": 2}'), awa.configure_queue('dump/slots', '{"concurrency_limit": 1}'),
	   awa.configure_queue('dump/letters', '{"dlq_enabled": true}'), awa.upsert_schedule('dump', '@yearly', 'k', queue => 'dump')`,
	`create table held (receipt awa.receipt)`,
	`create table asked (callback uuid)`,
	`select awa.enqueue('k', queue => q, priority => 1 + n % 2, unique_key => convert_to(q || n, 'UTF8'), concurrency_key => 'c')
	 from unnest(array['dump', 'dump/slots', 'dump/letters']) as q, generate_series(1, case q when 'dump' then 20 else 4 end) as n`,
	`select awa.complete(c.receipt) from awa.claim('dump', 2) as c`,
	`insert into held select c.receipt from awa.claim('dump', 2) as c`,
	`select awa.fail(c.receipt, 'e', '1 day') from awa.claim('dump', 2) as c`,
	`select awa.fail(c.receipt, 'e', terminal => true) from awa.claim('dump', 2) as c`,
	`select awa.fail(c.receipt, 'e', terminal => true) from awa.claim('dump/letters', 2) as c`,
	`select awa.snooze(c.receipt, '1 day') from awa.claim('dump', 1) as c`,
	`select awa.cancel(id) from (select id from awa.jobs where queue = 'dump' and state = 'available' order by id limit 2) as j`,
	`insert into asked select awa.register_callback(c.receipt, '1 day') from awa.claim('dump', 2) as c`,
	`insert into held select c.receipt from awa.claim('dump/slots', 5) as c`,
	`select awa.enqueue('k', queue => 'dump', after => array[(h.receipt).job_id]) from held as h`,
	`update awa.jobs set priority = 4 where id in (select id from awa.jobs where queue = 'dump' and state = 'available' order by id limit 2)`,
	`select awa.maintain()`,
	`select awa.rotate()`,
	`select awa.enqueue('k', queue => 'dump') from generate_series(1, 10)`,
	`select awa.complete(c.receipt) from awa.claim('dump', 3) as c`,
	`insert into held select c.receipt from awa.claim('dump', 3) as c`,
	`select awa.set_progress(h.receipt, 50) from held as h`,
	`select awa.start_batch_operation('reprioritize', '{"queue": "dump"}', '{"priority": 3}')`,
}

// TestDumpGoesOnElsewhere: what was dumped and restored into another cluster, whose transaction
// ids are lower, is rebased and worked off there. Receipts and callbacks stay good, each waiting
// job is handed out once, and none that was done.
func TestDumpGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	if os.Getenv("DATABASE_URL") != "" {
		t.Skip("the programs of this machine may not fit the server of DATABASE_URL")
	}
	bin, err := localpg.FindBinaries()
	if err != nil {
		t.Skip(err)
	}
	for _, program := range []string{"pg_dump", "psql"} {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			t.Skip(err)
		}
	}
	url := pgtest.URL(t)
	conn := pgtest.Conn(t, url)
	for _, sql := range past {
		mustExec(t, conn, sql)
	}
	for _, state := range []string{"available", "scheduled", "running", "completed", "retryable", "failed", "cancelled", "waiting_external"} {
		if n := lines(t, conn, `select count(*) from awa.jobs where state = $1::text::awa.job_state`, state); n[0] == "0" {
			t.Errorf("no job is %s", state)
		}
	}
	waiting := lines(t, conn, `select id::text from awa.jobs where state in ('available', 'scheduled', 'retryable') order by 1`)
	jobs := lines(t, conn, `select count(*) from awa.jobs`)[0]
	const terminal = `select id || ' ' || state from awa.jobs where state in ('completed', 'failed', 'cancelled')`
	ended := lines(t, conn, terminal)

	ahead := transaction(t, conn)
	dump, err := exec.Command(filepath.Join(bin, "pg_dump"), "-d", url).Output()
	if err != nil {
		t.Fatalf("pg_dump: %v", err)
	}
	server := pgtest.EmptyServer(t, localpg.Options{})
	conn = pgtest.Conn(t, server.URL())
	mustExec(t, conn, `create role awa_producer; create role awa_worker; create role awa_operator; create role awa_reader`)
	restore := exec.Command(filepath.Join(bin, "psql"), "-qX", "-v", "ON_ERROR_STOP=1", "-d", server.URL())
	restore.Stdin = bytes.NewReader(dump)
	if out, err := restore.CombinedOutput(); err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}

	if here := transaction(t, conn); here >= ahead {
		t.Fatalf("transaction %d of the other cluster is not ahead of %d here", ahead, here)
	}

	mustExec(t, conn, `select awa.rebase()`)
	sound(t, conn)
	for _, check := range []struct{ sql, says string }{
		{`select bool_and(awa.complete(h.receipt)) from held as h`, "receipts are good"},
		{`select bool_and(awa.complete_callback(a.callback)) from asked as a`, "so are callbacks"},
		{`select count(*) = 1 from awa.cron_schedules`, "the schedule is there"},
	} {
		if got := lines(t, conn, check.sql); got[0] != "true" {
			t.Errorf("%s: %s", check.says, got[0])
		}
	}

	var claimed []string
	for range 20 {
		mustExec(t, conn, `select awa.maintain()`)
		mustExec(t, conn, `update awa.jobs set run_at = now() where state in ('scheduled', 'retryable') and run_at < 'infinity'`)
		for _, queue := range []string{"dump", "dump/slots", "dump/letters"} {
			claimed = append(claimed, lines(t, conn, `
				select c.job_id::text from awa.claim($1, 100) as c cross join lateral (select awa.complete(c.receipt) as done offset 0) as d where d.done`, queue)...)
		}
		if lines(t, conn, `select count(*) from awa.jobs where state not in ('completed', 'failed', 'cancelled')`)[0] == "0" {
			break
		}
	}
	slices.Sort(claimed)
	if !slices.Equal(claimed, waiting) {
		t.Errorf("jobs %v were handed out, want those that waited: %v", claimed, waiting)
	}
	now := lines(t, conn, terminal)
	if fmt.Sprint(len(now)) != jobs {
		t.Errorf("%d jobs are terminal, want all %s", len(now), jobs)
	}
	for _, job := range ended {
		if !slices.Contains(now, job) {
			t.Errorf("job %s has another end by now", job)
		}
	}
	sound(t, conn)
}

func transaction(t *testing.T, conn *pgx.Conn) (id int64) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), `select pg_current_xact_id()::text::bigint`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}
