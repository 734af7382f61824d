package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/install"
	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/pgtest"
)

// wide is what the sessions of one run share.
type wide struct {
	t        *testing.T
	as       *pgx.ConnConfig
	until    time.Time
	rude     bool // sessions are cancelled and terminated
	several  bool // a transaction makes several calls, in any order
	upset    bool // the storage is reset and rebased, which waits longer than the others do
	skewed   bool // each session has a clock of its own
	planned  bool // the planner is led astray
	narrow   bool // all is about a few jobs of two queues
	crowded  bool // concurrency keys are many, and attempts stay open for many claims
	shifting bool // the limit of concurrency of a queue changes
	swarm    bool // of some calls only, so each meets the others more often
	sharp    bool // a circle of waits counts as a deadlock although it would soon be over
	crashing bool // the server is killed again and again, and half of the sessions commit asynchronously
	mix      struct{ enqueues, finishes, calls, work []string }
	deadlock func() string
	lastID   atomic.Int64
	serial   atomic.Int64
	prepared chan string

	mu        sync.Mutex // guards what follows
	calls     int
	answers   int // to callbacks that jobs waited for
	crashes   int
	errors    map[string]int // by their SQLSTATEs
	completed map[int64]bool // by transactions that committed
}

// enough is how many jobs a run must complete at least.
const enough = 10

// late reports whether the time of the run is over.
func (w *wide) late() bool { return time.Now().After(w.until) }

// on reports whether the run goes on: for longer where the machine is slow, or the calls of a
// swarm leave little to complete.
func (w *wide) on() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.t.Failed() && (!w.late() || time.Since(w.until) < 5*time.Minute && len(w.completed) < enough)
}

// caller is one session.
type caller struct {
	*wide
	worker    string
	conn      *pgx.Conn
	rnd       *rand.Rand
	pocket    []held // receipts, of claims that were rolled back as well
	callbacks []string
	completes []int64 // what the transaction under way completed
	hasty     bool    // its commits are asynchronous
	keeps     bool    // one snapshot for the whole transaction, perhaps
}

func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return "" // the connection is gone
}

// cutOff is what a statement is told that was cancelled or whose session was terminated, and what
// follows it.
var cutOff = []string{"57014", "57P01", "57P02", "", "25P02"}

func (c *caller) pick(of ...string) string { return of[c.rnd.IntN(len(of))] }
func (c *caller) queue() string {
	if c.narrow {
		return c.pick("wide/0", "wide/0", "limited")
	}
	if c.crowded && c.rnd.IntN(2) == 0 {
		return "limited"
	}
	if n := c.rnd.IntN(12); n < 4 {
		return []string{"limited", "limited", "limited", "rated"}[n]
	}
	return fmt.Sprintf("wide/%d", c.rnd.IntN(4))
}
func (c *caller) key() []byte {
	if c.narrow {
		return []byte{byte(c.rnd.IntN(2))}
	}
	return []byte{byte(c.rnd.IntN(8))}
}
func (c *caller) id() int64 {
	recent := int64(200)
	if c.narrow {
		recent = 12
	}
	return max(1, c.lastID.Load()-c.rnd.Int64N(recent))
}

// told books a call and returns its error; one that nothing explains fails the test.
func (c *caller) told(what string, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if err == nil {
		return nil
	}
	state := sqlState(err)
	c.errors[state]++
	switch {
	case slices.Contains([]string{"AW002", "AW003", "AW004", "AW007"}, state):
	case state == "40001" && (c.keeps || c.several || wideMoves.MatchString(what)):
	case c.rude && slices.Contains(cutOff, state), c.rude && state == "55P03":
	case c.several && state == "40P01":
	case what == "prepare" && state == "0A000": // it notified
	case what == "enqueue" && state == "23505": // of insert_job_compat
	case state == "55P03" && slices.Contains([]string{"rebuild_terminal_counters", "remove_queue", "reset", "rebase"}, what):
	default:
		c.t.Errorf("%s: %v", what, err)
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) {
			c.t.Logf("%s\n%s", pgErr.Detail, pgErr.Where)
		}
		if state == "40P01" {
			c.t.Log(c.deadlock())
		}
	}
	return err
}

