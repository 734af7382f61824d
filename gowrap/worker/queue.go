package worker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// queue claims the jobs of one queue. Each has a loop of its own, so that one
// whose claims wait for somebody does not hold up the others.
type queue struct {
	c    *Client
	name string
	cfg  QueueConfig

	running atomic.Int64 // handlers that run, claims under way included
	enough  atomic.Int64 // free places that free is set for
	free    signal       // enough places are free, or finishes were written
	share   *share

	wake    signal // the listener: there may be jobs, or waiting has ended
	armed   int64  // the listener's session that waits for this queue, or 0
	traffic bucket
	errors  backoff
	most    int // jobs of a claim; see tooMany

	// A queue with a limit holds jobs back, and nobody notifies when it may hand out
	// more of them.
	held  atomic.Bool   // jobs came to be claimable without a notification
	timed bool          // nothing but the clock ended the last rest
	pause time.Duration // the last rest of a queue that is held
}

func newQueue(c *Client, name string, cfg QueueConfig) *queue {
	return &queue{c: c, name: name, cfg: cfg, free: newSignal(), wake: newSignal(),
		share: newShare(cfg.Weight), traffic: newBucket(), most: cfg.MaxClaim}
}

// over is done: what takes it gets what there is and does not wait.
var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// gather is how long a busy queue waits for more places to come free, so that
// quick jobs are not claimed one by one.
const gather = 5 * time.Millisecond

// loop claims until ctx is done. A claim under way goes on until hard is.
func (q *queue) loop(ctx, hard context.Context) {
	busy, streak := false, 0 // claims since the last one that found nothing
	for ctx.Err() == nil {
		n := q.places(ctx, busy)
		if n == 0 {
			break
		}
		turn := q.c.door.enter(ctx)
		jobs, worker, err := q.claim(ctx, hard, n)
		got := len(jobs)
		q.giveBack(n - got)
		if err != nil {
			if ctx.Err() != nil && got == 0 {
				q.c.door.leave(turn)
				break
			}
			pause := q.errors.next()
			var unsent *unsentError
			if errors.As(err, &unsent) {
				pause = max(pause, q.c.door.close(turn))
			} else if errors.Is(err, context.DeadlineExceeded) || sqlState(err) == tooLong {
				q.tooMany(n)
			}
			message := "Claim failed; will try again"
			if errors.Is(err, awa.ErrNeedsRebase) {
				message = "Claim failed: the storage was restored from elsewhere and needs awa.rebase()"
			}
			q.c.warn(message, err, "queue", q.name)
			sleep(ctx, pause)
			q.c.door.leave(turn)
			continue
		}
		q.c.door.open()
		q.c.door.leave(turn)
		q.errors.reset()
		if got > 0 {
			q.c.start(q, worker, jobs, ctx.Err() != nil)
		}
		q.c.identity.leave(worker)
		if got > 0 {
			streak++
			if busy = got == n; busy {
				q.most = min(q.most+q.most/8+1, q.cfg.MaxClaim)
			}
			q.traffic.spend(got)
			q.pause = 0
			if q.timed {
				q.held.Store(true)
			}
			// Producers pay for waking a worker, so one that is busy says so.
			if q.armed != 0 && (busy || streak > 1) {
				q.disarm()
			}
			continue
		}
		busy, streak = false, 0
		q.rest(ctx)
	}
	q.disarm()
}

// tooLong is the SQLSTATE of what a statement_timeout ends, which counts while the answer is
// sent.
const tooLong = "57014"

// tooMany halves the next claim after one of n jobs whose answer did not come in time. Jobs
// too large for the network would else be claimed and lost until they have no attempts left,
// or, where the server gives up first, never be claimed.
// Each answer with as many as were asked for allows some more again.
func (q *queue) tooMany(n int) { q.most = max(n/2, 1) }

