package proof

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
)

// actions are what may happen next; what occurs more often happens more often.
func (w *world) actions() []func(*rapid.T) {
	return []func(*rapid.T){
		w.begin, w.begin, w.end, w.end, w.end, w.savepoint, w.rollbackTo, w.lookInside,
		w.enqueue, w.enqueue, w.enqueue, w.enqueueMany, w.enqueueMany, w.enqueueAfter, w.enqueueAfter,
		w.claim, w.claim, w.claim, w.claim,
		w.complete, w.completeMany, w.completeMany, w.fail, w.fail, w.fail, w.snooze, w.cancelAttempt,
		w.callBack, w.callBack, w.callBack, w.answer, w.answer, w.answer, w.answer, w.hold, w.park,
		w.setProgress, w.setProgress, w.setProgress, w.extendLease, w.extendLease, w.register, w.heartbeat, w.heartbeat, w.heartbeat,
		w.cancel, w.cancel, w.cancelKey, w.retry, w.retry, w.remove, w.removeFrom, w.update, w.update, w.reschedule,
		w.moveToDLQ, w.bulkMove, w.discard, w.retryFromDLQ, w.bulkRetry, w.purge,
		w.maintain, w.maintain, w.maintain, w.rotate, w.rotate, w.prune, w.prune, w.prune, w.turn,
		w.checkpoint, w.rebuild, w.empty, w.garbage, w.pause, w.wait, w.wait, w.wait,
	}
}

// act does any of the actions. They are drawn by bits, for rapid prefers small
// numbers.
func (w *world) act(r *rapid.T) {
	actions := w.actions()
	actions[bits.Draw(r, "action")%len(actions)](r)
}

var bits = rapid.Custom(func(r *rapid.T) int {
	n := 0
	for range 10 {
		n *= 2
		if rapid.Bool().Draw(r, "bit") {
			n++
		}
	}
	return n
})

func (w *world) anyone(r *rapid.T) *session {
	return w.sessions[rapid.IntRange(0, len(w.sessions)-1).Draw(r, "session")]
}

func anyQueue(r *rapid.T) string {
	return modelQueues[rapid.IntRange(0, len(modelQueues)-1).Draw(r, "queue")].name
}

// queueOf is the queue of a job that matches, if there is one, or any.
func (w *world) queueOf(r *rapid.T, s *session, likely func(modelJob) bool) string {
	jobs := w.view(s).sorted(likely)
	if len(jobs) == 0 || rapid.IntRange(0, 4).Draw(r, "any") == 0 {
		return anyQueue(r)
	}
	return jobs[rapid.IntRange(0, len(jobs)-1).Draw(r, "queue of")].queue
}

func anyKind(r *rapid.T) string {
	return rapid.SampledFrom([]string{"one", "two"}).Draw(r, "kind")
}

// anyJob is a job that s may know of, more likely one that matches.
func (w *world) anyJob(r *rapid.T, s *session, likely func(modelJob) bool) int64 {
	f := w.view(s).facts
	jobs := f.sorted(likely)
	if len(jobs) == 0 || rapid.IntRange(0, 3).Draw(r, "unlikely") == 0 {
		jobs = f.sorted(func(modelJob) bool { return true })
	}
	if len(jobs) == 0 {
		idle(r, "no jobs")
	}
	return jobs[rapid.IntRange(0, len(jobs)-1).Draw(r, "job")].id
}

func in(states ...awa.JobState) func(modelJob) bool {
	return func(j modelJob) bool { return slices.Contains(states, j.state) }
}

// answered demands an answer.
func answered(got, want any, err error) error {
	if err != nil {
		return err
	}
	if reflect.DeepEqual(got, want) {
		return nil
	}
	return fmt.Errorf("got %v, want %v", got, want)
}

// populate makes a first few jobs, and some of each kind of end.
func (w *world) populate(r *rapid.T) {
	for range rapid.IntRange(0, 10).Draw(r, "jobs") {
		w.enqueue(r)
	}
	for range rapid.IntRange(0, 4).Draw(r, "attempts") {
		if len(w.view(w.sessions[0]).sorted(in(awa.StateAvailable))) > 0 {
			w.claim(r)
		}
		if len(w.receipts) > 0 {
			w.fail(r)
		}
	}
}

// Transactions.

func (w *world) begin(r *rapid.T) {
	s := w.anyone(r)
	if s.open {
		idle(r, "one is open")
	}
	s.open = true
	level := rapid.SampledFrom([]string{"read committed", "read committed", "read committed", "repeatable read", "serializable"}).Draw(r, "isolation")
	s.repeatable, s.serializable = level != "read committed", level == "serializable"
	must(r, s.conn, `begin isolation level `+level)
}

func (w *world) end(r *rapid.T) {
	s := w.anyone(r)
	if !s.open {
		idle(r, "none is open")
	}
	back := s.broken || rapid.IntRange(0, 3).Draw(r, "roll back") == 0
	end := map[bool]string{true: `rollback`, false: `commit`}[back]
	switch {
	case s.prepared != "":
		end += ` prepared '` + s.prepared + `'`
	case !s.broken && w.prepares && rapid.IntRange(0, 2).Draw(r, "prepare") == 0:
		// It keeps what it has in hand, and its changes, until it ends.
		name := fmt.Sprintf("model %d", s.conn.PgConn().PID())
		if end = `prepare transaction '` + name + `'`; w.ends(r, s, end) {
			s.prepared, s.savepoints = name, nil
			w.answers["prepare transaction"]++
		}
		return
	}
	if !w.ends(r, s, end) {
		return
	}
	if back {
		s.end()
		return
	}
	w.commit(s)
}

