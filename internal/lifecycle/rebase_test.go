package lifecycle_test

import (
	"context"
	"regexp"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/awaqueue/awa/internal/pgtest"
)

var dropped = regexp.MustCompile(`Rows Removed by Join Filter: (\d+)`)

// A rebase finds the claims of all jobs by their ids. It does not compare each job with the
// claims of its lane, of which a restored database may have ten thousands.
func TestRebaseComparesNoJobWithAllClaims(t *testing.T) {
	cfg, err := pgx.ParseConfig(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		for _, m := range dropped.FindAllStringSubmatch(n.Message, -1) {
			rows, _ := strconv.Atoi(m[1])
			compared += rows
		}
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	exec := execOn(t, conn)
	if _, err := conn.Exec(t.Context(), `load 'auto_explain'`); err != nil {
		t.Skip("the server has no auto_explain: ", err)
	}

	const jobs = 4000
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]))`, jobs)
	for range jobs / 20 {
		exec(`select awa.complete_many(array(select c.receipt from awa.claim('default', 20) as c))`)
	}
	exec(`select awa.enqueue('k')`)
	for _, planned := range []string{"for tables that nobody analyzed", "with statistics"} {
		exec(`set auto_explain.log_nested_statements = on; set auto_explain.log_analyze = on; set auto_explain.log_timing = off;
			set auto_explain.log_min_duration = 0; set client_min_messages = log`)
		compared = 0
		exec(`select awa.rebase()`)
		exec(`set auto_explain.log_min_duration = -1; set client_min_messages = notice`)
		if compared > jobs {
			t.Errorf("planned %s, a rebase of %d jobs in claims of 20 compared %d that do not belong together", planned, jobs, compared)
		}
		exec(`analyze`)
	}

	var waiting, violations int
	if err := conn.QueryRow(t.Context(), `select c.available, (select count(*) from awa.check()) from awa.queue_counts('default') as c`).Scan(&waiting, &violations); err != nil {
		t.Fatal(err)
	}
	if waiting != 1 || violations != 0 {
		t.Errorf("after it %d jobs wait, and check finds %d violations", waiting, violations)
	}
}
