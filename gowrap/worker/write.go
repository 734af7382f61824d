package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// write writes what became of attempts, and tries again until it is written or
// ctx is done. Trying again is safe: what was written already is stale.
func (c *Client) write(ctx context.Context, attempts []*Attempt, kind int) {
	if kind == laneComplete {
		c.writeCompleted(ctx, attempts)
		return
	}
	type group struct {
		delay    time.Duration
		terminal bool
	}
	failed := map[group]*awa.FailManyParams{}
	snoozed := map[time.Duration][]awa.Receipt{}
	var checked awa.FailManyParams
	var cancelled, parked []*Attempt
	for _, a := range attempts {
		switch v := a.verdict; {
		case a.lost.isSet():
			// Whoever closed it has decided.
		case v.outcome == Completed:
			add(&checked, a, errUncommitted.Error())
		case v.outcome == Failed:
			p := failed[group{v.delay, v.terminal}]
			if p == nil {
				p = &awa.FailManyParams{RetryAfter: v.delay, Terminal: v.terminal}
				failed[group{v.delay, v.terminal}] = p
			}
			add(p, a, v.text)
		case v.outcome == Snoozed:
			snoozed[v.delay] = append(snoozed[v.delay], a.Receipt)
		case v.outcome == Cancelled:
			cancelled = append(cancelled, a)
		case v.outcome == Parked:
			parked = append(parked, a)
		}
	}
	// In a transaction of CompleteTx that did commit the receipt is stale.
	if n := c.writeFailed(ctx, &checked); n > 0 {
		c.log.Error("Handlers returned nil, but the transactions of their CompleteTx did not commit", "jobs", n)
	}
	for _, p := range failed {
		c.writeFailed(ctx, p)
	}
	var calls []call
	for delay, receipts := range snoozed {
		calls = append(calls, call{len(receipts), func(ctx context.Context) error {
			_, err := c.cfg.Client.SnoozeMany(ctx, c.cfg.Pool, receipts, delay)
			return err
		}})
	}
	for _, a := range cancelled {
		calls = append(calls, call{1, func(ctx context.Context) error {
			_, err := c.cfg.Client.CancelAttempt(ctx, c.cfg.Pool, a.Receipt, a.verdict.text)
			return err
		}})
	}
	for _, a := range parked {
		// Not accepted: it was answered before.
		calls = append(calls, call{1, func(ctx context.Context) error {
			_, err := c.cfg.Client.Park(ctx, c.cfg.Pool, a.Receipt)
			return err
		}})
	}
	c.writeEach(ctx, calls)
	if len(failed)+len(snoozed) > 0 && c.maintainer != nil {
		c.maintainer.deferred.set()
	}
}

func add(p *awa.FailManyParams, a *Attempt, text string) {
	p.Receipts = append(p.Receipts, a.Receipt)
	p.Errors = append(p.Errors, text)
}

func (c *Client) writeCompleted(ctx context.Context, attempts []*Attempt) {
	receipts := make([]awa.Receipt, len(attempts))
	for i, a := range attempts {
		receipts[i] = a.Receipt
	}
	c.persist(ctx, len(receipts), func(ctx context.Context) error {
		stale, err := c.cfg.Client.CompleteMany(ctx, c.cfg.Pool, receipts)
		if err == nil && len(stale) > 0 {
			c.log.Warn("Attempts were closed before they were completed", "jobs", len(stale), "first", stale[0].JobID)
		}
		return err
	})
}

// writeFailed returns how many were accepted.
func (c *Client) writeFailed(ctx context.Context, p *awa.FailManyParams) (accepted int) {
	if len(p.Receipts) == 0 {
		return 0
	}
	c.persist(ctx, len(p.Receipts), func(ctx context.Context) error {
		results, err := c.cfg.Client.FailMany(ctx, c.cfg.Pool, *p)
		accepted = len(results)
		return err
	})
	return accepted
}

// call writes the end of some attempts.
type call struct {
	jobs int
	f    func(context.Context) error
}

// callers is how many connections share the calls of one write.
const callers = 4

// writeEach makes calls that do not depend on each other.
func (c *Client) writeEach(ctx context.Context, calls []call) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(callers, len(calls)) {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(calls) {
					return
				}
				c.persist(ctx, calls[i].jobs, calls[i].f)
			}
		})
	}
	all.Wait()
}

// persist repeats f until it succeeds or ctx is done.
func (c *Client) persist(ctx context.Context, jobs int, f func(context.Context) error) {
	var pause backoff
	for {
		try, cancel := context.WithTimeout(ctx, patience)
		err := f(try)
		cancel()
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			c.warn("Could not finish jobs; will try again", err, "jobs", jobs)
			if errors.Is(err, awa.ErrRetry) && pause.failures == 0 {
				pause.failures++
				continue
			}
			if sleep(ctx, pause.next()) {
				continue
			}
		}
		c.abandoned.Add(int64(jobs))
		return
	}
}
