package worker

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// shares divides Config.MaxWorkers among queues by weight: stride scheduling. A
// queue's pass moves on by what it was granted over its weight, and of those that
// want places the one furthest behind is served first. A queue with a backlog
// wants more while it claims what it was granted: for a moment places are kept
// for it, or else the others would take all that come free meanwhile.
type shares struct {
	total   int
	freed   atomic.Int64 // given back and not yet taken off used
	waiters atomic.Int64

	mu      sync.Mutex // guards what follows and the fields of share
	used    int
	clock   float64 // pass of the share served last
	waiting []*share
	claims  map[*share]time.Time // that will want more, and until when they count
	again   *time.Timer          // a grant to come, when a claim ceases to count
}

// keep is how long a queue counts that claims.
const keep = 20 * time.Millisecond

func newShares(total int) *shares {
	return &shares{total: total, claims: map[*share]time.Time{}}
}

// stop ends what is to come.
func (s *shares) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.again != nil {
		s.again.Stop()
	}
}

type share struct {
	weight  float64
	pass    float64
	want    int
	granted chan int
}

func newShare(weight int) *share {
	return &share{weight: float64(weight), granted: make(chan int, 1)}
}

// take waits for up to want places and returns how many it got: 0 only when ctx
// is done.
func (s *shares) take(ctx context.Context, sh *share, want int) int {
	s.mu.Lock()
	// A queue that was idle has no claim on the past.
	sh.pass = max(sh.pass, s.clock)
	sh.want = want
	delete(s.claims, sh)
	s.waiting = append(s.waiting, sh)
	s.waiters.Add(1)
	s.grant()
	s.mu.Unlock()
	select {
	case n := <-sh.granted:
		return n
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiting, sh)
	if i < 0 {
		return <-sh.granted // meanwhile granted
	}
	s.remove(i)
	return 0
}

// refund returns places that found no job.
func (s *shares) refund(sh *share, n int) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
	sh.pass -= float64(n) / sh.weight
	delete(s.claims, sh)
	s.grant()
}

// release returns a place whose job is done. While nobody waits no lock is taken.
func (s *shares) release() {
	s.freed.Add(1)
	if s.waiters.Load() > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.grant()
	}
}

func (s *shares) grant() {
	s.used -= int(s.freed.Swap(0))
	for s.used < s.total && len(s.waiting) > 0 {
		first, weights := 0, 0.0
		for i, w := range s.waiting {
			weights += w.weight
			if w.pass < s.waiting[first].pass {
				first = i
			}
		}
		sh := s.waiting[first]
		if until := s.behind(sh); !until.IsZero() {
			s.grantAgain(until)
			return
		}
		free := s.total - s.used
		n := min(sh.want, max(1, int(float64(free)*sh.weight/weights)))
		s.used += n
		s.clock = sh.pass
		sh.pass += float64(n) / sh.weight
		s.remove(first)
		s.claims[sh] = time.Now().Add(keep)
		sh.granted <- n
	}
}

// behind returns until when sh should let a claiming queue go first that is
// further behind; zero: none is.
func (s *shares) behind(sh *share) (until time.Time) {
	now := time.Now()
	for other, end := range s.claims {
		switch {
		case !end.After(now):
			delete(s.claims, other)
		case other.pass < sh.pass && end.After(until):
			until = end
		}
	}
	return until
}

func (s *shares) grantAgain(at time.Time) {
	if s.again != nil {
		s.again.Reset(time.Until(at))
		return
	}
	s.again = time.AfterFunc(time.Until(at), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.grant()
	})
}

func (s *shares) remove(i int) {
	s.waiting = slices.Delete(s.waiting, i, i+1)
	s.waiters.Add(-1)
}
