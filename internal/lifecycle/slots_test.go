package lifecycle_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/pgtest"
)

// slots is one session that works a queue whose limit changes, and what it knows of it.
type slots struct {
	t     *testing.T
	conn  *pgx.Conn
	other *pgx.Conn
	rnd   *rand.Rand
	keys  int
	limit *int
	// Open attempts. Those that were claimed while there was no limit hold no slot.
	open []slotted
	// What another session does to parked jobs meanwhile, until it ends.
	holder pgx.Tx
	held   []int64
	never  []int64 // put off until infinity
}

type slotted struct {
	held
	key   string // "" without one
	holds bool
}

func (s *slots) exec(sql string, args ...any) {
	s.t.Helper()
	if _, err := s.conn.Exec(s.t.Context(), sql, args...); err != nil {
		s.t.Fatalf("%s %v: %v", sql, args, err)
	}
}

// running counts the attempts that hold slots.
func (s *slots) running() map[string]int {
	n := map[string]int{}
	for _, a := range s.open {
		if a.holds && a.key != "" {
			n[a.key]++
		}
	}
	return n
}

// claimable lists the keys of jobs that wait and may run; a job without one always may.
func (s *slots) claimable() []string {
	rows, err := s.conn.Query(s.t.Context(), `
select distinct coalesce(awa._concurrency_key(j.metadata), '') from awa.jobs as j
where j.queue = 'slots' and j.id <> all ($1) and j.id <> all ($2) and (j.state = 'available' or j.state = 'scheduled' and j.run_at = 'infinity'
  and not exists (select from awa.job_dependencies as d where d.job_id = j.id))`, s.held, s.never)
	if err != nil {
		s.t.Fatal(err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		s.t.Fatal(err)
	}
	running := s.running()
	return slices.DeleteFunc(keys, func(key string) bool { return key != "" && s.limit != nil && running[key] >= *s.limit })
}

// claim demands a job where there is one that may run, and no more of a key than may.
func (s *slots) claim() {
	ctx := s.t.Context()
	most := []int{1, 1, 1, 2, 3, 10, 30, 60}[s.rnd.IntN(8)]
	level := []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable}[s.rnd.IntN(4)]
	undone := s.rnd.IntN(6) == 0
	tx, err := s.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: level})
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if s.rnd.IntN(6) == 0 {
		if _, err := tx.Exec(ctx, `select awa.enqueue('own', queue => 'slots', concurrency_key => nullif($1, ''))`, s.key()); err != nil {
			s.t.Fatal(err)
		}
	}
	rows, err := tx.Query(ctx, `select c.job_id, c.receipt::text, coalesce(awa._concurrency_key(c.metadata), '') from awa.claim('slots', $1, lease => '1 hour') as c`, most)
	if err != nil {
		s.t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a slotted, err error) {
		a.holds = s.limit != nil
		return a, row.Scan(&a.id, &a.receipt, &a.key)
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if len(got) == 0 {
		if may := s.claimable(); len(may) > 0 {
			s.t.Errorf("a claim of %d found nothing, although jobs of %q may run; %d attempts are open", most, may, len(s.open))
		}
	}
	running := s.running()
	for _, a := range got {
		running[a.key]++
		if a.key != "" && s.limit != nil && running[a.key] > *s.limit {
			s.t.Errorf("%d jobs of key %q run, beyond the limit of %d", running[a.key], a.key, *s.limit)
		}
		if slices.Contains(s.never, a.id) {
			s.t.Errorf("job %d, which was put off until infinity, was handed out", a.id)
		}
	}
	if undone {
		return
	}
	if err := tx.Commit(ctx); err != nil {
		s.t.Fatal(err)
	}
	s.open = append(s.open, got...)
}

func (s *slots) key() string {
	if s.rnd.IntN(12) == 0 {
		return ""
	}
	return fmt.Sprint("key ", s.rnd.IntN(s.keys))
}

// some takes a few open attempts out, and returns their receipts.
func (s *slots) some(most int) (receipts []string) {
	s.rnd.Shuffle(len(s.open), func(i, j int) { s.open[i], s.open[j] = s.open[j], s.open[i] })
	n := min(s.rnd.IntN(most+1), len(s.open))
	for _, a := range s.open[:n] {
		receipts = append(receipts, a.receipt)
	}
	s.open = s.open[n:]
	return receipts
}

