package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// DrainAhead completes every job of a queue with n pairs of connections: one of a
// pair claims, the other completes all that is claimed by then, in one call. So
// the next claims are made while completions become durable.
func (d *Database) DrainAhead(ctx context.Context, queue string, n, batch int) (time.Duration, error) {
	return Crew(ctx, d, n, func(_ int, w *Worker) error { return w.drainAhead(ctx, queue, batch) })
}

// claimsAhead is how many claims may wait for their completion.
const claimsAhead = 2

func (w *Worker) drainAhead(ctx context.Context, queue string, batch int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	claimed := make(chan []awa.Job, claimsAhead)
	var claims sync.WaitGroup
	defer claims.Wait()
	defer cancel(nil)
	claims.Go(func() {
		defer close(claimed)
		for {
			jobs, err := Queue.Claim(ctx, w.Claims, awa.ClaimParams{Queue: queue, MaxJobs: batch})
			if err != nil {
				cancel(err)
			}
			if err != nil || len(jobs) == 0 {
				return
			}
			select {
			case claimed <- jobs:
			case <-ctx.Done():
				return
			}
		}
	})
	for jobs := range claimed {
		w.receipts = w.receipts[:0]
		for more := true; more; {
			for i := range jobs {
				w.receipts = append(w.receipts, jobs[i].Receipt)
			}
			select {
			case jobs, more = <-claimed:
			default:
				more = false
			}
		}
		stale, err := Queue.CompleteMany(ctx, w.Finishes, w.receipts)
		if err == nil && len(stale) > 0 {
			err = fmt.Errorf("%d of %d receipts are stale", len(stale), len(w.receipts))
		}
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}
