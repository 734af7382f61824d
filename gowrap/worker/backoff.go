package worker

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff spaces out what fails: from 50 ms on, doubled up to 2 s, with jitter,
// so that a server that comes back is not met by everybody at once.
type backoff struct{ failures int }

func (b *backoff) next() time.Duration {
	d := min(50*time.Millisecond<<min(b.failures, 10), 2*time.Second)
	b.failures++
	return jitter(d)
}

func (b *backoff) reset() { b.failures = 0 }

// jitter is d, up to a quarter less.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d)/4+1))
}

// sleep reports whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// signal sets a flag that a loop waits for; setting it twice is setting it once.
type signal chan struct{}

func newSignal() signal { return make(chan struct{}, 1) }

func (s signal) set() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// patience bounds one statement: a connection that went dead without a word must
// not hold up its loop for ever.
const patience = 30 * time.Second
