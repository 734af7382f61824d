package worker

import (
	"testing"
	"time"
)

// A busy queue is looked at about as often as jobs come, within bounds.
func TestBucketInterval(t *testing.T) {
	b := newBucket()
	if got := b.interval(); got != gather {
		t.Errorf("with no jobs: %v, want %v", got, gather)
	}
	last := gather
	for jobs := range 200 {
		b.spend(1)
		got := b.interval()
		if got > last || got < closest {
			t.Fatalf("after %d jobs at once: %v, before %v, at least %v", jobs+1, got, last, closest)
		}
		last = got
	}
	if last != closest {
		t.Errorf("after 200 jobs at once: %v, want %v", last, closest)
	}
	if b.quiet() {
		t.Error("200 jobs at once are quiet")
	}
	b.at = b.at.Add(-5 * time.Second)
	if !b.quiet() {
		t.Error("five seconds later the queue is not quiet")
	}
	if got := b.interval(); got != gather {
		t.Errorf("five seconds later: %v, want %v", got, gather)
	}
}
