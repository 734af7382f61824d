// Package lifecycle_test holds tests of whole job lives under many sessions:
// every way into history and out of it at once, and upgrades with live clients.
package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

	"github.com/awaqueue/awa/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	huntSessions   = 16
	huntQueues     = 16 // times 4 priorities: 64 keys
	huntPriorities = 4
	huntSamplers   = 2
)

// driftQuery is the invariant: per queue the counters equal history. One
// statement, so both sides are read in one snapshot.
const driftQuery = `
select coalesce(n.queue, h.queue), coalesce(n.jobs, 0)::bigint, coalesce(h.jobs, 0)::bigint
from (select queue, sum(live_terminal_count) as jobs from awa.queue_terminal_live_counts group by queue) as n
full join (select queue, count(*) as jobs from awa.done_entries group by queue) as h on h.queue = n.queue
where coalesce(n.jobs, 0) <> coalesce(h.jobs, 0)`

// hunt is what the sessions of one run share.
type hunt struct {
	t       *testing.T
	queues  int
	recent  int64 // how many ids back the jobs are that calls are about
	expires time.Time
	enough  int64 // samples; the hunt goes on until they are taken
	samples atomic.Int64
	lastID  atomic.Int64

	mu     sync.Mutex // guards what follows
	ended  map[int64]string
	calls  map[string]int
	errors map[string]int
}

// on reports whether the hunt goes on.
func (h *hunt) on() bool {
	return !h.t.Failed() && (time.Now().Before(h.expires) || h.samples.Load() < h.enough)
}

// end records that a committed call ended a job for good.
func (h *hunt) end(id int64, how string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if how == "completed" && h.ended[id] == "completed" {
		h.t.Errorf("job %d completed twice", id)
	}
	h.ended[id] = how
}

// endings are the jobs that ended so far.
func (h *hunt) endings() map[int64]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.ended)
}

// tolerated are the errors that calls promise; who changes jobs of several
// lanes at once may be asked to do so again.
var tolerated = map[string][]string{
	"retry":          {"AW004"},
	"retry_from_dlq": {"AW004"},
	"enqueue_many":   {"AW002", "AW003"},
	"callback":       {"AW002", "AW004", "40001"},
	"park":           {"AW004", "40001"},
	"update":         {"AW003", "AW004", "40001"},
	"update many":    {"AW003", "AW004", "40001"},
	"delete":         {"40001"},
	"undone":         {"AW004", "40001"},
	"rebuild":        {"55P03"},
}

// note books the outcome of one call; an error that the call does not promise
// fails the test.
func (h *hunt) note(surface string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls[surface]++
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	var pgErr *pgconn.PgError
	code := "?"
	if errors.As(err, &pgErr) {
		code = pgErr.Code
	}
	if slices.Contains(tolerated[surface], code) {
		return
	}
	key := surface + " " + code
	h.errors[key]++
	if h.errors[key] == 1 {
		h.t.Errorf("%s: %v", surface, err)
		if pgErr != nil {
			h.t.Logf("%s\n%s", pgErr.Detail, pgErr.Where)
		}
		if code == "40P01" {
			h.t.Log(pgtest.Deadlock())
		}
	}
}

// session is one connection and the receipts it still holds.
type session struct {
	*hunt
	name   string // as a worker
	conn   *pgx.Conn
	rnd    *rand.Rand
	pocket []held
}

type held struct {
	id      int64
	receipt string
}

func (s *session) queue() string { return fmt.Sprintf("hunt/%d", s.rnd.IntN(s.queues)) }

// id is a recent job's, most likely.
func (s *session) id() int64 {
	last := s.lastID.Load()
	return max(1, last-s.rnd.Int64N(s.recent))
}

func (s *session) exec(surface, sql string, args ...any) {
	_, err := s.conn.Exec(s.t.Context(), sql, args...)
	s.note(surface, err)
}

// undone runs a call in a transaction that rolls back.
func (s *session) undone(surface, sql string, args ...any) {
	tx, err := s.conn.Begin(s.t.Context())
	if err == nil {
		_, err = tx.Exec(s.t.Context(), sql, args...)
		err = errors.Join(err, tx.Rollback(s.t.Context()))
	}
	s.note(surface, err)
}

func (s *session) yes(surface, sql string, args ...any) bool {
	var ok *bool
	err := s.conn.QueryRow(s.t.Context(), sql, args...).Scan(&ok)
	s.note(surface, err)
	return err == nil && ok != nil && *ok
}