// hold has the other session change the first parked jobs of keys, and keep them in hand.
func (s *slots) hold() {
	ctx := s.t.Context()
	tx, err := s.other.Begin(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	rows, err := tx.Query(ctx, `
with job as materialized (
  select distinct on (p.key) p.job_id from awa.parked_jobs as p
  where p.queue = 'slots' and hashtext(p.key) % 4 <> $1
    and p.job_id <> all ($2) -- they may still be on the list
    and exists (select from awa.deferred_jobs as d where d.job_id = p.job_id and d.unique_key is null)
  order by p.key, p.job_id
)
select j.job_id from job as j cross join lateral `+[]string{`awa.cancel(j.job_id) as c (done)`,
		`(select true) as c (done) where exists (select from awa.deferred_jobs as d where d.job_id = j.job_id for update)`}[s.rnd.IntN(2)], s.rnd.IntN(8)-4, s.never)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.held, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
		s.t.Fatal(err)
	}
	s.holder = tx
}

// putOff has some jobs wait until infinity, or some of those go on.
func (s *slots) putOff() {
	call := `update awa.jobs set run_at = 'infinity' where queue = 'slots' and unique_key is null and id % 3 = $1 and id <> all ($2)
		and (state = 'available' or state = 'scheduled' and run_at < 'infinity') returning id`
	back := s.rnd.IntN(2) == 0
	if back {
		call = `update awa.jobs set run_at = now() where id % 3 = $1 and id = any ($2) returning id`
	}
	rows, err := s.conn.Query(s.t.Context(), call, s.rnd.IntN(3), s.never)
	if err != nil {
		s.t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		s.t.Fatal(err)
	}
	if back {
		s.never = slices.DeleteFunc(s.never, func(id int64) bool { return slices.Contains(ids, id) })
	} else {
		s.never = append(s.never, ids...)
	}
}

