package proof

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
)

// Moments are microseconds since 1970, as exact as PostgreSQL's. The model has
// a clock of its own, which every call moves on.
func when(moment int64) time.Time { return time.UnixMicro(moment).UTC() }

func orNull(moment int64) *time.Time {
	if moment == 0 {
		return nil
	}
	t := when(moment)
	return &t
}

func (w *world) anyLater(r *rapid.T) int64 {
	return w.now + rapid.SampledFrom([]int64{20, 600, 7200}).Draw(r, "seconds")*1e6
}

// perhapsLater is a moment to come, or 0.
func (w *world) perhapsLater(r *rapid.T) int64 {
	if rapid.Bool().Draw(r, "later") {
		return w.anyLater(r)
	}
	return 0
}

func (w *world) wait(r *rapid.T) {
	w.now += rapid.SampledFrom([]int64{2, 15, 50, 100, 1000, 7300}).Draw(r, "wait") * 1e6
	r.Logf("it is %s", when(w.now))
}

// backsOff takes over when a job is to be tried again by the default delay.
func (w *world) backsOff(s *session, v *step, id int64) error {
	var runAt time.Time
	err := s.conn.QueryRow(context.Background(), `select d.run_at from awa.deferred_jobs as d where d.job_id = $1`, id).Scan(&runAt)
	if err != nil {
		return fmt.Errorf("job %d: %w", id, err)
	}
	j := v.jobs[id]
	j.runAt = runAt.UnixMicro()
	v.put(j)
	shortest := int64(1e6) << (j.attempt - 2)
	if delay := j.runAt - v.now; delay < shortest || delay > shortest*5/4 {
		return fmt.Errorf("job %d is to be tried again after %d us, want %d to %d", id, delay, shortest, shortest*5/4)
	}
	return nil
}

func (w *world) maintain(r *rapid.T) {
	s := w.anyone(r)
	// A pass that took long on a slow machine is not to delay the next.
	must(r, w.observer, `select setval('awa.rescue_clock', 1)`)
	var reports []awa.TaskReport
	w.storageCall(r, s, "maintain", func(ctx context.Context, conn *pgx.Conn) (err error) {
		reports, err = queue.Maintain(ctx, conn)
		return err
	}, func(v *step) error {
		busy := slices.ContainsFunc(w.others(s), func(o *session) bool { return o.ring })
		s.ring = true
		release := w.releasing(s, v)
		for _, t := range reports {
			var err error
			switch {
			case t.Task == "promote":
				err = w.promoted(s, v, t.Affected, busy)
			case t.Task == "rescue":
				err = w.rescued(s, v, t.Affected, busy)
			case t.Task == "prune" && t.Outcome == awa.Pruned:
				err = w.pruned(s, v)
			case t.Task == "rotate" && t.Outcome == awa.Rotated:
				v.current++
				v.did.current++
			}
			if err != nil {
				return fmt.Errorf("%s: %w", t.Task, err)
			}
		}
		return release()
	})
}

// promoted offers the due jobs, except those that others hold. busy says that
// another session may have kept this one from promoting at all.
func (w *world) promoted(s *session, v *step, jobs int64, busy bool) error {
	want := int64(0)
	for _, j := range v.sorted(func(j modelJob) bool { return j.due(v.now) && !j.gains() && !w.held(s, j.id) }) {
		if busy && jobs == 0 {
			break
		}
		v.offer(j)
		want++
	}
	// Then those whose key counts from now on. Somebody may have it in hand.
	gaining := v.sorted(func(j modelJob) bool { return j.due(v.now) && j.gains() })
	slices.SortStableFunc(gaining, func(a, b modelJob) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.runAt, b.runAt))
	})
	for _, j := range gaining {
		if len(w.others(s)) > 0 {
			state, err := stateOf(s, j)
			if err != nil {
				return err
			}
			if state == j.state {
				continue
			}
		}
		if v.holder(j, awa.StateAvailable) != 0 {
			v.cancel(j.id)
			continue
		}
		v.offer(j)
		want++
	}
	w.answers["promoted"] += int(want)
	return answered(jobs, want, nil)
}

