package proof

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"sync"

	awa "github.com/awaqueue/awa/gowrap"
)

func number(n *int64) string {
	if n == nil {
		return "null"
	}
	return strconv.FormatInt(*n, 10)
}

// attempt names one hand-out of a job.
type attempt struct {
	job   int64
	lease int64
}

// ledger is what a load believes: which jobs were committed, which attempts
// were handed out and how each ended. It collects contradictions.
type ledger struct {
	mu        sync.Mutex
	committed map[int64]string // job: queue
	handed    map[attempt]awa.Receipt
	leases    map[int64]int64 // job: its newest lease handed out
	ended     map[attempt]awa.JobState
	terminal  map[int64]awa.JobState
	faults    []string
}

func newLedger() *ledger {
	return &ledger{
		committed: map[int64]string{},
		handed:    map[attempt]awa.Receipt{},
		leases:    map[int64]int64{},
		ended:     map[attempt]awa.JobState{},
		terminal:  map[int64]awa.JobState{},
	}
}

func (l *ledger) fault(format string, args ...any) {
	if len(l.faults) < 50 {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

func (l *ledger) enqueued(queue string, ids []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		if _, dup := l.committed[id]; dup {
			l.fault("job %d was enqueued twice", id)
		}
		l.committed[id] = queue
	}
}

// claimed records hand-outs that were committed.
func (l *ledger) claimed(jobs []awa.Job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, j := range jobs {
		a := attempt{j.ID, j.Receipt.RunLease}
		if earlier, dup := l.handed[a]; dup {
			l.fault("attempt %v was handed out twice: %v and %v", a, earlier, j.Receipt)
		}
		l.handed[a] = j.Receipt
		if int64(j.Attempt) != j.Receipt.RunLease {
			l.fault("attempt %v says it is number %d", a, j.Attempt)
		}
		l.leases[j.ID] = max(l.leases[j.ID], j.Receipt.RunLease)
	}
}

// finished records an accepted finish, after its commit.
func (l *ledger) finished(r awa.Receipt, state awa.JobState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := attempt{r.JobID, r.RunLease}
	if earlier, dup := l.ended[a]; dup {
		l.fault("attempt %v ended twice: %s and %s", a, earlier, state)
	}
	l.ended[a] = state
	if state == awa.StateRetryable {
		return
	}
	if earlier, dup := l.terminal[r.JobID]; dup {
		l.fault("job %d is terminal twice: %s and %s", r.JobID, earlier, state)
	}
	l.terminal[r.JobID] = state
}

// open is how many committed jobs have not ended.
func (l *ledger) open() int { return lacking(l, l.terminal) }

// unclaimed is how many committed jobs nobody was given.
func (l *ledger) unclaimed() int { return lacking(l, l.leases) }

// size is how many jobs were committed.
func (l *ledger) size() int { return lacking(l, map[int64]bool{}) }

// lacking is how many committed jobs a record of the ledger does not have.
func lacking[V any](l *ledger, record map[int64]V) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for id := range l.committed {
		if _, ok := record[id]; !ok {
			n++
		}
	}
	return n
}

// close compares everything at the end of a load that ran dry.
func (l *ledger) close() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.committed {
		if _, done := l.terminal[id]; !done {
			l.fault("job %d never ended; it was handed out %d times", id, l.leases[id])
		}
	}
	for a := range l.handed {
		if _, ok := l.committed[a.job]; !ok {
			l.fault("job %d was handed out and never committed", a.job)
		}
		if _, ok := l.ended[a]; !ok {
			l.fault("attempt %v was handed out and never ended", a)
		}
	}
	for id, n := range l.leases {
		for lease := int64(1); lease <= n; lease++ {
			if _, ok := l.handed[attempt{id, lease}]; !ok {
				l.fault("job %d was handed out as lease %d, never as lease %d", id, n, lease)
			}
		}
	}
	return l.faults
}

// sortByBatch brings receipts into the order in which all finishers meet
// batches, which a transaction that finishes one after the other must keep.
func sortByBatch(receipts []awa.Receipt) {
	slices.SortFunc(receipts, func(a, b awa.Receipt) int {
		return cmp.Or(cmp.Compare(a.BatchID, b.BatchID), cmp.Compare(a.JobID, b.JobID))
	})
}
