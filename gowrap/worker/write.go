package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/txn"
)

// write writes what became of attempts, and tries again until it is written or
// ctx is done. Trying again is safe: what was written already is stale. It calls slow,
// perhaps more than once, when the server answers others and not this.
func (c *Client) write(ctx context.Context, attempts []*Attempt, track int, slow func()) {
	w := writer{Client: c, slow: slow}
	if track == trackComplete {
		w.completed(ctx, attempts)
		return
	}
	o := sortOut(attempts)
	calls := sequences{}
	calls.finish(o.checked.Receipts, func(w writer) {
		// In a transaction of CompleteTx that did commit the receipt is stale.
		if failed := w.failed(ctx, &o.checked); len(failed) > 0 {
			c.log.Error("Handlers returned nil, but the transactions of their CompleteTx did not commit",
				"jobs", len(failed), "first", failed[0].Receipt.JobID)
		}
	})
	for _, p := range o.failed {
		calls.finish(p.Receipts, func(w writer) { w.failed(ctx, p) })
	}
	for delay, receipts := range o.snoozed {
		calls.finish(receipts, func(w writer) {
			w.persist(ctx, receipts, func(ctx context.Context, db awa.DBTX, from, to int) error {
				_, err := c.cfg.Client.SnoozeMany(ctx, db, receipts[from:to], delay)
				return err
			})
		})
	}
	for _, a := range o.cancelled {
		one := []awa.Receipt{a.Receipt}
		calls.finish(one, func(w writer) {
			w.persist(ctx, one, func(ctx context.Context, db awa.DBTX, _, _ int) error {
				_, err := c.cfg.Client.CancelAttempt(ctx, db, a.Receipt, a.verdict.text)
				if untranslatable(err) {
					a.verdict.text = ascii(a.verdict.text)
				}
				return err
			})
		})
	}
	for _, a := range o.parked {
		calls.add(a.Receipt, func(w writer) {
			// Not accepted: it was answered before.
			w.persist(ctx, []awa.Receipt{a.Receipt}, func(ctx context.Context, db awa.DBTX, _, _ int) error {
				_, err := c.cfg.Client.Park(ctx, db, a.Receipt)
				return err
			})
		})
	}
	calls.run(w)
	if len(o.failed)+len(o.snoozed) > 0 && c.maintainer != nil {
		c.maintainer.deferred.set()
	}
}

// others are attempts that did not simply complete, by the call that writes them.
type others struct {
	checked           awa.FailManyParams // completed in a transaction, which may not have committed
	failed            map[failure]*awa.FailManyParams
	snoozed           map[time.Duration][]awa.Receipt // by the delay
	cancelled, parked []*Attempt
}

// failure is what attempts that one call fails have in common.
type failure struct {
	delay    time.Duration
	terminal bool
}

func sortOut(attempts []*Attempt) others {
	o := others{failed: map[failure]*awa.FailManyParams{}, snoozed: map[time.Duration][]awa.Receipt{}}
	for _, a := range attempts {
		v := a.verdict
		v.delay = together(v.delay)
		switch {
		case a.lost.isSet():
			// Whoever closed it has decided.
		case v.outcome == Completed:
			add(&o.checked, a, errUncommitted.Error())
		case v.outcome == Failed:
			how := failure{v.delay, v.terminal}
			if o.failed[how] == nil {
				o.failed[how] = &awa.FailManyParams{RetryAfter: v.delay, Terminal: v.terminal}
			}
			add(o.failed[how], a, v.text)
		case v.outcome == Snoozed:
			o.snoozed[v.delay] = append(o.snoozed[v.delay], a.Receipt)
		case v.outcome == Cancelled:
			o.cancelled = append(o.cancelled, a)
		case v.outcome == Parked:
			o.parked = append(o.parked, a)
		}
	}
	return o
}

// together rounds a delay up, by at most a hundredth and no more than a second. Handlers that
// put jobs off until one instant, or by a small delay with jitter, return one delay each, and
// each would take a statement of its own.
func together(d time.Duration) time.Duration {
	for grain := time.Second; grain >= time.Millisecond; grain /= 10 {
		if d >= 100*grain {
			return (d + grain - 1).Truncate(grain)
		}
	}
	return d
}

