package worker

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// Places that come free while all queues wait go out by weight.
func TestSharesByWeight(t *testing.T) {
	s := newShares(1)
	defer s.stop()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var got [2]atomic.Int64
	for i, weight := range []int{3, 1} {
		sh := newShare(weight)
		all.Go(func() {
			for s.take(ctx, sh, 1) > 0 {
				got[i].Add(1)
			}
		})
	}
	served := func() int64 { return got[0].Load() + got[1].Load() }
	for n := int64(1); n <= 400; n++ {
		for served() < n || s.waiters.Load() < 2 {
			runtime.Gosched()
		}
		s.release()
	}
	cancel()
	all.Wait()
	if heavy := got[0].Load(); heavy < 295 || heavy > 305 {
		t.Errorf("the queue of weight 3 got %d of 400 places", heavy)
	}
}

// A queue that does not use its share leaves it to the others, and has no credit
// for it later.
func TestSharesIdle(t *testing.T) {
	s := newShares(8)
	defer s.stop()
	busy, idle := newShare(1), newShare(1)
	for range 100 {
		n := s.take(t.Context(), busy, 8)
		if n != 8 {
			t.Fatalf("alone, a queue got %d of 8 places", n)
		}
		for range n {
			s.release()
		}
	}
	if n := s.take(t.Context(), idle, 2); n != 2 {
		t.Fatalf("got %d places", n)
	}
	if idle.pass < busy.pass-8 {
		t.Errorf("the idle queue is at %v, the busy one at %v", idle.pass, busy.pass)
	}
	s.refund(idle, 2)
	if n := s.take(t.Context(), busy, 8); n != 8 {
		t.Errorf("after a refund a queue got %d of 8 places", n)
	}
	if n := s.take(over, idle, 1); n != 0 {
		t.Errorf("got %d places of none", n)
	}
}

// Nobody waits for a place that is free, whoever claims.
func TestSharesKeepNothingForEver(t *testing.T) {
	s := newShares(4)
	defer s.stop()
	slow, other := newShare(1), newShare(1)
	other.pass = 100 // ahead, so that the slow one would be first
	if n := s.take(t.Context(), slow, 1); n != 1 {
		t.Fatalf("got %d places", n)
	}
	if n := s.take(t.Context(), other, 3); n == 0 {
		t.Error("got no place")
	}
}