// stateOf is where a session sees a job now, which may be nowhere. Behind the
// prune of another transaction, which no pass gets past either, it is where it was.
func stateOf(s *session, j modelJob) (state awa.JobState, err error) {
	ctx := context.Background()
	if s.open {
		// Not to be had is an error, and that must not end the transaction.
		if _, err := s.conn.Exec(ctx, `savepoint state`); err != nil {
			return "", err
		}
		defer func() { _, _ = s.conn.Exec(ctx, `rollback to state; release state`) }()
	}
	err = s.conn.QueryRow(ctx, `select coalesce((select k.state::text from awa.jobs as k where k.id = $1), '')`, j.id).Scan(&state)
	if sqlState(err) == "55P03" {
		return j.state, nil
	}
	return state, err
}

const silence = 90e6

// lost tells why an attempt is to be rescued, if it is.
func (v *step) lost(j modelJob) string {
	heard, known := v.beats[j.worker]
	switch {
	case j.state == awa.StateWaitingExternal:
		if j.timeout <= v.now {
			return "timeout"
		}
	case j.state != awa.StateRunning:
		return ""
	case j.leased && j.ends != 0 && j.ends <= v.now, !j.leased && j.deadline != 0 && j.claimed+j.deadline <= v.now:
		return "deadline"
	case j.leased && known:
		// Reckoned from the lease, so one that was extended says nothing.
		if since := j.expires - j.length; heard.at <= v.now-silence && (since <= v.now-silence || since > v.now+60e6) {
			return "silence"
		}
	case j.leased:
		if j.expires <= v.now {
			return "lease"
		}
	case known && heard.at <= v.now-silence && j.claimed <= v.now-silence:
		return "silence"
	case !known && max(j.expires, v.extended[attemptKey{j.id, j.lease}]) <= v.now:
		return "lease"
	}
	return ""
}

// rescued fails the attempts that are lost, except those whose batch or key
// somebody has in hand.
func (w *world) rescued(s *session, v *step, jobs int64, busy bool) error {
	var gone, cancelled []modelJob
	for _, j := range v.sorted(func(j modelJob) bool { return v.lost(j) != "" }) {
		state, err := stateOf(s, j)
		if err != nil {
			return err
		}
		switch {
		case state == awa.StateCancelled:
			cancelled = append(cancelled, j)
		case state != j.state:
			gone = append(gone, j)
		case busy && jobs == 0, w.contended(s, j), v.lost(j) == "silence" && !j.leased && w.mayWait(s, v, j):
		default:
			return fmt.Errorf("not rescued for %s: %+v", v.lost(j), j)
		}
	}
	for _, j := range append(gone, cancelled...) {
		w.answers["rescued for "+v.lost(j)]++
		v.tell(j)
		if v.fail(j.id, false, v.now) == awa.StateRetryable {
			if err := w.backsOff(s, v, j.id); err != nil {
				return err
			}
		}
	}
	return answered(jobs, int64(len(gone)+len(cancelled)), nil)
}

// contended reports whether another transaction may have an attempt, its batch or its key in
// hand.
func (w *world) contended(s *session, j modelJob) bool {
	return w.held(s, j.id) || slices.ContainsFunc(w.others(s), func(o *session) bool {
		for _, did := range o.did.jobs {
			if did.receipt.BatchID == j.receipt.BatchID {
				return true
			}
		}
		return j.key != ""
	})
}

// mayWait reports whether a pass may leave the attempt of a silent worker for a
// later one: the claims since the last point are looked at by their leases, and
// the point moves every ten seconds.
func (w *world) mayWait(s *session, v *step, j modelJob) bool {
	k := attemptKey{j.id, j.lease}
	since, again := w.late[k]
	switch {
	case s.open:
	case !again:
		w.late[k] = v.now
	case since == 0:
		return false
	case v.now-since >= 10e6:
		w.late[k] = 0
	}
	return true
}
