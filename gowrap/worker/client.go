package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// Client works on queues. Its methods are safe for concurrent use. It runs once:
// for another run make another client.
type Client struct {
	cfg        Config
	mux        *Mux
	log        *slog.Logger
	queues     []*queue
	byName     map[string]*queue
	shares     *shares // nil: the queues need not share
	identity   *identity
	live       live
	unheard    signal       // the server answers after a silence
	heard      atomic.Int64 // when it answered a heartbeat last, in time since born
	born       time.Time
	places     chan struct{} // for writes that were held up
	door       *door
	troubles   troubles
	finisher   *finisher
	listener   *listener   // nil: PollOnly
	maintainer *maintainer // nil: DisableMaintain

	started   atomic.Bool
	stopOnce  sync.Once
	stop      chan struct{} // closed: stop softly
	hardOnce  sync.Once
	hard      chan struct{} // closed by the end of Stop's context: do not wait for handlers any longer
	stopped   chan struct{}
	err       error // of the run; set before stopped is closed
	abandoned atomic.Int64

	handlers sync.WaitGroup
	values   context.Context // what handlers' contexts hold; it is never done
	hasty    atomic.Bool     // handlers were told to give up

	patience, lastWords, grace time.Duration
}

// New returns a client that hands jobs to mux. It does not connect yet. An error says
// what is wrong with the config.
func New(cfg Config, mux *Mux) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if mux == nil || mux.serve == nil {
		return nil, errors.New("worker: the mux is nil, or was not made by NewMux")
	}
	c := &Client{
		cfg: cfg, mux: mux, log: cfg.Logger.With("worker", cfg.Name),
		byName:   map[string]*queue{},
		identity: newIdentity(cfg),
		live:     live{batches: map[*batch]struct{}{}},
		unheard:  newSignal(), born: time.Now(),
		places:   make(chan struct{}, max(2, cfg.Pool.Config().MaxConns/4)),
		door:     newDoor(),
		patience: patience, lastWords: lastWords, grace: grace,
		stop: make(chan struct{}), hard: make(chan struct{}), stopped: make(chan struct{}),
	}
	sum := 0
	for name, qc := range cfg.Queues {
		q := newQueue(c, name, qc)
		c.queues = append(c.queues, q)
		c.byName[name] = q
		sum += qc.MaxWorkers
	}
	if cfg.MaxWorkers < sum {
		c.shares = newShares(cfg.MaxWorkers)
	}
	c.finisher = newFinisher(c)
	if !cfg.PollOnly {
		c.listener = newListener(c)
	}
	if !cfg.DisableMaintain {
		c.maintainer = newMaintainer(c)
	}
	return c, nil
}

// Name is the worker's name; see Config.Name.
func (c *Client) Name() string { return c.cfg.Name }

// ErrStarted is returned by the second start of a client.
var ErrStarted = errors.New("worker: client was started before")

// ErrUnfinished is returned when a client stopped with something left over: a
// handler that did not return when its context was cancelled, or a finish that
// could not be written.
var ErrUnfinished = errors.New("worker: stopped with unfinished work")

// Run works until ctx is done or Stop is called, then stops: it claims no more,
// lets handlers finish for up to SoftStopTimeout, cancels the contexts of the
// others, and gives unfinished attempts back, not counted.
//
// A server that is down is no error: the client waits for it, also at the start.
//
// Errors: ErrStarted, ErrUnfinished.
func (c *Client) Run(ctx context.Context) error {
	if !c.started.CompareAndSwap(false, true) {
		return ErrStarted
	}
	c.run(ctx)
	return c.err
}

// Start is Run in the background. It returns at once; when ctx is done the client
// stops as Run does.
//
// Errors: ErrStarted.
func (c *Client) Start(ctx context.Context) error {
	if !c.started.CompareAndSwap(false, true) {
		return ErrStarted
	}
	go c.run(ctx)
	return nil
}