func (s *session) enqueue() {
	var key []byte
	states := "11111000"
	if s.rnd.IntN(5) == 0 {
		key = []byte{byte(s.rnd.IntN(40))}
		states = []string{"11111000", "11101000", "11111100"}[s.rnd.IntN(3)]
	}
	for range 1 + s.rnd.IntN(4) {
		var id int64
		err := s.conn.QueryRow(s.t.Context(), `select awa.enqueue('kind' || $1::integer % 3, jsonb_build_object('n', $1::integer),
			queue => $2, priority => $3, max_attempts => 1 + $1::integer % 3,
			run_at => case when $1::integer % 7 = 0 then clock_timestamp() + interval '20 ms' end,
			unique_key => $4, unique_states => $5::text::bit(8))`,
			s.rnd.IntN(1000), s.queue(), 1+s.rnd.IntN(huntPriorities), key, states).Scan(&id)
		s.note("enqueue", err)
		if err == nil && id > s.lastID.Load() {
			s.lastID.Store(id)
		}
		key = nil
	}
}

func (s *session) claim() {
	started := s.endings()
	lease := []string{"20 ms", "1 s", "1 minute"}[s.rnd.IntN(3)]
	rows, err := s.conn.Query(s.t.Context(), `select c.job_id, c.receipt::text from awa.claim($1, $2, nullif($3, ''), $4::text::interval) as c`,
		s.queue(), 1+s.rnd.IntN(12), s.worker(), lease)
	var got []held
	if err == nil {
		got, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (h held, err error) {
			return h, row.Scan(&h.id, &h.receipt)
		})
	}
	s.note("claim", err)
	for _, g := range got {
		if how := started[g.id]; how != "" {
			s.t.Errorf("job %d was handed out after it was %s", g.id, how)
		}
	}
	s.pocket = append(s.pocket, got...)
}

// finish closes some of the receipts in the pocket, in any order.
func (s *session) finish() {
	s.rnd.Shuffle(len(s.pocket), func(i, j int) { s.pocket[i], s.pocket[j] = s.pocket[j], s.pocket[i] })
	n := s.rnd.IntN(len(s.pocket) + 1)
	mine := s.pocket[:n]
	s.pocket = slices.Clone(s.pocket[n:])
	if n == 0 {
		return
	}
	receipts := make([]string, n)
	for i, h := range mine {
		receipts[i] = h.receipt
	}
	switch s.rnd.IntN(7) {
	case 0:
		for _, h := range mine {
			if s.yes("complete", `select awa.complete($1::text::awa.receipt)`, h.receipt) {
				s.end(h.id, "completed")
			}
		}
	case 1:
		rows, err := s.conn.Query(s.t.Context(), `select s.job_id from awa.complete_many($1::text[]::awa.receipt[]) as s`, receipts)
		var stale []int64
		if err == nil {
			stale, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		}
		s.note("complete_many", err)
		for _, h := range mine {
			if err == nil && !slices.Contains(stale, h.id) {
				s.end(h.id, "completed")
			}
		}
	case 2:
		s.exec("fail", `select awa.fail_many($1::text[]::awa.receipt[], terminal => true)`, receipts)
	case 3:
		s.exec("fail", `select awa.fail_many($1::text[]::awa.receipt[], retry_after => '10 ms')`, receipts)
	case 4:
		for _, h := range mine {
			s.exec("fail", `select awa.fail($1::text::awa.receipt, 'e', terminal => $2)`, h.receipt, s.rnd.IntN(2) == 0)
		}
	case 5:
		for _, h := range mine {
			s.exec("snooze", `select awa.snooze($1::text::awa.receipt, '5 ms')`, h.receipt)
		}
	case 6:
		for _, h := range mine {
			s.exec("cancel_attempt", `select awa.cancel_attempt($1::text::awa.receipt, 'given up')`, h.receipt)
		}
	}
}

// worker is the name that a claim of the session gives: one that beats, one
// that never does, or none.
func (s *session) worker() string {
	return []string{s.name, "hunt/nobody", ""}[s.rnd.IntN(3)]
}

// goOn says something of the attempts in the pocket without closing them.
func (s *session) goOn() {
	receipts := make([]string, len(s.pocket))
	for i, h := range s.pocket {
		receipts[i] = h.receipt
		if s.rnd.IntN(3) == 0 {
			s.exec("set_progress", `select awa.set_progress($1::text::awa.receipt, $2, 'hunt', '{"a": 1}')`, h.receipt, s.rnd.IntN(101))
		}
	}
	if s.rnd.IntN(2) == 0 {
		s.exec("extend_lease", `select awa.extend_lease($1::text[]::awa.receipt[], '200 ms')`, receipts)
	}
	s.exec("heartbeat", `select * from awa.heartbeat($1)`, s.name)
}