// ends reports whether a transaction could end as it was to. A serializable one may have to be
// repeated.
func (w *world) ends(r *rapid.T, s *session, end string) bool {
	_, err := s.conn.Exec(context.Background(), end)
	switch {
	case err == nil:
		return true
	case !s.serializable || sqlState(err) != "40001":
		r.Fatalf("%s: %v", end, err)
	}
	w.answers["commit 40001"]++
	s.end()
	return false
}

func (w *world) savepoint(r *rapid.T) {
	s := w.anyone(r)
	if !s.open || s.broken || s.prepared != "" {
		idle(r, "none is open")
	}
	s.savepoints = append(s.savepoints, s.did.clone())
	must(r, s.conn, fmt.Sprintf(`savepoint s%d`, len(s.savepoints)))
}

func (w *world) rollbackTo(r *rapid.T) {
	s := w.anyone(r)
	if len(s.savepoints) == 0 {
		idle(r, "no savepoint")
	}
	n := rapid.IntRange(1, len(s.savepoints)).Draw(r, "savepoint")
	must(r, s.conn, fmt.Sprintf(`rollback to s%d`, n))
	s.did, s.broken = s.savepoints[n-1].clone(), false
	s.savepoints = s.savepoints[:n]
}

// lookInside holds a transaction's own view against the model.
func (w *world) lookInside(r *rapid.T) {
	s := w.anyone(r)
	if !s.open || w.lags(s) {
		idle(r, "nothing to see")
	}
	w.call(r, s, "look", func(_ context.Context, conn *pgx.Conn) error {
		// The view itself is in the answer: it must be read under its snapshot.
		return w.compare(conn, w.view(s).facts)
	}, func(_ *step, err error) error { return err })
}

// Producing.

func (w *world) enqueue(r *rapid.T) {
	s := w.anyone(r)
	j := modelJob{
		kind: anyKind(r), queue: anyQueue(r), state: awa.StateAvailable, attempt: 1, segment: -1,
		priority:    rapid.IntRange(1, 4).Draw(r, "priority"),
		maxAttempts: rapid.IntRange(1, 3).Draw(r, "max attempts"),
	}
	p := awa.EnqueueParams{
		Kind: j.kind, Queue: j.queue, Priority: j.priority, MaxAttempts: j.maxAttempts,
		OrderingKey: rapid.SampledFrom([]string{"", "x", "y"}).Draw(r, "ordering key"),
	}
	switch rapid.IntRange(0, 4).Draw(r, "run at") {
	case 0:
		j.runAt, j.state = w.anyLater(r), awa.StateScheduled
		p.RunAt = when(j.runAt)
	case 1:
		j.runAt = w.now - 3600e6
		p.RunAt = when(j.runAt)
	}
	if rapid.IntRange(0, 3).Draw(r, "deadline") == 0 {
		p.Deadline = 30 * time.Second
		j.deadline = p.Deadline.Microseconds()
	}
	if queueNamed(j.queue).limit > 0 {
		j.slotKey = rapid.SampledFrom([]string{"", "a", "a", "b"}).Draw(r, "slot key")
		p.ConcurrencyKey = j.slotKey
	} else if j.key = rapid.SampledFrom([]string{"", "", "k", "l"}).Draw(r, "unique key"); j.key != "" {
		p.UniqueKey = []byte(j.key)
		j.mask = defaultMask
		switch rapid.IntRange(0, 3).Draw(r, "mask") {
		case 2:
			j.mask, p.UniqueStates = openMask, openMask
		case 0:
			j.mask, p.UniqueStates = waitingMask, waitingMask
		case 1:
			j.mask, p.UniqueStates = activeMask, activeMask
		}
	}
	var id int64
	w.call(r, s, "enqueue", func(ctx context.Context, conn *pgx.Conn) (err error) {
		id, err = queue.Enqueue(ctx, conn, p)
		return err
	}, func(v *step, err error) error {
		if err != nil {
			return err
		}
		if holder := v.holder(j, j.state); holder != 0 {
			return answered(id, holder, nil)
		}
		j.id = id
		v.holder(j, j.state)
		return w.added(s, v, j)
	})
}

var (
	defaultMask = awa.InStates(awa.StateScheduled, awa.StateAvailable, awa.StateRunning, awa.StateCompleted, awa.StateRetryable)
	waitingMask = awa.InStates(awa.StateScheduled, awa.StateAvailable, awa.StateRetryable)
	activeMask  = awa.InStates(awa.StateAvailable, awa.StateRunning) // a deferred job does not count
	openMask    = awa.InStates(awa.StateAvailable, awa.StateRunning, awa.StateWaitingExternal, awa.StateRetryable)
)

// enqueueAfter adds a job that waits for one or two others.
func (w *world) enqueueAfter(r *rapid.T) {
	s := w.anyone(r)
	if s.repeatable {
		idle(r, "its snapshot may not show what the others came to")
	}
	j := modelJob{kind: anyKind(r), queue: "plain", state: awa.StateScheduled, attempt: 1, maxAttempts: 1, priority: 2, segment: -1}
	p := awa.EnqueueParams{Kind: j.kind, Queue: j.queue, Priority: j.priority, MaxAttempts: 1}
	for range rapid.IntRange(1, 2).Draw(r, "after") {
		p.After = append(p.After, w.anyJob(r, s, func(j modelJob) bool { return j.waits() || j.open() }))
	}
	w.call(r, s, "enqueue after", func(ctx context.Context, conn *pgx.Conn) (err error) {
		j.id, err = queue.Enqueue(ctx, conn, p)
		return err
	}, func(v *step, err error) error {
		want := ""
		for n, id := range p.After {
			switch state := v.jobs[id].state; {
			case in(modelGone, modelPruned)(v.jobs[id]):
				want = "AW002"
			case in(awa.StateFailed, awa.StateCancelled, modelDead)(v.jobs[id]):
				want = cmp.Or(want, "AW003")
			case state != awa.StateCompleted:
				j.after[n] = id
			}
		}
		if want != "" {
			return answered(sqlState(err), want, nil)
		}
		if j.after == [2]int64{} {
			j.state = awa.StateAvailable
		}
		if err != nil {
			return err
		}
		return w.added(s, v, j)
	})
}

