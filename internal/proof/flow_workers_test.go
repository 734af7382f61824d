package proof

import (
	"context"
	"fmt"
	"time"

	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
)

// What workers say of their attempts, and what is done to them when they are silent.

// flowNotice is for a worker whose attempt somebody else closed.
type flowNotice struct {
	worker string
	must   bool // it is still there for certain
}

func placeless(r awa.Receipt) awa.Receipt {
	r.ReadySlot = 0
	return r
}

// tell leaves a notice for the worker of an open attempt.
func (w *flowWorld) tell(j *flowJob) {
	if j.open() && j.worker != "" {
		w.notices[placeless(j.receipt)] = flowNotice{worker: j.worker, must: true}
	}
}

// prunedOne is a prune: completed and cancelled jobs may have left, and so may notices.
func (w *flowWorld) prunedOne() {
	w.pruned = true
	w.mute()
}

// mute is what may empty the notices.
func (w *flowWorld) mute() {
	for k, n := range w.notices {
		n.must = false
		w.notices[k] = n
	}
}

func (w *flowWorld) beat(r *rapid.T) {
	worker := anyWorker(r)
	notices, err := queue.Heartbeat(w.at(r), w.calls, worker)
	w.demand(r, "heartbeat", true, true, err)
	for _, got := range notices {
		k := placeless(got.Receipt)
		if n, due := w.notices[k]; !due || n.worker != worker {
			r.Fatalf("told again, or of another's: %+v", got)
		}
		delete(w.notices, k)
		w.answers["told"]++
	}
	for k, n := range w.notices {
		if n.worker != worker {
			continue
		}
		if n.must {
			r.Fatalf("not told: %+v", k)
		}
		delete(w.notices, k)
	}
	w.beats[worker] = w.now
}

// lost tells why a pass fails an attempt, if it does.
func (w *flowWorld) lost(j *flowJob) string {
	heard, known := w.beats[j.worker]
	since := j.claimed
	if j.called { // it is reckoned from the lease, and one that was extended says nothing
		since = j.expires - j.lease
	}
	if since > w.now+60e6 {
		since = 0
	}
	switch {
	case j.state == awa.StateWaitingExternal:
		if j.timeout <= w.now {
			return "timeout"
		}
	case j.ends != 0 && j.ends <= w.now:
		return "deadline"
	case known && w.rebased > w.now-silence && w.rebased <= w.now+60e6:
		// No worker could be heard before.
	case known:
		if heard <= w.now-silence && since <= w.now-silence {
			return "silence"
		}
	case j.expires <= w.now:
		return "lease"
	}
	return ""
}

// mayWait reports whether a pass left the attempt of a silent worker for a later one, as it
// may for ten seconds or so.
func (w *flowWorld) mayWait(r *rapid.T, j *flowJob) bool {
	var state string
	if err := w.conn.QueryRow(context.Background(), `select coalesce(max(k.state::text), '') from awa.jobs as k where k.id = $1`, j.id).Scan(&state); err != nil {
		r.Fatal(err)
	}
	if state != string(awa.StateRunning) {
		return false
	}
	switch since, again := w.late[j.receipt]; {
	case !again:
		w.late[j.receipt] = w.now
	case since == 0:
		r.Fatalf("not rescued for silence: %+v", *j)
	case w.now-since >= 10e6:
		w.late[j.receipt] = 0
	}
	return true
}

// rescueUnknown has a worker disown some of its attempts.
func (w *flowWorld) rescueUnknown(r *rapid.T) {
	worker := anyWorker(r)
	if jobs := w.sorted(is(awa.StateRunning)); len(jobs) > 0 {
		if j := rapid.SampledFrom(jobs).Draw(r, "running"); w.beats[j.worker] != 0 {
			worker = j.worker
		}
	}
	known, unknown := []awa.Receipt{}, []*flowJob{}
	for _, j := range w.sorted(func(j *flowJob) bool { return j.state == awa.StateRunning && j.worker == worker }) {
		// Only so many are rescued at once if jobs follow them.
		if len(unknown) == 10 || rapid.Bool().Draw(r, "known") {
			known = append(known, j.receipt)
			continue
		}
		unknown = append(unknown, j)
	}
	got, err := queue.RescueUnknown(w.at(r), w.calls, worker, known)
	w.demand(r, "rescue_unknown", got, int64(len(unknown)), err)
	for _, j := range unknown {
		w.tell(j)
		w.failed(j, false, -1)
	}
}