// deletions are predicates on awa.jobs, of every shape.
var deletions = []string{
	`delete from awa.jobs where id = $1`,
	`delete from awa.jobs where id between $1 and $1 + 30`,
	`delete from awa.jobs where id between $1 and $1 + 200 and state = 'failed'`,
	`delete from awa.jobs where queue = $2 and state = 'completed' and id % 3 = 0`,
	`delete from awa.jobs where queue = $2 and priority = $1 % 4 + 1 and id % 4 = 0`,
	`delete from awa.jobs where id in (select id from awa.jobs where queue = $2 order by id desc limit 40) and state in ('available', 'scheduled')`,
	`delete from awa.jobs where kind = 'kind1' and state in ('failed', 'cancelled') and id % 5 = $1 % 5`,
}

// step is one random call.
func (s *session) step() {
	queue, id := s.queue(), s.id()
	switch n := s.rnd.IntN(100); {
	case n < 22:
		s.enqueue()
	case n < 39:
		s.claim()
		s.finish()
	case n < 43:
		s.finish()
	case n < 48:
		s.goOn()
	case n < 53:
		s.exec("retry", `select awa.retry($1)`, id)
	case n < 58:
		s.exec("move_failed_to_dlq", `select awa.move_failed_to_dlq($1, 'hunt')`, id)
	case n < 60:
		s.exec("bulk_move", `select awa.bulk_move_failed_to_dlq($1, max_jobs => $2)`, queue, 1+s.rnd.IntN(20))
	case n < 62:
		s.exec("bulk_move", `select awa.bulk_move_failed_to_dlq(kind => $1, max_jobs => 50)`, fmt.Sprintf("kind%d", s.rnd.IntN(3)))
	case n < 65:
		s.exec("retry_from_dlq", `select awa.retry_from_dlq($1, priority => $2)`, id, 1+s.rnd.IntN(huntPriorities))
	case n < 67:
		s.exec("bulk_retry", `select awa.bulk_retry_from_dlq($1, max_jobs => 10)`, queue)
	case n < 69:
		s.exec("discard", `select awa.discard_failed_by_kind($1, case when $2 <> '' then $2 end)`, fmt.Sprintf("kind%d", s.rnd.IntN(3)), queue)
	case n < 74:
		if s.yes("delete_job_compat", `select awa.delete_job_compat($1)`, id) {
			s.end(id, "deleted")
		}
	case n < 80:
		s.exec("delete", deletions[s.rnd.IntN(len(deletions))]+` and $2::text is not null and $1::bigint is not null`, id, queue)
	case n < 83:
		s.exec("cancel", `select awa.cancel($1)`, id)
	case n < 84:
		s.exec("cancel_by_unique_key", `select awa.cancel_by_unique_key($1)`, []byte{byte(s.rnd.IntN(40))})
	case n < 87:
		s.exec("update", `update awa.jobs set priority = priority % 4 + 1 where id = $1 and state = 'available'`, id)
	case n < 89:
		s.exec("update many", `update awa.jobs set priority = priority % 4 + 1 where id between $1 and $1 + 20 and state in ('available', 'scheduled')`, id)
	case n < 91:
		s.exec("purge", `select awa.purge_dlq($1, max_jobs => 10)`, queue)
	case n < 93:
		s.exec("checkpoint", `select awa.checkpoint_terminal_counters()`)
	case n < 94:
		s.exec("rebuild", `select * from awa.rebuild_terminal_counters()`)
	case n < 95:
		s.exec([]string{"rotate", "prune"}[id%2], `select case when $1 then awa.rotate() else awa.prune() end`, id%2 == 0)
	case n < 97:
		s.maintain()
	default:
		s.undone("undone", []string{
			`select awa.delete_job_compat($1) where $2::text is not null`,
			`select awa.bulk_move_failed_to_dlq($2) where $1::bigint is not null`,
			`delete from awa.jobs where queue = $2 and id >= $1`,
			`select awa.retry($1, queue => $2)`,
			`select awa.cancel($1) where $2::text is not null`,
		}[s.rnd.IntN(5)], id, queue)
	}
}

// maintain counts the attempts that a pass rescues as calls of their own. A pass that prunes
// does not rescue.
func (s *session) maintain() {
	var rescued int
	err := s.conn.QueryRow(s.t.Context(),
		`select coalesce(sum(m.affected), 0)::integer from awa.maintain() as m where m.task = 'rescue'`).Scan(&rescued)
	s.note("maintain", err)
	s.count("rescued", rescued)
}

func (h *hunt) count(what string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls[what] += n
}

// huntFor is how long the sessions run at least, and how often the invariant is
// sampled meanwhile. AWA_HUNT=60s is the long form: a thousand times, and with
// attempts that are lost.
func huntFor(t *testing.T) (time.Duration, int64) {
	text, ok := os.LookupEnv("AWA_HUNT")
	if !ok {
		return 8 * time.Second, 50
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("AWA_HUNT: %v", err)
	}
	return d, int64(d.Seconds() * 1000 / 60)
}

