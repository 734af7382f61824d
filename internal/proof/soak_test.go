package proof

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

// soakQueues differ in lanes and in how long failures are kept.
var soakQueues = []string{"plain", "sharded", "forgetful"}

// errRollback ends a transaction that was meant to be rolled back.
var errRollback = errors.New("rolled back on purpose")

// TestSoak lets random producers, claimers and finishers loose on a ring of
// tiny segments: AWA_SOAK says for how long at least, 8 s by default. A slow machine
// takes longer until enough has happened.
func TestSoak(t *testing.T) {
	length := pgtest.Length(t, "AWA_SOAK", 8*time.Second)
	pool := newPool(t, pgtest.URL(t))
	exec(t, pool, `update awa.storage_settings set segment_max_age = '200ms', history_retention = '1s'`)
	exec(t, pool, `select awa.configure_queue('sharded', '{"enqueue_shards": 3}')`)
	exec(t, pool, `select awa.configure_queue('forgetful', '{"failed_retention": "300 ms"}')`)

	s := &soak{pool: pool, ledger: newLedger(), work: make(chan []awa.Job, 64), tasks: map[string]int{}}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	s.fail = cancel

	producing, stop := context.WithCancel(ctx)
	defer stop()
	s.filling.Store(true)
	var producers, workers, others sync.WaitGroup
	for range 4 {
		producers.Go(func() { s.produce(producing) })
	}
	producers.Go(func() { s.produceSlowly(producing, length) })
	for n := range 5 {
		workers.Go(func() { s.claim(ctx, n == 0) })
	}
	var finishers sync.WaitGroup
	for range 3 {
		finishers.Go(func() { s.finish(ctx) })
	}
	for range 2 {
		others.Go(func() { s.maintain(ctx) })
	}
	others.Go(func() { s.sample(ctx) })
	others.Go(func() { s.recount(ctx) })

	select {
	case <-ctx.Done():
	case <-time.After(length):
	}
	for patience := time.Now().Add(10 * time.Minute); s.tooLittle(t) != "" && time.Now().Before(patience) && ctx.Err() == nil; {
		pause(ctx, 100*time.Millisecond)
	}
	stop()
	producers.Wait()
	s.filling.Store(false)
	// The rest runs until it is dry. What is lost shows as time running out.
	deadline := time.Now().Add(10 * time.Minute)
	for s.ledger.open() > 0 && time.Now().Before(deadline) && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	s.dry.Store(true)
	workers.Wait()
	close(s.work)
	finishers.Wait()
	failure := context.Cause(ctx)
	cancel(nil)
	others.Wait()
	if failure != nil {
		t.Fatal(failure)
	}
	for _, fault := range s.ledger.close() {
		t.Error(fault)
	}
	s.compare(t)
	requireHealthy(t, pool)
	if fault := s.tooLittle(t); fault != "" {
		t.Error(fault)
	}
	t.Logf("%d jobs, %d attempts, %d samples, %d recounts, %d told to retry, %v",
		len(s.ledger.committed), len(s.ledger.handed), s.samples.Load(), s.recounts.Load(), s.retries.Load(), s.tasks)
}

// tooLittle says so while the ring has not gone round and been looked at.
func (s *soak) tooLittle(t *testing.T) string {
	rotations := value[int64](t, s.pool, `select max(generation) from awa.segment_rotations`)
	prunes := value[int64](t, s.pool, `select count(*) from awa.segment_prunes`)
	if samples := s.samples.Load(); rotations < 8 || prunes < 4 || samples < 20 {
		return fmt.Sprintf("too little happened: %d rotations, %d prunes, %d samples", rotations, prunes, samples)
	}
	return ""
}

type soak struct {
	pool     *pgxpool.Pool
	ledger   *ledger
	work     chan []awa.Job
	filling  atomic.Bool // producers are at work
	dry      atomic.Bool // nothing is left to claim
	fail     context.CancelCauseFunc
	samples  atomic.Int64
	recounts atomic.Int64
	retries  atomic.Int64
	tasks    map[string]int // by task and outcome; guarded by the ledger's mutex
}

