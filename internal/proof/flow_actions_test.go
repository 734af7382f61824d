package proof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
)

// allActions are what may happen; what occurs more often happens more often.
func (w *flowWorld) allActions() []func(*rapid.T) {
	return []func(*rapid.T){
		w.enqueue, w.enqueue, w.enqueue, w.enqueue, w.enqueueAfter, w.enqueueAfter, w.enqueueAfter,
		w.claim, w.claim, w.claim, w.claim, w.claim, w.claim,
		w.complete, w.complete, w.complete, w.fail, w.fail, w.snooze, w.cancel,
		w.register, w.register, w.register, w.answer, w.answer, w.answer, w.answer, w.park, w.park, w.hold, w.ask,
		w.report, w.report, w.extend, w.extend, w.beat, w.beat, w.lapse, w.lapse, w.rescueUnknown, w.cancelAttempt,
		w.maintain, w.maintain, w.maintain, w.maintain, w.rotate, w.prune, w.turn, w.lift, w.retune, w.pause, w.wait, w.wait,
		w.retry, w.retry, w.remove, w.letter, w.retryLetter, w.move, w.reschedule, w.reschedule,
		w.removeFrom, w.discard, w.letters, w.retryLetters, w.purge, w.recount, w.rebase,
		w.startBatch, w.startBatch, w.runBatch, w.runBatch, w.endBatch,
		w.together, w.together, w.together, w.empty, w.removeQueue, w.leap, w.cancelKey, w.schedule, w.unschedule, w.holdSchedule, w.elsewhere, w.elsewhere, w.elsewhere,
	}
}

// act does any of the actions of this run, or one without which there is nothing to
// act on.
func (w *flowWorld) act(r *rapid.T) {
	actions := append(w.actions, w.enqueue, w.enqueue, w.enqueueAfter, w.claim, w.claim, w.claim, w.complete, w.fail, w.maintain, w.wait)
	actions[bits.Draw(r, "action")%len(actions)](r)
}

// some are two thirds of what there is, in its order.
func some[T any](r *rapid.T, all []T) (kept []T) {
	for _, one := range all {
		if bits.Draw(r, "keep")%3 > 0 {
			kept = append(kept, one)
		}
	}
	if len(kept) == 0 {
		return all
	}
	return kept
}

// elsewhere begins a transaction that does nothing with awa, or ends it. What was enqueued
// since it began is not behind it.
func (w *flowWorld) elsewhere(r *rapid.T) {
	if w.other.PgConn().TxStatus() == 'I' {
		must(r, w.other, `begin`)
		must(r, w.other, `select pg_current_xact_id()`)
	} else {
		must(r, w.other, `commit`)
	}
}

func (w *flowWorld) wait(r *rapid.T) {
	w.now += rapid.SampledFrom([]int64{1, 5, 20, 100, 7300}).Draw(r, "seconds") * 1e6
}

// anyJob is a job, more likely one that matches.
func (w *flowWorld) anyJob(r *rapid.T, likely func(*flowJob) bool) *flowJob {
	jobs := w.sorted(likely)
	if len(jobs) == 0 || rapid.IntRange(0, 4).Draw(r, "unlikely") == 0 {
		jobs = w.sorted(func(*flowJob) bool { return true })
	}
	if len(jobs) == 0 {
		idle(r, "no jobs")
	}
	return jobs[rapid.IntRange(0, len(jobs)-1).Draw(r, "job")]
}

func (w *flowWorld) enqueue(r *rapid.T) {
	j := &flowJob{
		queue: w.anyQueue(r), priority: rapid.IntRange(1, 4).Draw(r, "priority"), state: awa.StateAvailable, attempt: 1,
		key:     rapid.SampledFrom([]string{"", "k", "l"}).Draw(r, "key"),
		max:     rapid.IntRange(1, 3).Draw(r, "max attempts"),
		follows: rapid.IntRange(0, 3).Draw(r, "follow-ups") == 0,
	}
	if rapid.IntRange(0, 4).Draw(r, "later") == 0 {
		j.runAt = w.now + 20e6
	}
	if rapid.IntRange(0, 4).Draw(r, "deadline") == 0 {
		j.deadline = 30e6
	}
	w.anyUniqueKey(r, j)
	w.add(r, "enqueue", j, nil)
}