// sample holds the counters against history for as long as the hunt goes on.
func (h *hunt) sample(conn *pgx.Conn) {
	for h.on() {
		drift, err := read(h.t.Context(), conn, driftQuery)
		switch {
		case err != nil:
			h.t.Errorf("%s: %v", driftQuery, err)
		case len(drift) > 0:
			h.t.Errorf("counters differ from history (queue, counters, history): %s", strings.Join(drift, "; "))
		default:
			h.samples.Add(1)
		}
	}
}

func TestHunt(t *testing.T) {
	url := pgtest.URL(t)
	boss := pgtest.Conn(t, url)
	exec := execOn(t, boss)
	// Some queues dead-letter at once, some keep failures through a prune.
	for i := range huntQueues {
		exec(`select awa.configure_queue($1, jsonb_build_object('dlq_enabled', $2::boolean, 'failed_retention', $3::text, 'enqueue_shards', 1))`,
			fmt.Sprintf("hunt/%d", i), i%4 == 0, []string{"0", "1 hour"}[i%2])
	}
	exec(`update awa.storage_settings set history_retention = '0'`)

	length, enough := huntFor(t)
	exec(`update awa.storage_settings set worker_silence = '300 ms'`)
	h := &hunt{t: t, queues: huntQueues, recent: 1500, expires: time.Now().Add(length), enough: enough, ended: map[int64]string{}, calls: map[string]int{}, errors: map[string]int{}}
	h.lastID.Store(1)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var sessions sync.WaitGroup
	for i := range huntSessions {
		s := &session{hunt: h, name: fmt.Sprintf("hunt/%d", i), conn: pgtest.Conn(t, url), rnd: rand.New(rand.NewPCG(seed, uint64(i)))}
		sessions.Go(func() {
			for h.on() {
				s.step()
			}
		})
	}
	for range huntSamplers {
		watcher := pgtest.Conn(t, url)
		if _, err := watcher.Exec(t.Context(), `set jit = off`); err != nil {
			t.Fatal(err)
		}
		sessions.Go(func() { h.sample(watcher) })
	}
	sessions.Wait()
	t.Logf("%d samples; calls %v; errors %v", h.samples.Load(), h.calls, h.errors)

	sound(t, boss)
	if bad := lines(t, boss, `select * from awa.rebuild_terminal_counters()`); len(bad) > 0 {
		t.Errorf("a rebuild found drift: %s", strings.Join(bad, "\n"))
	}
	if bad := lines(t, boss, countsQuery); len(bad) > 0 {
		t.Errorf("queue_counts differs from jobs: %s", strings.Join(bad, "\n"))
	}
	var ended []int64
	for id, how := range h.ended {
		if how == "deleted" {
			ended = append(ended, id)
		}
	}
	if back := lines(t, boss, `select id from awa.jobs where id = any ($1) union all select id from awa.dlq_entries where id = any ($1)`, ended); len(back) > 0 {
		t.Errorf("deleted jobs that are back: %s", strings.Join(back, ", "))
	}
}

// countsQuery lists the queues whose queue_counts differ from awa.jobs and the
// dead letters.
const countsQuery = `
select c.queue, c::text, j::text
from awa.queue_meta as m
cross join lateral awa.queue_counts(m.queue) as c
left join (
  select queue, count(*) filter (where state = 'available') as available, count(*) filter (where state = 'scheduled') as scheduled,
    count(*) filter (where state = 'retryable') as retryable, count(*) filter (where state = 'running') as running,
    count(*) filter (where state = 'completed') as completed, count(*) filter (where state = 'failed') as failed,
    count(*) filter (where state = 'cancelled') as cancelled
  from awa.jobs group by queue
) as j on j.queue = m.queue
where (c.available, c.scheduled, c.retryable, c.running, c.completed, c.failed, c.cancelled, c.terminal, c.dlq) is distinct from
  (coalesce(j.available, 0), coalesce(j.scheduled, 0), coalesce(j.retryable, 0), coalesce(j.running, 0), coalesce(j.completed, 0),
   coalesce(j.failed, 0), coalesce(j.cancelled, 0), coalesce(j.completed + j.failed + j.cancelled, 0),
   (select count(*) from awa.dlq_entries as q where q.queue = m.queue))`

// lines runs a query that must succeed and returns its rows as text.
func lines(t *testing.T, conn *pgx.Conn, sql string, args ...any) []string {
	t.Helper()
	got, err := read(t.Context(), conn, sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

func read(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]string, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		values, err := row.Values()
		return strings.Trim(fmt.Sprint(values...), "[]"), err
	})
}