func (w *flowWorld) report(r *rapid.T) {
	receipt, percent := w.anyReceipts(r)[0], rapid.IntRange(1, 100).Draw(r, "percent")
	open, _ := w.divide([]awa.Receipt{receipt})
	got, err := queue.SetProgress(w.at(r), w.calls, awa.ProgressParams{Receipt: receipt, Percent: percent})
	w.demand(r, "set_progress", got, len(open) > 0, err)
	for _, j := range open {
		j.progress = percent
	}
}

func (w *flowWorld) extend(r *rapid.T) {
	receipts := w.anyReceipts(r)
	lease := rapid.SampledFrom([]time.Duration{time.Second, 10 * time.Minute, 3 * time.Hour}).Draw(r, "lease")
	ctx := w.at(r)
	open, want := w.divide(receipts)
	stale, err := queue.ExtendLease(ctx, w.calls, receipts, lease)
	w.demand(r, "extend_lease", sortedReceipts(stale), sortedReceipts(want), err)
	for _, j := range open {
		w.answers["extend_lease "+string(j.state)]++
		if j.state == awa.StateRunning {
			j.expires = max(j.expires, w.now+lease.Microseconds())
		}
	}
}

func (w *flowWorld) cancelAttempt(r *rapid.T) {
	receipt := w.anyReceipts(r)[0]
	open, _ := w.divide([]awa.Receipt{receipt})
	got, err := queue.CancelAttempt(w.at(r), w.calls, receipt, "")
	w.demand(r, "cancel_attempt", got, len(open) > 0, err)
	for _, j := range open {
		w.close(j, awa.StateCancelled, "")
	}
}

// turn fills the ring up and empties it, so that what is open outlives its segment.
func (w *flowWorld) turn(r *rapid.T) {
	for range rapid.IntRange(1, 3).Draw(r, "segments") {
		j := &flowJob{queue: "free", priority: 4, attempt: 1, max: 1}
		w.add(r, "enqueue", j, nil)
		w.rotate(r)
	}
	for range rapid.IntRange(0, 3).Draw(r, "prunes") {
		w.maintain(r)
		w.look(r)
		w.prune(r)
		w.look(r)
	}
}

// recount demands that no counter has drifted.
func (w *flowWorld) recount(r *rapid.T) {
	if rapid.Bool().Draw(r, "checkpoint") {
		_, err := queue.CheckpointTerminalCounters(w.at(r), w.calls)
		w.demand(r, "checkpoint_terminal_counters", true, true, err)
		return
	}
	healed, err := queue.RebuildTerminalCounters(w.at(r), w.calls)
	w.demand(r, "rebuild_terminal_counters", fmt.Sprint(healed), "[]", err)
}

// rebase does what a restore into another cluster takes.
func (w *flowWorld) rebase(r *rapid.T) {
	_, err := queue.Rebase(w.at(r), w.calls)
	w.demand(r, "rebase", true, true, err)
	w.mute()
	w.rebased = w.now
}

// lapse waits until an open attempt's time is over, and has a pass find it.
func (w *flowWorld) lapse(r *rapid.T) {
	jobs := w.sorted((*flowJob).open)
	if len(jobs) == 0 {
		idle(r, "no attempt is open")
	}
	j := rapid.SampledFrom(jobs).Draw(r, "attempt")
	until := j.expires
	switch {
	case j.state == awa.StateWaitingExternal:
		until = j.timeout
	case j.ends != 0:
		until = j.ends
	case w.beats[j.worker] != 0:
		until = w.now + silence
	}
	w.now = max(w.now, until)
	if rapid.IntRange(0, 3).Draw(r, "pass") > 0 {
		w.maintain(r)
	}
}
