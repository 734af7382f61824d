package lifecycle_test

import (
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

// TestCheckReadsALongListOnce counts the pages of the lists of rescue that check reads where many
// attempts, claimed one by one, run for long: a list has them all.
func TestCheckReadsALongListOnce(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	exec := execOn(t, conn)
	exec(noAutovacuum)
	const jobs = 1000
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q')`, jobs)
	exec(`select count(c) from generate_series(1, $1::integer) as n, awa.claim('q', least(n, 1), lease => '1 day') as c`, jobs)
	for _, seconds := range []int{20, 40} {
		exec(`select set_config('awa.now', (clock_timestamp() + make_interval(secs => $1))::text, false)`, seconds)
		exec(`select setval('awa.rescue_clock', 1), awa.maintain()`) // even if the last pass took long
	}
	exec(`select 1 / (max(cardinality(p.open_batches)) = $1)::integer from awa.rescue_points as p`, jobs)
	pages := func() (n int) {
		t.Helper()
		exec(`select pg_stat_force_next_flush()`)
		err := conn.QueryRow(t.Context(), `
			select sum(coalesce(s.toast_blks_hit, 0) + coalesce(s.toast_blks_read, 0))
			from pg_statio_user_tables as s where s.schemaname = 'awa' and s.relname like 'rescue_points%'`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	from := pages()
	exec(`select awa.check()`)
	if n := pages() - from; n == 0 || n > jobs/2 {
		t.Errorf("check read %d pages of a list of %d", n, jobs)
	}
}
