package proof

import (
	"cmp"
	"maps"
	"slices"

	awa "github.com/awaqueue/awa/gowrap"
)

// Where a model job may be besides the states of awa.jobs.
const (
	modelDead   awa.JobState = "dead letter"
	modelPruned awa.JobState = "pruned"
	modelGone   awa.JobState = "gone"
)

// modelQueue is a queue as the model test configures it.
type modelQueue struct {
	name     string
	settings string
	dlq      bool // failed jobs become dead letters at once
	forgets  bool // prune takes failed jobs, too
	limit    int  // of jobs with one slot key that run; 0 for none
}

var modelQueues = []modelQueue{
	{name: "plain", settings: `{"priority_aging_interval": "0 s", "failed_retention": "1 year"}`},
	{name: "letters", settings: `{"priority_aging_interval": "0 s", "failed_retention": "1 year", "dlq_enabled": true}`, dlq: true},
	{name: "sharded", settings: `{"priority_aging_interval": "0 s", "failed_retention": "1 year", "enqueue_shards": 3}`},
	{name: "forgetful", settings: `{"priority_aging_interval": "0 s", "failed_retention": "0 s"}`, forgets: true},
	{name: "keyed", settings: `{"priority_aging_interval": "0 s", "failed_retention": "1 year", "concurrency_limit": 2}`, limit: 2},
}

func queueNamed(name string) modelQueue {
	return modelQueues[slices.IndexFunc(modelQueues, func(q modelQueue) bool { return q.name == name })]
}

// modelJob is all that the model knows of a job. It is a value: a view that
// changes it leaves other views alone.
type modelJob struct {
	id          int64
	kind        string
	queue       string
	priority    int
	state       awa.JobState
	attempt     int // of the current or next attempt
	maxAttempts int
	ran         bool // the attempt was claimed
	errors      int
	handed      int   // percent of progress that earlier attempts left; 0 for none
	runAt       int64 // a moment; 0 when unknown, and past
	lease       int64 // highest handed out
	receipt     awa.Receipt
	worker      string
	claimed     int64 // moments
	ended       int64
	expires     int64
	deadline    int64 // microseconds from its claim, or 0
	segment     int64 // that holds the current attempt; -1 while deferred or leased
	leased      bool  // the attempt registered a callback
	callback    awa.CallbackID
	timeout     int64 // a moment
	length      int64 // of the lease of its claim, microseconds
	ends        int64 // a moment, by the deadline of a leased attempt; 0 for none
	left        bool  // its worker parked it
	touched     int   // how often its lease changed in ways that show nowhere
	own         bool  // offered by the transaction that looks
	slotKey     string
	aside       bool     // scheduled for no moment: a claim met its slot key taken
	after       [2]int64 // the same until these complete; 0 for none
	done, lost  bool     // it completed once, and it ended otherwise
	key         string
	mask        awa.StateMask
}

// counts reports whether the job keeps others from its unique key in a state.
func (j modelJob) counts(state awa.JobState) bool {
	n := slices.Index(maskOrder, state)
	return n >= 0 && j.mask.String()[n] == '1'
}

// holds reports whether it does now.
func (j modelJob) holds() bool { return j.counts(j.state) }

// endless reports whether the job waits for no moment.
func (j modelJob) endless() bool { return j.aside || j.after != [2]int64{} }

// due reports whether promotion at a moment offers the job.
func (j modelJob) due(now int64) bool { return j.deferred() && !j.endless() && j.runAt <= now }

// gains reports whether promotion has to take the job's key.
func (j modelJob) gains() bool { return j.key != "" && j.counts(awa.StateAvailable) && !j.holds() }

// shown is the attempt that awa.jobs tells.
func (j modelJob) shown() int {
	if j.ran {
		return j.attempt
	}
	return j.attempt - 1
}

// maskOrder is the order of the bits of unique_states, from the left.
var maskOrder = []awa.JobState{
	awa.StateScheduled, awa.StateAvailable, awa.StateRunning, awa.StateCompleted, awa.StateRetryable,
	awa.StateFailed, awa.StateCancelled, awa.StateWaitingExternal,
}

// open reports whether an attempt of the job is.
func (j modelJob) open() bool {
	return j.state == awa.StateRunning || j.state == awa.StateWaitingExternal
}

func (j modelJob) waits() bool {
	return j.state == awa.StateAvailable || j.deferred()
}