// enqueueAfter adds a job that waits for others.
func (w *flowWorld) enqueueAfter(r *rapid.T) {
	j := &flowJob{
		queue: w.anyQueue(r), priority: 2, state: awa.StateScheduled, attempt: 1,
		max: 1, key: rapid.SampledFrom([]string{"", "k"}).Draw(r, "key"),
	}
	for range rapid.IntRange(1, 3).Draw(r, "after") {
		if id := w.anyJob(r, func(p *flowJob) bool { return !p.terminal() }).id; !slices.Contains(j.after, id) {
			j.after = append(j.after, id)
		}
	}
	// The first of these that will not complete is refused.
	var want error
	for _, id := range j.after {
		switch w.jobs[id].state {
		case modelPruned, modelGone:
			want = awa.ErrNotFound
		case awa.StateFailed, awa.StateCancelled, modelDead:
			if want == nil {
				want = awa.ErrWrongState
			}
		}
	}
	w.anyUniqueKey(r, j)
	w.add(r, "enqueue after", j, want)
}

func (w *flowWorld) add(r *rapid.T, call string, j *flowJob, want error) {
	w.numbers++
	j.number, j.tags = w.numbers, anyTags(r)
	p := awa.EnqueueParams{Args: json.RawMessage(fmt.Sprintf(`{"n": %d}`, j.number)), Tags: j.tags, Metadata: json.RawMessage(fmt.Sprintf(`{"m": %d}`, j.number)),
		Kind: "job", Queue: j.queue, Priority: j.priority, ConcurrencyKey: j.key, MaxAttempts: j.max, After: j.after}
	if j.unique != "" {
		p.UniqueKey, p.UniqueStates = []byte(j.unique), j.mask
	}
	if j.follows {
		p.FollowUps = &awa.FollowUps{
			Completed: []awa.FollowUp{{Kind: "after completed"}},
			Failed:    []awa.FollowUp{{Kind: "after failed"}},
			Exhausted: []awa.FollowUp{{Kind: "after exhausted"}},
		}
	}
	p.Deadline = time.Duration(j.deadline) * time.Microsecond
	if j.runAt != 0 {
		p.RunAt = when(j.runAt)
	}
	if q := w.queues[j.queue]; want == nil && q.depth > 0 && !q.warns && q.depth <= len(w.sorted(func(o *flowJob) bool {
		return o.queue == j.queue && o.waits()
	})) {
		want = awa.ErrQueueFull
	}
	var id int64
	var err error
	ctx := w.at(r)
	if j.kind = "job"; j.key == "" && !j.follows && j.deadline == 0 && len(j.after) == 0 && rapid.Bool().Draw(r, "otherwise") {
		id, err = w.enqueued(r, j)
	} else {
		id, err = queue.Enqueue(ctx, w.calls, p)
	}
	if want != nil {
		if code := sqlState(err); code == "AW007" && errors.Is(want, awa.ErrQueueFull) {
			err = want
		}
		w.refuse(r, call, err, want)
		return
	}
	j.after = slices.DeleteFunc(j.after, func(id int64) bool { return w.jobs[id].state == awa.StateCompleted })
	if j.state = awa.StateAvailable; len(j.after) > 0 || j.runAt > w.now {
		j.state = awa.StateScheduled
	}
	if h := w.holder(j, j.state); h != nil {
		if errors.Is(err, errHeld) {
			w.answers["enqueue of a key that is held"]++
			return
		}
		w.demand(r, call+" of a key that is held", id == h.id, true, err)
		return
	}
	w.demand(r, call, id > 0 && w.jobs[id] == nil, true, err)
	j.id, j.created = id, w.now
	w.jobs[id] = j
}

func anyTags(r *rapid.T) []string {
	return rapid.SampledFrom([][]string{{}, {"a"}, {"a", "b"}}).Draw(r, "tags")
}