// releasing looks at the jobs that wait for others before a pass over them, and returns what
// finds out which of them it released. Only where nobody is in its way must it be all.
func (w *world) releasing(s *session, v *step) func() error {
	waiting := v.sorted(func(j modelJob) bool { return j.after != [2]int64{} })
	completed := func(id int64) bool {
		j := v.jobs[id]
		return id == 0 || j.state == awa.StateCompleted || j.done && in(modelPruned, modelGone)(j)
	}
	failed := func(id int64) bool {
		return id != 0 && in(awa.StateFailed, awa.StateCancelled, modelDead)(v.jobs[id])
	}
	settled := map[int64]bool{}
	for _, j := range waiting {
		settled[j.id] = !s.open && len(w.others(s)) == 0 &&
			(completed(j.after[0]) && completed(j.after[1]) || failed(j.after[0]) || failed(j.after[1]))
	}
	return func() error {
		for _, j := range waiting {
			state, err := stateOf(s, j)
			if err != nil {
				return err
			}
			first, second := v.jobs[j.after[0]], v.jobs[j.after[1]]
			switch {
			case state == j.state && !settled[j.id]:
			case state == awa.StateAvailable && (j.after[0] == 0 || first.done) && (j.after[1] == 0 || second.done):
				w.answers["released"]++
				v.offer(v.jobs[j.id])
			case state == awa.StateCancelled && (first.lost || second.lost):
				w.answers["cancelled for another"]++
				v.cancel(j.id)
			default:
				return fmt.Errorf("%s by a pass: %+v, which waits for %+v and %+v", state, j, first, second)
			}
		}
		return nil
	}
}

// added puts a new job into the view.
func (w *world) added(s *session, v *step, j modelJob) error {
	if _, known := v.jobs[j.id]; known || w.changed[j.id] > 0 {
		return fmt.Errorf("id %d was given out before", j.id)
	}
	if j.state == awa.StateScheduled {
		v.put(j)
		return nil
	}
	v.offer(j)
	return w.settle(s, v, j.id)
}

// settle finds out whether a snapshot older than the ring deferred a job that
// it offers: it may.
func (w *world) settle(s *session, v *step, id int64) error {
	if s.base == nil || v.jobs[id].state != awa.StateAvailable {
		return nil
	}
	// Not from the ring: another transaction may be pruning it.
	var deferred bool
	err := s.conn.QueryRow(context.Background(), `select exists (select from awa.deferred_jobs as d where d.job_id = $1)`, id).Scan(&deferred)
	if err == nil && deferred {
		v.putOff(v.jobs[id], awa.StateScheduled, v.jobs[id].runAt)
	}
	return err
}

func (w *world) enqueueMany(r *rapid.T) {
	s := w.anyone(r)
	j := modelJob{
		kind: anyKind(r), queue: anyQueue(r), state: awa.StateAvailable, attempt: 1, maxAttempts: 2, segment: -1,
		priority: rapid.IntRange(1, 4).Draw(r, "priority"),
	}
	args := slices.Repeat([]json.RawMessage{json.RawMessage(`{}`)}, rapid.IntRange(0, 12).Draw(r, "jobs"))
	mixed := rapid.Bool().Draw(r, "mixed")
	if mixed && queueNamed(j.queue).limit > 0 {
		j.slotKey = "a"
	}
	var ids []int64
	w.call(r, s, "enqueue_many", func(ctx context.Context, conn *pgx.Conn) (err error) {
		if mixed {
			ids, err = queue.EnqueueMixed(ctx, conn, j.queue, slices.Repeat([]awa.EnqueueParams{
				{Kind: j.kind, Priority: j.priority, MaxAttempts: j.maxAttempts, ConcurrencyKey: j.slotKey},
			}, len(args)))
			return err
		}
		ids, err = queue.EnqueueMany(ctx, conn, awa.EnqueueManyParams{
			Kind: j.kind, Queue: j.queue, Priority: j.priority, MaxAttempts: j.maxAttempts, Args: args,
		})
		return err
	}, func(v *step, err error) error {
		if err != nil || len(ids) != len(args) {
			return fmt.Errorf("%d jobs, %d ids: %w", len(args), len(ids), err)
		}
		for _, id := range ids {
			j.id = id
			if err := w.added(s, v, j); err != nil {
				return err
			}
		}
		return nil
	})
}

// Working.