func (s *slots) release() {
	end := s.holder.Commit
	if s.rnd.IntN(2) == 0 {
		end = s.holder.Rollback
	}
	if err := end(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.holder, s.held = nil, []int64{}
}

func (s *slots) step(calm bool) {
	few := 6
	if calm {
		few = 60
	}
	if s.holder == nil && s.rnd.IntN(12) == 0 {
		s.hold()
	}
	n := s.rnd.IntN(100)
	if s.holder != nil && n > 79 {
		s.release() // for which the other calls might wait
	}
	switch {
	case n < 22:
		var after []int64
		if len(s.open) > 0 {
			after = []int64{s.open[0].id}
		}
		s.exec(`select awa.enqueue_many(jsonb_agg(jsonb_build_object('kind', 'k', 'queue', 'slots', 'priority', 1 + i % 3,
			'concurrency_key', case when i % 11 > 0 then 'key ' || (hashint8($1 + i) & 1023) % $3 end, 'max_attempts', 100,
			'unique_key', case when i % 7 = 0 then '\x' || to_hex(16 + i % 4) end, 'unique_states', '01000000',
			'ordering_key', case when i % 4 = 0 then (i % 12)::text end,
			'after', case when i % 9 = 0 then $4::jsonb end)))
			from generate_series(1, $2::integer) as i`, s.rnd.Int64N(1e9), 1+s.rnd.IntN(25), s.keys, after)
	case n < 62:
		s.claim()
	case n < 68:
		s.exec(`select awa.complete_many($1::text[]::awa.receipt[])`, s.some(few))
	case n < 71:
		s.exec(`select awa.fail_many($1::text[]::awa.receipt[], retry_after => '0')`, s.some(few))
	case n < 73:
		s.exec(`select awa.snooze_many($1::text[]::awa.receipt[], '0')`, s.some(few))
	case n < 75:
		s.exec(`select awa.register_callback(u::awa.receipt, '1 hour') from unnest((array[$1::text[]])) as u`, func() (waiting []string) {
			for i := range min(3, len(s.open)) {
				waiting = append(waiting, s.open[i].receipt)
			}
			return waiting
		}())
	case n < 78:
		// Some of those that wait for an answer go on.
		s.exec(`select awa.resume_callback(l.callback_id) from awa.leases as l where l.callback_id is not null and l.job_id % 2 = 0`)
	case n < 80:
		i := len(s.open)
		if i == 0 {
			return
		}
		a := s.open[s.rnd.IntN(i)]
		s.open = slices.DeleteFunc(s.open, func(o slotted) bool { return o.id == a.id })
		s.exec([]string{`select awa.cancel($1)`, `select awa.delete_job_compat($1)`}[s.rnd.IntN(2)], a.id)
	case n < 81:
		s.putOff()
	case n < 82:
		s.exec(`delete from awa.jobs where queue = 'slots' and state in ('scheduled', 'available') and id % 7 = $1`, s.rnd.IntN(7))
	case n < 84:
		s.exec(`update awa.jobs set priority = 1 + id % 4 where queue = 'slots' and state in ('scheduled', 'available') and unique_key is null and id % 5 = $1`, s.rnd.IntN(5))
	case n < 85:
		s.exec(`update awa.jobs set queue = 'elsewhere' where queue = 'slots' and state in ('scheduled', 'available') and unique_key is null and id % 9 = $1`, s.rnd.IntN(9))
	case n < 86:
		s.exec(`update awa.jobs set queue = 'slots' where queue = 'elsewhere' and state in ('scheduled', 'available')`)
	case n < 87:
		s.limit = nil
		if s.rnd.IntN(3) > 0 {
			s.limit = new(1 + s.rnd.IntN(3))
		}
		s.exec(`select awa.configure_queue('slots', jsonb_build_object('concurrency_limit', $1::integer))`, s.limit)
	case n < 88:
		s.exec(`select awa.configure_queue('slots', $1::text::jsonb)`, []string{
			`{"enqueue_shards": 1}`, `{"enqueue_shards": 3}`, `{"priority_aging_interval": "1 ms"}`, `{"priority_aging_interval": null}`,
			`{"rate_limit": 1000000}`, `{"rate_limit": null}`}[s.rnd.IntN(6)])
	case n < 91:
		s.exec(`select awa.rotate()`)
	case n < 94:
		s.exec(`select awa.prune()`)
	default:
		s.exec(`select awa.maintain()`)
	}
}

// unlistedQuery lists parked jobs that no claim would find again.
const unlistedQuery = `
select d.job_id from awa.deferred_jobs as d
join (select distinct lane, queue from awa.queue_lanes) as l on l.lane = d.lane
where d.run_at = 'infinity' and d.metadata ? 'awa:run_at'
  and not exists (select from awa.job_dependencies as k where k.job_id = d.job_id)
  and not exists (
    select from awa.parked_jobs as p join awa.queue_meta as m on m.queue = p.queue and m.parked_round = p.round
    where p.queue = l.queue and p.key = awa._concurrency_key(d.metadata) and p.job_id = d.job_id)`

// TestSlots has one session work a queue whose limit of concurrency is changed, removed and set
// again, while many attempts stay open for many claims: a claim finds a job whenever one may run
// that no other session has in hand, and never one of a key that has no slot. AWA_SLOTS says for how long, 3 s by default.
func TestSlots(t *testing.T) {
	length := pgtest.Length(t, "AWA_SLOTS", 3*time.Second)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	url := pgtest.URL(t)
	conn, other := pgtest.Conn(t, url), pgtest.Conn(t, url)
	execOn(t, other)(`set jit = off`)
	execOn(t, conn)(`set lock_timeout = '1min'`)
	execOn(t, conn)(`set jit = off; set synchronous_commit = off; update awa.storage_settings set segment_max_age = '200 ms', history_retention = '0', straggler_limit = 1000`)
	steps, most := 0, 0
	for began := time.Now(); time.Since(began) < length && !t.Failed(); {
		s := &slots{t: t, conn: conn, other: other, held: []int64{}, never: []int64{}, rnd: rnd, keys: []int{3, 30, 90}[rnd.IntN(3)], limit: new(1 + rnd.IntN(3))}
		s.exec(`select awa.reset()`)
		s.exec(`select awa.configure_queue('slots', jsonb_build_object('concurrency_limit', $1::integer, 'failed_retention', '0'))`, s.limit)
		for n := 0; n < 500 && time.Since(began) < length && !t.Failed(); n++ {
			s.step(n%200 > 150)
			steps++
			most = max(most, len(s.open))
		}
		if s.holder != nil {
			s.release()
		}
		for what, sql := range map[string]string{"check": `select c::text from awa.check() as c`, "counts": countsQuery, "drift": driftQuery, "parked jobs on no list": unlistedQuery} {
			if bad := lines(t, conn, sql); len(bad) > 0 {
				t.Errorf("%s: %s", what, strings.Join(bad, "\n"))
			}
		}
	}
	t.Logf("%d steps, up to %d attempts open", steps, most)
}