// Stop asks the client to stop and waits until it has. When ctx is done first,
// handlers get no more time: their contexts are cancelled, and Stop returns as soon as
// the unfinished attempts are given back, or after 10 s if the server does not take
// them. It returns what Run does, nil for a client that never ran. A handler must not
// call it, for it would wait for itself.
func (c *Client) Stop(ctx context.Context) error {
	c.stopOnce.Do(func() { close(c.stop) })
	if c.started.CompareAndSwap(false, true) {
		close(c.stopped)
		return nil
	}
	select {
	case <-c.stopped:
	case <-ctx.Done():
		c.hardOnce.Do(func() { close(c.hard) })
		<-c.stopped
	}
	return c.err
}

// Stopped is closed when the client has stopped.
func (c *Client) Stopped() <-chan struct{} { return c.stopped }

// grace is how long a handler whose context was cancelled may take to return
// before its attempt is given back regardless, and how long the answer to a claim may still
// take: cut off, its jobs would come back by rescue.
const grace = 200 * time.Millisecond

// lastWords bounds the writes that remain when all handlers are through.
const lastWords = 10 * time.Second

func (c *Client) run(ctx context.Context) {
	defer close(c.stopped)
	base := context.WithoutCancel(ctx)
	soft, stopClaims := context.WithCancel(ctx)
	defer stopClaims()
	claims, cutClaims := context.WithCancel(base)
	defer cutClaims()
	background, stopBackground := context.WithCancel(base)
	defer stopBackground()
	writes, giveUp := context.WithCancel(base)
	defer giveUp()
	c.values = base

	var claiming, helping, finishing sync.WaitGroup
	finishing.Go(func() { c.finisher.loop(writes) })
	if c.listener != nil {
		helping.Go(func() { c.listener.loop(background) })
	}
	if c.maintainer != nil {
		helping.Go(func() { c.maintainer.loop(background) })
	}
	helping.Go(func() { c.heartbeats(background) })
	helping.Go(func() { c.rechecks(background) })
	for _, q := range c.queues {
		claiming.Go(func() { q.loop(soft, claims) })
	}
	c.log.Info("Worker started", "queues", len(c.queues))

	select {
	case <-ctx.Done():
	case <-c.stop:
	}
	c.log.Info("Worker stops")
	stopClaims()
	claimed, idle := make(chan struct{}), make(chan struct{})
	go func() {
		claiming.Wait() // no handler starts after this
		close(claimed)
		c.handlers.Wait()
		close(idle)
	}()
	late := 0
	if !wait(idle, c.hard, c.cfg.SoftStopTimeout) {
		c.hasty.Store(true)
		c.stopHandlers()
		if !wait(claimed, nil, c.grace) {
			cutClaims()
			<-claimed
		}
		c.stopHandlers() // which began meanwhile
		if !wait(idle, nil, c.grace) {
			late = c.releaseAll()
		}
	}
	if c.shares != nil {
		c.shares.stop()
	}
	timer := time.AfterFunc(c.lastWords, giveUp)
	defer timer.Stop()
	close(c.finisher.hurry)
	finishing.Wait()
	stopBackground()
	helping.Wait()
	if n := c.abandoned.Load(); late > 0 || n > 0 {
		c.err = fmt.Errorf("%w: %d handlers still run, %d finishes were not written", ErrUnfinished, late, n)
		c.log.Error("Worker stopped with unfinished work", "handlers", late, "finishes", n)
		return
	}
	c.log.Info("Worker stopped")
}

func (c *Client) stopHandlers() {
	for _, a := range c.live.all() {
		a.lost.stop()
	}
}

// wait waits for up to d, unless cut is closed, and reports whether done is.
func wait(done, cut <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
	case <-cut:
	}
	return false
}

// start runs the jobs of one claim. When the client stops they go back instead.
func (c *Client) start(q *queue, worker string, jobs []awa.Job, stopping bool) {
	b := newBatch(q, worker, jobs)
	for _, a := range b.attempts {
		a.client, a.db = c.cfg.Client, c.cfg.Pool
	}
	c.live.add(b)
	if stopping {
		for _, a := range b.attempts {
			c.release(a)
		}
		return
	}
	c.handlers.Add(len(jobs))
	go c.handleNext(b)
}

