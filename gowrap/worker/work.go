package worker

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// Outcome is how an attempt ended.
type Outcome string

// The outcomes of an attempt.
const (
	Completed Outcome = "completed" // by nil, or by CompleteTx
	Snoozed   Outcome = "snoozed"
	Cancelled Outcome = "cancelled"
	Failed    Outcome = "failed" // the job is retried or failed
	Parked    Outcome = "parked" // by Waiting: open until it is answered
	Stale     Outcome = "stale"  // closed by another session; nothing changed
)

// Result of an attempt.
type Result struct {
	Outcome Outcome
	Err     error // what the handler returned
}

// Work runs one claimed job and finishes it, both on db, which may be a
// transaction: what tests do, and programs with a loop of their own. It returns
// an error if the finish could not be written; how the job went is in the result. The
// handler's context ends at the job's deadline by this machine's clock: a [Client] reckons
// with that of the server.
func (m *Mux) Work(ctx context.Context, c awa.Client, db awa.DBTX, job *awa.Job) (Result, error) {
	a := &Attempt{Job: job, client: c, db: db}
	run, cancel := a.within(ctx, 0)
	res := Result{Err: m.serve(run, a)}
	cancel()
	var err error
	res.Outcome, err = a.finish(ctx, res.Err)
	return res, err
}

// within bounds ctx by the job's deadline. Both instants of the job are the
// server's; given the length of the lease, no clock of this machine is needed.
func (a *Attempt) within(ctx context.Context, lease time.Duration) (context.Context, context.CancelFunc) {
	switch {
	case a.DeadlineAt.IsZero():
		return context.WithCancel(ctx)
	case lease > 0 && !a.LeaseExpiresAt.IsZero():
		return context.WithTimeout(ctx, a.DeadlineAt.Sub(a.LeaseExpiresAt)+lease)
	default:
		return context.WithDeadline(ctx, a.DeadlineAt)
	}
}

// errUncommitted fails an attempt whose handler returned nil although the
// transaction of its CompleteTx never committed.
var errUncommitted = errors.New("the handler returned nil, but the transaction of its CompleteTx did not commit")

// verdict is what is to be done about an attempt.
type verdict struct {
	outcome  Outcome
	delay    time.Duration // Snoozed; Failed: 0 leaves it to the server
	text     string        // Failed, Cancelled
	terminal bool          // Failed
}

// soonest is the delay of a retry that shall not wait: zero would mean the
// server's backoff.
const soonest = time.Microsecond

// longest is what the server accepts as a delay, 100 years: it compares intervals by
// years of 360 days.
const longest = 100 * 360 * 24 * time.Hour

// judge reads what a handler returned. The package's errors are found however
// they are wrapped; of several the gravest decides.
func judge(err error) verdict {
	if err == nil {
		return verdict{outcome: Completed}
	}
	var (
		terminal *TerminalError
		cancel   *CancelError
		snooze   *SnoozeError
		retry    *RetryAfterError
	)
	switch {
	case errors.As(err, &terminal):
		return verdict{outcome: Failed, text: storable(err.Error()), terminal: true}
	case errors.As(err, &cancel):
		return verdict{outcome: Cancelled, text: storable(cancel.Reason)}
	case errors.As(err, &snooze):
		return verdict{outcome: Snoozed, delay: clamp(snooze.Delay, 0)}
	case errors.As(err, &retry):
		return verdict{outcome: Failed, delay: clamp(retry.Delay, soonest), text: storable(err.Error())}
	case errors.Is(err, Waiting):
		return verdict{outcome: Parked}
	default:
		return verdict{outcome: Failed, text: storable(err.Error())}
	}
}

// judge is what is to be done about this attempt. One that no answer would ever
// close must not be parked. An error whose methods panic counts as a panic.
func (a *Attempt) judge(err error) (v verdict) {
	defer func() {
		if p := recover(); p != nil {
			panicked := &PanicError{p, debug.Stack()}
			v = verdict{outcome: Failed, text: storable(panicked.Error())}
		}
	}()
	v = judge(err)
	if v.outcome == Parked && !a.waits.Load() {
		v = verdict{outcome: Failed, text: errNoCallback.Error()}
	}
	return v
}

func clamp(d, least time.Duration) time.Duration { return min(max(d, least), longest) }

// finish closes the attempt as the handler's error says, in one statement, or
// leaves it to an answer.
func (a *Attempt) finish(ctx context.Context, result error) (Outcome, error) {
	v := a.judge(result)
	inTx := v.outcome == Completed && a.inTx.Load()
	if inTx {
		v = verdict{outcome: Failed, text: errUncommitted.Error()}
	}
	var accepted bool
	var err error
	switch v.outcome {
	case Failed:
		var state awa.JobState
		state, err = a.client.Fail(ctx, a.db, awa.FailParams{
			Receipt: a.Receipt, Error: v.text, RetryAfter: v.delay, Terminal: v.terminal})
		accepted = state != ""
	case Snoozed:
		accepted, err = a.client.Snooze(ctx, a.db, a.Receipt, v.delay)
	case Parked:
		_, err = a.client.Park(ctx, a.db, a.Receipt)
		accepted = true // answered before, at worst
	case Cancelled:
		accepted, err = a.client.CancelAttempt(ctx, a.db, a.Receipt, v.text)
	default:
		accepted, err = a.client.Complete(ctx, a.db, a.Receipt)
	}
	switch {
	case err != nil:
		return "", err
	case accepted:
		return v.outcome, nil
	case inTx:
		return Completed, nil
	default:
		return Stale, nil
	}
}
