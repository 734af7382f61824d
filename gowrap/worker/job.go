package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// Attempt is one claimed attempt in the hands of a handler. Its methods are safe
// for concurrent use.
type Attempt struct {
	*awa.Job

	client awa.Client
	db     awa.DBTX
	lost   lost
	inTx   atomic.Bool // CompleteTx was accepted
	waits  atomic.Bool // RegisterCallback was accepted, and AwaitCallback saw no answer
	closed atomic.Bool // a call of the handler met it closed

	// Of the loop; see batch and finisher.
	batch      *batch
	place      int // in the batch
	state      atomic.Int32
	verdict    verdict
	finishedAt time.Time // when the handler returned
	next       *Attempt  // in the stack of finished attempts
}

// Job is an attempt with its arguments decoded. The number of the attempt is
// Job.Attempt. The methods need an attempt, which a literal has not: in a test let
// [Mux.Work] or package awatest make the job.
type Job[T Args] struct {
	*awa.Job
	Args T

	attempt *Attempt
}

// SetProgress is [Attempt.SetProgress].
func (j *Job[T]) SetProgress(ctx context.Context, percent int, message string) error {
	return j.attempt.SetProgress(ctx, percent, message)
}

// Cancelled is [Attempt.Cancelled].
func (j *Job[T]) Cancelled() <-chan struct{} { return j.attempt.Cancelled() }

// CompleteTx is [Attempt.CompleteTx].
func (j *Job[T]) CompleteTx(ctx context.Context, tx awa.DBTX) error {
	return j.attempt.CompleteTx(ctx, tx)
}

// ErrLost is the cause of a handler's context when somebody else closed the
// attempt: the job was cancelled or deleted, or rescued because the worker had
// been silent. context.Cause returns an error that wraps it.
var ErrLost = errors.New("worker: attempt closed by another session")

// ErrStopping is the cause of a handler's context when the client stops and
// SoftStopTimeout is over.
var ErrStopping = errors.New("worker: client stops")

// SetProgress records how far the attempt has come; see
// [awa.Client.SetProgress]. It is a statement of its own, on the client's pool.
//
// Errors: awa.ErrStale if the attempt is closed.
func (a *Attempt) SetProgress(ctx context.Context, percent int, message string) error {
	ctx, cancel := a.bound(ctx)
	defer cancel()
	accepted, err := a.client.SetProgress(ctx, a.db, awa.ProgressParams{
		Receipt: a.Receipt, Percent: percent, Message: message})
	if err == nil && !accepted {
		err = a.stale()
	}
	return err
}

// bound is ctx for one statement on the client's pool.
func (a *Attempt) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := patience
	if a.batch != nil {
		limit = a.batch.queue.c.patience
	}
	return context.WithTimeout(ctx, limit)
}

// stale is what a call returns that met the attempt closed: by others, unless the
// handler itself has completed it in a transaction.
func (a *Attempt) stale() error {
	if !a.inTx.Load() {
		a.closed.Store(true)
	}
	return awa.ErrStale
}

// unsuspecting reports whether a handler runs, or will, that takes its attempt for open.
func (a *Attempt) unsuspecting() bool {
	return a.state.Load() <= stateRunning && !a.inTx.Load() && !a.closed.Load() && !a.lost.isSet()
}

// Cancelled is closed when somebody else closed the attempt: from then on no
// finish of it is accepted. The context of the handler is cancelled as well.
// The worker learns of it from its heartbeat.
func (a *Attempt) Cancelled() <-chan struct{} { return a.lost.channel() }

// CompleteTx completes the job in tx: what the handler did in tx and the
// completion are committed together or not at all. Commit tx and return nil; the
// client does not complete the job again. If the handler returns nil and tx never
// committed, the attempt fails. Call it shortly before the commit: until then the
// finishes of jobs that were claimed together with this one wait. tx is a transaction
// of pgx, or [awa.StdDB] of one of database/sql.
//
// Errors: awa.ErrStale if the attempt is closed: roll back, another worker does
// the job or did it.
func (a *Attempt) CompleteTx(ctx context.Context, tx awa.DBTX) error {
	accepted, err := a.client.Complete(ctx, tx, a.Receipt)
	if err != nil {
		return err
	}
	if !accepted {
		return a.stale()
	}
	a.inTx.Store(true)
	return nil
}

// lost tells a handler to give up. Its channel is made when it is first asked for:
// most attempts never need one. The handler's context has no parent to be cancelled
// with, for a thousand handlers would share that parent's lock; whoever cancels
// many meets each.
type lost struct {
	mu      sync.Mutex // guards what follows
	ch      chan struct{}
	cancel  context.CancelCauseFunc // of the handler's context; nil: it has not begun
	stopped bool                    // the client stops
	reason  error                   // nil: not lost
}

func (l *lost) channel() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ch == nil {
		l.ch = make(chan struct{})
		if l.reason != nil {
			close(l.ch)
		}
	}
	return l.ch
}

// watch makes a loss cancel the handler's context, now or later.
func (l *lost) watch(cancel context.CancelCauseFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel = cancel
	switch {
	case l.reason != nil:
		cancel(l.reason)
	case l.stopped:
		cancel(ErrStopping)
	}
}

// stop cancels the handler's context, now or later.
func (l *lost) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	if l.cancel != nil {
		l.cancel(ErrStopping)
	}
}

func (l *lost) set(reason error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason != nil {
		return
	}
	l.reason = reason
	if l.ch != nil {
		close(l.ch)
	}
	if l.cancel != nil {
		l.cancel(reason)
	}
}

func (l *lost) isSet() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason != nil
}