func (c *caller) enqueue(on awa.DBTX) error {
	var id *int64
	err := on.QueryRow(context.Background(), `with a (n, q, id1, id2, key, mask) as (values ($1::integer, $2::text, $3::bigint, $4::bigint, $5::bytea, $6::text)) select `+
		strings.NewReplacer("$1", "(select n from a)", "$2", "(select q from a)", "$3", "(select id1 from a)", "$4", "(select id2 from a)", "$5", "(select key from a)",
			"$6", "(select mask from a)").Replace(c.pick(c.mix.enqueues...)),
		c.rnd.IntN(10000), c.queue(), c.id(), c.id(), c.key(), c.pick(huntMasks...)).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	if err == nil && id != nil && *id > c.lastID.Load() {
		c.lastID.Store(*id)
	}
	return c.told("enqueue", err)
}

func (c *caller) claim(on awa.DBTX) error {
	most, lease := 1+c.rnd.IntN(20), c.pick("30 ms", "1 s", "1 minute")
	if c.crowded && c.rnd.IntN(4) > 0 {
		most, lease = 1, "10 s"
	}
	rows, err := on.Query(context.Background(), `select c.job_id, c.receipt::text from awa.claim($1, $2, nullif($3, ''), $4::text::interval) as c`,
		c.queue(), most, c.pick("", c.worker, "wide/nobody"), lease)
	var got []held
	if err == nil {
		got, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (h held, err error) {
			return h, row.Scan(&h.id, &h.receipt)
		})
	}
	c.pocket = append(c.pocket, got...)
	if len(c.pocket) > 200 {
		c.pocket = slices.Clone(c.pocket[100:]) // the others are left to rescue
	}
	return c.told("claim", err)
}

// finish ends attempts or goes on with them, and keeps some of their receipts for another time.
func (c *caller) finish(on awa.DBTX) error {
	c.rnd.Shuffle(len(c.pocket), func(i, j int) { c.pocket[i], c.pocket[j] = c.pocket[j], c.pocket[i] })
	n := min(c.rnd.IntN(len(c.pocket)+1), 30)
	if c.crowded && len(c.pocket) < 60 {
		n = min(n, 1)
	}
	if n == 0 {
		return nil
	}
	mine := c.pocket[:n]
	if c.rnd.IntN(4) > 0 {
		c.pocket = slices.Clone(c.pocket[n:])
	}
	receipts := make([]string, n)
	for i, h := range mine {
		receipts[i] = h.receipt
	}
	switch c.rnd.IntN(10) {
	case 0, 1, 2, 3:
		rows, err := on.Query(context.Background(), `select s.job_id from awa.complete_many($1::text[]::awa.receipt[]) as s`, receipts)
		var stale []int64
		if err == nil {
			stale, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		}
		for _, h := range mine {
			if err == nil && !slices.Contains(stale, h.id) {
				c.completes = append(c.completes, h.id)
			}
		}
		return c.told("complete_many", err)
	case 4:
		var ok bool
		err := on.QueryRow(context.Background(), `select awa.complete($1::text::awa.receipt)`, receipts[0]).Scan(&ok)
		if err == nil && ok {
			c.completes = append(c.completes, mine[0].id)
		}
		return c.told("complete", err)
	case 5:
		c.pocket = append(c.pocket, mine[0])
		return c.register(on, mine[0])
	}
	call := c.pick(c.mix.finishes...)
	_, err := on.Exec(context.Background(), `select awa.`+strings.Replace(call, "$1", "($1::text[]::awa.receipt[])", 1), receipts)
	return c.told(call, err)
}

