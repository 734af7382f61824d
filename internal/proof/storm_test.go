package proof

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/pgtest"
)

// TestStorm cancels calls at any moment, takes them back to savepoints, prepares
// transactions that others end, in three isolation levels, while segments of
// milliseconds come and go: AWA_STORM says for how long at least, 3 s by default. A call that was
// cancelled did nothing, so the ledger knows all that happened.
func TestStorm(t *testing.T) {
	length := pgtest.Length(t, "AWA_STORM", 3*time.Second)
	server := pgtest.Server(t, localpg.Options{Settings: map[string]string{
		"max_prepared_transactions": "64", "deadlock_timeout": "100ms",
	}})
	s := &storm{
		t: t, ledger: newLedger(), work: make(chan []awa.Job, 64), done: make(chan struct{}), prepared: make(chan func(*stormConn), 64),
		abandoned: map[attempt]bool{},
	}
	s.ledger.parks = true
	var err error
	if s.calm, err = pgx.ParseConfig(server.URL()); err != nil {
		t.Fatal(err)
	}
	s.victim = s.calm.Copy()
	s.victim.RuntimeParams["application_name"] = "victim"
	conn := s.connect(s.calm)
	defer conn.Close(context.Background())
	exec(t, conn, `update awa.storage_settings set segment_max_age = '30ms', history_retention = '60ms'`)
	exec(t, conn, `select awa.configure_queue('forgetful', '{"failed_retention": "100 ms"}')`)
	// A transaction that notified cannot be prepared.
	exec(t, conn, `select awa.configure_queue(q, '{"notify": false}') from unnest($1::text[]) as q`, soakQueues)

	var stop context.CancelFunc
	s.over, stop = context.WithTimeout(t.Context(), length+10*time.Minute)
	defer stop()
	var dry, calm atomic.Bool
	filling := func() bool { return s.over.Err() == nil && !t.Failed() }
	claiming := func() bool { return !dry.Load() && !t.Failed() }
	going := func() bool { return !calm.Load() && !t.Failed() }
	var producers, claimers, finishers, enders, others sync.WaitGroup
	for range 3 {
		s.repeat(&producers, filling, (*stormConn).produce)
		s.repeat(&finishers, func() bool { return !t.Failed() }, (*stormConn).finish)
	}
	for range 4 {
		s.repeat(&claimers, claiming, (*stormConn).claim)
	}
	for range 2 {
		enders.Go(func() {
			c := s.connect(s.calm)
			defer c.Close(context.Background())
			for end := range s.prepared {
				end(c)
			}
		})
	}
	for call, upTo := range map[string]time.Duration{
		"maintain": 10 * time.Millisecond, "rotate": 20 * time.Millisecond, "prune": 5 * time.Millisecond,
		"checkpoint_terminal_counters": 50 * time.Millisecond, "rebuild_terminal_counters": 200 * time.Millisecond,
	} {
		s.repeat(&others, going, func(c *stormConn) error {
			pause(context.Background(), upTo)
			_, err := c.Exec(context.Background(), `select awa.`+call+`()`)
			return err
		})
	}
	s.repeat(&others, going, func(c *stormConn) error {
		pause(context.Background(), 100*time.Millisecond)
		violations, err := queue.Check(context.Background(), c)
		if len(violations) > 0 {
			return fmt.Errorf("beside writers: %v", describe(violations))
		}
		return err
	})
	s.repeat(&others, filling, func(c *stormConn) error {
		pause(s.over, 10*time.Millisecond)
		_, err := c.Exec(context.Background(), stormSettings[rand.IntN(len(stormSettings))], soakQueues[rand.IntN(len(soakQueues))])
		return err
	})
	var cancels atomic.Int64
	others.Go(func() {
		c := s.connect(s.calm)
		defer c.Close(context.Background())
		for going() {
			cancels.Add(value[int64](t, c, `
select count(pg_cancel_backend(v.pid))
from (
  select a.pid from pg_stat_activity as a where a.application_name = 'victim' and a.state = 'active'
  order by random() limit 1
) as v`))
			pause(context.Background(), 10*time.Millisecond)
		}
	})

	little := func() string {
		c, p, jobs := cancels.Load(), s.serial.Load(), s.ledger.size()
		if c < 20 || p < 10 || jobs < 50 {
			return fmt.Sprintf("too little happened: %d cancels, %d prepared transactions, %d jobs", c, p, jobs)
		}
		return ""
	}
	for began := time.Now(); filling(); pause(s.over, 20*time.Millisecond) {
		if time.Since(began) > length && little() == "" {
			stop()
		}
	}
	producers.Wait()
	exec(t, conn, `select awa.resume_queue(q), awa.configure_queue(q, '{"concurrency_limit": null, "rate_limit": null}') from unnest($1::text[]) as q`, soakQueues)
	// Last attempts that were abandoned count as ended, and are once they are rescued.
	open := func() int {
		return s.ledger.open() + int(s.pending.Load()) + value[int](t, conn, `
select sum(c.running)::integer from unnest($1::text[]) as q cross join lateral awa.queue_counts(q) as c`, soakQueues)
	}
	for deadline := time.Now().Add(10 * time.Minute); open() > 0 && time.Now().Before(deadline) && !t.Failed(); {
		time.Sleep(10 * time.Millisecond)
	}
	dry.Store(true)
	claimers.Wait()
	close(s.done)
	finishers.Wait()
	close(s.prepared)
	enders.Wait()
	calm.Store(true)
	others.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for a := range s.abandoned {
		s.ledger.ended[a] = awa.StateRetryable // rescued
	}
	for _, fault := range s.ledger.close() {
		t.Error(fault)
	}
	var total int64
	for _, q := range soakQueues {
		n, err := queue.Counts(context.Background(), conn, q)
		if err != nil {
			t.Fatal(err)
		}
		if n.Available+n.Scheduled+n.Retryable+n.Running > 0 {
			t.Errorf("jobs are left: %+v", n)
		}
		total += n.Terminal + n.PrunedTerminal
	}
	if jobs := int64(len(s.ledger.committed)); total != jobs {
		t.Errorf("%d jobs were committed, %d are counted as terminal", jobs, total)
	}
	if n := value[int](t, conn, `select count(*) from pg_locks as l where l.locktype = 'advisory'`); n > 0 {
		t.Errorf("%d locks outlived their transactions", n)
	}
	requireHealthy(t, conn)
	if fault := little(); fault != "" {
		t.Error(fault)
	}
	t.Logf("%d jobs, %d attempts, %d of them abandoned, %d cancels, %d prepared transactions",
		total, len(s.ledger.handed), len(s.abandoned), cancels.Load(), s.serial.Load())
}