// check ends the soak at the first error that is not the end itself.
func (s *soak) check(ctx context.Context, what string, err error) bool {
	if err == nil {
		return true
	}
	if ctx.Err() == nil {
		s.fail(fmt.Errorf("%s: %w", what, err))
	}
	return false
}

// pause is a random moment, or the end.
func pause(ctx context.Context, upTo time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(rand.N(upTo)):
	}
}

func (s *soak) tx(options pgx.TxOptions, f func(pgx.Tx) error) error {
	// Under its own context: a soak that ends lets its transactions finish.
	return pgx.BeginTxFunc(context.Background(), s.pool, options, f)
}

// add enqueues a few jobs in one of the ways there are.
func add(ctx context.Context, db awa.DBTX, queueName string) ([]int64, error) {
	p := awa.EnqueueParams{Kind: "soak", Queue: queueName, Priority: 1 + rand.IntN(4), MaxAttempts: 1 + rand.IntN(4)}
	if rand.IntN(2) == 0 {
		p.ConcurrencyKey = []string{"a", "b", "c"}[rand.IntN(3)] // counts only where a queue has a limit
	}
	if rand.IntN(10) == 0 {
		p.RunAt = time.Now().Add(rand.N(300 * time.Millisecond))
	}
	if rand.IntN(3) > 0 {
		id, err := queue.Enqueue(ctx, db, p)
		return []int64{id}, err
	}
	args := make([]json.RawMessage, 1+rand.IntN(40))
	for n := range args {
		args[n] = json.RawMessage(`{}`)
	}
	return queue.EnqueueMany(ctx, db, awa.EnqueueManyParams{
		Kind: p.Kind, Args: args, Queue: p.Queue, Priority: p.Priority, RunAt: p.RunAt, MaxAttempts: p.MaxAttempts,
	})
}

func (s *soak) produce(ctx context.Context) {
	for ctx.Err() == nil {
		if s.ledger.open() > 1000 {
			pause(ctx, 20*time.Millisecond) // a backlog, not a landslide
			continue
		}
		name := soakQueues[rand.IntN(len(soakQueues))]
		var ids []int64
		err := s.tx(pgx.TxOptions{}, func(tx pgx.Tx) error {
			for range 1 + rand.IntN(4) {
				added, err := add(context.Background(), tx, name)
				if err != nil {
					return err
				}
				ids = append(ids, added...)
				if rand.IntN(3) == 0 {
					pause(ctx, 8*time.Millisecond)
				}
			}
			if rand.IntN(5) == 0 {
				return errRollback
			}
			return nil
		})
		if errors.Is(err, errRollback) {
			continue
		}
		if !s.check(ctx, "produce", err) {
			return
		}
		s.ledger.enqueued(name, ids)
		pause(ctx, 20*time.Millisecond)
	}
}

// produceSlowly keeps transactions open across rotations, some of them longer
// than the ring lasts.
func (s *soak) produceSlowly(ctx context.Context, length time.Duration) {
	for n := 0; ctx.Err() == nil; n++ {
		var ids []int64
		isolation := []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead}[n%2]
		err := s.tx(pgx.TxOptions{IsoLevel: isolation}, func(tx pgx.Tx) error {
			for range 3 {
				for _, name := range soakQueues {
					added, err := add(context.Background(), tx, name)
					if err != nil {
						return err
					}
					ids = append(ids, added...)
				}
				pause(ctx, length/10)
			}
			return nil
		})
		if !s.check(ctx, "produce slowly", err) {
			return
		}
		s.ledger.enqueued("several", ids)
	}
}

