package proof

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/awaqueue/awa/internal/pgtest"
)

// Many schedules due in the same second, several sessions that maintain, and
// somebody who changes schedules meanwhile: each fires once.
func TestCronFiresOnce(t *testing.T) {
	t.Parallel()
	const schedules, sessions = 10_000, 4
	url := pgtest.URL(t)
	pool := newPool(t, url)
	fire := time.Now().UTC().Truncate(time.Second)

	// Made by a clock that is behind, so that all of them are due at once.
	conn := pgtest.Conn(t, url)
	exec(t, conn, `select set_config('awa.now', $1, false)`, fire.Add(-time.Minute).Format(time.RFC3339))
	exec(t, conn, `select awa.upsert_schedule('s' || n, $1, 'k', queue => 'q' || n % 20, missed_fire => 'catch_up')
		from generate_series(1, $2::integer) as n`, fmt.Sprintf("%d %d %d * * *", fire.Second(), fire.Minute(), fire.Hour()), schedules)
	exec(t, conn, `select set_config('awa.now', '', false)`)

	began := time.Now()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	var group sync.WaitGroup
	for range sessions {
		group.Go(func() {
			for ctx.Err() == nil {
				if _, err := queue.Maintain(ctx, pool); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	group.Go(func() {
		for n := 1; ctx.Err() == nil; n += 97 {
			_, err := pool.Exec(ctx, `select awa.upsert_schedule('s' || $1::integer, $2, 'changed', queue => 'q' || $1::integer % 20)`,
				n%schedules+1, fmt.Sprintf("%d %d %d * * *", fire.Second(), fire.Minute(), fire.Hour()))
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	for ctx.Err() == nil && value[int64](t, pool, `select count(*) from awa.cron_fires as f where not f.changed`) < schedules {
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("%d fires in %v", schedules, time.Since(began))
	stop()
	group.Wait()

	wrong := value[int64](t, pool, `select count(*) from (
		select s.name, count(j.id) filter (where j.run_at = $1) as jobs, count(j.id) as all_jobs
		from awa.cron_schedules as s
		left join awa.jobs as j on j.metadata ->> 'cron_name' = s.name
		group by s.name
	) as f where f.jobs <> 1 or f.all_jobs <> 1`, fire)
	if wrong != 0 {
		t.Errorf("%d schedules did not fire once", wrong)
	}
	requireHealthy(t, pool)
}
