package proof

import (
	"slices"

	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
)

// Unique keys, of jobs that lose theirs while they wait for an answer and of jobs that
// keep it. Which job of a call that ends several has a key depends on their order if a mask
// counts running jobs and not available ones, so there is none.

var flowMasks = []awa.StateMask{
	defaultMask,
	awa.InStates(awa.StateScheduled, awa.StateAvailable, awa.StateRunning, awa.StateRetryable, awa.StateWaitingExternal),
	waitingMask,
	activeMask,
	awa.InStates(awa.StateAvailable, awa.StateWaitingExternal, awa.StateFailed),
	openMask,
}

func (w *flowWorld) anyUniqueKey(r *rapid.T, j *flowJob) {
	if j.unique = rapid.SampledFrom([]string{"", "", "", "u", "v"}).Draw(r, "unique key"); j.unique != "" {
		j.mask = rapid.SampledFrom(flowMasks).Draw(r, "mask")
	}
}

// counts reports whether the job keeps others from its unique key in a state.
func (j *flowJob) counts(state awa.JobState) bool {
	n := slices.Index(maskOrder, state)
	return j.unique != "" && n >= 0 && j.mask.String()[n] == '1'
}

// place is the state that tells whether the job's key counts.
func (j *flowJob) place() awa.JobState {
	switch {
	case j.state == modelDead:
		return awa.StateFailed
	case j.aside && j.state == awa.StateAvailable:
		return awa.StateScheduled
	}
	return j.state
}

// gains reports whether the key of a job that is deferred counts from its promotion on.
func (j *flowJob) gains() bool {
	state := awa.StateScheduled
	if j.state == awa.StateRetryable {
		state = j.state
	}
	return j.counts(awa.StateAvailable) && !j.counts(state)
}

// holder is the other job that keeps j from its key in a state. Without one j has the
// key from now on, if the state counts.
func (w *flowWorld) holder(j *flowJob, state awa.JobState) *flowJob {
	if !j.counts(state) {
		return nil
	}
	if h := w.keys[j.unique]; h != nil && h != j && h.counts(h.place()) {
		return h
	}
	w.keys[j.unique] = j
	return nil
}

func (w *flowWorld) cancelKey(r *rapid.T) {
	key := rapid.SampledFrom([]string{"u", "v"}).Draw(r, "unique key")
	got, err := queue.CancelByUniqueKey(w.at(r), w.calls, []byte(key))
	h := w.keys[key]
	w.demand(r, "cancel_by_unique_key", got, h != nil && h.counts(h.place()) && !h.terminal(), err)
	if got {
		w.tell(h)
		w.close(h, awa.StateCancelled, "")
	}
}
