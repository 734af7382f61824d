package proof

import (
	"fmt"

	"pgregory.net/rapid"
)

// lift takes a limit away for a moment: what waits for a slot goes back into its
// lane, and who has one keeps it.
func (w *flowWorld) lift(r *rapid.T) {
	q := w.queues[rapid.SampledFrom([]string{"single", "double"}).Draw(r, "queue")]
	w.at(r)
	must(r, w.conn, `select awa.configure_queue($1, '{"concurrency_limit": null}')`, q.name)
	w.limit(r, q, q.limit)
}

func (w *flowWorld) limit(r *rapid.T, q *flowQueue, slots int) {
	q.limit = slots
	must(r, w.conn, `select awa.configure_queue($1, $2)`, q.name, fmt.Sprintf(`{"concurrency_limit": %d}`, q.limit))
}

// retune changes a limit while jobs run and wait under it. Who has a slot keeps it,
// also beyond a lower limit.
func (w *flowWorld) retune(r *rapid.T) {
	w.at(r)
	if rapid.Bool().Draw(r, "slots") {
		w.limit(r, w.queues["double"], rapid.IntRange(1, 4).Draw(r, "limit"))
		return
	}
	q := w.queues["short"]
	q.depth, q.warns = rapid.IntRange(1, 10).Draw(r, "depth"), rapid.IntRange(0, 2).Draw(r, "on full") == 0
	must(r, w.conn, `select awa.configure_queue($1, $2)`, q.name, fmt.Sprintf(`{"max_depth": %d, "on_full": %q}`, q.depth,
		map[bool]string{true: "warn", false: "reject"}[q.warns]))
}

// pause stops a queue's claims, or lets them go on.
func (w *flowWorld) pause(r *rapid.T) {
	q := w.queues[w.anyQueue(r)]
	if q.paused = rapid.IntRange(0, 2).Draw(r, "pause") == 0; q.paused {
		w.demand(r, "pause_queue", true, true, queue.PauseQueue(w.at(r), w.calls, q.name))
		return
	}
	w.demand(r, "resume_queue", true, true, queue.ResumeQueue(w.at(r), w.calls, q.name))
}