func (j modelJob) deferred() bool {
	return j.state == awa.StateScheduled || j.state == awa.StateRetryable
}

// changes is what a transaction did and others do not see yet.
type changes struct {
	jobs    map[int64]modelJob
	keys    map[string]int64
	paused  map[string]bool
	pruned  map[string]int64 // by queue: jobs that left with their segment
	current int64            // segments opened
	oldest  int64            // segments given back
	beside
}

func newChanges() changes {
	return changes{jobs: map[int64]modelJob{}, keys: map[string]int64{}, paused: map[string]bool{}, pruned: map[string]int64{}, beside: newBeside()}
}

func (c changes) clone() changes {
	c.jobs, c.keys, c.paused, c.pruned = maps.Clone(c.jobs), maps.Clone(c.keys), maps.Clone(c.paused), maps.Clone(c.pruned)
	c.beside = c.beside.clone()
	return c
}

// facts is the storage as one snapshot shows it.
type facts struct {
	jobs    map[int64]modelJob
	keys    map[string]int64 // the job that took a key last
	paused  map[string]bool
	pruned  map[string]int64
	current int64
	oldest  int64
	beside
}

func newFacts() facts {
	return facts{jobs: map[int64]modelJob{}, keys: map[string]int64{}, paused: map[string]bool{}, pruned: map[string]int64{}, beside: newBeside()}
}

func (f facts) clone() facts {
	f.jobs, f.keys, f.paused, f.pruned = maps.Clone(f.jobs), maps.Clone(f.keys), maps.Clone(f.paused), maps.Clone(f.pruned)
	f.beside = f.beside.clone()
	return f
}

// with is what a transaction sees that made changes on top of f.
func (f facts) with(c changes) facts {
	f = f.clone()
	maps.Copy(f.jobs, c.jobs)
	maps.Copy(f.keys, c.keys)
	maps.Copy(f.paused, c.paused)
	for queue, jobs := range c.pruned {
		f.pruned[queue] += jobs
	}
	f.current += c.current
	f.oldest += c.oldest
	f.beside.add(c.beside)
	return f
}

// sorted returns the jobs that match, lowest id first.
func (f facts) sorted(match func(modelJob) bool) []modelJob {
	var jobs []modelJob
	for _, j := range f.jobs {
		if match(j) {
			jobs = append(jobs, j)
		}
	}
	slices.SortFunc(jobs, func(a, b modelJob) int { return cmp.Compare(a.id, b.id) })
	return jobs
}

// in counts the jobs of a queue in a state.
func (f facts) in(queue string, state awa.JobState) int64 {
	return int64(len(f.sorted(func(j modelJob) bool { return j.queue == queue && j.state == state })))
}

// step is one statement's view and its doing.
type step struct {
	facts
	did changes
	// By key, the job that had it and left since the snapshot, which still shows it.
	// A key is what is committed, as in any unique index: it is free.
	left map[string]int64
	now  int64
}

func (s *step) put(j modelJob) {
	s.jobs[j.id] = j
	s.did.jobs[j.id] = j
}

// holder is the other job that keeps j from its key in a state, or 0. Without
// one j has the key from now on, if the state counts.
func (s *step) holder(j modelJob, state awa.JobState) int64 {
	if j.key == "" || !j.counts(state) {
		return 0
	}
	if id, taken := s.keys[j.key]; taken && id != j.id && s.jobs[id].holds() {
		return id
	}
	s.keys[j.key] = j.id
	s.did.keys[j.key] = j.id
	return 0
}

// offer puts a job at the end of its lane.
func (s *step) offer(j modelJob) {
	j.state, j.own, j.segment, j.ran, j.aside = awa.StateAvailable, true, s.current, false, false
	j.leased, j.ended, j.after = false, 0, [2]int64{}
	s.put(j)
}

// putOff makes a job wait for its time.
func (s *step) putOff(j modelJob, state awa.JobState, runAt int64) {
	j.state, j.own, j.segment, j.ran, j.runAt, j.aside = state, false, -1, false, runAt, false
	j.leased, j.ended, j.after = false, 0, [2]int64{}
	s.put(j)
}

// putAside makes a job wait for a slot of its key; runAt is for when it has one.
func (s *step) putAside(j modelJob) {
	runAt := j.runAt
	s.putOff(j, awa.StateScheduled, runAt)
	j = s.jobs[j.id]
	j.aside = true
	s.put(j)
}

