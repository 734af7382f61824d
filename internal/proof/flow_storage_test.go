package proof

import (
	"context"
	"errors"

	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
)

// What empties the storage, or a part of it, and a clock that is set.

// empty removes everything, perhaps but for settings and schedules. Receipts and callbacks
// from before are good for nothing.
func (w *flowWorld) empty(r *rapid.T) {
	keep := rapid.Bool().Draw(r, "keep config")
	w.demand(r, "reset", true, true, queue.Reset(w.at(r), w.calls, awa.ResetParams{KeepConfig: keep}))
	w.forgetJobs()
	if keep {
		for _, s := range w.schedules {
			s.last = 0
			s.from(w.now)
		}
		return
	}
	w.schedules = map[string]*flowSchedule{}
	w.configure(r)
}

// forgetJobs is the model of a storage without jobs.
func (w *flowWorld) forgetJobs() {
	w.jobs, w.due, w.keys = map[int64]*flowJob{}, map[int64]string{}, map[string]*flowJob{}
	w.batches, w.fires = nil, map[string]*flowSchedule{}
	w.pruned, w.left, w.rebased = false, map[string]int64{}, 0
	w.beats, w.notices, w.late = map[string]int64{}, map[awa.Receipt]flowNotice{}, map[awa.Receipt]int64{}
	w.tokens, w.spent = w.queues["slow"].burst, w.now
}

// configure gives the queues the settings with which a run begins.
func (w *flowWorld) configure(r *rapid.T) {
	w.queues = map[string]*flowQueue{}
	for _, q := range flowQueues {
		w.configureOne(r, q)
	}
}

func (w *flowWorld) configureOne(r *rapid.T, q flowQueue) {
	must(r, w.conn, `select awa.configure_queue($1, $2)`, q.name, q.settings)
	w.queues[q.name] = &q
	if q.rate > 0 {
		w.tokens, w.spent = q.burst, w.now
	}
}

// removeQueue forgets a queue, which is refused while anything belongs to it.
func (w *flowWorld) removeQueue(r *rapid.T) {
	name := w.anyQueue(r)
	if rapid.Bool().Draw(r, "sweep") {
		w.sweep(r, name)
	}
	belongs := len(w.sorted(func(j *flowJob) bool { return j.queue == name && !is(modelGone, modelPruned)(j) })) > 0
	for _, s := range w.schedules {
		belongs = belongs || s.Queue == name
	}
	got, err := queue.RemoveQueue(w.at(r), w.calls, name)
	if errors.Is(err, awa.ErrWrongState) {
		// Also for what stays in its segment until that is pruned.
		w.refuse(r, "remove_queue", err, awa.ErrWrongState)
		return
	}
	w.demand(r, "remove_queue", got, !belongs, err)
	n, err := queue.Counts(w.at(r), w.calls, name)
	w.demand(r, "counts of a removed queue", n, awa.QueueCounts{Queue: name}, err)
	delete(w.left, name)
	for _, q := range flowQueues {
		if q.name == name {
			w.configureOne(r, q)
		}
	}
}

// sweep takes all out of a queue, and turns the ring until nothing is left of it.
func (w *flowWorld) sweep(r *rapid.T, name string) {
	for _, s := range w.schedules {
		if s.Queue == name {
			got, err := queue.RemoveSchedule(w.at(r), w.calls, s.Name)
			w.demand(r, "remove_schedule", got, true, err)
			delete(w.schedules, s.Name)
		}
	}
	w.at(r)
	_, err := w.calls.Exec(context.Background(), `delete from awa.jobs where queue = $1`, name)
	w.demand(r, "delete from jobs of a queue", true, true, err)
	_, err = queue.PurgeDLQ(w.at(r), w.calls, awa.PurgeDLQParams{DeadLetterFilter: awa.DeadLetterFilter{Queue: name}})
	w.demand(r, "purge_dlq of a queue", true, true, err)
	for _, j := range w.sorted(func(j *flowJob) bool { return j.queue == name && !is(modelGone, modelPruned)(j) }) {
		w.tell(j)
		j.state = modelGone
	}
	w.look(r)
	filler := "free"
	if name == filler {
		filler = "letters"
	}
	for range 4 {
		w.add(r, "enqueue", &flowJob{queue: filler, priority: 4, attempt: 1, max: 1}, nil)
		w.rotate(r)
		w.maintain(r)
		w.look(r)
		w.prune(r)
		w.look(r)
	}
}

// leap sets the clock, ahead by days or back.
func (w *flowWorld) leap(r *rapid.T) {
	seconds := rapid.SampledFrom([]int64{2 * 86400, -30, -300, -7300, -2 * 86400}).Draw(r, "leap")
	for _, s := range w.schedules {
		if seconds > 0 && s.MissedFire == awa.MissedFireCatchUp {
			idle(r, "hundreds of fires would fill the model")
		}
	}
	w.now += seconds * 1e6
	w.answers["leap"]++
}
