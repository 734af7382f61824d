package worker

import (
	"sync"
	"sync/atomic"

	awa "github.com/awaqueue/awa/gowrap"
)

// batch is what one claim returned. Its attempts are best written together.
type batch struct {
	worker   string // under whose name it was claimed
	queue    *queue
	attempts []*Attempt // nil: its handler has returned, and that is written

	begun   atomic.Int64 // attempts whose handlers run or have run
	waiting atomic.Bool  // a goroutine is on its way to begin the next one

	// Of the finisher alone.
	running  int        // handlers that have not returned
	returned []*Attempt // and not yet ready to be written

	unwritten int // guarded by live.mu
}

// small is how many bytes of documents a job of a batch may have on average for its jobs to
// be kept in one piece of memory, about as much as they take without: that is quicker, but
// none is let go before the last.
const small = 500

func newBatch(q *queue, worker string, jobs []awa.Job) *batch {
	b := &batch{worker: worker, queue: q, attempts: make([]*Attempt, len(jobs)), running: len(jobs)}
	bytes := 0
	for i := range jobs {
		j := &jobs[i]
		bytes += len(j.Args) + len(j.Metadata) + len(j.Progress)
		for _, e := range j.Errors {
			bytes += len(e)
		}
	}
	if bytes <= small*len(jobs) {
		all := make([]Attempt, len(jobs))
		for i := range jobs {
			all[i].Job = &jobs[i]
			b.attempts[i] = &all[i]
		}
	} else {
		for i := range jobs {
			own := &struct {
				Attempt
				job awa.Job
			}{job: jobs[i]}
			own.Job = &own.job
			b.attempts[i] = &own.Attempt
		}
	}
	for i, a := range b.attempts {
		a.batch, a.place = b, i
	}
	return b
}

// The states of an attempt. Whoever moves it to one of the last two hands it to the
// finisher: its handler's return, or the stop that gives it back. One that was given back
// before its handler began does not begin any more.
const (
	stateClaimed int32 = iota
	stateRunning
	stateReturned
	stateReleased
)

// live are the batches of which something is not yet written. It is touched once
// per claim and once per write, never per job.
type live struct {
	mu      sync.Mutex // guards what follows
	batches map[*batch]struct{}
}

func (l *live) add(b *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.unwritten = len(b.attempts)
	l.batches[b] = struct{}{}
}

// written takes attempts off, and lets go of those whose handlers are through: one that was
// given back may be yet to find that out.
func (l *live) written(attempts []*Attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range attempts {
		if a.state.Load() == stateReturned {
			a.batch.attempts[a.place] = nil
		}
		if a.batch.unwritten--; a.batch.unwritten == 0 {
			delete(l.batches, a.batch)
		}
	}
}

// workers are the names that have attempts.
func (l *live) workers() map[string]struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := map[string]struct{}{}
	for b := range l.batches {
		names[b.worker] = struct{}{}
	}
	return names
}

// of are the receipts of what was claimed under a name.
func (l *live) of(worker string) []awa.Receipt {
	var receipts []awa.Receipt
	for _, a := range l.all() {
		if a.batch.worker == worker {
			receipts = append(receipts, a.Receipt)
		}
	}
	return receipts
}

// find returns the attempts that receipts name, in their order; nil for one that
// is written already. Prune may move an attempt to another slot, so the slot does
// not count.
func (l *live) find(receipts []awa.Receipt) []*Attempt {
	type key struct{ job, lease int64 }
	found := make(map[key]*Attempt, len(receipts))
	for _, r := range receipts {
		found[key{r.JobID, r.RunLease}] = nil
	}
	for _, a := range l.all() {
		k := key{a.Receipt.JobID, a.Receipt.RunLease}
		if _, asked := found[k]; asked {
			found[k] = a
		}
	}
	attempts := make([]*Attempt, len(receipts))
	for i, r := range receipts {
		attempts[i] = found[key{r.JobID, r.RunLease}]
	}
	return attempts
}

func (l *live) all() []*Attempt {
	l.mu.Lock()
	defer l.mu.Unlock()
	var attempts []*Attempt
	for b := range l.batches {
		for _, a := range b.attempts {
			if a != nil {
				attempts = append(attempts, a)
			}
		}
	}
	return attempts
}