// claim hands jobs to the finishers, in one of the ways there are. A claimer of
// snapshots uses REPEATABLE READ and may be told to retry.
func (s *soak) claim(ctx context.Context, snapshots bool) {
	for ctx.Err() == nil && !s.dry.Load() {
		var jobs []awa.Job
		options := pgx.TxOptions{}
		if snapshots {
			options.IsoLevel = pgx.RepeatableRead
		}
		p := awa.ClaimParams{Queue: soakQueues[rand.IntN(len(soakQueues))], MaxJobs: 1 + rand.IntN(50), Worker: "soak"}
		if rand.IntN(3) == 0 {
			p.MaxJobs = 1
		}
		err := s.tx(options, func(tx pgx.Tx) error {
			var own []int64
			if s.filling.Load() && rand.IntN(20) == 0 {
				// What the same transaction enqueues is claimable too.
				var err error
				if own, err = add(context.Background(), tx, p.Queue); err != nil {
					return err
				}
			}
			for range 1 + rand.IntN(2) {
				got, err := queue.Claim(context.Background(), tx, p)
				if err != nil {
					return err
				}
				jobs = append(jobs, got...)
			}
			if rand.IntN(10) == 0 {
				pause(ctx, 5*time.Millisecond)
			}
			if rand.IntN(10) == 0 {
				return errRollback
			}
			// Before the commit: another session may see the jobs first.
			s.ledger.enqueued(p.Queue, own)
			return nil
		})
		if snapshots && errors.Is(err, awa.ErrRetry) {
			s.retries.Add(1)
			continue
		}
		if errors.Is(err, errRollback) {
			continue
		}
		if !s.check(ctx, "claim", err) {
			return
		}
		if len(jobs) == 0 {
			pause(ctx, 5*time.Millisecond)
			continue
		}
		s.ledger.claimed(jobs)
		select {
		case s.work <- jobs:
		case <-ctx.Done():
		}
	}
}

// finish ends every attempt it is given, some of them twice at once.
func (s *soak) finish(ctx context.Context) {
	for jobs := range s.work {
		rand.Shuffle(len(jobs), func(i, k int) {
			if rand.IntN(2) == 0 { // now and then the order of the claim survives
				jobs[i], jobs[k] = jobs[k], jobs[i]
			}
		})
		if rand.IntN(5) == 0 {
			// Two finishers of the same receipts: each attempt has one winner.
			var rivals sync.WaitGroup
			for range 2 {
				rivals.Go(func() { s.finishAll(ctx, jobs) })
			}
			rivals.Wait()
			continue
		}
		cut := len(jobs)
		if rand.IntN(2) == 0 {
			cut = rand.IntN(len(jobs) + 1)
		}
		s.finishAll(ctx, jobs[:cut])
		s.finishAll(ctx, jobs[cut:])
	}
}

func (s *soak) finishAll(ctx context.Context, jobs []awa.Job) {
	if len(jobs) == 0 || ctx.Err() != nil {
		return
	}
	receipts := make([]awa.Receipt, len(jobs))
	for n, j := range jobs {
		receipts[n] = j.Receipt
	}
	way := rand.IntN(5)
	for {
		ended := map[awa.Receipt]awa.JobState{}
		err := s.tx(pgx.TxOptions{}, func(tx pgx.Tx) error {
			if err := finishOneWay(context.Background(), tx, way, receipts, ended); err != nil {
				return err
			}
			if rand.IntN(10) == 0 {
				return errRollback
			}
			return nil
		})
		if errors.Is(err, errRollback) {
			continue
		}
		if s.check(ctx, "finish", err) {
			for r, state := range ended {
				s.ledger.finished(r, state)
			}
		}
		return
	}
}