func (w *world) claim(r *rapid.T) {
	s := w.anyone(r)
	name := w.queueOf(r, s, func(j modelJob) bool { return j.aside || j.state == awa.StateAvailable })
	q := queueNamed(name)
	limit := rapid.SampledFrom([]int{1, 2, 5, 1000}).Draw(r, "max jobs")
	p := awa.ClaimParams{
		Queue: name, MaxJobs: limit,
		Worker: rapid.SampledFrom([]string{"", "nobody", "alpha", "beta"}).Draw(r, "worker"),
		Lease:  rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(r, "lease"),
	}
	alone := !slices.ContainsFunc(w.others(s), func(o *session) bool { return o.queues[name] || q.limit > 0 && o.did.oldest > 0 })
	var jobs []awa.Job
	w.call(r, s, "claim", func(ctx context.Context, conn *pgx.Conn) (err error) {
		if cursor := s.open && rapid.IntRange(0, 2).Draw(r, "cursor") == 0; cursor {
			s.cursors++
			jobs, err = queue.Claim(ctx, viaCursor{conn, fmt.Sprintf("c%d", s.cursors)}, p)
			return err
		}
		jobs, err = queue.Claim(ctx, conn, p)
		return err
	}, func(v *step, err error) error {
		if err != nil {
			return err
		}
		s.queues[name] = true
		waiting := v.sorted(func(j modelJob) bool {
			return j.queue == name && (j.aside || j.state == awa.StateAvailable) && !v.paused[name]
		})
		want := min(limit, v.free(q, waiting))
		// A job that somebody held while its key came free is looked for now and then.
		if n := len(jobs); alone && n != want && (q.limit == 0 || n > want || n == 0) {
			return fmt.Errorf("%d jobs of %d in %s wait, got %d, want %d; locks: %s", limit, len(waiting), name, n, want, w.locks())
		}
		last := 0
		for _, got := range jobs {
			w.receipts = append(w.receipts, got.Receipt)
			j := v.jobs[got.ID]
			if !j.aside && j.state != awa.StateAvailable || j.queue != name || v.paused[name] {
				return fmt.Errorf("handed out %+v as %+v", j, got)
			}
			if err := handedOut(j, got, v.now, p.Lease); err != nil {
				return fmt.Errorf("handed out %+v as %+v: %w", j, got, err)
			}
			if !j.own {
				last = max(last, j.priority)
			}
			if j.aside {
				j.segment = v.current
			}
			j.state, j.receipt, j.lease, j.own, j.ran, j.aside = awa.StateRunning, got.Receipt, got.Receipt.RunLease, false, true, false
			j.worker, j.claimed, j.expires, j.length = p.Worker, v.now, v.now+p.Lease.Microseconds(), p.Lease.Microseconds()
			v.put(j)
		}
		if q.limit > 0 {
			return w.setAside(s, v, q, waiting)
		}
		for _, j := range waiting {
			if alone && !j.own && j.priority < last && v.jobs[j.id].state == awa.StateAvailable {
				return fmt.Errorf("handed out priority %d before %+v", last, j)
			}
		}
		return nil
	})
}

// setAside finds out which jobs that waited a claim of a limited queue set aside: any
// that it met, if their key was taken.
func (w *world) setAside(s *session, v *step, q modelQueue, waiting []modelJob) error {
	rows, _ := s.conn.Query(context.Background(), `
select p.job_id from awa.parked_jobs as p
where p.queue = $1 and exists (select from awa.deferred_jobs as d where d.job_id = p.job_id and d.run_at = 'infinity')`, q.name)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	keys := v.running(q.name)
	for key, n := range keys {
		if n > q.limit {
			return fmt.Errorf("%d jobs of key %s run", n, key)
		}
	}
	for _, j := range waiting {
		switch aside := slices.Contains(ids, j.id); {
		case v.jobs[j.id].state == awa.StateRunning:
		case j.aside && !aside:
			return fmt.Errorf("no longer set aside: %+v", j)
		case aside && !j.aside && keys[j.slotKey] < q.limit:
			return fmt.Errorf("set aside although its key is free: %+v", j)
		case aside && !j.aside:
			v.putAside(j)
			w.answers["set aside"]++
		}
	}
	return nil
}

// handedOut holds a job that was claimed now against what it must be.
func handedOut(j modelJob, got awa.Job, now int64, lease time.Duration) error {
	deadline := time.Time{}
	if j.deadline != 0 {
		deadline = when(now + j.deadline)
	}
	switch {
	case int(got.Attempt) != j.attempt, int(got.MaxAttempts) != j.maxAttempts:
		return errors.New("another attempt")
	case int(got.Priority) != j.priority, got.Kind != j.kind, j.runAt != 0 && got.RunAt.UnixMicro() != j.runAt:
		return errors.New("another job")
	case got.Receipt.RunLease <= j.lease:
		return errors.New("the receipt of an earlier attempt")
	case len(got.Errors) != j.errors, percentOf(got.Progress) != j.handed:
		return errors.New("other errors or progress")
	case got.LeaseExpiresAt.UnixMicro() != now+lease.Microseconds(), !got.DeadlineAt.Equal(deadline):
		return errors.New("another time")
	}
	return nil
}

func percentOf(progress json.RawMessage) int {
	var p struct{ Percent int }
	if progress != nil && json.Unmarshal(progress, &p) != nil {
		return -1
	}
	return p.Percent
}

func (w *world) anyReceipts(r *rapid.T, s *session) []awa.Receipt {
	if len(w.view(s).sorted(modelJob.open)) == 0 {
		w.claim(r)
	}
	if len(w.receipts) == 0 {
		idle(r, "no receipts")
	}
	v := w.view(s)
	var good []awa.Receipt
	for _, j := range v.sorted(modelJob.open) {
		good = append(good, j.receipt)
	}
	from := w.receipts
	if len(good) > 0 && rapid.IntRange(0, 3).Draw(r, "old") > 0 {
		from = good
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(from), 1, 6, rapid.ID[awa.Receipt]).Draw(r, "receipts")
}

func (w *world) complete(r *rapid.T) {
	w.attempt(r, "complete", `select awa.complete($1::text::awa.receipt) where $2 <> ''`, "model", func(v *step, id int64) {
		v.close(id, awa.StateCompleted)
	})
}

