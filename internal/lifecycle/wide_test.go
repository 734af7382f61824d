package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	awa "github.com/awaqueue/awa/gowrap"
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
	lastID   atomic.Int64
	serial   atomic.Int64
	prepared chan string

	mu        sync.Mutex // guards what follows
	calls     int
	errors    map[string]int // by their SQLSTATEs
	completed map[int64]bool // by transactions that committed
}

// on reports whether the run goes on: for longer where the machine is slow.
func (w *wide) on() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	late := time.Since(w.until)
	return !w.t.Failed() && (late < 0 || late < time.Minute && len(w.completed) < 10)
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
var cutOff = []string{"57014", "57P01", "", "25P02"}

func (c *caller) pick(of ...string) string { return of[c.rnd.IntN(len(of))] }
func (c *caller) queue() string            { return fmt.Sprintf("wide/%d", c.rnd.IntN(4)) }
func (c *caller) key() []byte              { return []byte{byte(c.rnd.IntN(8))} }
func (c *caller) id() int64                { return max(1, c.lastID.Load()-c.rnd.Int64N(200)) }

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
	case slices.Contains([]string{"AW002", "AW003", "AW004", "AW007", "40001", "55P03"}, state):
	case c.rude && slices.Contains(cutOff, state):
	case c.several && state == "40P01":
	case what == "enqueue" && state == "23505": // of insert_job_compat
	default:
		c.t.Errorf("%s: %v", what, err)
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) {
			c.t.Logf("%s\n%s", pgErr.Detail, pgErr.Where)
		}
	}
	return err
}

// enqueues takes a number, a queue, two ids, a unique key and its mask. No job has a unique and a
// concurrency key: those are TestKeyHunt's.
var wideEnqueues = []string{
	`awa.enqueue('kind' || $1 % 3, queue => $2, priority => 1 + $1 % 4, max_attempts => 1 + $1 % 3,
		run_at => case when $1 % 7 = 0 then clock_timestamp() + interval '20 ms' end, deadline => case when $1 % 11 = 0 then interval '100 ms' end)`,
	`awa.enqueue('kind' || $1 % 3, queue => $2, max_attempts => 1 + $1 % 3, unique_key => $5, unique_states => $6::bit(8),
		run_at => case when $1 % 3 = 0 then clock_timestamp() + interval '20 ms' end)`,
	`awa.enqueue('kind' || $1 % 3, queue => $2, max_attempts => 1 + $1 % 3, concurrency_key => ($1 % 3)::text, follow_ups => '{
		"completed": [{"kind": "next"}], "failed": [{"kind": "next", "delay": "10 ms"}], "exhausted": [{"kind": "next", "concurrency_key": "1"}]}')`,
	`awa.enqueue('kind' || $1 % 3, queue => $2, after => array[$3, $4])`,
	`(awa.enqueue_many('many', array_fill('{}'::jsonb, array[1 + $1 % 12]), $2, 1 + $1 % 4,
		run_at => case when $1 % 3 = 0 then clock_timestamp() + interval '15 ms' end))[1]`,
	`(awa.enqueue_many(jsonb_build_array(
		jsonb_build_object('kind', 'kind1', 'run_at', clock_timestamp() + interval '10 ms'),
		jsonb_build_object('kind', 'kind2', 'unique_key', $5, 'unique_states', $6),
		jsonb_build_object('kind', 'kind0', 'after', jsonb_build_array($3)),
		jsonb_build_object('kind', 'kind1', 'priority', 1 + $1 % 4)), $2))[4]`,
	`(awa.insert_job_compat('kind0', p_queue => $2, p_unique_key => case when $1 % 2 = 0 then $5 end)).id`,
	`awa.enqueue('own', queue => $2) from awa.claim($2, 3)`,
}

