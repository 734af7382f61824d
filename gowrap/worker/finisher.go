package worker

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// finisher writes what became of attempts. Handlers push theirs onto a stack
// without a lock; one goroutine takes them off and writes them by the batch:
// batches of a claim whole, if they become so within CompleteDelay, for a whole
// one costs the server a single row.
type finisher struct {
	c     *Client
	head  atomic.Pointer[Attempt]
	fresh atomic.Int64 // pushed and not yet taken
	open  atomic.Int64 // pushed and not yet written
	first signal       // fresh rose from 0
	full  signal       // fresh reached CompleteBatch
	hurry chan struct{}

	// Of the loop alone.
	held   map[*batch]struct{} // partly returned
	tracks [2]track
	done   chan written
}

// track is a kind of finish. Completions have one of their own, so that they never
// wait behind a snooze that waits for a lock.
type track struct {
	ready  []*Attempt
	writes int             // under way, but for those that are held up
	busy   map[*batch]bool // batches that are being written
}

const (
	trackComplete = iota
	trackOther
	writesPerTrack = 2
)

// written tells the loop that attempts are written, or that their write leaves its track to
// others because it is held up.
type written struct {
	track    int
	attempts []*Attempt
	leaves   bool // the track
}

func newFinisher(c *Client) *finisher {
	f := &finisher{c: c, first: newSignal(), full: newSignal(), hurry: make(chan struct{}),
		held: map[*batch]struct{}{}, done: make(chan written, 2*writesPerTrack)}
	for i := range f.tracks {
		f.tracks[i].busy = map[*batch]bool{}
	}
	return f
}

// unwritten is how many attempts have returned whose end is not yet written.
func (f *finisher) unwritten() int { return int(f.open.Load()) }

// push hands an attempt over. Its state and result do not change any more.
func (f *finisher) push(a *Attempt) {
	f.open.Add(1)
	for {
		a.next = f.head.Load()
		if f.head.CompareAndSwap(a.next, a) {
			break
		}
	}
	switch f.fresh.Add(1) {
	case int64(f.c.cfg.CompleteBatch):
		f.full.set()
	case 1:
		f.first.set()
	}
}

// loop runs until hurry is closed and all that was pushed before is written, or
// given up because ctx is done.
func (f *finisher) loop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	timer.Stop()
	hurry := f.hurry
	waiting := false // for the timer
	for {
		select {
		case <-f.first:
			if !waiting {
				waiting = true
				timer.Reset(f.c.cfg.CompleteDelay)
			}
			continue
		case <-f.full:
		case <-timer.C:
		case w := <-f.done:
			f.acknowledge(w)
		case <-hurry:
			hurry = nil
		}
		f.take()
		due := f.write(ctx, time.Now(), hurry == nil)
		if hurry == nil && f.open.Load() == 0 {
			return
		}
		if f.head.Load() != nil { // pushed meanwhile, perhaps without a signal
			due = earliest(due, time.Now().Add(f.c.cfg.CompleteDelay))
		}
		if waiting = !due.IsZero(); waiting {
			timer.Reset(max(time.Until(due), 0))
		} else {
			timer.Stop()
		}
	}
}

// take empties the stack. Batches that are whole become ready.
func (f *finisher) take() {
	var taken []*Attempt
	for a := f.head.Swap(nil); a != nil; a = a.next {
		taken = append(taken, a)
	}
	f.fresh.Add(-int64(len(taken)))
	for _, a := range slices.Backward(taken) {
		a.next = nil // or it would keep those that returned before it
		b := a.batch
		b.returned = append(b.returned, a)
		f.held[b] = struct{}{}
		if b.running--; b.running > 0 {
			continue
		}
		if len(b.returned) == len(b.attempts) {
			copy(b.returned, b.attempts) // in the order of the claim
		}
		f.ready(b)
	}
}

// ready moves what has returned of a batch to the tracks.
func (f *finisher) ready(b *batch) {
	for _, a := range b.returned {
		t := &f.tracks[trackOther]
		if a.verdict.outcome == Completed && !a.inTx.Load() {
			t = &f.tracks[trackComplete]
		}
		t.ready = append(t.ready, a)
	}
	b.returned = nil
	delete(f.held, b)
}

// write starts the writes that are due and returns when to look again; zero: not
// before something happens.
func (f *finisher) write(ctx context.Context, now time.Time, hurrying bool) (due time.Time) {
	delay := f.c.cfg.CompleteDelay
	for b := range f.held {
		if at := b.returned[0].finishedAt.Add(delay); hurrying || !at.After(now) {
			f.ready(b)
		} else {
			due = earliest(due, at)
		}
	}
	for i := range f.tracks {
		t := &f.tracks[i]
		attempts, since := t.free()
		at := since.Add(delay)
		switch {
		case len(attempts) == 0 || t.writes == writesPerTrack:
			// The end of a write wakes the loop.
		case hurrying || len(attempts) >= f.c.cfg.CompleteBatch || !at.After(now):
			t.take(attempts)
			go f.send(ctx, attempts, i)
		default:
			due = earliest(due, at)
		}
	}
	return due
}

// free are the attempts that may be written now, and since when the first of them waits. What
// is left of a batch waits for the write of the rest: the server would let it wait as well,
// and where that one is held up for long, every other write that had a part in it.
func (t *track) free() (attempts []*Attempt, since time.Time) {
	if len(t.busy) == 0 {
		attempts = t.ready
	} else {
		for _, a := range t.ready {
			if !t.busy[a.batch] {
				attempts = append(attempts, a)
			}
		}
	}
	for i, a := range attempts {
		if i == 0 || a.finishedAt.Before(since) {
			since = a.finishedAt
		}
	}
	return attempts, since
}

// take begins a write of what is free.
func (t *track) take(attempts []*Attempt) {
	t.writes++
	if len(attempts) == len(t.ready) {
		t.ready = nil
	} else {
		t.ready = slices.DeleteFunc(t.ready, func(a *Attempt) bool { return !t.busy[a.batch] })
	}
	var last *batch
	for _, a := range attempts {
		if a.batch != last {
			last = a.batch
			t.busy[last] = true
		}
	}
}

// send writes attempts.
func (f *finisher) send(ctx context.Context, attempts []*Attempt, track int) {
	leaves := true
	var once sync.Once
	f.c.write(ctx, attempts, track, func() {
		once.Do(func() {
			leaves = false
			f.done <- written{track: track, leaves: true}
		})
	})
	f.done <- written{track, attempts, leaves}
}

// acknowledge lets the claims go on that waited for a write.
func (f *finisher) acknowledge(w written) {
	t := &f.tracks[w.track]
	if w.leaves {
		t.writes--
	}
	if len(w.attempts) == 0 {
		return
	}
	for _, a := range w.attempts {
		delete(t.busy, a.batch)
	}
	f.open.Add(-int64(len(w.attempts)))
	f.c.live.written(w.attempts)
	for _, q := range f.c.queues {
		q.free.set()
		q.finished()
	}
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