func (c *caller) register(on awa.DBTX, h held) error {
	var id *string
	err := on.QueryRow(context.Background(), `select awa.register_callback($1::text::awa.receipt, $2::text::interval)::text`, h.receipt, c.pick("50 ms", "5 s", "5 s")).Scan(&id)
	if err == nil && id != nil {
		c.callbacks = append(c.callbacks, *id)
	}
	return c.told("register_callback", err)
}

// answer answers a callback, or registers one that may be answered.
func (c *caller) answer(on awa.DBTX) error {
	if len(c.callbacks) == 0 && len(c.pocket) > 0 {
		return c.register(on, c.pocket[len(c.pocket)-1])
	}
	if len(c.callbacks) == 0 {
		return nil
	}
	last := len(c.callbacks) - 1 // the others may be timed out
	id := c.callbacks[last]
	if c.rnd.IntN(4) > 0 {
		c.callbacks = c.callbacks[:last]
	}
	call := c.pick(`complete_callback($1)`, `fail_callback($1)`, `retry_callback($1)`, `resume_callback($1)`, `heartbeat_callback($1, '20 ms')`)
	_, err := on.Exec(context.Background(), `select awa.`+strings.Replace(call, "$1", "$1::text::uuid", 1), id)
	if err == nil {
		c.mu.Lock()
		c.answers++
		c.mu.Unlock()
	}
	return c.told(call, err)
}

func (c *caller) call(on awa.DBTX) error {
	switch n := c.rnd.IntN(100); {
	case c.narrow && n < 15:
		return nil
	case n < 25:
		return c.enqueue(on)
	case n < 45:
		return c.claim(on)
	case n < 60:
		return c.finish(on)
	case n < 69:
		return c.answer(on)
	}
	sql := c.pick(c.mix.calls...)
	if c.late() {
		sql = `select awa.resume_queue($1)` // others may keep jobs from being completed
	}
	if c.several && c.rnd.IntN(10) == 0 {
		sql = c.pick(wideSeveral...)
	}
	queue := c.queue()
	if strings.Contains(sql, "configure_queue") && queue != "wide/0" {
		queue = fmt.Sprintf("wide/%d", c.rnd.IntN(4))
	}
	args := []any{queue, c.id(), c.key(), c.rnd.IntN(1000), c.pick(wideSettings...), c.worker}
	types := []string{"text", "bigint", "bytea", "integer", "text", "text"}
	text := sql
	var used []any
	for i, arg := range args {
		if old := fmt.Sprintf("$%d", i+1); strings.Contains(text, old) {
			used = append(used, arg)
			text = strings.ReplaceAll(text, old, fmt.Sprintf("$%d::%s", len(used), types[i]))
		}
	}
	_, err := on.Exec(context.Background(), text, used...)
	return c.told(sql, err)
}

// wideWork is what maintenance does, and what an operator does to the ring.
var wideWork = []string{
	`maintain`, `maintain`, `maintain`, `maintain`, `rotate`, `rotate`, `prune`, `prune`, `checkpoint_terminal_counters`, `rebuild_terminal_counters`, `check`, `remove_queue`,
	`maintain`, `maintain`, `maintain`, `maintain`, `rotate`, `rotate`, `prune`, `prune`, `analyze`, `configure_storage`, `reset`, `rebase`, `configure_queue`,
}

