package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// Waiting is what a handler returns to leave its job to whoever answers the
// callback that it registered: the job waits, and the handler's place is free for
// another one. When the answer completes, fails or retries the job, or the callback
// times out, the job goes on as after such a finish; no handler of this attempt
// runs again. After [awa.Client.ResumeCallback] the job is available again, its
// attempt not counted, and its next handler finds the payload in the metadata, under
// "_awa_callback_result".
//
// Returned without a registered callback it is a failure.
var Waiting error = waiting{}

type waiting struct{}

func (waiting) Error() string { return "waits for an answer from outside" }

var errNoCallback = errors.New("the attempt waits for no callback: RegisterCallback comes first, and once for each answer")

// RegisterCallback makes the job wait for an answer from outside and returns the id
// that the answer must name; see [awa.Client.RegisterCallback]. Send the id to
// whoever answers, then return Waiting, or stay and call AwaitCallback. Any other
// result of the handler finishes the job as usual, nil included, and the answer
// then comes too late. An earlier id of the job is void. It is a statement of its
// own, on the client's pool.
//
// Errors: awa.ErrStale if the attempt is closed; awa.ErrInvalidArgument for a
// timeout of zero or less.
func (a *Attempt) RegisterCallback(ctx context.Context, timeout time.Duration) (awa.CallbackID, error) {
	ctx, cancel := a.bound(ctx)
	defer cancel()
	id, err := a.client.RegisterCallback(ctx, a.db, a.Receipt, timeout)
	switch {
	case err != nil:
		return "", err
	case id == "":
		return "", a.stale()
	}
	a.waits.Store(true)
	return id, nil
}

// AwaitCallback waits until [awa.Client.ResumeCallback] answers the callback that
// the attempt registered, and returns the payload, a JSON value or nil. Meanwhile
// the handler keeps its place, and the client asks the server every
// CallbackPollInterval. The attempt may then register another callback.
//
// When ctx is done the wait ends with its cause, and the job goes on waiting: a
// handler that is told to stop may return Waiting. The context of a handler ends at
// the job's deadline, whatever the timeout of the callback.
//
// Errors: awa.ErrStale if the attempt was closed: by another answer, by the timeout
// or by others. The handler's context is then cancelled as well.
func (a *Attempt) AwaitCallback(ctx context.Context) (json.RawMessage, error) {
	if !a.waits.Load() {
		return nil, errNoCallback
	}
	var failures backoff
	for {
		status, err := a.callbackStatus(ctx)
		pause := a.callbackPoll()
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil && a.batch == nil:
			return nil, err
		case err != nil:
			a.batch.queue.c.warn("Could not ask for an answer; will try again", err, "job", a.ID, "kind", a.Kind)
			pause = max(pause, failures.next())
		case !status.Open:
			a.lost.set(fmt.Errorf("%w while it waited for an answer", ErrLost))
			return nil, awa.ErrStale
		case status.Waiting == "":
			a.waits.Store(false)
			return status.Payload, nil
		default:
			failures.reset()
		}
		if !sleep(ctx, jitter(pause)) {
			return nil, context.Cause(ctx)
		}
	}
}

func (a *Attempt) callbackStatus(ctx context.Context) (awa.CallbackStatus, error) {
	ctx, cancel := a.bound(ctx)
	defer cancel()
	return a.client.CallbackStatus(ctx, a.db, a.Receipt)
}

// callbackPoll is how long a handler waits before it looks for an answer again.
func (a *Attempt) callbackPoll() time.Duration {
	if a.batch == nil { // not of a client
		return defaultCallbackPoll
	}
	return a.batch.queue.c.cfg.CallbackPollInterval
}

const defaultCallbackPoll = time.Second

// RegisterCallback is [Attempt.RegisterCallback].
func (j *Job[T]) RegisterCallback(ctx context.Context, timeout time.Duration) (awa.CallbackID, error) {
	return j.attempt.RegisterCallback(ctx, timeout)
}

// AwaitCallback is [Attempt.AwaitCallback].
func (j *Job[T]) AwaitCallback(ctx context.Context) (json.RawMessage, error) {
	return j.attempt.AwaitCallback(ctx)
}
