package proof

import (
	"context"
	"time"

	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
)

// An operator's hand on one job. What waits for it must notice, or wait on.

// again brings a job back whose attempts start over, perhaps elsewhere and later.
func (w *flowWorld) again(j *flowJob, p awa.RetryParams) {
	j.state, j.attempt, j.runAt, j.after, j.ran, j.progress, j.ended = awa.StateAvailable, 1, 0, nil, false, 0, 0
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
	got, err := queue.Retry(w.at(r), w.calls, p)
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
	got, err := queue.Delete(w.at(r), w.calls, j.id)
	w.demand(r, "delete", got, !is(modelGone, modelPruned)(j), err)
	if got {
		w.tell(j)
		j.state = modelGone
	}
}

// letter lays a failed job aside.
func (w *flowWorld) letter(r *rapid.T) {
	failed := is(awa.StateFailed)
	j := w.anyJob(r, failed)
	got, err := queue.MoveFailedToDLQ(w.at(r), w.calls, j.id, "")
	w.demand(r, "move_failed_to_dlq", got, failed(j), err)
	if got {
		j.state = modelDead
	}
}

func (w *flowWorld) retryLetter(r *rapid.T) {
	dead := is(modelDead)
	j := w.anyJob(r, dead)
	p := w.anyRetry(r, j)
	got, err := queue.RetryFromDLQ(w.at(r), w.calls, p)
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
	tags := anyTags(r)
	_, err := w.calls.Exec(context.Background(), `update awa.jobs set queue = $2, priority = $3, tags = $4 where id = $1`, j.id, name, priority, tags)
	late := j.state != awa.StateAvailable && (j.runAt > w.now || len(j.after) > 0)
	if w.update(r, j, late || j.aside && j.counts(awa.StateAvailable), err) {
		return
	}
	w.place(j, name, priority)
	j.tags = tags
	switch {
	case late:
	case j.aside && j.gains() && w.keys[j.unique] != j:
		j.state, j.runAt, j.aside = awa.StateScheduled, -1, false
	default:
		j.state, j.runAt = awa.StateAvailable, 0
	}
}

// update reports whether an UPDATE had to be refused, for the key that the job needs then.
func (w *flowWorld) update(r *rapid.T, j *flowJob, later bool, err error) bool {
	state := awa.StateAvailable
	if later {
		state = awa.StateScheduled
	}
	if w.holder(j, state) != nil {
		w.demand(r, "update without its key", sqlState(err), "AW004", nil)
		return true
	}
	w.demand(r, "update", true, true, err)
	return false
}

// reschedule gives a waiting job another time and more attempts, and lets go of one that
// waits for others.
func (w *flowWorld) reschedule(r *rapid.T) {
	j := w.anyJob(r, (*flowJob).waits)
	if !j.waits() {
		idle(r, "it waits no more")
	}
	w.at(r)
	runAt, most := w.now-1e6, rapid.IntRange(j.attempt, 4).Draw(r, "max attempts")
	if rapid.Bool().Draw(r, "later") {
		runAt = w.now + 20e6
	}
	_, err := w.calls.Exec(context.Background(), `update awa.jobs set run_at = $2, max_attempts = $3 where id = $1`, j.id, when(runAt), most)
	if w.update(r, j, runAt > w.now, err) {
		return
	}
	j.runAt, j.max, j.after = runAt, most, nil
	switch {
	case runAt <= w.now:
		j.state = awa.StateAvailable
	case j.state == awa.StateAvailable:
		j.state = awa.StateScheduled
	}
}

// Many jobs at once.

// many demands how many jobs a call changes: those that match, lowest id first, up to a limit.
func (w *flowWorld) many(r *rapid.T, call string, got int64, err error, limit int, match func(*flowJob) bool, do func(*flowJob) bool) {
	want := 0
	for n, j := range w.sorted(match) {
		if n < limit && do(j) {
			want++
		}
	}
	w.demand(r, call, int(got), want, err)
}

func (w *flowWorld) removeFrom(r *rapid.T) {
	state := rapid.SampledFrom(maskOrder).Draw(r, "state")
	name := w.anyJob(r, is(state)).queue
	w.at(r)
	tag, err := w.calls.Exec(context.Background(), `delete from awa.jobs where queue = $1 and state = $2::text::awa.job_state`, name, string(state))
	w.many(r, "delete from jobs", tag.RowsAffected(), err, 1<<30, func(j *flowJob) bool {
		return j.queue == name && is(state)(j) && j.place() == state || state == awa.StateScheduled && j.queue == name && j.place() == state
	}, func(j *flowJob) bool {
		w.tell(j)
		j.state = modelGone
		return true
	})
}

func (w *flowWorld) discard(r *rapid.T) {
	got, err := queue.DiscardFailedByKind(w.at(r), w.calls, "job", "")
	w.many(r, "discard_failed_by_kind", got, err, 1<<30, func(j *flowJob) bool { return is(awa.StateFailed)(j) && j.kind == "job" }, func(j *flowJob) bool {
		j.state = modelGone
		return true
	})
}

func (w *flowWorld) letters(r *rapid.T) {
	name, most := w.anyQueue(r), rapid.IntRange(1, 4).Draw(r, "max jobs")
	got, err := queue.BulkMoveFailedToDLQ(w.at(r), w.calls, awa.BulkMoveFailedParams{Queue: name, MaxJobs: most})
	w.many(r, "bulk_move_failed_to_dlq", got, err, most, func(j *flowJob) bool { return j.queue == name && is(awa.StateFailed)(j) }, func(j *flowJob) bool {
		j.state = modelDead
		return true
	})
}

func (w *flowWorld) retryLetters(r *rapid.T) {
	name := w.anyQueue(r)
	got, err := queue.BulkRetryFromDLQ(w.at(r), w.calls, awa.DeadLetterFilter{Queue: name})
	w.many(r, "bulk_retry_from_dlq", got, err, 1<<30, func(j *flowJob) bool { return j.queue == name && is(modelDead)(j) }, func(j *flowJob) bool {
		if w.holder(j, awa.StateAvailable) != nil {
			return false
		}
		w.again(j, awa.RetryParams{})
		return true
	})
}

func (w *flowWorld) purge(r *rapid.T) {
	name := w.anyQueue(r)
	got, err := queue.PurgeDLQ(w.at(r), w.calls, awa.PurgeDLQParams{DeadLetterFilter: awa.DeadLetterFilter{Queue: name}})
	w.many(r, "purge_dlq", got, err, 1<<30, func(j *flowJob) bool { return j.queue == name && is(modelDead)(j) }, func(j *flowJob) bool {
		j.state = modelGone
		return true
	})
}
