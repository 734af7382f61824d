package proof

import (
	"time"

	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
)

// An operator's hand on one job. What waits for it must notice, or wait on.

// again brings a job back whose attempts start over, perhaps elsewhere and later.
func (w *flowWorld) again(j *flowJob, p awa.RetryParams) {
	j.state, j.attempt, j.runAt, j.after = awa.StateAvailable, 1, 0, nil
	if !p.RunAt.IsZero() {
		j.state, j.runAt = awa.StateScheduled, p.RunAt.UnixMicro()
	}
	w.place(j, p.Queue, p.Priority)
}

// back is the state that a retry brings a job into.
func back(p awa.RetryParams) awa.JobState {
	if p.RunAt.IsZero() {
		return awa.StateAvailable
	}
	return awa.StateScheduled
}

// place puts a job into another lane; empty and 0 leave what it has.
func (w *flowWorld) place(j *flowJob, name string, priority int) {
	if name != "" {
		j.queue = name
	}
	if priority != 0 {
		j.priority = priority
	}
}

func (w *flowWorld) anyRetry(r *rapid.T, j *flowJob) awa.RetryParams {
	p := awa.RetryParams{JobID: j.id, Priority: rapid.IntRange(0, 4).Draw(r, "priority")}
	if rapid.IntRange(0, 2).Draw(r, "elsewhere") == 0 {
		p.Queue = w.anyQueue(r)
	}
	if rapid.IntRange(0, 2).Draw(r, "later") == 0 {
		p.RunAt = when(w.now).Add(20 * time.Second)
	}
	return p
}

func (w *flowWorld) retry(r *rapid.T) {
	over := is(awa.StateFailed, awa.StateCancelled)
	j := w.anyJob(r, over)
	p := w.anyRetry(r, j)
	got, err := queue.Retry(w.at(r), w.conn, p)
	if over(j) && w.holder(j, back(p)) != nil {
		w.refuse(r, "retry without its key", err, awa.ErrDuplicate)
		return
	}
	w.demand(r, "retry", got, over(j), err)
	if got {
		w.again(j, p)
	}
}

func (w *flowWorld) remove(r *rapid.T) {
	j := w.anyJob(r, func(*flowJob) bool { return true })
	got, err := queue.Delete(w.at(r), w.conn, j.id)
	w.demand(r, "delete", got, !is(modelGone, modelPruned)(j), err)
	if got {
		j.state = modelGone
	}
}

// letter lays a failed job aside.
func (w *flowWorld) letter(r *rapid.T) {
	failed := is(awa.StateFailed)
	j := w.anyJob(r, failed)
	got, err := queue.MoveFailedToDLQ(w.at(r), w.conn, j.id, "")
	w.demand(r, "move_failed_to_dlq", got, failed(j), err)
	if got {
		j.state = modelDead
	}
}

func (w *flowWorld) retryLetter(r *rapid.T) {
	dead := is(modelDead)
	j := w.anyJob(r, dead)
	p := w.anyRetry(r, j)
	got, err := queue.RetryFromDLQ(w.at(r), w.conn, p)
	if dead(j) && w.holder(j, back(p)) != nil {
		w.refuse(r, "retry_from_dlq without its key", err, awa.ErrDuplicate)
		return
	}
	w.demand(r, "retry_from_dlq", got, dead(j), err)
	if got {
		w.again(j, p)
	}
}

// move updates a waiting job's lane. One that is due goes there at once, and tries
// for a slot again.
func (w *flowWorld) move(r *rapid.T) {
	j := w.anyJob(r, (*flowJob).waits)
	if !j.waits() {
		idle(r, "it waits no more")
	}
	name, priority := w.anyQueue(r), rapid.IntRange(1, 4).Draw(r, "priority")
	w.at(r)
	must(r, w.conn, `update awa.jobs set queue = $2, priority = $3 where id = $1`, j.id, name, priority)
	w.place(j, name, priority)
	if j.runAt <= w.now && len(j.after) == 0 {
		j.state, j.runAt = awa.StateAvailable, 0
	}
}