func add(p *awa.FailManyParams, a *Attempt, text string) {
	p.Receipts = append(p.Receipts, a.Receipt)
	p.Errors = append(p.Errors, text)
}

// writer makes the calls of one write.
type writer struct {
	*Client
	slow   func()
	heldUp bool // so were earlier calls: takes a place from the first try on
}

func (c writer) completed(ctx context.Context, attempts []*Attempt) {
	receipts := make([]awa.Receipt, len(attempts))
	for i, a := range attempts {
		receipts[i] = a.Receipt
	}
	c.persist(ctx, receipts, func(ctx context.Context, db awa.DBTX, from, to int) error {
		stale, err := c.cfg.Client.CompleteMany(ctx, db, receipts[from:to])
		if err == nil && len(stale) > 0 {
			c.log.Warn("Attempts were closed before they were completed", "jobs", len(stale), "first", stale[0].JobID)
		}
		return err
	})
}

// failed returns those that were accepted.
func (c writer) failed(ctx context.Context, p *awa.FailManyParams) (accepted []awa.FailManyResult) {
	var mu sync.Mutex // guards accepted
	c.persist(ctx, p.Receipts, func(ctx context.Context, db awa.DBTX, from, to int) error {
		part := *p
		part.Receipts, part.Errors = p.Receipts[from:to], p.Errors[from:to]
		results, err := c.cfg.Client.FailMany(ctx, db, part)
		if untranslatable(err) {
			for i, text := range part.Errors {
				part.Errors[i] = ascii(text)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		accepted = append(accepted, results...)
		return err
	})
	return accepted
}

// sequences are calls that are made one after the other, beside the other sequences. The
// server makes finishes of one batch wait for each other, and those that waited begin anew: so
// each batch has a sequence. Calls with several batches come first in that of one of them.
type sequences map[awa.Receipt][]call

// call is made with a writer that tells when it is held up.
type call struct {
	several bool // batches, so what holds it up need not be in the way of the next
	do      func(writer)
}

// finish adds a call that finishes attempts, if there are any.
func (s sequences) finish(receipts []awa.Receipt, do func(writer)) {
	if len(receipts) == 0 {
		return
	}
	of := awa.Receipt{BatchID: receipts[0].BatchID}
	if _, several := cut(receipts, 0, len(receipts)); several {
		s[of] = slices.Insert(s[of], 0, call{several, do})
		return
	}
	s.add(of, do)
}

func (s sequences) add(of awa.Receipt, do func(writer)) { s[of] = append(s[of], call{do: do}) }

// callers is how many connections share the calls of one write, beside those of sequences that
// are held up.
const callers = 4

// run makes the calls.
func (s sequences) run(w writer) {
	next := make(chan []call, len(s))
	for _, calls := range s {
		next <- calls
	}
	close(next)
	var all sync.WaitGroup
	var caller func()
	caller = func() {
		for calls := range next {
			var left atomic.Bool
			for _, c := range calls {
				own, goOn := w, newSignal()
				own.heldUp = left.Load()
				own.slow = func() {
					w.slow()
					if !left.Swap(true) {
						all.Go(caller) // for the other sequences
					}
					if c.several {
						goOn.set()
					}
				}
				all.Go(func() {
					c.do(own)
					goOn.set()
				})
				<-goOn
			}
			if left.Load() {
				return
			}
		}
	}
	for range min(callers, len(s)) {
		all.Go(caller)
	}
	all.Wait()
}

// persist calls f with ranges of receipts until each is written or ctx is done. What the
// server refuses, twice, it would refuse for ever: then f is called for each half, so
// that one job does not keep the others. A job that is refused alone stays as it is
// until its worker is gone. Batches of which somebody's open transaction holds up some are
// divided, and the others go on.
func (c writer) persist(ctx context.Context, receipts []awa.Receipt, f func(ctx context.Context, db awa.DBTX, from, to int) error) {
	c.persistPart(ctx, receipts, 0, len(receipts), c.heldUp, f)
}

// persistPart is persist for a part. One that was held up takes a place among those, so that
// they leave connections to others.
func (c writer) persistPart(ctx context.Context, receipts []awa.Receipt, from, to int, heldUp bool, f func(ctx context.Context, db awa.DBTX, from, to int) error) {
	var pause backoff
	refusals, waits := 0, 0
	again := false
	for {
		placed := heldUp
		if placed {
			select {
			case c.places <- struct{}{}:
			case <-ctx.Done():
				c.abandoned.Add(int64(to - from))
				return
			}
		}
		began := time.Now()
		try, cancel := context.WithTimeout(ctx, c.patience)
		var err error
		if again {
			// Perhaps only for the level, which the database may have by default: READ COMMITTED
			// waits for others where another level asks for one more try.
			err = txn.ReadCommitted(try, c.cfg.Pool, func(tx pgx.Tx) error { return f(try, tx, from, to) })
		} else {
			err = f(try, c.cfg.Pool, from, to)
		}
		cancel()
		if placed {
			<-c.places
		}
		again = errors.Is(err, awa.ErrRetry)
		if err == nil {
			return
		}
		if refused(err) {
			refusals++
		}
		heldUp = outwaited(err) || timedOut(err) && c.heardSince(began)
		if heldUp {
			c.slow()
		}
		between, several := cut(receipts, from, to)
		if heldUp && timedOut(err) {
			waits++
		}
		// All of one batch wait for the same, unless it is for the network: errors may be long.
		if waits == 2 && !several && to-from > 1 {
			between, several = (from+to)/2, true
		}
		switch {
		case ctx.Err() != nil:
		case heldUp && several:
			c.warn("Finishing jobs takes long; will try again in two parts", err, "jobs", to-from)
			var other sync.WaitGroup
			other.Go(func() { c.persistPart(ctx, receipts, from, between, true, f) })
			c.persistPart(ctx, receipts, between, to, true, f)
			other.Wait()
			return
		case refusals == 2 && to-from > 1:
			middle := (from + to) / 2
			c.persistPart(ctx, receipts, from, middle, false, f)
			c.persistPart(ctx, receipts, middle, to, false, f)
			return
		case refusals == 2:
			c.log.Error("Could not finish a job, and will not try again", "job", receipts[from].JobID, "error", err)
		default:
			c.warn("Could not finish jobs; will try again", err, "jobs", to-from)
			if again && pause.failures == 0 {
				pause.failures++
				continue
			}
			if sleep(ctx, pause.next()) {
				continue
			}
		}
		c.abandoned.Add(int64(to - from))
		return
	}
}

// outwaited reports whether the server gave up waiting: it has a lock_timeout or a
// statement_timeout.
func outwaited(err error) bool {
	return slices.Contains([]string{"55P03", tooLong}, sqlState(err))
}

// timedOut tells a statement that got no answer in time from one that was not sent, for want of
// a connection.
func timedOut(err error) bool {
	var connect *pgconn.ConnectError
	return pgconn.Timeout(err) && !errors.As(err, &connect)
}

// cut returns where to cut a range of receipts in two: between two batches, near its middle. ok
// is false when it holds only one, all of which waits for the same.
func cut(receipts []awa.Receipt, from, to int) (at int, ok bool) {
	middle := (from + to) / 2
	between := func(i int) bool {
		return from < i && i < to && receipts[i-1].BatchID != receipts[i].BatchID
	}
	for d := range to - from {
		switch {
		case between(middle - d):
			return middle - d, true
		case between(middle + d):
			return middle + d, true
		}
	}
	return 0, false
}

// refused tells an error about what the server was given from one about its state.
func refused(err error) bool {
	state := sqlState(err)
	return state == "AW006" || len(state) >= 2 && slices.Contains([]string{"22", "23", "54"}, state[:2])
}

// untranslatable tells that a text has characters that the encoding of the database has not. The
// next try has them as escapes: a job is worth more than the text of its error.
func untranslatable(err error) bool {
	return slices.Contains([]string{"22P05", "22021"}, sqlState(err))
}

// ascii writes the other characters of a text as JSON does.
func ascii(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r < utf8.RuneSelf:
			b.WriteRune(r)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
