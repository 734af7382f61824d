package proof

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
)

// diary is what clients were told before the server went away.
type diary struct {
	mu       sync.Mutex
	enqueued map[int64]bool
	unsure   int                   // enqueues that were not answered
	unheard  int                   // claimed at most, by claims that were not answered
	hand     map[awa.Receipt]bool  // claimed, not closed
	asked    map[awa.Receipt]bool  // a finish of it was not answered
	closed   map[awa.Receipt]bool  // a finish of it was accepted
	done     map[int64]awa.Receipt // completed by it
	orphans  map[int64]bool        // claimed, and the claimer was not told
}

func newDiary() *diary {
	return &diary{
		enqueued: map[int64]bool{}, hand: map[awa.Receipt]bool{}, asked: map[awa.Receipt]bool{},
		closed: map[awa.Receipt]bool{}, done: map[int64]awa.Receipt{}, orphans: map[int64]bool{},
	}
}

// do changes the diary.
func (d *diary) do(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// claimed takes hand-outs down.
func (w *witness) claimed(jobs []awa.Job) {
	w.diary.do(func() {
		for _, j := range jobs {
			if by, done := w.diary.done[j.ID]; done {
				w.t.Errorf("job %d was completed by %v and handed out as %v", j.ID, by, j.Receipt)
			}
			if w.diary.hand[j.Receipt] || w.diary.closed[j.Receipt] {
				w.t.Errorf("receipt %v was given out twice", j.Receipt)
			}
			w.diary.hand[j.Receipt] = true
		}
	})
}

// completed takes accepted completions down.
func (w *witness) completed(receipts []awa.Receipt) {
	w.diary.do(func() {
		for _, r := range receipts {
			if by, done := w.diary.done[r.JobID]; done {
				w.t.Errorf("job %d was completed by %v and by %v", r.JobID, by, r)
			}
			w.diary.done[r.JobID] = r
			w.diary.closed[r] = true
			delete(w.diary.hand, r)
			delete(w.diary.asked, r)
		}
	})
}

// witness is a client of one queue that holds the server to its answers.
type witness struct {
	t     *testing.T
	url   string
	queue string
	diary *diary
}

// limit lets a few jobs of each concurrency key run at a time, or as many as there are. Every
// other job has none.
func (w *witness) limit(jobs *int) {
	conn := w.connect()
	defer conn.Close(context.Background())
	exec(w.t, conn, `select awa.configure_queue($1, jsonb_build_object('concurrency_limit', $2::integer))`, w.queue, jobs)
}

func (w *witness) connect() *pgx.Conn {
	w.t.Helper()
	conn, err := pgx.Connect(context.Background(), w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	return conn
}

func (w *witness) produce(conn *pgx.Conn) error {
	jobs := slices.Repeat([]awa.EnqueueParams{{Kind: "proof"}}, 1+rand.IntN(10))
	for n := range jobs[:len(jobs)/2] {
		jobs[n].ConcurrencyKey = strconv.Itoa(rand.IntN(50))
	}
	ids, err := queue.EnqueueMixed(context.Background(), conn, w.queue, jobs)
	w.diary.do(func() {
		if err != nil {
			w.diary.unsure += len(jobs)
			return
		}
		for _, id := range ids {
			w.diary.enqueued[id] = true
		}
	})
	return err
}

// claim takes jobs, or nothing that it hears of.
func (w *witness) claim(conn *pgx.Conn) ([]awa.Job, error) {
	limit := 1 + rand.IntN(20)
	jobs, err := queue.Claim(context.Background(), conn, awa.ClaimParams{Queue: w.queue, MaxJobs: limit})
	if err != nil {
		w.diary.do(func() { w.diary.unheard += limit })
		return nil, err
	}
	w.claimed(jobs)
	return jobs, nil
}

// finish completes some jobs and fails others, which then are to be retried.
func (w *witness) finish(conn *pgx.Conn, jobs []awa.Job) error {
	receipts := make([]awa.Receipt, len(jobs))
	for n, j := range jobs {
		receipts[n] = j.Receipt
	}
	cut := len(receipts)
	if rand.IntN(4) == 0 {
		cut = rand.IntN(cut + 1)
	}
	if err := w.complete(conn, receipts[:cut]); err != nil {
		return err
	}
	if cut == len(receipts) {
		return nil
	}
	w.asking(receipts[cut:])
	results, err := queue.FailMany(context.Background(), conn, awa.FailManyParams{Receipts: receipts[cut:], RetryAfter: time.Microsecond})
	if err != nil {
		return err
	}
	if len(results) != len(receipts)-cut {
		w.t.Errorf("%d of %d failures were accepted", len(results), len(receipts)-cut)
	}
	w.diary.do(func() {
		for _, result := range results {
			w.diary.closed[result.Receipt] = true
			delete(w.diary.hand, result.Receipt)
			delete(w.diary.asked, result.Receipt)
		}
	})
	return nil
}

func (w *witness) asking(receipts []awa.Receipt) {
	w.diary.do(func() {
		for _, r := range receipts {
			w.diary.asked[r] = true
		}
	})
}

func (w *witness) complete(conn *pgx.Conn, receipts []awa.Receipt) error {
	w.asking(receipts)
	stale, err := queue.CompleteMany(context.Background(), conn, receipts)
	if err != nil {
		return err
	}
	if len(stale) > 0 {
		w.t.Errorf("stale: %v", stale)
	}
	w.completed(receipts)
	return nil
}

// recover holds the restarted server to what clients were told, and returns
// how many claims it forgot.
func (w *witness) recover() int {
	t, d := w.t, w.diary
	ctx := context.Background()
	conn := w.connect()
	defer conn.Close(ctx)
	requireHealthy(t, conn)
	rows, _ := conn.Query(ctx, `select j.id, j.state::text from awa.jobs as j`)
	states := map[int64]awa.JobState{}
	var id int64
	var state awa.JobState
	if _, err := pgx.ForEachRow(rows, []any{&id, &state}, func() error {
		states[id] = state
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	asked := map[int64]bool{}
	for r := range d.asked {
		asked[r.JobID] = true
	}
	for id := range d.enqueued {
		switch by, done := d.done[id]; {
		case done && states[id] != awa.StateCompleted && states[id] != "": // "": pruned
			t.Errorf("job %d is %s, its completion by %v was acknowledged", id, states[id], by)
		// One that an earlier recovery cancelled may be pruned by now.
		case !done && !asked[id] && (states[id] == "" && !d.orphans[id] || states[id] == awa.StateCompleted):
			t.Errorf("job %d is %q, and nobody finished it", id, states[id])
		}
	}

	// A claim that was forgotten is waiting again: if the promotion before it was forgotten as
	// well, for that, and if it was set aside before, for a slot.
	var forgotten, kept []awa.Receipt
	for r := range d.hand {
		waits := states[r.JobID] == awa.StateAvailable || r.RunLease > 1 && (states[r.JobID] == awa.StateRetryable || states[r.JobID] == awa.StateScheduled)
		if waits && !d.asked[r] {
			forgotten = append(forgotten, r)
			delete(d.hand, r)
		} else {
			kept = append(kept, r)
		}
	}
	w.limit(nil)
	// A call that prunes leaves the rest to the next one.
	for promoted := false; !promoted; {
		tasks, err := queue.Maintain(ctx, conn)
		if err != nil {
			t.Fatal(err)
		}
		promoted = slices.ContainsFunc(tasks, func(task awa.TaskReport) bool { return task.Task == "promote" })
	}
	again := map[int64]bool{}
	for {
		jobs, err := queue.Claim(ctx, conn, awa.ClaimParams{Queue: w.queue, MaxJobs: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if len(jobs) == 0 {
			break
		}
		w.claimed(jobs)
		for _, j := range jobs {
			again[j.ID] = true
		}
	}
	for _, r := range forgotten {
		if !again[r.JobID] {
			t.Errorf("job %d waits and cannot be claimed", r.JobID)
		}
	}
	closed := slices.Clone(forgotten)
	for r := range d.closed {
		closed = append(closed, r)
	}
	stale, err := queue.CompleteMany(ctx, conn, closed)
	if err != nil {
		t.Fatal(err)
	}
	if len(stale) != len(closed) {
		t.Errorf("%d of %d forgotten or closed receipts are good again", len(closed)-len(stale), len(closed))
	}

	// What was claimed and not forgotten is good, unless its finish was not
	// answered: that one happened or did not.
	stale, err = queue.CompleteMany(ctx, conn, kept)
	if err != nil {
		t.Fatal(err)
	}
	var good []awa.Receipt
	for _, r := range kept {
		switch {
		case !slices.Contains(stale, r):
			good = append(good, r)
		case !d.asked[r]:
			t.Errorf("receipt %v is stale, nobody finished it; its job was %s", r, states[r.JobID])
		default:
			d.closed[r] = true
			delete(d.hand, r)
			delete(d.asked, r)
			if s := states[r.JobID]; s == awa.StateCompleted || s == "" {
				d.done[r.JobID] = r
			}
		}
	}
	w.completed(good)
	var open []awa.Receipt
	for r := range d.hand {
		open = append(open, r)
	}
	if err := w.complete(conn, open); err != nil {
		t.Fatal(err)
	}
	w.disown(conn)
	requireHealthy(t, conn)
	return len(forgotten)
}

// disown cancels the attempts of claims that were committed and not answered:
// what runs when all that clients know of is finished.
func (w *witness) disown(conn *pgx.Conn) {
	rows, _ := conn.Query(context.Background(), `select j.id from awa.jobs as j where j.state = 'running' and j.queue = $1`, w.queue)
	orphans, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		w.t.Fatal(err)
	}
	if len(orphans) > w.diary.unheard {
		w.t.Errorf("%d jobs run, and their claimers were not told", len(orphans))
	}
	for _, id := range orphans {
		w.diary.orphans[id] = true
		exec(w.t, conn, `select awa.cancel($1)`, id)
	}
}

// drain works until nothing is left, and counts.
func (w *witness) drain() {
	t, d := w.t, w.diary
	ctx := context.Background()
	conn := w.connect()
	defer conn.Close(ctx)
	for {
		tasks, err := queue.Maintain(ctx, conn)
		if err != nil {
			t.Fatal(err)
		}
		jobs, err := queue.Claim(ctx, conn, awa.ClaimParams{Queue: w.queue, MaxJobs: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if len(jobs) == 0 {
			if tasks[0].Outcome == "pruned" { // and did nothing else
				continue
			}
			break
		}
		w.claimed(jobs)
		receipts := make([]awa.Receipt, len(jobs))
		for n, j := range jobs {
			receipts[n] = j.Receipt
		}
		if err := w.complete(conn, receipts); err != nil {
			t.Fatal(err)
		}
	}
	for id := range d.enqueued {
		if _, done := d.done[id]; !done && !d.orphans[id] {
			t.Errorf("job %d was lost", id)
		}
	}
	if drifted := value[int](t, conn, `select count(*) from (`+drift+`) as d`); drifted > 0 {
		t.Error("counters drifted")
	}
	n, err := queue.Counts(ctx, conn, w.queue)
	if err != nil {
		t.Fatal(err)
	}
	if left := n.Available + n.Scheduled + n.Retryable + n.Running; left > 0 || n.Terminal+n.PrunedTerminal != int64(len(d.done)+len(d.orphans)) {
		t.Errorf("%d jobs were completed, counts are %+v", len(d.done), n)
	}
	requireHealthy(t, conn)
}