// rest returns when the queue should be looked at again. The first time it only
// announces that the queue waits: a job may have come in between.
func (q *queue) rest(ctx context.Context) {
	q.timed = false
	pause := q.c.cfg.PollInterval
	if l := q.c.listener; l != nil {
		if q.armed != l.session() {
			q.armed = 0
		}
		switch {
		case !q.traffic.quiet():
			q.disarm()
			pause = q.traffic.interval()
		case q.armed == 0:
			if q.armed = l.startWaiting(ctx, q); q.armed != 0 {
				return
			}
		case q.held.Load():
			q.pause = min(max(2*q.pause, gather), pause)
			if q.pause == pause {
				q.held.Store(false)
			}
			pause = q.pause
		}
	}
	timer := time.NewTimer(jitter(pause))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
		q.timed = q.armed != 0
	case <-q.wake:
	}
}

// finished tells a queue that holds jobs back that some were finished.
func (q *queue) finished() {
	if q.held.Load() {
		q.wake.set()
	}
}

func (q *queue) disarm() {
	if q.armed != 0 {
		q.c.listener.stopWaiting(q, q.armed)
		q.armed = 0
	}
}

// places waits until the queue may claim and returns how many jobs: 0 when ctx is
// done. They are taken: giveBack or release returns them.
func (q *queue) places(ctx context.Context, busy bool) int {
	enough := 1
	if busy {
		enough = min(q.most, (q.cfg.MaxWorkers+1)/2, (q.c.cfg.MaxUnacknowledged+1)/2)
	}
	var patient <-chan time.Time
	for ctx.Err() == nil {
		q.enough.Store(int64(enough))
		free := q.cfg.MaxWorkers - int(q.running.Load())
		free = min(free, q.most, q.c.cfg.MaxUnacknowledged-q.c.finisher.unwritten())
		if free >= enough {
			return q.take(ctx, free, busy)
		}
		if patient == nil && free > 0 {
			timer := time.NewTimer(gather)
			defer timer.Stop()
			patient = timer.C
		}
		select {
		case <-ctx.Done():
		case <-q.free:
		case <-patient:
			enough, patient = 1, nil
		}
	}
	return 0
}

// take takes up to n places, within the queue's share of all.
func (q *queue) take(ctx context.Context, n int, busy bool) int {
	if s := q.c.shares; s != nil {
		want := n
		n = s.take(ctx, q.share, want)
		if busy && n > 0 && n < (want+1)/2 && sleep(ctx, gather) {
			n += s.take(over, q.share, want-n)
		}
	}
	q.running.Add(int64(n))
	return n
}

func (q *queue) giveBack(n int) {
	q.running.Add(int64(-n))
	if q.c.shares != nil {
		q.c.shares.refund(q.share, n)
	}
}

// release returns the place of one job that is done.
func (q *queue) release() {
	running := q.running.Add(-1)
	if q.c.shares != nil {
		q.c.shares.release()
	}
	if int64(q.cfg.MaxWorkers)-running >= q.enough.Load() {
		q.free.set()
	}
}

// unsentError is why a claim was not even sent: the client's name could not be made known, or
// no connection of the pool came free.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return e.err.Error() }
func (e *unsentError) Unwrap() error { return e.err }

// claim claims under the client's current name, which its caller leaves if there is no error.
// When ctx is done it sends no claim, and waits until hard is for the answer to one.
func (q *queue) claim(ctx, hard context.Context, n int) (jobs []awa.Job, worker string, err error) {
	cfg := &q.c.cfg
	ctx, cancel := context.WithTimeout(ctx, q.c.patience)
	defer cancel()
	for entered := false; !entered; entered = q.c.identity.enter(worker) {
		worker, err = q.c.identity.name(ctx, cfg.Client, cfg.Pool)
		if err != nil {
			return nil, "", &unsentError{err}
		}
	}
	defer func() {
		if err != nil {
			q.c.identity.leave(worker)
		}
	}()
	conn, err := cfg.Pool.Acquire(ctx)
	if err != nil {
		return nil, worker, &unsentError{fmt.Errorf("wait for a connection: %w", err)}
	}
	defer conn.Release()
	hard, cut := context.WithTimeout(hard, q.c.patience)
	defer cut()
	jobs, err = cfg.Client.Claim(hard, conn, awa.ClaimParams{
		Queue: q.name, MaxJobs: n, Worker: worker, Lease: cfg.Lease, Async: true})
	if err != nil {
		q.c.identity.doubt(worker, err)
		return nil, worker, err
	}
	return jobs, worker, nil
}