func (c *caller) keepHouse() error {
	switch call := c.pick(c.mix.work...); call {
	case "rebuild_terminal_counters", "check":
		found, err := read(context.Background(), c.conn, `select f::text from awa.`+call+`() as f`)
		if len(found) > 0 {
			c.t.Errorf("%s: %v", call, found)
		}
		return c.told(call, err)
	case "remove_queue":
		_, err := c.conn.Exec(context.Background(), `select awa.remove_queue($1)`, c.pick("lone", "wide/3"))
		return c.told(call, err)
	case "configure_queue":
		if !c.shifting {
			return nil
		}
		pause(2000)
		_, err := c.conn.Exec(context.Background(), `select awa.configure_queue('limited', jsonb_build_object('concurrency_limit', nullif($1::integer, 0)))`, c.rnd.IntN(4))
		return c.told(call, err)
	case "reset", "rebase":
		if !c.upset || c.rnd.IntN(4) > 0 {
			return nil
		}
		sql := `select awa.rebase()`
		if call == "reset" {
			sql = `select awa.reset(keep_config => true); truncate noted; insert into resets select last_value from awa.job_id_seq`
		}
		_, err := c.conn.Exec(context.Background(), sql)
		return c.told(call, err)
	case "analyze":
		_, err := c.conn.Exec(context.Background(), `analyze awa.`+c.pick("ready_entries", "claims", "attempt_outcomes", "deferred_jobs", "job_unique_claims", "lane_cursors", "parked_jobs"))
		return c.told(call, err)
	case "configure_storage":
		_, err := c.conn.Exec(context.Background(), `select awa.configure_storage($1)`, c.pick(
			`{"segment_max_age": "1 second", "straggler_limit": 1000}`, `{"segment_max_age": "1 second", "straggler_limit": 200}`, `{"segment_max_age": "1 second", "segment_max_bytes": 8192}`, `{"segment_max_age": "1 second", "segment_max_bytes": null}`,
			`{"segment_max_age": "1 second", "history_retention": "0"}`, `{"segment_max_age": "1 second", "history_retention": "300 ms"}`))
		return c.told(call, err)
	case "maintain":
		// What a task meets ends in its report, not in an error.
		reports, err := read(context.Background(), c.conn, wideMaintain)
		for _, r := range reports {
			if !wideReports.MatchString(r) {
				c.t.Errorf("maintain: %s", r)
				if strings.Contains(r, "deadlock") {
					c.t.Log(c.deadlock())
				}
			}
		}
		return c.told(call, err)
	default:
		_, err := c.conn.Exec(context.Background(), `select awa.`+call+`()`)
		return c.told(call, err)
	}
}

// again connects anew where the connection was lost.
func (c *caller) again() {
	for c.conn == nil || c.conn.IsClosed() {
		as := c.as.Copy()
		if c.rnd.IntN(2) == 0 {
			as.RuntimeParams["role"] = "wide_user"
		}
		c.hasty = c.crashing && c.rnd.IntN(2) == 0
		if c.hasty {
			as.RuntimeParams["synchronous_commit"] = "off"
		}
		if conn, err := pgx.ConnectConfig(context.Background(), as); err == nil {
			c.conn = conn
		}
	}
}