// running counts a queue's attempts by slot key.
func (f facts) running(queue string) map[string]int {
	keys := map[string]int{}
	for _, j := range f.jobs {
		if j.queue == queue && j.slotKey != "" && j.open() {
			keys[j.slotKey]++
		}
	}
	return keys
}

// free counts those of a queue's waiting jobs that may run at once.
func (f facts) free(q modelQueue, waiting []modelJob) int {
	if q.limit == 0 {
		return len(waiting)
	}
	keys, free := f.running(q.name), 0
	for _, j := range waiting {
		if j.slotKey == "" || keys[j.slotKey] < q.limit {
			keys[j.slotKey]++
			free++
		}
	}
	return free
}

// again brings back a job whose attempts start over, at once or at a moment;
// false: its key is taken.
func (s *step) again(j modelJob, runAt int64) bool {
	state := awa.StateAvailable
	if runAt > s.now {
		state = awa.StateScheduled
	}
	if s.holder(j, state) != 0 {
		return false
	}
	j.attempt, j.handed = 1, 0
	if j.runAt = cmp.Or(runAt, s.now); j.runAt > s.now {
		s.putOff(j, awa.StateScheduled, runAt)
	} else {
		s.offer(j)
	}
	return true
}

// open reports whether a receipt is of the job's running attempt.
func (s *step) open(r awa.Receipt) bool {
	j := s.jobs[r.JobID]
	return j.open() &&
		r.BatchID == j.receipt.BatchID && r.RunLease == j.receipt.RunLease
}

// close ends a job's attempt in its segment.
func (s *step) close(id int64, state awa.JobState) {
	j := s.jobs[id]
	if j.deferred() || j.leased {
		j.segment = s.current
	}
	if j.ended == 0 { // otherwise it leaves history
		j.ended = s.now
	}
	if !j.ran {
		j.claimed = 0
	}
	j.state, j.aside, j.leased, j.after = state, false, false, [2]int64{}
	j.done, j.lost = j.done || state == awa.StateCompleted, j.lost || state != awa.StateCompleted
	s.put(j)
}

// cancel closes a job with an error that says why.
func (s *step) cancel(id int64) {
	s.close(id, awa.StateCancelled)
	j := s.jobs[id]
	j.errors++
	s.put(j)
}

// fail is what a failed attempt makes of its job. runAt is when it is to be
// tried again.
func (s *step) fail(id int64, terminal bool, runAt int64) awa.JobState {
	j := s.jobs[id]
	j.errors++
	j.handed = s.progressOf(j)
	s.put(j)
	switch {
	case terminal || j.attempt >= j.maxAttempts:
		if queueNamed(j.queue).dlq {
			s.close(id, modelDead)
		} else {
			s.close(id, awa.StateFailed)
		}
		return awa.StateFailed
	case s.holder(j, awa.StateRetryable) != 0:
		s.close(id, awa.StateCancelled)
		return awa.StateCancelled
	}
	j.attempt++
	s.putOff(j, awa.StateRetryable, runAt)
	return awa.StateRetryable
}

// snooze puts an attempt back for later, or for now; it does not count.
func (s *step) snooze(id int64, runAt int64) {
	j := s.jobs[id]
	j.handed = s.progressOf(j)
	if s.holder(j, awa.StateScheduled) != 0 {
		s.put(j)
		s.cancel(id)
		return
	}
	s.putOff(j, awa.StateScheduled, runAt)
	if j = s.jobs[id]; runAt == s.now && !j.gains() {
		s.offer(j)
	}
}

// prune gives the oldest segment back.
func (s *step) prune() {
	for _, j := range s.sorted(func(j modelJob) bool { return j.segment == s.oldest }) {
		switch j.state {
		case awa.StateCompleted, awa.StateCancelled:
			s.forget(j)
		case awa.StateFailed:
			if queueNamed(j.queue).forgets {
				s.forget(j)
				continue
			}
			j.segment = s.current
			s.put(j)
		case awa.StateAvailable, awa.StateRunning:
			j.segment = s.current
			s.put(j)
		}
	}
	s.pruneBeside()
	s.oldest++
	s.did.oldest++
}

func (s *step) forget(j modelJob) {
	s.pruned[j.queue]++
	s.did.pruned[j.queue]++
	j.state = modelPruned
	s.put(j)
}