// stormSettings change what a queue does, or the schedules beside it.
var stormSettings = []string{
	`select awa.pause_queue($1), awa.resume_queue($1)`,
	`select awa.configure_queue($1, '{"enqueue_shards": 1, "concurrency_limit": 3}')`,
	`select awa.configure_queue($1, '{"enqueue_shards": 4, "concurrency_limit": null}')`,
	`select awa.configure_queue($1, '{"concurrency_limit": 1}')`,
	`select awa.configure_queue($1, '{"priority_aging_interval": "20 ms", "rate_limit": 2000}')`,
	`select awa.configure_queue($1, '{"rate_limit": null}')`,
	`select awa.upsert_schedule($1, '* * * * * *', 'cron', queue => 'cron')`,
	`select awa.remove_schedule($1)`,
}

// stormErrors are what calls are told that were cancelled, came too late for their
// snapshot, or met their rivals in another order.
var stormErrors = []string{"57014", "40001", "40P01", "55P03"}

type storm struct {
	t            *testing.T
	calm, victim *pgx.ConnConfig
	over         context.Context
	ledger       *ledger
	work         chan []awa.Job
	done         chan struct{}         // no work comes any more
	prepared     chan func(*stormConn) // ends one
	pending      atomic.Int64          // prepared and not ended
	serial       atomic.Int64
	mu           sync.Mutex
	abandoned    map[attempt]bool // guarded by mu
}

type stormConn struct {
	*storm
	*pgx.Conn
}

