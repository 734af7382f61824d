package lifecycle_test

import (
	"testing"

	"github.com/awaqueue/awa/internal/pgtest"
)

// Failed jobs that are kept may fill the ring by themselves. Prunes carry them on, and what
// they carry does not open the next segment, which would have them carry on the next: with
// nothing to do nothing is done.
func TestARingOfKeptFailuresComesToRest(t *testing.T) {
	conn := pgtest.Conn(t, pgtest.URL(t))
	exec := execOn(t, conn)
	pass := func() (rotated int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), `select count(*) from awa.maintain() where task = 'rotate' and outcome = 'rotated'`).Scan(&rotated); err != nil {
			t.Fatal(err)
		}
		return rotated
	}
	const bytes, batches, jobs = 300_000, 16, 800
	exec(`select awa.configure_storage(jsonb_build_object('segment_max_bytes', $1::integer))`, bytes)
	exec(`select awa.configure_queue('kept', '{"failed_retention": "1 day"}')`)
	for range batches {
		exec(`select awa.enqueue_many('k', array_fill(to_jsonb(repeat('x', 200)), array[$1::integer]), queue => 'kept')`, jobs)
		exec(`select awa.fail_many(array(select c.receipt from awa.claim('kept', $1::integer) as c), terminal => true)`, jobs)
		pass()
	}

	turns := 0
	for range 20 {
		turns += pass()
	}
	if turns > 2 {
		t.Errorf("with nothing to do the ring turned %d times in 20 passes", turns)
	}
	for turns = 0; turns == 0; turns += pass() {
		var large bool
		if err := conn.QueryRow(t.Context(), `select sum(b.bytes) > 40 * $1::bigint from awa.storage_status() as b`, bytes).Scan(&large); err != nil || large {
			t.Fatal("new jobs do not turn it any more", err)
		}
		exec(`select awa.enqueue_many('k', array_fill(to_jsonb(repeat('x', 200)), array[$1::integer]), queue => 'new')`, jobs/2)
	}

	var kept, violations int
	if err := conn.QueryRow(t.Context(), `select c.failed, (select count(*) from awa.check()) from awa.queue_counts('kept') as c`).Scan(&kept, &violations); err != nil {
		t.Fatal(err)
	}
	if kept != batches*jobs || violations != 0 {
		t.Errorf("%d failed jobs of %d are kept, and check finds %d violations", kept, batches*jobs, violations)
	}
}
