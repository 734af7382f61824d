package proof

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
)

// callBack makes an attempt wait for an answer from outside.
func (w *world) callBack(r *rapid.T) {
	s := w.anyone(r)
	receipt, timeout := w.anyReceipts(r, s)[0], anyTimeout.Draw(r, "timeout")
	var id awa.CallbackID
	w.call(r, s, "register_callback", func(ctx context.Context, conn *pgx.Conn) (err error) {
		id, err = queue.RegisterCallback(ctx, conn, receipt, timeout)
		return err
	}, func(v *step, err error) error {
		if !v.open(receipt) {
			return answered(id, awa.CallbackID(""), err)
		}
		if err != nil || id == "" {
			return fmt.Errorf("no id: %w", err)
		}
		w.callbacks = append(w.callbacks, id)
		j := v.jobs[receipt.JobID]
		j.state, j.callback, j.timeout = awa.StateWaitingExternal, id, v.now+timeout.Microseconds()
		j.leased, j.left, j.segment, j.ends = true, false, -1, 0
		v.put(j)
		return nil
	})
}

// anyCallback is one that a job waits for, more likely than one that is void.
func (w *world) anyCallback(r *rapid.T, s *session) awa.CallbackID {
	if len(w.view(s).sorted(in(awa.StateWaitingExternal))) == 0 {
		w.callBack(r)
	}
	if len(w.callbacks) == 0 {
		idle(r, "no callbacks")
	}
	jobs := w.view(s).sorted(in(awa.StateWaitingExternal))
	if len(jobs) > 0 && rapid.IntRange(0, 3).Draw(r, "void") > 0 {
		return rapid.SampledFrom(jobs).Draw(r, "waiting").callback
	}
	return rapid.SampledFrom(w.callbacks).Draw(r, "callback")
}

// waiting finds the job that waits for an answer to a callback.
func (v *step) waiting(id awa.CallbackID) (modelJob, bool) {
	jobs := v.sorted(func(j modelJob) bool { return j.state == awa.StateWaitingExternal && j.callback == id })
	if len(jobs) == 0 {
		return modelJob{}, false
	}
	return jobs[0], true
}

// calledBack makes a call about a callback, which is refused unless a job waits for it.
func (w *world) calledBack(r *rapid.T, s *session, name, sql string, args []any, do func(*step, modelJob, error) error) {
	id := w.anyCallback(r, s)
	var got bool
	w.call(r, s, name, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, sql, append([]any{string(id)}, args...)...).Scan(&got)
	}, func(v *step, err error) error {
		j, waits := v.waiting(id)
		if !waits {
			return answered(sqlState(err), "AW002", nil)
		}
		return do(v, j, err)
	})
}

func (w *world) answer(r *rapid.T) {
	s := w.anyone(r)
	call := rapid.SampledFrom([]string{"complete_callback", "fail_callback", "retry_callback", "resume_callback"}).Draw(r, "answer")
	w.calledBack(r, s, call, fmt.Sprintf(`select awa.%s($1::text::uuid)`, call), nil, func(v *step, j modelJob, err error) error {
		switch call {
		case "complete_callback":
			v.close(j.id, awa.StateCompleted)
			return err
		case "fail_callback":
			if err == nil && v.fail(j.id, false, v.now) == awa.StateRetryable {
				return w.backsOff(s, v, j.id)
			}
			return err
		case "resume_callback":
			if v.holder(j, awa.StateRunning) != 0 {
				return answered(sqlState(err), "AW004", nil)
			}
			if j.left {
				return w.comeBack(s, v, j, err)
			}
			j.state, j.expires, j.ends = awa.StateRunning, v.now+j.length, 0
			if j.deadline != 0 {
				j.ends = v.now + j.deadline
			}
			v.put(j)
			return err
		}
		j.attempt = 1
		return w.comeBack(s, v, j, err)
	})
}

// comeBack offers a leased job again, if it gets its key.
func (w *world) comeBack(s *session, v *step, j modelJob, err error) error {
	if v.holder(j, awa.StateAvailable) != 0 {
		return answered(sqlState(err), "AW004", nil)
	}
	if err != nil {
		return err
	}
	j.handed, j.runAt = v.progressOf(j), v.now
	v.offer(j)
	return w.settle(s, v, j.id)
}

// hold puts a callback's timeout off, or on.
func (w *world) hold(r *rapid.T) {
	s, timeout := w.anyone(r), anyTimeout.Draw(r, "timeout")
	w.calledBack(r, s, "heartbeat_callback", `select awa.heartbeat_callback($1::text::uuid, $2)`, []any{timeout}, func(v *step, j modelJob, err error) error {
		j.timeout = v.now + timeout.Microseconds()
		v.put(j)
		return err
	})
}

// park leaves an attempt that waits, or did.
func (w *world) park(r *rapid.T) {
	s := w.anyone(r)
	receipt := w.anyReceipts(r, s)[0]
	var got bool
	w.call(r, s, "park", func(ctx context.Context, conn *pgx.Conn) (err error) {
		got, err = queue.Park(ctx, conn, receipt)
		return err
	}, func(v *step, err error) error {
		j := v.jobs[receipt.JobID]
		switch {
		case !v.open(receipt) || !j.leased:
			return answered(got, false, err)
		case j.state == awa.StateRunning:
			return w.comeBack(s, v, j, err)
		}
		j.left = true
		v.put(j)
		return answered(got, true, err)
	})
}
