package proof

import (
	"cmp"
	"fmt"
	"slices"

	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
)

// maintain demands that whatever is due happens, in the order of the tasks: lost
// attempts fail, a batch operation goes on, what waits for its time is offered, and what waits for others is
// offered when all are completed, and cancelled when one will not be.
func (w *flowWorld) maintain(r *rapid.T) {
	// A pass that took long on a slow machine is not to delay the next.
	must(r, w.conn, `select setval('awa.rescue_clock', 1)`)
	reports, err := queue.Maintain(w.at(r), w.calls)
	r.Logf("maintain: %+v, %v", reports, err)
	affected := map[string]int64{}
	for _, t := range reports {
		affected[t.Task] = t.Affected
		if t.Task != "prune" {
			continue
		}
		w.release() // who waits must know before history leaves
		w.answers["maintain prunes: "+t.Outcome]++
		if t.Outcome == awa.Pruned { // it did nothing else
			w.prunedOne()
			w.demand(r, "reports of a pass that pruned", len(reports), 1, err)
			return
		}
	}
	for worker, heard := range w.beats {
		if heard > w.now+60e6 { // the clock was set back
			w.beats[worker] = w.now
		}
	}
	rescued, promoted := int64(0), int64(0)
	var lost []string
	for _, j := range w.sorted((*flowJob).open) {
		why := w.lost(j)
		if why == "" || why == "silence" && !j.called && w.mayWait(r, j) {
			continue
		}
		w.tell(j)
		lost = append(lost, fmt.Sprintf("%s: %+v", why, *j))
		w.answers["rescued for "+why]++
		w.failed(j, false, -1)
		rescued++
	}
	if _, bitten := affected["batch"]; bitten {
		w.bitten(r, w.batches[0])
	}
	due := w.sorted(func(j *flowJob) bool {
		return len(j.after) == 0 && j.runAt > 0 && j.runAt <= w.now &&
			(j.state == awa.StateScheduled || j.state == awa.StateRetryable)
	})
	slices.SortStableFunc(due, func(a, b *flowJob) int {
		return cmp.Or(cmp.Compare(a.unique, b.unique), cmp.Compare(a.runAt, b.runAt))
	})
	for _, j := range due {
		if j.gains() && w.holder(j, awa.StateAvailable) != nil {
			w.answers["promoted without its key"]++
			w.close(j, awa.StateCancelled, "")
			continue
		}
		j.state = awa.StateAvailable
		promoted++
	}
	if affected["promote"] != promoted {
		w.look(r) // which tells of each job
		r.Fatalf("promoted %d, want %d of %s by %+v", affected["promote"], promoted, flowJobs(due), reports)
	}
	fired := w.fire()
	released := w.release()
	if affected["rescue"] != rescued {
		r.Fatalf("rescued %d of %s by %+v", affected["rescue"], lost, reports)
	}
	w.demand(r, "rescued", affected["rescue"], rescued, err)
	w.demand(r, "promoted", affected["promote"], promoted, nil)
	w.demand(r, "fired", affected["cron"], fired, nil)
	w.demand(r, "released", affected["dependents"], released, nil)
}

// release is a pass over what waits for others, which sees them as they stand
// before it: who is cancelled by one keeps others waiting until the next.
func (w *flowWorld) release() (released int64) {
	var offered, lost []*flowJob
	for _, j := range w.sorted(func(j *flowJob) bool { return len(j.after) > 0 && !j.terminal() }) {
		switch states := w.statesOf(j); {
		case slices.ContainsFunc(states, func(s awa.JobState) bool {
			return slices.Contains([]awa.JobState{awa.StateFailed, awa.StateCancelled, modelDead, modelGone}, s)
		}):
			lost = append(lost, j)
		case !slices.ContainsFunc(states, func(s awa.JobState) bool { return s != awa.StateCompleted }):
			offered = append(offered, j)
		default: // what was seen completed may go
			j.after = slices.DeleteFunc(j.after, func(id int64) bool { return w.stateFor(id) == awa.StateCompleted })
		}
	}
	for _, j := range lost {
		w.close(j, awa.StateCancelled, "")
		released++
	}
	for _, j := range offered {
		if j.after, j.state, j.runAt = nil, awa.StateAvailable, 0; j.gains() {
			j.state, j.runAt = awa.StateScheduled, w.now
		}
		released++
	}
	return released
}

// statesOf are those of the jobs that another waits for.
func (w *flowWorld) statesOf(j *flowJob) (states []awa.JobState) {
	for _, id := range j.after {
		states = append(states, w.stateFor(id))
	}
	return states
}

// stateFor is the state of a job as one that waits for it learns of it. That a pruned
// one completed had been seen by then, or nobody would be waiting; and one that completed
// has, also when it was deleted since.
func (w *flowWorld) stateFor(id int64) awa.JobState {
	p := w.jobs[id]
	if p.state == modelPruned || p.state == modelGone && p.done {
		return awa.StateCompleted
	}
	return p.state
}

func (w *flowWorld) rotate(r *rapid.T) {
	outcome, err := queue.Rotate(w.at(r), w.calls)
	w.demand(r, "rotate", slices.Contains([]string{awa.Rotated, awa.RotateIdle, awa.RotateBlocked}, outcome), true, err)
	w.answers["rotate "+outcome]++
}

func (w *flowWorld) prune(r *rapid.T) {
	outcome, err := queue.Prune(w.at(r), w.calls)
	w.demand(r, "prune", slices.Contains([]string{awa.Pruned, awa.PruneEmpty, awa.PruneBlocked}, outcome), true, err)
	w.answers["prune "+outcome]++
	if outcome == awa.Pruned {
		w.prunedOne()
	}
	w.release() // who waits must know before history leaves
}
