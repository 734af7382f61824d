package proof

import (
	"context"
	"slices"

	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
)

// flowBatch is a batch operation that is under way.
type flowBatch struct {
	awa.BatchParams
	id               int64
	last             int64 // the newest job when it started
	cursor           int64
	affected, failed int64
}

// takes reports whether the operation does something to a job as it is now.
func (b *flowBatch) takes(j *flowJob) bool {
	f := b.Filter
	switch {
	case f.Queue != "" && j.queue != f.Queue, len(f.IDs) > 0 && !slices.Contains(f.IDs, j.id),
		len(f.States) > 0 && !is(f.States...)(j) && !(j.aside && slices.Contains(f.States, awa.StateScheduled)):
		return false
	case j.aside && len(f.States) > 0 && !slices.Contains(f.States, awa.StateScheduled):
		return false
	}
	switch b.Operation {
	case awa.OperationCancel:
		return !j.terminal()
	case awa.OperationDelete:
		return !is(modelDead, modelGone, modelPruned)(j)
	case awa.OperationDiscard:
		return j.state == awa.StateFailed
	case awa.OperationRetry:
		return is(awa.StateFailed, awa.StateCancelled)(j)
	default:
		there := (b.Settings.Queue == "" || j.queue == b.Settings.Queue) && (b.Settings.Priority == 0 || j.priority == b.Settings.Priority)
		return j.waits() && !there
	}
}

func (w *flowWorld) apply(b *flowBatch, j *flowJob) {
	switch b.Operation {
	case awa.OperationCancel:
		w.tell(j)
		w.close(j, awa.StateCancelled, "")
	case awa.OperationDelete, awa.OperationDiscard:
		w.tell(j)
		j.state = modelGone
	case awa.OperationRetry:
		w.again(j, awa.RetryParams{Queue: b.Settings.Queue, Priority: b.Settings.Priority})
	default:
		w.move1(j, b.Settings.Queue, b.Settings.Priority)
	}
}

// move1 takes a waiting job to another lane. One that was set aside is due there.
func (w *flowWorld) move1(j *flowJob, name string, priority int) {
	w.place(j, name, priority)
	if j.aside {
		j.state, j.runAt = awa.StateScheduled, -1
	}
}

var flowOperations = []awa.Operation{
	awa.OperationRetry, awa.OperationCancel, awa.OperationReprioritize, awa.OperationMove, awa.OperationDiscard, awa.OperationDelete,
}

// startBatch starts an operation, whose bites come later. What it takes by a state
// that history tells is listed when it starts, so such a one is run at once.
func (w *flowWorld) startBatch(r *rapid.T) {
	b := &flowBatch{BatchParams: awa.BatchParams{
		Operation: rapid.SampledFrom(flowOperations).Draw(r, "operation"), AllJobs: true,
	}}
	switch rapid.IntRange(0, 3).Draw(r, "filter") {
	case 0:
		b.Filter.Queue = w.anyQueue(r)
	case 1:
		for range rapid.IntRange(1, 8).Draw(r, "jobs") {
			b.Filter.IDs = append(b.Filter.IDs, w.anyJob(r, b.takes).id)
		}
	case 2:
		if !slices.Contains([]awa.Operation{awa.OperationRetry, awa.OperationDiscard}, b.Operation) {
			b.Filter.States = []awa.JobState{rapid.SampledFrom([]awa.JobState{awa.StateAvailable, awa.StateScheduled}).Draw(r, "state")}
		}
		b.Filter.Queue = w.anyQueue(r)
	default:
		// The most of what is there is left for others to act on.
		b.Filter.MinID = w.anyJob(r, b.takes).id
		b.Filter.MaxID = b.Filter.MinID + int64(rapid.IntRange(0, 5).Draw(r, "span"))
	}
	switch b.Operation {
	case awa.OperationMove:
		b.Settings.Queue = w.anyQueue(r)
		b.Settings.Priority = rapid.IntRange(0, 4).Draw(r, "priority")
	case awa.OperationRetry:
		if rapid.Bool().Draw(r, "elsewhere") {
			b.Settings.Queue = w.anyQueue(r)
		}
		b.Settings.Priority = rapid.IntRange(0, 4).Draw(r, "priority")
	case awa.OperationReprioritize:
		b.Settings.Priority = rapid.IntRange(1, 4).Draw(r, "priority")
	}
	ctx := w.at(r)
	want := int64(len(w.sorted(func(j *flowJob) bool { return w.inRange(b, j) && b.takes(j) })))
	count, err := queue.CountBatchJobs(ctx, w.calls, b.BatchParams)
	w.demand(r, "count "+string(b.Operation), count == want, true, err)
	b.id, err = queue.StartBatchOperation(ctx, w.calls, b.BatchParams)
	w.demand(r, "start "+string(b.Operation), b.id > 0, true, err)
	for id := range w.jobs {
		b.last = max(b.last, id)
	}
	w.batches = append(w.batches, b)
	for slices.Contains([]awa.Operation{awa.OperationRetry, awa.OperationDiscard}, b.Operation) && slices.Contains(w.batches, b) {
		w.bite(r, b)
	}
}

func (w *flowWorld) inRange(b *flowBatch, j *flowJob) bool {
	return j.id >= b.Filter.MinID && (b.Filter.MaxID == 0 || j.id <= b.Filter.MaxID)
}

func (w *flowWorld) anyBatch(r *rapid.T) *flowBatch {
	if len(w.batches) == 0 {
		idle(r, "no batch operations")
	}
	return rapid.SampledFrom(w.batches).Draw(r, "operation")
}

func (w *flowWorld) runBatch(r *rapid.T) { w.bite(r, w.anyBatch(r)) }

func (w *flowWorld) bite(r *rapid.T, b *flowBatch) {
	_, err := queue.RunBatchOperation(w.at(r), w.calls, b.id, rapid.IntRange(1, 5).Draw(r, "bite"))
	w.demand(r, "run "+string(b.Operation), true, true, err)
	w.bitten(r, b)
}

// bitten demands that a bite met the jobs that it says it met, and each as it was.
func (w *flowWorld) bitten(r *rapid.T, b *flowBatch) {
	got, err := queue.GetBatchOperation(context.Background(), w.conn, b.id) // at the time of the bite
	w.demand(r, "batch operation", slices.Contains([]awa.BatchState{awa.BatchRunning, awa.BatchDone}, got.State), true, err)
	for _, j := range w.sorted(func(j *flowJob) bool { return j.id > b.cursor && j.id <= min(got.Cursor, b.last) }) {
		if !w.inRange(b, j) || !b.takes(j) {
			continue
		}
		if b.Operation == awa.OperationRetry && w.holder(j, awa.StateAvailable) != nil {
			b.failed++
		} else {
			w.apply(b, j)
			b.affected++
		}
	}
	w.demand(r, "batch "+string(b.Operation), []int64{got.Affected, got.Matched, got.Skipped, got.Failed}, []int64{b.affected, b.affected + b.failed, 0, b.failed}, nil)
	if b.cursor = got.Cursor; got.State == awa.BatchDone {
		w.forget(b)
	}
}

func (w *flowWorld) forget(b *flowBatch) {
	w.batches = slices.DeleteFunc(w.batches, func(o *flowBatch) bool { return o == b })
}

// endBatch leaves an operation where it is.
func (w *flowWorld) endBatch(r *rapid.T) {
	b := w.anyBatch(r)
	got, err := queue.CancelBatchOperation(w.at(r), w.calls, b.id)
	w.demand(r, "cancel_batch_operation", got, true, err)
	w.forget(b)
}
