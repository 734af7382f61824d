package worker

import (
	"context"
	"sync"
	"time"
)

// door bounds the tries of queues, of which there may be thousands, while claims cannot be
// sent: a few loops try, and the others wait until somebody gets through.
type door struct {
	turns chan struct{} // of those that try

	mu    sync.Mutex    // guards what follows
	shut  chan struct{} // closed when the door opens; nil: it is open
	pause backoff       // between tries
}

// tries is how many loops try at once.
const tries = 4

func newDoor() *door { return &door{turns: make(chan struct{}, tries)} }

// enter waits while the door is shut, unless there is a turn for one that tries. Whoever has a
// turn gives it back by leave.
func (d *door) enter(ctx context.Context) (turn bool) {
	d.mu.Lock()
	shut := d.shut
	d.mu.Unlock()
	if shut == nil {
		return false
	}
	select {
	case <-shut:
		return false
	case d.turns <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (d *door) leave(turn bool) {
	if turn {
		<-d.turns
	}
}

// open lets everybody through: the server has answered.
func (d *door) open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut != nil {
		close(d.shut)
		d.shut = nil
		d.pause.reset()
	}
}

// close shuts the door after a try that failed, and returns how long one with a turn keeps it
// before the next try.
func (d *door) close(turn bool) (pause time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut == nil {
		d.shut = make(chan struct{})
	}
	if !turn {
		return 0
	}
	return d.pause.next()
}