// handleNext runs handlers of a batch, one after the other. Before each it sees to
// it that another goroutine is on its way to the rest, so that no job waits for a
// handler; but where handlers are quick a few goroutines do for many of them, and
// do not grow a stack for each.
func (c *Client) handleNext(b *batch) {
	b.waiting.Store(false)
	for {
		i := int(b.begun.Add(1)) - 1
		if i >= len(b.attempts) {
			return
		}
		if i+1 < len(b.attempts) && b.waiting.CompareAndSwap(false, true) {
			go c.handleNext(b)
		}
		c.handle(b.attempts[i])
	}
}

var errGoexit = errors.New("the handler ended its goroutine (runtime.Goexit)")

// handle runs one handler.
func (c *Client) handle(a *Attempt) {
	if !a.state.CompareAndSwap(stateClaimed, stateRunning) {
		c.handlers.Done()
		return
	}
	ctx, cancel := context.WithCancelCause(c.values)
	a.lost.watch(cancel)
	err := errGoexit
	defer func() {
		cancel(nil)
		c.returned(a, err)
	}()
	if !a.DeadlineAt.IsZero() {
		limited, done := a.within(ctx, c.cfg.Lease)
		defer done()
		ctx = limited
	}
	err = c.mux.serve(ctx, a)
}

// returned hands an attempt to the finisher, unless the stop was faster.
func (c *Client) returned(a *Attempt, err error) {
	defer c.handlers.Done()
	if !a.state.CompareAndSwap(stateRunning, stateReturned) {
		return
	}
	a.verdict = a.judge(err)
	if v := &a.verdict; v.outcome == Failed && !v.terminal && v.delay == 0 && c.hasty.Load() {
		// It was told to give up, so this is no failure.
		*v = verdict{outcome: Snoozed}
	} else if err != nil {
		c.report(a, err)
	}
	c.finish(a)
}

func (c *Client) finish(a *Attempt) {
	a.finishedAt = time.Now()
	c.finisher.push(a)
	a.batch.queue.release()
}

// longestLogged is how much of an error's text the log bears, in bytes: about what the
// server keeps.
const longestLogged = 10_000

// brief is an error with less of its text.
type brief struct {
	error
	text string
}

func (b *brief) Error() string { return strings.ToValidUTF8(b.text, "") + "…" }
func (b *brief) Unwrap() error { return b.error }

// legible is an error whose text does not panic, as that of a nil pointer may: the logger reads
// it in a goroutine that nobody recovers.
func legible(err error) (told error) {
	defer func() {
		if p := recover(); p != nil {
			told = &PanicError{p, debug.Stack()}
		}
	}()
	_ = err.Error()
	return err
}

// report logs an attempt that did not complete.
func (c *Client) report(a *Attempt, err error) {
	outcome, level := a.verdict.outcome, slog.LevelInfo
	switch {
	case a.lost.isSet() || a.closed.Load():
		outcome = Stale
	case outcome == Failed:
		level = slog.LevelWarn
	}
	if len(a.verdict.text) > longestLogged {
		err = &brief{err, a.verdict.text[:longestLogged]}
	}
	err = legible(err)
	c.log.Log(c.values, level, "Job did not complete", "job", a.ID, "kind", a.Kind, "queue", a.Queue,
		"attempt", a.Attempt, "of", a.MaxAttempts, "outcome", string(outcome), "error", err)
}

// release gives an attempt back, unless its handler has returned. It reports whether the
// handler runs.
func (c *Client) release(a *Attempt) (runs bool) {
	if !a.state.CompareAndSwap(stateClaimed, stateReleased) {
		if !a.state.CompareAndSwap(stateRunning, stateReleased) {
			return false
		}
		runs = true
	}
	a.verdict = verdict{outcome: Snoozed}
	c.finish(a)
	return runs
}

// releaseAll gives back what has not begun and what handlers do not let go of, and returns how
// many handlers run.
func (c *Client) releaseAll() int {
	n := 0
	for _, a := range c.live.all() {
		if c.release(a) {
			n++
		}
	}
	return n
}