func (c *caller) committed() {
	if c.hasty {
		return // a crash may undo it
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range c.completes {
		c.completed[id] = true
	}
}

// step makes a call, or a few, in a transaction of any kind.
func (c *caller) step() {
	ctx := context.Background()
	c.completes = nil
	timeout := 0
	if c.rude && c.rnd.IntN(6) == 0 {
		timeout = 1 + c.rnd.IntN(20)
	}
	locks := 0
	if c.rude && c.rnd.IntN(6) == 0 {
		locks = 1 + c.rnd.IntN(20)
	}
	clock := ""
	if c.skewed {
		clock = fmt.Sprintf(`; select set_config('awa.now', case when '%[1]s' <> '' then (clock_timestamp() + '%[1]s'::interval)::text else '' end, false)`,
			c.pick("", "", "50 ms", "-50 ms", "30 s", "-30 s", "2 h", "-2 h"))
	}
	if c.planned {
		sql := `reset all`
		for range c.rnd.IntN(4) {
			sql += `; set ` + c.pick(widePlans...)
		}
		if _, err := c.conn.Exec(ctx, sql); err != nil {
			return
		}
	}
	if _, err := c.conn.Exec(ctx, fmt.Sprintf(`set statement_timeout = %d; set lock_timeout = %d%s`, timeout, locks, clock)); err != nil {
		return
	}
	c.keeps = c.planned
	if c.rnd.IntN(2) == 0 {
		if c.call(c.conn) == nil {
			c.committed()
		}
		return
	}
	levels := []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.ReadCommitted, pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable}
	level := levels[c.rnd.IntN(len(levels))]
	c.keeps = c.keeps || level != pgx.ReadCommitted
	tx, err := c.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: level})
	if err != nil {
		return
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if level != pgx.ReadCommitted && c.rnd.IntN(2) == 0 {
		_, _ = tx.Exec(ctx, `select 1 as snapshot`)
		pause(20)
	}
	calls := 1
	if c.several {
		calls = 1 + c.rnd.IntN(3)
	}
	for n := range calls {
		if n > 0 && c.rnd.IntN(3) == 0 {
			pause(40)
		}
		if c.rnd.IntN(2) == 0 {
			if c.call(tx) != nil {
				return
			}
			continue
		}
		before := slices.Clone(c.completes)
		savepoint, err := tx.Begin(ctx)
		if err != nil {
			return
		}
		if c.call(savepoint) != nil || c.rnd.IntN(3) == 0 {
			c.completes = before
			err = savepoint.Rollback(ctx)
		} else {
			err = savepoint.Commit(ctx)
		}
		if err != nil {
			return
		}
	}
	switch c.rnd.IntN(60) {
	case 0:
		pause(2000)
	case 1, 2, 3, 4, 5, 6, 7, 8, 9:
		pause(60)
	}
	switch c.rnd.IntN(12) {
	case 0, 1: // undone
	case 2:
		name := fmt.Sprintf("wide %d", c.serial.Add(1))
		if _, err := tx.Exec(ctx, `prepare transaction '`+name+`'`); c.told("prepare", err) == nil {
			c.prepared <- name
		}
	default:
		if c.told("commit", tx.Commit(ctx)) == nil {
			c.committed()
		}
	}
}

