package proof

import (
	"encoding/json"
	"slices"
	"time"

	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
)

var anyTimeout = rapid.SampledFrom([]time.Duration{time.Second, time.Hour})

func (w *flowWorld) register(r *rapid.T) {
	receipt, timeout := w.anyReceipts(r)[0], anyTimeout.Draw(r, "timeout")
	ctx := w.at(r)
	open, _ := w.divide([]awa.Receipt{receipt})
	id, err := queue.RegisterCallback(ctx, w.calls, receipt, timeout)
	w.demand(r, "register_callback", id != "", len(open) > 0, err)
	for _, j := range open {
		j.state, j.callback, j.timeout, j.called = awa.StateWaitingExternal, id, w.now+timeout.Microseconds(), true
		j.left, j.ends = false, 0 // who registers is there
		w.callbacks = append(w.callbacks, id)
	}
}

// waiting finds the job that waits for an answer to a callback.
func (w *flowWorld) waiting(id awa.CallbackID) *flowJob {
	jobs := w.sorted(func(j *flowJob) bool { return j.state == awa.StateWaitingExternal && j.callback == id })
	if len(jobs) == 0 {
		return nil
	}
	return jobs[0]
}

// anyCallback is one that a job waits for, more likely than one that is void.
func (w *flowWorld) anyCallback(r *rapid.T) awa.CallbackID {
	if len(w.sorted(is(awa.StateWaitingExternal))) == 0 {
		w.register(r)
	}
	good := slices.DeleteFunc(slices.Clone(w.callbacks), func(id awa.CallbackID) bool { return w.waiting(id) == nil })
	if len(good) == 0 || rapid.IntRange(0, 4).Draw(r, "void") == 0 {
		good = w.callbacks
	}
	if len(good) == 0 {
		idle(r, "no callbacks")
	}
	return rapid.SampledFrom(good).Draw(r, "callback")
}

// answer demands that each callback is good for one answer, until a pass finds it
// timed out.
func (w *flowWorld) answer(r *rapid.T) {
	id := w.anyCallback(r)
	call := rapid.SampledFrom([]string{"complete_callback", "fail_callback", "retry_callback", "resume_callback"}).Draw(r, "answer")
	ctx := w.at(r)
	var err error
	switch call {
	case "complete_callback":
		err = queue.CompleteCallback(ctx, w.calls, id, json.RawMessage(`{"done": true}`))
	case "fail_callback":
		err = queue.FailCallback(ctx, w.calls, id, "no")
	case "retry_callback":
		err = queue.RetryCallback(ctx, w.calls, id)
	case "resume_callback":
		err = queue.ResumeCallback(ctx, w.calls, id, json.RawMessage(`1`))
	}
	j := w.waiting(id)
	if j == nil {
		w.refuse(r, call+" too late", err, awa.ErrNotFound)
		return
	}
	back := map[string]awa.JobState{"retry_callback": awa.StateAvailable, "resume_callback": awa.StateRunning}[call]
	if w.holder(j, back) != nil || call == "resume_callback" && j.left && w.holder(j, awa.StateAvailable) != nil {
		w.refuse(r, call+" without its key", err, awa.ErrDuplicate)
		return
	}
	w.demand(r, call, true, true, err)
	switch call {
	case "complete_callback":
		w.close(j, awa.StateCompleted, "after completed")
	case "fail_callback":
		w.failed(j, false, -1)
	case "retry_callback":
		j.state, j.attempt, j.runAt, j.ran = awa.StateAvailable, 1, 0, false
	case "resume_callback":
		if j.left {
			j.state, j.runAt, j.ran = awa.StateAvailable, 0, false
			return
		}
		j.state, j.expires = awa.StateRunning, w.now+j.lease
		if j.deadline != 0 {
			j.ends = w.now + j.deadline
		}
	}
}

// hold puts a callback's timeout off, or on.
func (w *flowWorld) hold(r *rapid.T) {
	id, timeout := w.anyCallback(r), anyTimeout.Draw(r, "timeout")
	err := queue.HeartbeatCallback(w.at(r), w.calls, id, timeout)
	j := w.waiting(id)
	if j == nil {
		w.refuse(r, "heartbeat_callback too late", err, awa.ErrNotFound)
		return
	}
	w.demand(r, "heartbeat_callback", true, true, err)
	j.timeout = w.now + timeout.Microseconds()
}

// park leaves an attempt that waits, or did.
func (w *flowWorld) park(r *rapid.T) {
	receipt := w.anyReceipts(r)[0]
	ctx := w.at(r)
	open, _ := w.divide([]awa.Receipt{receipt})
	got, err := queue.Park(ctx, w.calls, receipt)
	if len(open) > 0 && open[0].called && open[0].state == awa.StateRunning && w.holder(open[0], awa.StateAvailable) != nil {
		w.refuse(r, "park without its key", err, awa.ErrDuplicate)
		return
	}
	w.demand(r, "park", got, len(open) > 0 && open[0].called, err)
	if !got {
		return
	}
	if j := open[0]; j.state == awa.StateRunning {
		j.state, j.runAt, j.ran = awa.StateAvailable, 0, false
	} else {
		j.left = true
	}
}

// ask demands that a worker learns what became of its callback.
func (w *flowWorld) ask(r *rapid.T) {
	receipt := w.anyReceipts(r)[0]
	got, err := queue.CallbackStatus(w.at(r), w.calls, receipt)
	open, _ := w.divide([]awa.Receipt{receipt})
	want := awa.CallbackID("")
	if len(open) > 0 && open[0].called && open[0].state == awa.StateWaitingExternal {
		want = open[0].callback
	}
	w.demand(r, "callback_status", got.Waiting == want && got.Open == (len(open) > 0 && open[0].called), true, err)
}
