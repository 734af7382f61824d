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
	numbers   map[attempt]bool // handed out, by their numbers instead of their leases
	newest    map[int64]int64  // job: the number of its newest attempt
	parks     bool             // jobs may be set aside, which costs leases
	ended     map[attempt]awa.JobState
	terminal  map[int64]awa.JobState
	faults    []string
}

func newLedger() *ledger {
	return &ledger{
		committed: map[int64]string{},
		handed:    map[attempt]awa.Receipt{},
		numbers:   map[attempt]bool{},
		newest:    map[int64]int64{},
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
		n := int64(j.Attempt)
		if n > j.Receipt.RunLease || n < j.Receipt.RunLease && !l.parks {
			l.fault("attempt %v says it is number %d", a, n)
		}
		if l.numbers[attempt{j.ID, n}] {
			l.fault("attempt %v is another one of number %d", a, n)
		}
		l.numbers[attempt{j.ID, n}] = true
		l.newest[j.ID] = max(l.newest[j.ID], n)
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
func (l *ledger) unclaimed() int { return lacking(l, l.newest) }

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
			l.fault("job %d never ended; it was handed out %d times", id, l.newest[id])
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
	for id, newest := range l.newest {
		for n := int64(1); n <= newest; n++ {
			if !l.numbers[attempt{id, n}] {
				l.fault("job %d was handed out as attempt %d, never as attempt %d", id, newest, n)
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