// TestWide has sessions make every call of the API at random, each in a transaction of any
// kind: in savepoints, in three isolation levels, rolled back, or prepared and ended by
// another; half of them as a role that owns nothing. AWA_WIDE says for how long, 5 s by
// default, and AWA_WIDE_MODE which of the words of the run's first line apply, or "" for none:
// the runs differ in what they are about, for what meets seldom among all calls meets often
// among a few. Chance never chooses "crashing", nor "sharp": a brief wait that is out of order closes a circle
// once in very many runs, and with that word in every few. On a slow machine so may one of a
// millisecond, which is meant to be.
//
// Where no call shares a transaction with another and none is cut off, a deadlock is a fault,
// and at READ COMMITTED so is 40001, but for calls that move jobs. What becomes of each job is
// noted by triggers, so one that is lost shows, whatever the calls did to it. At the end workers
// finish what is left, so one that waits for ever shows as well.
func TestWide(t *testing.T) {
	length := pgtest.Length(t, "AWA_WIDE", 5*time.Second)
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	segments := []int{3, 4, 8}[rnd.IntN(3)]
	opts := localpg.Options{Settings: map[string]string{
		"max_prepared_transactions": "64", "deadlock_timeout": "1s", "wal_writer_delay": "10s",
	}}
	server := pgtest.ServerOf(t, opts, install.Options{Segments: segments})
	cfg, err := pgx.ParseConfig(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	boss := pgtest.Conn(t, server.URL())
	exec := execOn(t, boss)
	exec(noting)
	exec(`update awa.storage_settings set segment_max_age = '300 ms', history_retention = '300 ms', worker_silence = '1 second', straggler_limit = 200`)
	exec(`select awa.configure_queue('wide/' || n, '{"failed_retention": "0"}') from generate_series(0, 3) as n`)
	exec(`select awa.configure_queue('limited', '{"failed_retention": "0", "concurrency_limit": 2}')`)
	exec(`select awa.configure_queue('rated', '{"failed_retention": "0", "concurrency_limit": 1, "rate_limit": 50, "rate_burst": 10}')`)
	exec(`insert into limits select m.queue, '-infinity', m.concurrency_limit from awa.queue_meta as m where m.concurrency_limit is not null`)
	exec(`create role wide_user; grant awa_producer, awa_worker, awa_operator, awa_reader to wide_user; grant all on noted, resets, limits to wide_user; grant select on awa.job_id_seq to wide_user`)

	victim := cfg.Copy()
	victim.RuntimeParams["application_name"] = "victim"
	victim.RuntimeParams["jit"] = "off"
	w := &wide{
		t: t, as: victim, until: time.Now().Add(length), prepared: make(chan string, 100),
		errors: map[string]int{}, completed: map[int64]bool{},
	}
	w.several, w.rude = rnd.IntN(3) == 0, rnd.IntN(3) > 0
	w.rude = w.rude || w.several
	w.narrow, w.swarm = rnd.IntN(3) == 0, rnd.IntN(2) == 0
	w.skewed, w.upset, w.planned = rnd.IntN(4) == 0, rnd.IntN(3) == 0, rnd.IntN(3) == 0
	w.crowded, w.shifting = rnd.IntN(3) == 0, rnd.IntN(3) == 0
	if mode, given := os.LookupEnv("AWA_WIDE_MODE"); given {
		w.several, w.skewed, w.upset = strings.Contains(mode, "several"), strings.Contains(mode, "skewed"), strings.Contains(mode, "upset")
		w.swarm, w.crowded, w.shifting = strings.Contains(mode, "swarm"), strings.Contains(mode, "crowded"), strings.Contains(mode, "shifting")
		w.planned, w.narrow, w.sharp = strings.Contains(mode, "planned"), strings.Contains(mode, "narrow"), strings.Contains(mode, "sharp")
		w.crashing = strings.Contains(mode, "crashing")
		w.rude = w.several || w.crashing || strings.Contains(mode, "rude")
	}
	w.mix.enqueues, w.mix.finishes, w.mix.calls, w.mix.work = wideEnqueues, wideFinishes, wideCalls, wideWork
	if w.crowded {
		w.mix.enqueues = nil
		for _, call := range wideEnqueues {
			w.mix.enqueues = append(w.mix.enqueues, manyKeys.ReplaceAllString(call, "($$1 % 397)::text"))
		}
	}
	if w.swarm {
		some := func(list []string, n int, more ...string) []string {
			list = slices.Clone(list)
			rnd.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			return append(list[:n], more...)
		}
		// The first ones need no other job.
		w.mix.enqueues, w.mix.finishes = some(w.mix.enqueues, 3, w.mix.enqueues[0]), some(wideFinishes, 3)
		w.mix.calls, w.mix.work = some(wideCalls, 8, `select awa.resume_queue($1)`), some(wideWork, 5, `maintain`, `rotate`, `prune`, `configure_queue`)
		t.Logf("%q", w.mix)
	}
	if w.upset {
		victim.RuntimeParams["deadlock_timeout"] = "5s"
	} else if w.sharp {
		victim.RuntimeParams["deadlock_timeout"] = "20ms"
	}
	w.deadlock = func() string {
		_, log, _ := strings.Cut(server.Log(), "deadlock detected")
		return log[:min(len(log), 6000)]
	}
	w.lastID.Store(1)
	t.Logf("seed %d, %d segments, several: %t, rude: %t, skewed: %t, planned: %t, narrow: %t, swarm: %t, crowded: %t, shifting: %t, upset: %t, sharp: %t, crashing: %t", seed, segments, w.several, w.rude, w.skewed, w.planned, w.narrow, w.swarm, w.crowded, w.shifting, w.upset, w.sharp, w.crashing)
	var callers, enders sync.WaitGroup
	for n := range 14 {
		c := &caller{wide: w, worker: fmt.Sprintf("wide/%d", n), rnd: rand.New(rand.NewPCG(seed, uint64(n+1)))}
		callers.Go(func() {
			for w.on() {
				c.again()
				if n < 2 {
					_ = c.keepHouse()
				} else {
					c.step()
				}
			}
			_ = c.conn.Close(context.Background())
		})
	}
	enders.Go(func() {
		var all sync.WaitGroup
		for name := range w.prepared {
			all.Go(func() {
				pause(60)
				if rand.IntN(20) == 0 {
					pause(2000) // longer than some segments last
				}
				verb := []string{"commit", "commit", "rollback"}[rand.IntN(3)]
				w.end(server, verb+` prepared '`+name+`'`)
			})
		}
		all.Wait()
	})
	over := make(chan struct{})
	var sampler sync.WaitGroup
	sampler.Go(func() { w.sample(server, over) })
	for n := 1; w.rude && w.on(); n++ {
		if w.crashing && n%100 == 0 {
			boss = w.crash(server, opts)
			exec = execOn(t, boss)
		}
		call := "pg_cancel_backend"
		if n%10 == 0 {
			call = "pg_terminate_backend"
		}
		exec(`select ` + call + `(v.pid) from (
			select a.pid from pg_stat_activity as a where a.application_name = 'victim' and a.state = 'active' order by random() limit 1) as v`)
		pause(25)
	}
	callers.Wait()
	close(w.prepared)
	enders.Wait()
	for _, name := range lines(t, boss, `select gid from pg_prepared_xacts`) {
		exec(`rollback prepared '` + name + `'`) // a crash kept its session from telling
	}
	close(over)
	sampler.Wait()
	t.Logf("%d calls, %d jobs completed, %d callbacks answered, %d crashes, errors %v", w.calls, len(w.completed), w.answers, w.crashes, w.errors)
	var completed []int64
	for id := range w.completed {
		completed = append(completed, id)
	}
	exec(`set jit = off; analyze noted; analyze handed`)
	if w.skewed || w.upset {
		exec(`truncate handed`)
	}
	for what, sql := range map[string]string{
		"check":                          `select c::text from awa.check() as c`,
		"a rebuild found drift":          `select r::text from awa.rebuild_terminal_counters() as r`,
		"queue_counts differs from jobs": countsQuery,
		"jobs are lost":                  lostQuery,
		"parked jobs are on no list":     unlistedQuery,
		// A prune that keeps a failed job gives its attempt another batch and outcome.
		"attempts handed out twice": `select n.job_id, n.run_lease from noted as n where n.what in ('handed', 'f') group by 1, 2
			having count(distinct n.batch_id) > greatest(count(*) filter (where n.what = 'f'), 1)`,
		"attempts completed twice": `select n.job_id, n.run_lease from noted as n where n.what = 'c' group by 1, 2 having count(*) > 1`,
		"too many of a key ran":    overrunQuery,
		"a bucket held too much":   overspentQuery,
		"a batch operation met": `select distinct b.operation, b.state, regexp_replace(b.last_error, '[0-9]+', '#', 'g') from awa.batch_operations as b
			where b.last_error is not null and b.last_error !~ 'unique key is held by'`,
		"locks outlived their transactions": `select l.objid from pg_locks as l where l.locktype = 'advisory'`,
	} {
		if bad := lines(t, boss, sql); len(bad) > 0 {
			t.Errorf("%s: %s", what, strings.Join(bad, "\n"))
		}
	}
	if bad := lines(t, boss, `select u from unnest($1::bigint[]) as u where u > (select coalesce(max(r.id), 0) from resets as r) and not exists (select from noted as n where n.job_id = u and n.what = 'c')`, completed); len(bad) > 0 {
		t.Errorf("jobs that were completed did not: %s", strings.Join(bad, ", "))
	}
	if !t.Failed() {
		w.drain(boss)
	}
	if jobs := len(completed); jobs < enough && !t.Failed() {
		t.Errorf("too little happened: %d jobs completed", jobs)
	}
}

// pause is a random moment, of so many milliseconds at most.
func pause(most int) { time.Sleep(time.Duration(rand.IntN(most+1)) * time.Millisecond) }