func (w *world) completeMany(r *rapid.T) {
	s := w.anyone(r)
	receipts := w.anyReceipts(r, s)
	var stale []awa.Receipt
	w.call(r, s, "complete_many", func(ctx context.Context, conn *pgx.Conn) (err error) {
		stale, err = queue.CompleteMany(ctx, conn, receipts)
		return err
	}, func(v *step, err error) error {
		var want []awa.Receipt
		for _, receipt := range receipts {
			if v.open(receipt) {
				v.close(receipt.JobID, awa.StateCompleted)
			} else {
				want = append(want, receipt)
			}
		}
		return answered(sortedReceipts(stale), sortedReceipts(want), err)
	})
}

func sortedReceipts(receipts []awa.Receipt) []awa.Receipt {
	receipts = append([]awa.Receipt{}, receipts...)
	slices.SortFunc(receipts, func(a, b awa.Receipt) int { return slices.Compare(numbers(a), numbers(b)) })
	return receipts
}

func numbers(r awa.Receipt) []int64 {
	return []int64{r.JobID, r.RunLease, r.BatchID, int64(r.ReadySlot)}
}

func (w *world) fail(r *rapid.T) {
	s := w.anyone(r)
	p := awa.FailManyParams{
		Receipts:   w.anyReceipts(r, s),
		Terminal:   rapid.IntRange(0, 2).Draw(r, "terminal") > 0,
		RetryAfter: rapid.SampledFrom([]time.Duration{0, time.Microsecond, time.Hour}).Draw(r, "retry after"),
	}
	one := rapid.Bool().Draw(r, "one")
	if one {
		p.Receipts = p.Receipts[:1]
	}
	got := map[awa.Receipt]awa.JobState{}
	w.call(r, s, "fail", func(ctx context.Context, conn *pgx.Conn) error {
		if one {
			state, err := queue.Fail(ctx, conn, awa.FailParams{Receipt: p.Receipts[0], Terminal: p.Terminal, RetryAfter: p.RetryAfter})
			if state != "" {
				got[p.Receipts[0]] = state
			}
			return err
		}
		results, err := queue.FailMany(ctx, conn, p)
		for _, result := range results {
			got[result.Receipt] = result.State
		}
		return err
	}, func(v *step, err error) error {
		want := map[awa.Receipt]awa.JobState{}
		slices.SortFunc(p.Receipts, func(a, b awa.Receipt) int { return slices.Compare(numbers(a), numbers(b)) })
		for _, receipt := range p.Receipts {
			if !v.open(receipt) {
				continue
			}
			want[receipt] = v.fail(receipt.JobID, p.Terminal, v.now+p.RetryAfter.Microseconds())
			if want[receipt] == awa.StateRetryable && p.RetryAfter == 0 && err == nil {
				if err := w.backsOff(s, v, receipt.JobID); err != nil {
					return err
				}
			}
		}
		return answered(got, want, err)
	})
}

func (w *world) snooze(r *rapid.T) {
	later := rapid.SampledFrom([]string{"0 s", "1 hour"}).Draw(r, "delay")
	w.attempt(r, "snooze", `select awa.snooze($1::text::awa.receipt, $2::text::interval)`, later, func(v *step, id int64) {
		v.snooze(id, v.now+map[string]int64{"1 hour": 3600e6}[later])
	})
}

func (w *world) cancelAttempt(r *rapid.T) {
	w.attempt(r, "cancel_attempt", `select awa.cancel_attempt($1::text::awa.receipt, $2)`, "model", (*step).cancel)
}

// attempt makes a call about one attempt that answers whether it was open.
func (w *world) attempt(r *rapid.T, name, sql, arg string, do func(*step, int64)) {
	s := w.anyone(r)
	receipt := w.anyReceipts(r, s)[0]
	var got bool
	w.call(r, s, name, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, sql, receipt.String(), arg).Scan(&got)
	}, func(v *step, err error) error {
		want := v.open(receipt)
		if want {
			do(v, receipt.JobID)
		}
		if err := answered(got, want, err); err != nil {
			return err
		}
		return w.settle(s, v, receipt.JobID)
	})
}

// One job.

// one makes a call about one job that answers whether it did something.
func (w *world) one(r *rapid.T, name, sql string, likely func(modelJob) bool, do func(*step, modelJob) bool, args ...any) {
	s := w.anyone(r)
	id := w.anyJob(r, s, likely)
	var got bool
	w.call(r, s, name, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, sql, append([]any{id}, args...)...).Scan(&got)
	}, func(v *step, err error) error {
		j := v.jobs[id]
		s.queues[j.queue] = true
		lost := w.lags(s) && err == nil && !got
		if lost {
			return nil // its snapshot may miss what a prune emptied
		}
		if sqlState(err) == "AW004" {
			if v.holder(j, awa.StateAvailable) == 0 && v.holder(j, awa.StateScheduled) == 0 {
				return err
			}
			return nil
		}
		want := do(v, j)
		if err := answered(got, want, err); err != nil {
			return fmt.Errorf("%+v: %w", j, err)
		}
		if v.jobs[id].state == awa.StateAvailable && v.jobs[id] != j {
			return w.settle(s, v, id)
		}
		return nil
	})
}

func (w *world) cancel(r *rapid.T) {
	w.one(r, "cancel", `select awa.cancel($1)`, modelJob.waits, func(v *step, j modelJob) bool {
		if !j.waits() && !j.open() {
			return false
		}
		v.tell(j)
		v.cancel(j.id)
		return true
	})
}

func (w *world) retry(r *rapid.T) {
	over := in(awa.StateFailed, awa.StateCancelled)
	runAt := w.perhapsLater(r)
	w.one(r, "retry", `select awa.retry($1, run_at => $2)`, over, func(v *step, j modelJob) bool {
		return over(j) && v.again(j, runAt)
	}, orNull(runAt))
}

