package worker

import (
	"math"
	"time"
)

// bucket measures how busy a queue is. Producers that notify commit one after the
// other, each waiting for the disk by itself. So a queue with more jobs than this
// is looked at every few milliseconds instead, and producers pay nothing.
type bucket struct {
	tokens float64
	recent float64 // jobs of about the last rateWindow, older ones weighing less
	at     time.Time
}

const (
	quietRate  = 100 // jobs per second that may each wake the worker
	quietBurst = 25
	quietDebt  = -50 // half a second until a busy queue counts as quiet

	rateWindow = 200 * time.Millisecond
	closest    = 2 * time.Millisecond // between two looks at a busy queue
)

func newBucket() bucket { return bucket{tokens: quietBurst, at: time.Now()} }

// quiet reports whether the queue is worth waiting for.
func (b *bucket) quiet() bool {
	b.advance(time.Now())
	return b.tokens >= 1
}

// interval is how long to leave a busy queue alone: about until the next job comes.
func (b *bucket) interval() time.Duration {
	if b.recent < 1 {
		return gather
	}
	return min(max(time.Duration(float64(rateWindow)/b.recent), closest), gather)
}

func (b *bucket) advance(now time.Time) {
	passed := now.Sub(b.at)
	b.tokens = min(b.tokens+passed.Seconds()*quietRate, quietBurst)
	b.recent *= math.Exp(-float64(passed) / float64(rateWindow))
	b.at = now
}

func (b *bucket) spend(jobs int) {
	b.advance(time.Now())
	b.tokens = max(b.tokens-float64(jobs), quietDebt)
	b.recent += float64(jobs)
}