func (c *caller) enqueue(on awa.DBTX) error {
	var id *int64
	err := on.QueryRow(context.Background(), `with a (n, q, id1, id2, key, mask) as (values ($1::integer, $2::text, $3::bigint, $4::bigint, $5::bytea, $6::text)) select `+
		strings.NewReplacer("$1", "(select n from a)", "$2", "(select q from a)", "$3", "(select id1 from a)", "$4", "(select id2 from a)", "$5", "(select key from a)",
			"$6", "(select mask from a)").Replace(c.pick(wideEnqueues...)),
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
	rows, err := on.Query(context.Background(), `select c.job_id, c.receipt::text from awa.claim($1, $2, nullif($3, ''), $4::text::interval) as c`,
		c.queue(), 1+c.rnd.IntN(20), c.pick("", c.worker, "wide/nobody"), c.pick("30 ms", "1 s", "1 minute"))
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

// wideFinishes take receipts.
var wideFinishes = []string{
	`fail_many($1)`, `fail_many($1, terminal => true)`, `fail_many($1, retry_after => '10 ms')`, `fail($1[1], 'e', retry_after => '5 ms')`,
	`snooze_many($1, '5 ms')`, `cancel_attempt($1[1])`,
	`set_progress($1[1], 5, 'wide', '{"a": 1}')`, `extend_lease($1, '200 ms')`, `callback_status($1[1])`, `park($1[1])`,
}

// finish ends attempts or goes on with them, and keeps some of their receipts for another time.
func (c *caller) finish(on awa.DBTX) error {
	c.rnd.Shuffle(len(c.pocket), func(i, j int) { c.pocket[i], c.pocket[j] = c.pocket[j], c.pocket[i] })
	n := min(c.rnd.IntN(len(c.pocket)+1), 30)
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
		var id *string
		err := on.QueryRow(context.Background(), `select awa.register_callback($1::text::awa.receipt, '50 ms')::text`, receipts[0]).Scan(&id)
		if err == nil && id != nil {
			c.callbacks = append(c.callbacks, *id)
			c.pocket = append(c.pocket, mine[0])
		}
		return c.told("register_callback", err)
	}
	call := c.pick(wideFinishes...)
	_, err := on.Exec(context.Background(), `select awa.`+strings.Replace(call, "$1", "($1::text[]::awa.receipt[])", 1), receipts)
	return c.told(call, err)
}

func (c *caller) answer(on awa.DBTX) error {
	if len(c.callbacks) == 0 {
		return nil
	}
	id := c.callbacks[0]
	if c.rnd.IntN(4) > 0 {
		c.callbacks = c.callbacks[1:]
	}
	call := c.pick(`complete_callback($1)`, `fail_callback($1)`, `retry_callback($1)`, `resume_callback($1)`, `heartbeat_callback($1, '20 ms')`)
	_, err := on.Exec(context.Background(), `select awa.`+strings.Replace(call, "$1", "$1::text::uuid", 1), id)
	return c.told(call, err)
}

// wideSettings are a queue's.
var wideSettings = []string{
	`{"enqueue_shards": 1}`, `{"enqueue_shards": 3}`, `{"concurrency_limit": 1}`, `{"concurrency_limit": 2}`, `{"concurrency_limit": null}`,
	`{"rate_limit": 300, "rate_burst": 30}`, `{"rate_limit": null}`, `{"dlq_enabled": true}`, `{"dlq_enabled": false}`,
	`{"failed_retention": "0"}`, `{"failed_retention": "300 ms"}`, `{"dlq_retention": "100 ms"}`, `{"dlq_retention": null}`,
	`{"priority_aging_interval": "10 ms"}`, `{"priority_aging_interval": null}`,
	`{"max_depth": 60}`, `{"max_depth": 60, "on_full": "warn"}`, `{"max_depth": null}`, `{"notify": false}`, `{"notify": true}`,
}

// wideCalls take a queue, an id, a unique key, a number, a setting and the worker.
var wideCalls = []string{
	`select awa.configure_queue($1, $5::jsonb)`, `select awa.configure_queue($1, $5::jsonb)`,
	`select awa.pause_queue($1)`, `select awa.resume_queue($1)`, `select awa.resume_queue($1)`,
	`select awa.retry($2, run_at => case when $4 % 2 = 0 then clock_timestamp() + interval '10 ms' end)`, `select awa.retry($2, queue => $1)`,
	`select awa.retry_from_dlq($2, queue => $1)`, `select awa.bulk_retry_from_dlq($1, max_jobs => 10)`,
	`select awa.move_failed_to_dlq($2)`, `select awa.bulk_move_failed_to_dlq($1, max_jobs => 10)`, `select awa.purge_dlq($1, max_jobs => 10)`,
	`select awa.discard_failed_by_kind('kind' || $4 % 3)`,
	`select awa.cancel($2)`, `select awa.cancel($2 + 1)`, `select awa.cancel_by_unique_key($3)`,
	`select awa.delete_job_compat($2)`, `delete from awa.jobs where id between $2 and $2 + 30`, `delete from awa.jobs where queue = $1 and id % 3 = 0`,
	`update awa.jobs set priority = priority % 4 + 1 where id > $2 and state in ('available', 'scheduled', 'retryable')`,
	`update awa.jobs set run_at = clock_timestamp() + interval '5 ms' * (id % 3) where id > $2 and state in ('available', 'scheduled', 'retryable')`,
	`update awa.jobs set queue = $1, tags = '{b}' where id = $2 and state in ('available', 'scheduled', 'retryable')`,
	`insert into awa.jobs (kind, queue, args, tags, metadata) values ('kind2', $1, '{}', '{a}', '{}')`,
	`select awa.start_batch_operation((array['retry', 'cancel', 'discard', 'delete'])[1 + $4 % 4], jsonb_build_object('queue', $1, 'min_id', $2))`,
	`select awa.start_batch_operation((array['move', 'reprioritize'])[1 + $4 % 2], jsonb_build_object('min_id', $2),
		(array['{"queue": "wide/1"}', '{"priority": 1}'])[1 + $4 % 2]::jsonb)`,
	`select awa.run_batch_operation(b.id, 1 + $4 % 200) from awa.batch_operations as b where b.finished_at is null order by b.id limit 1`,
	`select awa.cancel_batch_operation(max(b.id)) from awa.batch_operations as b where $4 % 4 = 0`,
	`select awa.count_batch_jobs('cancel', jsonb_build_object('queue', $1))`,
	`select awa.upsert_schedule('s' || $4 % 3, '* * * * * *', 'cron', queue => $1)`,
	`select awa.upsert_schedule('s' || $4 % 3, '*/2 * * * * *', 'cron', queue => $1, missed_fire => 'skip')`,
	`select awa.remove_schedule('s' || $4 % 3)`, `select awa.pause_schedule('s' || $4 % 3)`, `select awa.resume_schedule('s' || $4 % 3)`,
	`select awa.heartbeat($6)`, `select awa.heartbeat($6)`, `select awa.register_worker($6, '{"a": 1}')`,
	`select awa.start_waiting(array[$1]), awa.stop_waiting(array[$1])`,
	`select awa.fail_many(array(select c.receipt from awa.claim($1, 10) as c), retry_after => '1 microsecond')`,
	`select awa.enqueue('lone', queue => 'lone', run_at => case when $4 % 2 = 0 then clock_timestamp() + interval '5 ms' end)`,
	`select awa.complete_many(array(select c.receipt from awa.claim('lone', 100) as c))`,
	`select awa.queue_counts($1)`, `select awa.list_jobs($1)`, `select awa.get_job($2)`, `select awa.queue_overview()`, `select count(*) from awa.jobs where queue = $1`,
}

func (c *caller) call(on awa.DBTX) error {
	switch n := c.rnd.IntN(100); {
	case n < 25:
		return c.enqueue(on)
	case n < 45:
		return c.claim(on)
	case n < 60:
		return c.finish(on)
	case n < 63:
		return c.answer(on)
	}
	sql := c.pick(wideCalls...)
	args := []any{c.queue(), c.id(), c.key(), c.rnd.IntN(1000), c.pick(wideSettings...), c.worker}
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
}

func (c *caller) keepHouse() error {
	switch call := c.pick(wideWork...); call {
	case "rebuild_terminal_counters", "check":
		found, err := read(context.Background(), c.conn, `select f::text from awa.`+call+`() as f`)
		if len(found) > 0 {
			c.t.Errorf("%s: %v", call, found)
		}
		return c.told(call, err)
	case "remove_queue":
		_, err := c.conn.Exec(context.Background(), `select awa.remove_queue($1)`, c.pick("lone", "wide/3"))
		return c.told(call, err)
	default:
		_, err := c.conn.Exec(context.Background(), `select awa.`+call+`()`)
		return c.told(call, err)
	}
}

// again connects anew where the connection was lost.
func (c *caller) again() {
	for c.conn == nil || c.conn.IsClosed() {
		if conn, err := pgx.ConnectConfig(context.Background(), c.as); err == nil {
			c.conn = conn
		}
	}
}

func (c *caller) committed() {
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
	if _, err := c.conn.Exec(ctx, fmt.Sprintf(`set statement_timeout = %d`, timeout)); err != nil {
		return
	}
	if c.rnd.IntN(2) == 0 {
		if c.call(c.conn) == nil {
			c.committed()
		}
		return
	}
	levels := []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.ReadCommitted, pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable}
	level := levels[c.rnd.IntN(len(levels))]
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
	for range calls {
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
	if c.rnd.IntN(6) == 0 {
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
// another; while sessions are cancelled and terminated in two of three runs. AWA_WIDE says
// for how long, 5 s by default.
//
// In one of three runs no call shares a transaction with another and none is cut off: then a
// deadlock is a fault. What becomes of each job is noted by triggers, so one that is lost
// shows, whatever the calls did to it.
func TestWide(t *testing.T) {
	length := pgtest.Length(t, "AWA_WIDE", 5*time.Second)
	server := pgtest.Server(t, localpg.Options{Settings: map[string]string{
		"max_prepared_transactions": "64", "deadlock_timeout": "60ms",
	}})
	cfg, err := pgx.ParseConfig(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	boss := pgtest.Conn(t, server.URL())
	exec := execOn(t, boss)
	exec(noting)
	exec(`update awa.storage_settings set segment_max_age = '300 ms', history_retention = '300 ms', worker_silence = '1 second', straggler_limit = 200`)
	exec(`select awa.configure_queue('wide/' || n, '{"failed_retention": "0"}') from generate_series(0, 3) as n`)

	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	victim := cfg.Copy()
	victim.RuntimeParams["application_name"] = "victim"
	victim.RuntimeParams["jit"] = "off"
	w := &wide{
		t: t, as: victim, until: time.Now().Add(length), prepared: make(chan string, 100),
		errors: map[string]int{}, completed: map[int64]bool{},
	}
	w.several, w.rude = rnd.IntN(3) == 0, rnd.IntN(3) > 0
	w.rude = w.rude || w.several
	w.lastID.Store(1)
	t.Logf("seed %d, several calls a transaction: %t, cut off: %t", seed, w.several, w.rude)
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
		conn := pgtest.Conn(t, server.URL())
		for name := range w.prepared {
			pause(60)
			verb := []string{"commit", "commit", "rollback"}[rand.IntN(3)]
			if _, err := conn.Exec(context.Background(), verb+` prepared '`+name+`'`); err != nil {
				t.Errorf("%s prepared: %v", verb, err)
			}
		}
	})
	for n := 1; w.rude && w.on(); n++ {
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
	t.Logf("%d calls, %d jobs completed, errors %v", w.calls, len(w.completed), w.errors)
	var completed []int64
	for id := range w.completed {
		completed = append(completed, id)
	}
	for what, sql := range map[string]string{
		"check":                             `select c::text from awa.check() as c`,
		"a rebuild found drift":             `select r::text from awa.rebuild_terminal_counters() as r`,
		"queue_counts differs from jobs":    countsQuery,
		"jobs are lost":                     lostQuery,
		"attempts completed twice":          `select n.job_id, n.run_lease from noted as n where n.what = 'c' group by 1, 2 having count(*) > 1`,
		"locks outlived their transactions": `select l.objid from pg_locks as l where l.locktype = 'advisory'`,
	} {
		if bad := lines(t, boss, sql); len(bad) > 0 {
			t.Errorf("%s: %s", what, strings.Join(bad, "\n"))
		}
	}
	if bad := lines(t, boss, `select u from unnest($1::bigint[]) as u where not exists (select from noted as n where n.job_id = u and n.what = 'c')`, completed); len(bad) > 0 {
		t.Errorf("jobs that were completed did not: %s", strings.Join(bad, ", "))
	}
	if jobs := len(completed); jobs < 10 {
		t.Errorf("too little happened: %d jobs completed", jobs)
	}
}

// pause is a random moment, of so many milliseconds at most.
func pause(most int) { time.Sleep(time.Duration(rand.IntN(most+1)) * time.Millisecond) }

// noting writes down where jobs come to, and how they leave.
const noting = `
create table noted (what text, job_id bigint, run_lease bigint);
create function note() returns trigger language plpgsql as $$
begin
  case tg_argv[0]
  when 'job' then
    insert into public.noted values ('there', new.job_id, new.run_lease);
  when 'letter' then
    if tg_op = 'INSERT' then
      insert into public.noted values ('there', new.id, new.run_lease);
    else
      insert into public.noted values ('gone', old.id, old.run_lease);
    end if;
  when 'outcome' then
    insert into public.noted
    select new.outcome, j.job_id, coalesce(j.run_lease, 1)
    from awa.claims as c
    cross join lateral unnest(coalesce(new.job_ids, c.job_ids), case when new.job_ids is null then c.run_leases else new.run_leases end)
      as j (job_id, run_lease)
    where c.ready_slot = new.ready_slot and c.batch_id = new.batch_id;
  when 'departure' then
    insert into public.noted select 'gone', u, 1000000 from unnest(new.job_ids) as u;
  end case;
  return null;
end $$;
create trigger note after insert on awa.ready_entries for each row execute function note('job');
create trigger note after insert on awa.deferred_jobs for each row execute function note('job');
create trigger note after insert on awa.leases for each row execute function note('job');
create trigger note after insert or delete on awa.dlq_entries for each row execute function note('letter');
create trigger note after insert on awa.attempt_outcomes for each row execute function note('outcome');
create trigger note after insert on awa.job_departures for each row execute function note('departure')`

// lostQuery lists jobs that are nowhere although their newest attempt did not end.
const lostQuery = `
select l.job_id, l.run_lease
from (select n.job_id, max(n.run_lease) as run_lease from noted as n where n.what = 'there' group by n.job_id) as l
where not exists (select from awa.jobs as j where j.id = l.job_id)
  and not exists (select from awa.dlq_entries as q where q.id = l.job_id)
  and not exists (
    select from noted as n
    where n.job_id = l.job_id and n.run_lease >= l.run_lease and n.what in ('c', 'f', 'x', 'd', 'gone'))
limit 20`
