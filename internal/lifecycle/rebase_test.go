package lifecycle_test

import (
	"regexp"
	"strconv"
	"testing"
)

var dropped = regexp.MustCompile(`Rows Removed by Join Filter: (\d+)`)

// A rebase finds the claims of all jobs by their ids. It does not compare each job with the
// claims of its lane, of which a restored database may have ten thousands.
func TestRebaseComparesNoJobWithAllClaims(t *testing.T) {
	compared := 0
	conn := explaining(t, func(message string) {
		for _, m := range dropped.FindAllStringSubmatch(message, -1) {
			rows, _ := strconv.Atoi(m[1])
			compared += rows
		}
	})
	exec := execOn(t, conn)

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