func finishOneWay(ctx context.Context, db awa.DBTX, way int, receipts []awa.Receipt, ended map[awa.Receipt]awa.JobState) error {
	switch way {
	case 0:
		// One after the other. In one transaction, so in the order that all
		// finishers keep.
		sortByBatch(receipts)
		for _, r := range receipts {
			accepted, err := queue.Complete(ctx, db, r)
			if err != nil {
				return err
			}
			if accepted {
				ended[r] = awa.StateCompleted
			}
		}
	case 1, 2:
		stale, err := queue.CompleteMany(ctx, db, receipts)
		if err != nil {
			return err
		}
		for _, r := range receipts {
			ended[r] = awa.StateCompleted
		}
		for _, r := range stale {
			delete(ended, r)
		}
	default:
		results, err := queue.FailMany(ctx, db, awa.FailManyParams{
			Receipts: receipts, RetryAfter: time.Microsecond, Terminal: way == 3,
		})
		if err != nil {
			return err
		}
		for _, r := range results {
			ended[r.Receipt] = r.State
		}
	}
	return nil
}

func (s *soak) maintain(ctx context.Context) {
	for ctx.Err() == nil {
		reports, err := queue.Maintain(ctx, s.pool)
		if !s.check(ctx, "maintain", err) {
			return
		}
		s.ledger.mu.Lock()
		for _, r := range reports {
			s.tasks[r.Task+" "+r.Outcome]++
		}
		s.ledger.mu.Unlock()
		pause(ctx, 60*time.Millisecond)
	}
}

// drift compares counters with history in one statement.
const drift = `
select format('%s: counters say %s, history has %s', coalesce(n.queue, d.queue), n.jobs, d.jobs)
from (select queue, sum(live_terminal_count) as jobs from awa.queue_terminal_live_counts group by queue) as n
full join (select queue, count(*) as jobs from awa.done_entries group by queue) as d on d.queue = n.queue
where coalesce(n.jobs, 0) <> coalesce(d.jobs, 0)`

func (s *soak) sample(ctx context.Context) {
	for ctx.Err() == nil {
		rows, _ := s.pool.Query(ctx, drift)
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if !s.check(ctx, "sample", err) {
			return
		}
		if len(found) > 0 {
			s.fail(fmt.Errorf("drift: %v", found))
			return
		}
		s.samples.Add(1)
		pause(ctx, 300*time.Millisecond)
	}
}

// recount rebuilds, which must find nothing to heal, and checks, beside all
// writers.
func (s *soak) recount(ctx context.Context) {
	for ctx.Err() == nil {
		healed, err := queue.RebuildTerminalCounters(ctx, s.pool)
		if errors.Is(err, awa.ErrBusy) {
			pause(ctx, 20*time.Millisecond)
			continue
		}
		if !s.check(ctx, "rebuild", err) {
			return
		}
		violations, err := queue.Check(ctx, s.pool)
		if !s.check(ctx, "check", err) {
			return
		}
		if len(healed) > 0 || len(violations) > 0 {
			s.fail(fmt.Errorf("beside writers: healed %+v, violations %v", healed, describe(violations)))
			return
		}
		s.recounts.Add(1)
		pause(ctx, 4*time.Second)
	}
}

// compare holds the counts of each queue against the ledger: nothing waits or
// runs, and every job is in history or in the totals of pruned history.
func (s *soak) compare(t *testing.T) {
	t.Helper()
	var total int64
	for _, name := range soakQueues {
		n, err := queue.Counts(context.Background(), s.pool, name)
		if err != nil {
			t.Fatal(err)
		}
		if n.Available+n.Scheduled+n.Retryable+n.Running+n.WaitingExternal+n.DLQ != 0 {
			t.Errorf("jobs are left: %+v", n)
		}
		total += n.Terminal + n.PrunedTerminal
	}
	if jobs := int64(len(s.ledger.committed)); total != jobs {
		t.Errorf("%d jobs were committed, %d are counted as terminal", jobs, total)
	}
	rows, _ := s.pool.Query(context.Background(), `select id, state::text from awa.done_entries`)
	var id int64
	var state string
	_, err := pgx.ForEachRow(rows, []any{&id, &state}, func() error {
		if want := s.ledger.terminal[id]; string(want) != state {
			t.Errorf("job %d is %s in history, its finisher was told %q", id, state, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
