package lifecycle_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestAllIsReadOnce counts the rows that the plans of calls work on which read all there is,
// beside few and four times as many: as the tables were filled just now, and as if they had no
// rows, where a plan that reads one of them again for each row of another looks cheap.
func TestAllIsReadOnce(t *testing.T) {
	exec, worked := working(t)
	for _, call := range []string{
		`select awa.check()`,
		`select 1 / (awa.prune() = 'pruned')::integer`,
		`select awa.rebuild_terminal_counters()`,
		`select count(*) from awa.jobs`,
		`select awa.list_jobs(state => 'failed', kind => 'k', max_jobs => 10000)`,
		`select awa.bulk_move_failed_to_dlq('q', max_jobs => 10000)`,
		`select awa.rebase()`,
	} {
		for _, statistics := range []string{``, rowsUnseen} {
			work := func(jobs int) int {
				t.Helper()
				exec(`select awa.reset()`)
				exec(`delete from pg_statistic as s using pg_class as c
					where c.oid = s.starelid and c.relnamespace = 'awa'::regnamespace`)
				exec(`select awa.configure_queue('q', '{"failed_retention": "1 hour"}')`)
				exec(`select awa.enqueue('k', queue => 'q', unique_key => int8send(n)) from generate_series(1, $1::integer) as n`, jobs)
				exec(`select awa.complete_many(array(select c.receipt from awa.claim('q', $1::integer / 2) as c))`, jobs)
				exec(`select awa.fail_many(array(select c.receipt from awa.claim('q', $1::integer / 4) as c), terminal => true)`, jobs)
				// A prune takes one open attempt in a hundred along.
				exec(`select awa.complete_many(array(select c.receipt from awa.claim('q', 10000) as c where c.job_id % 200 <> 0))`)
				exec(`select awa.maintain(), awa.rotate(), awa.rotate()`)
				if statistics != "" {
					exec(statistics)
				}
				exec(`discard plans`)
				return worked(call)
			}
			if few, many := work(200), work(800); many > 6*few+1000 {
				t.Errorf("%s worked on %d rows, and beside four times as many jobs on %d; statistics of unseen rows: %t",
					call, few, many, statistics == rowsUnseen)
			}
		}
	}
}

var (
	rowsOfNode  = regexp.MustCompile(`actual rows=([0-9.]+) loops=(\d+)`)
	rowsRemoved = regexp.MustCompile(`Rows Removed by [A-Za-z ]+: (\d+)`)
)

// rowsInPlan sums up what the nodes of a plan returned and removed.
func rowsInPlan(plan string) (sum int) {
	loops := 1.0
	for line := range strings.Lines(plan) {
		if m := rowsOfNode.FindStringSubmatch(line); m != nil {
			rows, _ := strconv.ParseFloat(m[1], 64)
			loops, _ = strconv.ParseFloat(m[2], 64)
			sum += int(rows * loops)
		} else if m := rowsRemoved.FindStringSubmatch(line); m != nil {
			removed, _ := strconv.ParseFloat(m[1], 64)
			sum += int(removed * loops)
		}
	}
	return sum
}