// claim demands as many jobs as have a slot and a token each.
func (w *flowWorld) claim(r *rapid.T) {
	q := w.queues[w.anyQueue(r)]
	if jobs := w.sorted(is(awa.StateAvailable)); len(jobs) > 0 && rapid.IntRange(0, 3).Draw(r, "any queue") > 0 {
		q = w.queues[rapid.SampledFrom(jobs).Draw(r, "queue of").queue]
	}
	limit := rapid.SampledFrom([]int{1, 2, 5, 100}).Draw(r, "max jobs")
	lease := rapid.SampledFrom([]time.Duration{time.Minute, 3 * time.Hour}).Draw(r, "lease")
	worker := rapid.SampledFrom([]string{"", "", "nobody", "alpha", "beta"}).Draw(r, "worker")
	ctx := w.at(r)
	waiting := w.sorted(func(j *flowJob) bool { return j.queue == q.name && j.state == awa.StateAvailable && !q.paused })
	slots := map[string]int{}
	for _, key := range []string{"k", "l"} {
		slots[key] = q.limit - len(w.sorted(func(j *flowJob) bool { return j.queue == q.name && j.key == key && j.open() }))
	}
	free := 0
	for _, j := range waiting {
		if j.aside && j.gains() { // promotion sees to its unique key first
			continue
		}
		if q.limit == 0 || j.key == "" {
			free++
		} else if slots[j.key] > 0 {
			slots[j.key]--
			free++
		}
	}
	if want := min(limit, free); q.rate > 0 {
		w.tokens = min(q.burst, w.tokens+max(float64(w.now-w.spent), 0)/1e6*q.rate)
		w.spent = w.now
		limit = min(want, int(math.Floor(w.tokens+1e-6)))
		w.tokens -= float64(limit)
	} else {
		limit = want
	}
	jobs, err := queue.Claim(ctx, w.calls, awa.ClaimParams{Queue: q.name, MaxJobs: max(limit, 1), Lease: lease, Worker: worker})
	// Under a limit a claim that has something may leave the rest to the next.
	for more := jobs; q.limit > 0 && len(more) > 0 && len(jobs) < limit && err == nil; jobs = append(jobs, more...) {
		more, err = queue.Claim(ctx, w.calls, awa.ClaimParams{Queue: q.name, MaxJobs: limit - len(jobs), Lease: lease, Worker: worker})
		w.answers["claim of the rest"]++
	}
	if len(jobs) != limit {
		r.Logf("there were %s; %s", flowJobs(waiting), w.slots(q))
	}
	w.demand(r, "claim "+q.name, len(jobs), limit, err)
	for _, got := range jobs {
		j := w.jobs[got.ID]
		if j == nil || j.state != awa.StateAvailable || j.queue != q.name || int(got.Attempt) != j.attempt || len(got.Errors) != j.errors ||
			percentOf(got.Progress) != j.progress || got.Receipt.RunLease <= j.receipt.RunLease ||
			j.number != 0 && (string(got.Args) != fmt.Sprintf(`{"n": %d}`, j.number) || !slices.Equal(got.Tags, j.tags) || got.CreatedAt.UnixMicro() != j.created) {
			r.Fatalf("handed out %+v as %+v", j, got)
		}
		if q.limit > 0 && j.key != "" && len(w.sorted(func(o *flowJob) bool {
			return o.queue == q.name && o.key == j.key && o.open()
		})) >= q.limit {
			r.Fatalf("key %q has no slot for %+v", j.key, j)
		}
		j.state, j.receipt, j.runAt, j.called, j.left = awa.StateRunning, got.Receipt, 0, false, false
		j.lease, j.expires, j.worker, j.claimed, j.ran = lease.Microseconds(), w.now+lease.Microseconds(), worker, w.now, true
		if j.ends = 0; j.deadline != 0 {
			j.ends = w.now + j.deadline
		}
		w.receipts = append(w.receipts, got.Receipt)
	}
}

// slots tells what the storage knows of a queue's slots.
func (w *flowWorld) slots(q *flowQueue) (known string) {
	_ = w.conn.QueryRow(context.Background(), `
select format('of the queue: %s; parked: %s; slots: %s; in progress: %s', to_json(m),
  (select json_agg(p order by p.key, p.job_id) from awa.parked_jobs as p where p.queue = m.queue),
  (select json_agg(b) from (select n.* from awa.slot_batches as n where n.queue = m.queue order by n.point desc limit 5) as b),
  pg_current_snapshot())
from awa.queue_meta as m where m.queue = $1`, q.name).Scan(&known)
	return known
}

func flowJobs(jobs []*flowJob) (told []string) {
	for _, j := range jobs {
		told = append(told, fmt.Sprintf("%+v", *j))
	}
	return told
}

// anyReceipts are of open attempts, more likely than of closed ones.
func (w *flowWorld) anyReceipts(r *rapid.T) []awa.Receipt {
	if len(w.sorted((*flowJob).open)) == 0 {
		w.claim(r)
		w.look(r) // which tells what the claim set aside
	}
	var from []awa.Receipt
	for _, j := range w.sorted((*flowJob).open) {
		from = append(from, j.receipt)
	}
	if len(from) == 0 || rapid.IntRange(0, 4).Draw(r, "old") == 0 {
		from = w.receipts
	}
	if len(from) == 0 {
		idle(r, "no receipts")
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(from), 1, 5, rapid.ID[awa.Receipt]).Draw(r, "receipts")
}

