package lifecycle_test

import (
	"fmt"
	"testing"
)

// TestAClaimLooksTombstonesUp counts the rows that the plans of a claim work on among jobs that
// were deleted while they waited, where nothing seems to be in the tables.
func TestAClaimLooksTombstonesUp(t *testing.T) {
	exec, worked := working(t)
	const jobs = 1000
	exec(`select awa.enqueue_many('k', array_fill('1'::jsonb, array[$1::integer]), queue => 'q')`, jobs)
	exec(`delete from awa.jobs where queue = 'q' and id % 2 = 0`)
	exec(fmt.Sprintf(believe, ".*"))
	if n := worked(fmt.Sprintf(`select 1 / (count(*) = %d)::integer from awa.claim('q', %d)`, jobs/2, jobs)); n > 50*jobs {
		t.Errorf("a claim worked on %d rows beside %d tombstones", n, jobs/2)
	}
}