func (w *world) remove(r *rapid.T) {
	w.one(r, "delete_job_compat", `select awa.delete_job_compat($1)`, in(awa.StateAvailable, awa.StateRunning, awa.StateWaitingExternal), func(v *step, j modelJob) bool {
		if in("", modelGone, modelPruned)(j) {
			return false
		}
		v.tell(j)
		v.close(j.id, modelGone)
		return true
	})
}

func (w *world) moveToDLQ(r *rapid.T) {
	failed := in(awa.StateFailed)
	w.one(r, "move_failed_to_dlq", `select awa.move_failed_to_dlq($1, 'model')`, failed, func(v *step, j modelJob) bool {
		if failed(j) {
			v.close(j.id, modelDead)
		}
		return failed(j)
	})
}

func (w *world) retryFromDLQ(r *rapid.T) {
	dead := in(modelDead)
	runAt := w.perhapsLater(r)
	w.one(r, "retry_from_dlq", `select awa.retry_from_dlq($1, run_at => $2)`, dead, func(v *step, j modelJob) bool {
		return dead(j) && v.again(j, runAt)
	}, orNull(runAt))
}

// update moves a waiting job to the end of another lane.
func (w *world) update(r *rapid.T) {
	name, priority := anyQueue(r), rapid.IntRange(1, 4).Draw(r, "priority")
	w.change(r, `queue = $2, priority = $3`, func(j *modelJob) { j.queue, j.priority = name, priority }, name, priority)
}

// reschedule gives a waiting job another time and more attempts.
func (w *world) reschedule(r *rapid.T) {
	runAt, most := w.perhapsLater(r), rapid.IntRange(1, 4).Draw(r, "max attempts")
	runAt = cmp.Or(runAt, w.now-1e6)
	w.change(r, `run_at = $2, max_attempts = $3`, func(j *modelJob) { j.runAt, j.maxAttempts = runAt, most }, when(runAt), most)
}

// change updates one job.
func (w *world) change(r *rapid.T, set string, do func(*modelJob), args ...any) {
	s := w.anyone(r)
	id := w.anyJob(r, s, modelJob.waits)
	var got int64
	w.call(r, s, "update", func(ctx context.Context, conn *pgx.Conn) error {
		tag, err := conn.Exec(ctx, `update awa.jobs set `+set+` where id = $1`, append([]any{id}, args...)...)
		got = tag.RowsAffected()
		return err
	}, func(v *step, err error) error {
		before := v.jobs[id]
		j := before
		j.aside = false
		do(&j)
		if j.runAt != before.runAt {
			j.after = [2]int64{}
		}
		s.queues[before.queue] = true
		s.queues[j.queue] = true
		state := awa.StateAvailable
		if j.runAt > v.now || j.after != [2]int64{} {
			state = awa.StateScheduled
		}
		switch {
		case w.lags(s) && err == nil && got == 0:
			return nil
		case in("", modelGone, modelPruned, modelDead)(before):
			return answered(got, int64(0), err)
		case v.holder(before, state) != 0:
			return answered(sqlState(err), "AW004", nil)
		case !before.waits():
			return answered(sqlState(err), "AW003", nil)
		case state == awa.StateAvailable:
			v.offer(j)
		case before.deferred():
			v.put(j)
		default:
			v.putOff(j, state, j.runAt)
		}
		if err := answered(got, int64(1), err); err != nil {
			return err
		}
		return w.settle(s, v, id)
	})
}

// Many jobs.

// many makes a call that answers how many jobs it changed: those that match,
// lowest id first, up to a limit.
func (w *world) many(r *rapid.T, s *session, name, sql string, args []any, limit int, match func(modelJob) bool, do func(*step, modelJob) bool) {
	var got int64
	w.call(r, s, name, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, sql, args...).Scan(&got)
	}, func(v *step, err error) error {
		if w.lags(s) && err == nil && got == 0 {
			return nil
		}
		want := int64(0)
		for n, j := range v.sorted(match) {
			if n >= limit {
				break
			}
			s.queues[j.queue] = true
			if do(v, j) {
				want++
			}
			if v.jobs[j.id].own {
				if err := w.settle(s, v, j.id); err != nil {
					return err
				}
			}
		}
		return answered(got, want, err)
	})
}

func to(state awa.JobState) func(*step, modelJob) bool {
	return func(v *step, j modelJob) bool {
		v.close(j.id, state)
		return true
	}
}

func (w *world) bulkMove(r *rapid.T) {
	s := w.anyone(r)
	name, limit := w.queueOf(r, s, in(awa.StateFailed)), rapid.IntRange(1, 4).Draw(r, "max jobs")
	w.many(r, s, "bulk_move_failed_to_dlq", `select awa.bulk_move_failed_to_dlq($1, null, 'model', $2)`, []any{name, limit}, limit,
		func(j modelJob) bool { return j.state == awa.StateFailed && j.queue == name }, to(modelDead))
}

func (w *world) discard(r *rapid.T) {
	kind := anyKind(r)
	w.many(r, w.anyone(r), "discard_failed_by_kind", `select awa.discard_failed_by_kind($1)`, []any{kind}, 1<<30,
		func(j modelJob) bool { return j.state == awa.StateFailed && j.kind == kind }, to(modelGone))
}

func (w *world) bulkRetry(r *rapid.T) {
	s := w.anyone(r)
	name := w.queueOf(r, s, in(modelDead))
	w.many(r, s, "bulk_retry_from_dlq", `select awa.bulk_retry_from_dlq($1)`, []any{name}, 1<<30,
		func(j modelJob) bool { return j.state == modelDead && j.queue == name }, func(v *step, j modelJob) bool {
			// It looks for keys that are free before it takes any.
			return (j.key == "" || !v.jobs[v.left[j.key]].holds()) && v.again(j, 0)
		})
}