// divide tells open attempts from stale receipts.
func (w *flowWorld) divide(receipts []awa.Receipt) (open []*flowJob, stale []awa.Receipt) {
	for _, receipt := range receipts {
		if j := w.jobs[receipt.JobID]; j != nil && j.open() && j.receipt == receipt {
			open = append(open, j)
		} else {
			stale = append(stale, receipt)
		}
	}
	slices.SortFunc(open, func(a, b *flowJob) int { return int(a.id - b.id) })
	return open, stale
}

func (w *flowWorld) complete(r *rapid.T) {
	receipts := w.anyReceipts(r)
	open, want := w.divide(receipts)
	stale, err := queue.CompleteMany(w.at(r), w.calls, receipts)
	w.demand(r, "complete_many", sortedReceipts(stale), sortedReceipts(want), err)
	for _, j := range open {
		w.close(j, awa.StateCompleted, "after completed")
	}
}

// close ends a job. kind is what follows it.
func (w *flowWorld) close(j *flowJob, state awa.JobState, kind string) {
	if state == awa.StateCancelled {
		w.note(j, 0) // which says why
	}
	w.over(j, state)
	j.done = state == awa.StateCompleted
	if j.follows && kind != "" {
		w.due[j.id] = kind
	}
}

// over is the end of a job, at this moment.
func (w *flowWorld) over(j *flowJob, state awa.JobState) {
	if j.state, j.ended = state, w.now; !j.ran {
		j.claimed = 0
	}
}

// note is an error in a job's story: of an attempt, or of none.
func (w *flowWorld) note(j *flowJob, attempt int) {
	j.errors++
	j.story += fmt.Sprintf(" %d at %d", attempt, w.now)
}

// failed is what a failed attempt makes of its job, to be tried again at a moment;
// below zero, at whatever moment.
func (w *flowWorld) failed(j *flowJob, terminal bool, runAt int64) awa.JobState {
	over := awa.StateFailed
	if w.queues[j.queue].dlq {
		over = modelDead
	}
	switch {
	case j.attempt >= j.max:
		w.close(j, over, "after exhausted")
	case terminal:
		w.close(j, over, "after failed")
	case w.holder(j, awa.StateRetryable) != nil:
		w.note(j, j.attempt)
		w.over(j, awa.StateCancelled)
		return awa.StateCancelled
	default:
		w.note(j, j.attempt)
		j.attempt++
		j.state, j.runAt, j.ran = awa.StateRetryable, runAt, false
		return j.state
	}
	w.note(j, j.attempt)
	return awa.StateFailed
}

func (w *flowWorld) fail(r *rapid.T) {
	p := awa.FailManyParams{Receipts: w.anyReceipts(r), Terminal: rapid.Bool().Draw(r, "terminal"), RetryAfter: 10 * time.Second}
	ctx := w.at(r)
	open, _ := w.divide(p.Receipts)
	want := map[awa.Receipt]awa.JobState{}
	for _, j := range open {
		want[j.receipt] = w.failed(j, p.Terminal, w.now+10e6)
	}
	results, err := queue.FailMany(ctx, w.calls, p)
	got := map[awa.Receipt]awa.JobState{}
	for _, result := range results {
		got[result.Receipt] = result.State
	}
	w.demand(r, "fail_many", got, want, err)
}

func (w *flowWorld) snooze(r *rapid.T) {
	receipts := w.anyReceipts(r)
	delay := rapid.SampledFrom([]time.Duration{0, 10 * time.Second}).Draw(r, "delay")
	ctx := w.at(r)
	open, want := w.divide(receipts)
	stale, err := queue.SnoozeMany(ctx, w.calls, receipts, delay)
	w.demand(r, "snooze_many", sortedReceipts(stale), sortedReceipts(want), err)
	for _, j := range open {
		if w.holder(j, awa.StateScheduled) != nil {
			w.note(j, j.attempt)
			w.over(j, awa.StateCancelled)
			continue
		}
		j.state, j.runAt, j.ran = awa.StateAvailable, 0, false
		if delay > 0 || j.gains() {
			j.state, j.runAt = awa.StateScheduled, w.now+delay.Microseconds()
		}
	}
}

func (w *flowWorld) cancel(r *rapid.T) {
	j := w.anyJob(r, func(j *flowJob) bool { return !j.terminal() })
	got, err := queue.Cancel(w.at(r), w.calls, j.id, "")
	w.demand(r, "cancel", got, !j.terminal(), err)
	if got {
		w.tell(j)
		w.close(j, awa.StateCancelled, "")
	}
}
