package proof

import (
	"slices"

	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
)

// Unique keys, of jobs that lose theirs while they wait for an answer and of jobs that
// keep it.

var flowMasks = []awa.StateMask{
	defaultMask,
	awa.InStates(awa.StateScheduled, awa.StateAvailable, awa.StateRunning, awa.StateRetryable, awa.StateWaitingExternal),
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

// holder is the other job that keeps j from its key in a state. Without one j has the
// key from now on, if the state counts.
func (w *flowWorld) holder(j *flowJob, state awa.JobState) *flowJob {
	if !j.counts(state) {
		return nil
	}
	if h := w.keys[j.unique]; h != nil && h != j && h.counts(h.state) {
		return h
	}
	w.keys[j.unique] = j
	return nil
}

func (w *flowWorld) cancelKey(r *rapid.T) {
	key := rapid.SampledFrom([]string{"u", "v"}).Draw(r, "unique key")
	got, err := queue.CancelByUniqueKey(w.at(r), w.conn, []byte(key))
	h := w.keys[key]
	w.demand(r, "cancel_by_unique_key", got, h != nil && h.counts(h.state) && !h.terminal(), err)
	if got {
		w.close(h, awa.StateCancelled, "")
	}
}