func (w *world) purge(r *rapid.T) {
	s := w.anyone(r)
	name := w.queueOf(r, s, in(modelDead))
	var got int64
	w.call(r, s, "purge_dlq", func(ctx context.Context, conn *pgx.Conn) (err error) {
		got, err = queue.PurgeDLQ(ctx, conn, awa.PurgeDLQParams{DeadLetterFilter: awa.DeadLetterFilter{Queue: name}})
		return err
	}, func(v *step, err error) error {
		if err != nil {
			return err
		}
		letters := v.sorted(func(j modelJob) bool { return j.state == modelDead && j.queue == name && !w.held(s, j.id) })
		want := int64(0)
		for _, j := range letters {
			// Whoever looked at its unique key has the letter in hand, too.
			if j.key != "" && len(w.others(s)) > 0 {
				var stays bool
				if err := s.conn.QueryRow(context.Background(), `select exists (select from awa.dlq_entries where id = $1)`, j.id).Scan(&stays); err != nil {
					return err
				}
				if stays {
					continue
				}
			}
			v.close(j.id, modelGone)
			want++
		}
		return answered(got, want, nil)
	})
}

func (w *world) removeFrom(r *rapid.T) {
	s := w.anyone(r)
	state := rapid.SampledFrom(maskOrder).Draw(r, "state")
	name := w.queueOf(r, s, in(state))
	var got int64
	w.call(r, s, "delete from jobs", func(ctx context.Context, conn *pgx.Conn) error {
		tag, err := conn.Exec(ctx, `delete from awa.jobs where queue = $1 and state = $2::text::awa.job_state`, name, string(state))
		got = tag.RowsAffected()
		return err
	}, func(v *step, err error) error {
		s.queues[name] = true
		if w.lags(s) && err == nil && got == 0 {
			return nil
		}
		jobs := v.sorted(func(j modelJob) bool { return j.state == state && j.queue == name })
		for _, j := range jobs {
			v.tell(j)
			v.close(j.id, modelGone)
		}
		return answered(got, int64(len(jobs)), err)
	})
}

// Storage.

// storageCall makes a call that only a READ COMMITTED transaction may make.
func (w *world) storageCall(r *rapid.T, s *session, name string, run func(context.Context, *pgx.Conn) error, verify func(*step) error) {
	w.call(r, s, name, run, func(v *step, err error) error {
		if s.base != nil {
			return answered(sqlState(err), "25001", nil)
		}
		if err != nil {
			return err
		}
		return verify(v)
	})
}

func (w *world) rotate(r *rapid.T) { w.rotateOnce(r, w.anyone(r)) }

func (w *world) rotateOnce(r *rapid.T, s *session) (outcome string) {
	w.storageCall(r, s, "rotate", func(ctx context.Context, conn *pgx.Conn) (err error) {
		outcome, err = queue.Rotate(ctx, conn)
		return err
	}, func(v *step) error {
		busy := slices.ContainsFunc(w.others(s), func(o *session) bool { return o.ring })
		full := v.current+1-v.oldest >= w.segments
		used := len(v.sorted(func(j modelJob) bool { return j.segment == v.current && j.state != modelGone && j.state != modelPruned })) > 0
		s.ring = s.ring || outcome != awa.RotateBusy
		switch {
		case outcome == awa.Rotated && !full:
			v.current++
			v.did.current++
		case outcome == awa.RotateBusy && busy:
		case outcome == awa.RotateBlocked && full:
		case outcome == awa.RotateIdle && !used:
		default:
			return fmt.Errorf("%s; busy %v, full %v, used %v", outcome, busy, full, used)
		}
		return nil
	})
	return outcome
}

// turn fills the ring up, so that the next prune moves what pins it.
func (w *world) turn(r *rapid.T) {
	s := w.anyone(r)
	if s.open {
		idle(r, "a transaction is open")
	}
	for range rapid.IntRange(1, int(w.segments)).Draw(r, "segments") {
		j := modelJob{kind: "turn", queue: "plain", state: awa.StateAvailable, attempt: 1, maxAttempts: 1, priority: 4}
		w.call(r, s, "enqueue", func(ctx context.Context, conn *pgx.Conn) (err error) {
			j.id, err = queue.Enqueue(ctx, conn, awa.EnqueueParams{Kind: j.kind, Queue: j.queue, Priority: j.priority, MaxAttempts: 1})
			return err
		}, func(v *step, err error) error {
			return errors.Join(err, w.added(s, v, j))
		})
		if w.rotateOnce(r, s) != awa.Rotated {
			return
		}
	}
}

func (w *world) prune(r *rapid.T) {
	s := w.anyone(r)
	if s.open && rapid.IntRange(0, 3).Draw(r, "inside") > 0 {
		idle(r, "everybody would wait for its commit")
	}
	var outcome string
	w.storageCall(r, s, "prune", func(ctx context.Context, conn *pgx.Conn) (err error) {
		outcome, err = queue.Prune(ctx, conn)
		return err
	}, func(v *step) error {
		pinned := len(v.sorted(func(j modelJob) bool {
			return j.segment == v.oldest && in(awa.StateAvailable, awa.StateRunning)(j)
		})) > 0
		sealed := v.oldest < v.current
		s.ring = true // also one that is busy may have the ring: with somebody in its segment
		release := w.releasing(s, v)
		waits := len(v.sorted(func(j modelJob) bool { return j.after != [2]int64{} })) > 0
		var err error
		switch {
		case outcome == awa.Pruned && sealed:
			err = w.pruned(s, v)
		case outcome == awa.PruneEmpty && !sealed:
		case outcome == awa.PruneBlocked && sealed && pinned:
		case outcome == awa.PruneBusy && (len(w.others(s)) > 0 || s.open && waits):
		default:
			return fmt.Errorf("%s; sealed %v, pinned %v", outcome, sealed, pinned)
		}
		return errors.Join(err, release())
	})
}