func (s *storm) connect(cfg *pgx.ConnConfig) *stormConn {
	conn, err := pgx.ConnectConfig(context.Background(), cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	return &stormConn{s, conn}
}

// again connects anew: pgx closes a connection whose rollback was cancelled.
func (c *stormConn) again() {
	for c.IsClosed() {
		if conn, err := pgx.ConnectConfig(context.Background(), c.victim); err == nil {
			c.Conn = conn
		}
	}
}

// repeat does f over and over, in a session that may be cancelled.
func (s *storm) repeat(all *sync.WaitGroup, on func() bool, f func(*stormConn) error) {
	c := s.connect(s.victim)
	all.Go(func() {
		defer func() { _ = c.Close(context.Background()) }()
		for on() {
			c.again()
			switch err := f(c); {
			case err == nil, errors.Is(err, errRollback), slices.Contains(stormErrors, sqlState(err)):
			case errors.Is(err, errNoWork):
				return
			default:
				s.t.Error(err)
			}
		}
	})
}

var errNoWork = errors.New("there is no more work")

// transact does f in a transaction of any kind, ends it in any way, and tells then once
// it is committed.
func (c *stormConn) transact(f func(pgx.Tx) error, then func()) error {
	ctx := context.Background()
	timeout := 0
	if rand.IntN(4) == 0 {
		timeout = 1 + rand.IntN(15)
	}
	if _, err := c.Exec(ctx, fmt.Sprintf(`set statement_timeout = %d`, timeout)); err != nil {
		return err
	}
	levels := []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable}
	tx, err := c.BeginTx(ctx, pgx.TxOptions{IsoLevel: levels[rand.IntN(len(levels))]})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if err := f(tx); err != nil {
		return err
	}
	switch rand.IntN(10) {
	case 0:
		return errRollback
	case 1, 2:
		return c.prepare(tx, then)
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	then()
	return nil
}

// prepare leaves the end of a transaction to another session, and waits for it where
// that is a rollback.
func (c *stormConn) prepare(tx pgx.Tx, then func()) error {
	name := fmt.Sprintf("storm %d", c.serial.Add(1))
	if _, err := tx.Exec(context.Background(), `prepare transaction '`+name+`'`); err != nil {
		return err
	}
	c.pending.Add(1)
	verb := []string{"commit", "commit", "rollback"}[rand.IntN(3)]
	ended := make(chan struct{})
	c.prepared <- func(c *stormConn) {
		pause(context.Background(), 30*time.Millisecond)
		if _, err := c.Exec(context.Background(), verb+` prepared '`+name+`'`); err != nil {
			c.t.Errorf("%s prepared: %v", verb, err)
		} else if verb == "commit" {
			then()
		}
		c.pending.Add(-1)
		close(ended)
	}
	if verb == "rollback" {
		<-ended
		return errRollback
	}
	return nil
}

// perhaps does f, half of the time in a savepoint, and tells whether it is to stay.
func perhaps(tx pgx.Tx, f func(pgx.Tx) error) (bool, error) {
	if rand.IntN(2) == 0 {
		return true, f(tx)
	}
	ctx := context.Background()
	sub, err := tx.Begin(ctx)
	if err != nil {
		return false, err
	}
	if err := f(sub); err != nil || rand.IntN(3) == 0 {
		if err != nil && !slices.Contains(stormErrors, sqlState(err)) {
			return false, err
		}
		return false, sub.Rollback(ctx)
	}
	return true, sub.Commit(ctx)
}

func (c *stormConn) produce() error {
	if c.ledger.open() > 500 {
		pause(c.over, 20*time.Millisecond) // a backlog, not a landslide
		return nil
	}
	name := soakQueues[rand.IntN(len(soakQueues))]
	var ids []int64
	return c.transact(func(tx pgx.Tx) error {
		for range 1 + rand.IntN(3) {
			var added []int64
			stays, err := perhaps(tx, func(tx pgx.Tx) (err error) {
				added, err = add(context.Background(), tx, name)
				return err
			})
			if err != nil {
				return err
			}
			if stays {
				ids = append(ids, added...)
			}
			if rand.IntN(4) == 0 {
				pause(c.over, 40*time.Millisecond) // longer than a segment lasts
			}
		}
		return nil
	}, func() { c.ledger.enqueued(name, ids) })
}

// claim hands jobs to the finishers, or leaves them to rescue.
func (c *stormConn) claim() error {
	p := awa.ClaimParams{Queue: soakQueues[rand.IntN(len(soakQueues))], MaxJobs: 1 + rand.IntN(30)}
	leave := rand.IntN(15) == 0
	if leave {
		p.Lease = 30 * time.Millisecond
	}
	var jobs []awa.Job
	err := c.transact(func(tx pgx.Tx) error {
		for range 1 + rand.IntN(2) {
			var got []awa.Job
			stays, err := perhaps(tx, func(tx pgx.Tx) (err error) {
				got, err = queue.Claim(context.Background(), tx, p)
				return err
			})
			if err != nil {
				return err
			}
			if stays {
				jobs = append(jobs, got...)
			}
		}
		return nil
	}, func() {
		c.ledger.claimed(jobs)
		if !leave {
			select {
			case c.work <- jobs:
			case <-c.done:
			}
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, j := range jobs {
			c.abandoned[attempt{j.ID, j.Receipt.RunLease}] = true
			if j.Attempt == j.MaxAttempts {
				c.ledger.finished(j.Receipt, awa.StateFailed)
			}
		}
	})
	if len(jobs) == 0 {
		pause(context.Background(), 5*time.Millisecond)
	}
	return err
}

// finish ends the next jobs that were claimed, in a few calls, each until it is committed.
func (c *stormConn) finish() error {
	var jobs []awa.Job
	select {
	case jobs = <-c.work:
	case <-c.done:
		return errNoWork
	}
	for len(jobs) > 0 && !c.t.Failed() {
		c.again()
		receipts := make([]awa.Receipt, 1+rand.IntN(len(jobs)))
		for n := range receipts {
			receipts[n] = jobs[n].Receipt
		}
		ended, stays := map[awa.Receipt]awa.JobState{}, false
		err := c.transact(func(tx pgx.Tx) (err error) {
			stays, err = perhaps(tx, func(tx pgx.Tx) error {
				return finishOneWay(context.Background(), tx, rand.IntN(5), receipts, ended)
			})
			return err
		}, func() {
			if stays && len(ended) != len(receipts) {
				c.t.Errorf("%d of %d finishes were accepted", len(ended), len(receipts))
			}
			for r, state := range ended {
				if stays {
					c.ledger.finished(r, state)
				}
			}
		})
		switch {
		case err == nil && stays:
			jobs = jobs[len(receipts):]
		case err != nil && !errors.Is(err, errRollback) && !slices.Contains(stormErrors, sqlState(err)):
			return err
		}
	}
	return nil
}
