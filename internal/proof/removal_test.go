package proof

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

// passing is where jobs come and go: often enough nothing is left of one.
var passing = []string{"passing 1", "passing 2", "passing 3", "passing 4", "passing 5", "passing 6"}

// TestRemovalLosesNothing removes queues as soon as they are empty, beside producers
// that go on to use them, with snapshots of before as well.
func TestRemovalLosesNothing(t *testing.T) {
	pool := newPool(t, pgtest.URL(t))
	ledger := newLedger()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var removed, kept, dry atomic.Int64
	run := func(crew *sync.WaitGroup, ctx context.Context, what string, step func() error) {
		crew.Go(func() {
			for ctx.Err() == nil {
				if err := step(); err != nil && ctx.Err() == nil {
					cancel(fmt.Errorf("%s: %w", what, err))
				}
			}
		})
	}

	producing, stop := context.WithCancel(ctx)
	defer stop()
	var producers, others sync.WaitGroup
	for _, isolation := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable} {
		run(&producers, producing, "produce", func() error {
			pause(ctx, 60*time.Millisecond)
			if ledger.unclaimed() > 100 {
				return nil // or no queue would be empty where workers are slow
			}
			name := passing[rand.IntN(len(passing))]
			var ids []int64
			err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: isolation}, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, "select 1"); err != nil { // a snapshot
					return err
				}
				pause(ctx, 100*time.Millisecond)
				for range 1 + rand.IntN(2) {
					added, err := add(ctx, tx, name)
					if err != nil {
						return err
					}
					ids = append(ids, added...)
				}
				if rand.IntN(5) == 0 {
					return errRollback
				}
				return nil
			})
			var refused interface{ SQLState() string }
			switch {
			case err == nil:
				ledger.enqueued(name, ids)
			case errors.Is(err, errRollback), errors.As(err, &refused) && refused.SQLState() == "40001":
				return nil
			}
			return err
		})
	}
	run(&others, ctx, "work", func() error {
		found := 0
		for _, name := range passing {
			jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: name, MaxJobs: 100})
			if err != nil {
				return err
			}
			ledger.claimed(jobs)
			found += len(jobs)
			for _, j := range jobs {
				if ok, err := queue.Complete(ctx, pool, j.Receipt); err != nil || !ok {
					return fmt.Errorf("job %d: %v, %w", j.ID, ok, err)
				}
			}
		}
		if _, err := pool.Exec(ctx, "select from awa.maintain()"); err != nil {
			return err
		}
		if found == 0 {
			dry.Add(1)
		} else {
			dry.Store(0)
		}
		return nil
	})
	run(&others, ctx, "remove", func() error {
		if _, err := pool.Exec(ctx, "select awa.rotate(), awa.prune(), awa.prune()"); err != nil {
			return err
		}
		for _, name := range passing {
			gone, err := queue.RemoveQueue(ctx, pool, name)
			switch {
			case errors.Is(err, awa.ErrWrongState), errors.Is(err, awa.ErrBusy):
				kept.Add(1)
			case err != nil:
				return err
			case gone:
				removed.Add(1)
			}
		}
		return nil
	})

	// Producers met many removals, then the rest is worked on.
	for patience := time.Now().Add(5 * time.Minute); removed.Load() < 25 && time.Now().Before(patience) && ctx.Err() == nil; {
		pause(ctx, 20*time.Millisecond)
	}
	stop()
	producers.Wait()
	// What as many looks in a row do not find is lost.
	dry.Store(0)
	for (ledger.unclaimed() > 0 && dry.Load() < 100 || dry.Load() < 3) && ctx.Err() == nil {
		pause(ctx, 20*time.Millisecond)
	}
	failure := context.Cause(ctx)
	cancel(nil)
	others.Wait()
	if failure != nil {
		t.Fatal(failure)
	}
	if removed.Load() < 25 {
		t.Errorf("too little happened: %d removed", removed.Load())
	}
	if n := ledger.unclaimed(); n > 0 {
		t.Errorf("%d of %d jobs were lost", n, len(ledger.committed))
	}
	for _, fault := range ledger.faults {
		t.Error(fault)
	}
	requireHealthy(t, pool)
	t.Logf("%d jobs, %d queues removed, %d kept", len(ledger.committed), removed.Load(), kept.Load())
}