// pruned gives the oldest segment back and finds out where its waiting jobs went: not always as
// far as the current segment. Their lanes may be in hand now.
func (w *world) pruned(s *session, v *step) error {
	moved := v.sorted(func(j modelJob) bool { return j.segment == v.oldest && j.state == awa.StateAvailable })
	v.prune()
	for _, j := range moved {
		var slot int64
		err := s.conn.QueryRow(context.Background(), `
select e.ready_slot from awa.ready_entries as e where e.job_id = $1 order by e.run_lease desc limit 1`, j.id).Scan(&slot)
		if err != nil {
			return fmt.Errorf("job %d: %w", j.id, err)
		}
		s.queues[j.queue] = true
		j = v.jobs[j.id]
		j.segment = v.current - (v.current-slot)%w.segments
		v.put(j)
		w.answers[fmt.Sprintf("moved to the current segment %t", j.segment == v.current)]++
	}
	return nil
}

func (w *world) checkpoint(r *rapid.T) {
	w.storageCall(r, w.anyone(r), "checkpoint", func(ctx context.Context, conn *pgx.Conn) error {
		_, err := queue.CheckpointTerminalCounters(ctx, conn)
		return err
	}, func(*step) error { return nil })
}

func (w *world) rebuild(r *rapid.T) {
	var healed []awa.RebuiltCounter
	w.storageCall(r, w.anyone(r), "rebuild", func(ctx context.Context, conn *pgx.Conn) (err error) {
		healed, err = queue.RebuildTerminalCounters(ctx, conn)
		return err
	}, func(*step) error {
		if len(healed) > 0 {
			return fmt.Errorf("healed %+v", healed)
		}
		return nil
	})
}

// empty removes all jobs. Receipts and callbacks from before are good for nothing.
func (w *world) empty(r *rapid.T) {
	if slices.ContainsFunc(w.sessions, func(s *session) bool { return s.open }) {
		idle(r, "a transaction is open")
	}
	s := w.anyone(r)
	must(r, s.conn, `set lock_timeout = 0`) // autovacuum may be in the way
	w.call(r, s, "reset", func(ctx context.Context, conn *pgx.Conn) error {
		return queue.Reset(ctx, conn, awa.ResetParams{KeepConfig: true})
	}, func(_ *step, err error) error { return err })
	must(r, s.conn, `set lock_timeout = '10 ms'`)
	paused := w.committed.paused
	w.committed, w.late = newFacts(), map[attemptKey]int64{}
	w.committed.paused = paused
}

// garbage makes a call that must change nothing.
func (w *world) garbage(r *rapid.T) {
	call := garbageCalls[rapid.IntRange(0, len(garbageCalls)-1).Draw(r, "call")]
	w.call(r, w.anyone(r), call.sql, func(ctx context.Context, conn *pgx.Conn) error {
		var answer string
		err := conn.QueryRow(ctx, call.sql).Scan(&answer)
		if err == nil && answer != call.want {
			return fmt.Errorf("answered %s, want %s", answer, call.want)
		}
		return err
	}, func(_ *step, err error) error {
		if code := sqlState(err); code != "" && code == call.want {
			return nil
		}
		return err
	})
}

var garbageCalls = []struct{ sql, want string }{
	{`select awa.complete(null)::text`, "false"},
	{`select awa.complete('(0,1,1,1)')::text`, "false"},
	{`select awa.complete('(77,-5,9223372036854775807,0)')::text`, "false"},
	{`select awa.complete('(,,,)')::text`, "false"},
	{`select count(*)::text from awa.complete_many(null)`, "0"},
	{`select count(*)::text from awa.complete_many('{}')`, "0"},
	{`select count(*)::text from awa.complete_many(array['(0,1,1,1)', '(3,8193,1,7)']::awa.receipt[])`, "2"},
	{`select coalesce(awa.fail('(0,1,1,1)')::text, 'null')`, "null"},
	{`select coalesce(awa.fail(null)::text, 'null')`, "null"},
	{`select awa.fail('(0,1,1,1)', retry_after => '-1 s')::text`, "AW006"},
	{`select count(*)::text from awa.fail_many(array['(0,1,1,1)']::awa.receipt[], array['a', 'b'])`, "AW006"},
	{`select awa.enqueue(null)::text`, "AW006"},
	{`select awa.enqueue('k', priority => 5)::text`, "AW006"},
	{`select awa.enqueue('k', queue => '')::text`, "AW006"},
	{`select awa.enqueue_many('[{"kind": "k"}, {"kind": null}]'::jsonb)::text`, "AW006"},
	{`select count(*)::text from awa.claim(null)`, "AW006"},
	{`select count(*)::text from awa.claim('plain', 0)`, "AW006"},
	{`select count(*)::text from awa.claim('no such queue')`, "0"},
	{`select awa.cancel(null)::text`, "false"},
	{`select awa.cancel(-1)::text`, "false"},
	{`select awa.retry(null)::text`, "false"},
	{`select awa.delete_job_compat(null)::text`, "false"},
	{`select awa.move_failed_to_dlq(null)::text`, "false"},
	{`select awa.retry_from_dlq(null)::text`, "false"},
	{`select awa.discard_failed_by_kind(null)::text`, "AW006"},
	{`select awa.configure_queue('plain', '{"no such": 1}')::text`, "AW006"},
}
