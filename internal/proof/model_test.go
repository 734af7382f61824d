package proof

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

// TestModel holds random calls of several sessions, in transactions that
// overlap, against a model of what each job must be. -rapid.checks and
// -rapid.steps make it longer, -rapid.seed repeats a run.
func TestModel(t *testing.T) {
	shorten(t, map[string]string{"rapid.checks": "4", "rapid.steps": "60", "rapid.nofailfile": "true"})
	url := pgtest.URL(t)
	w := &world{observer: pgtest.Conn(t, url)}
	for n := range 3 {
		conn := pgtest.Conn(t, url)
		// A lock that another transaction has in hand is not to be had: there
		// is one goroutine, so nobody would let go of it meanwhile.
		exec(t, conn, `set lock_timeout = '10 ms'; set jit = off`)
		w.sessions = append(w.sessions, &session{name: n, conn: conn})
	}
	exec(t, w.observer, `set lock_timeout = '10 ms'`)
	exec(t, w.observer, `set jit = off`) // compiling its queries takes longer than they do
	exec(t, w.observer, `alter function awa._rescue_attempts set lock_timeout = '10 ms'`)
	w.segments = value[int64](t, w.observer, `select count(*) from awa.storage_status()`)
	w.answers = map[string]int{}
	w.prepares = value[string](t, w.observer, `show max_prepared_transactions`) != "0"
	t.Cleanup(func() { // or the database cannot be dropped
		for _, s := range w.sessions {
			if s.prepared != "" {
				exec(t, s.conn, `rollback prepared '`+s.prepared+`'`)
			}
		}
	})
	rapid.Check(t, func(r *rapid.T) {
		w.restart(r)
		w.populate(r)
		repeat(r, w.act, w.look)
	})
	t.Log(w.answers)
}

// world is the storage, those who use it, and what it must look like.
type world struct {
	observer  *pgx.Conn
	sessions  []*session
	segments  int64
	prepares  bool  // the server has room for prepared transactions
	now       int64 // the moment of the last call
	committed facts
	changed   map[int64]int // job: the commit that changed it last
	commits   int
	storage   int              // the commit that rotated or pruned last
	receipts  []awa.Receipt    // ever handed out, also by claims that were rolled back
	callbacks []awa.CallbackID // likewise
	late      map[attemptKey]int64
	answers   map[string]int // by call and what came of it
	looks     int
}

// session is a connection and, while a transaction is open, what it did.
type session struct {
	name         int
	conn         *pgx.Conn
	open         bool
	broken       bool   // an error aborted the transaction
	prepared     string // its name for COMMIT PREPARED
	cursors      int
	repeatable   bool
	serializable bool   // which fails for what others read and wrote, at any call
	base         *facts // the snapshot of a REPEATABLE READ transaction
	since        int    // the commit that base shows last
	did          changes
	savepoints   []changes
	ring         bool            // may have the ring or the promotion in hand
	queues       map[string]bool // whose lanes it may have in hand
}

// ended reports whether an error ended the transaction before its rollback.
func (s *session) ended() bool { return s.broken && len(s.savepoints) == 0 }

// fall is an error outside of any guard: what came after the newest savepoint
// is undone, and without one everything.
func (s *session) fall() {
	s.broken, s.did = true, newChanges()
	if n := len(s.savepoints); n > 0 {
		s.did = s.savepoints[n-1].clone()
	}
}

func (s *session) end() {
	*s = session{name: s.name, conn: s.conn, did: newChanges(), queues: map[string]bool{}}
}

// restart empties the storage.
func (w *world) restart(r *rapid.T) {
	for _, s := range w.sessions {
		must(r, s.conn, `rollback`)
		if s.prepared != "" {
			must(r, s.conn, `rollback prepared '`+s.prepared+`'`)
		}
		s.end()
	}
	must(r, w.observer, `select awa.reset()`)
	for _, q := range modelQueues {
		must(r, w.observer, `select awa.configure_queue($1, $2), awa.resume_queue($1)`, q.name, q.settings)
	}
	w.committed, w.changed, w.receipts, w.callbacks = newFacts(), map[int64]int{}, nil, nil
	w.commits, w.storage, w.looks, w.late = 0, 0, 0, map[attemptKey]int64{}
	w.now = time.Now().Add(time.Hour).UnixMicro()
}

// others are the sessions beside s that may have locks in hand.
func (w *world) others(s *session) []*session {
	return slices.DeleteFunc(slices.Clone(w.sessions), func(o *session) bool { return o == s || !o.open || o.ended() })
}

// held reports whether another transaction changed a job and is still open.
func (w *world) held(s *session, id int64) bool {
	return slices.ContainsFunc(w.others(s), func(o *session) bool {
		_, changed := o.did.jobs[id]
		return changed
	})
}

// view is what the next statement of s sees.
func (w *world) view(s *session) *step {
	base := w.committed
	if s.base != nil {
		base = *s.base
	}
	v := &step{facts: base.with(s.did), did: s.did.clone(), left: map[string]int64{}, now: w.now}
	gone := in(modelGone, modelPruned)
	for key, id := range base.keys {
		if _, took := s.did.keys[key]; s.base != nil && !took && gone(w.committed.jobs[id]) && !gone(base.jobs[id]) {
			delete(v.keys, key)
			v.left[key] = id
		}
	}
	return v
}

// lags reports whether the ring moved on since the snapshot of s.
func (w *world) lags(s *session) bool { return s.base != nil && w.storage > s.since }

// call makes one statement of s and holds its answer against the model:
//
//   - 55P03 and 40001 mean that nothing happened, and come only where another
//     transaction is in the way.
//   - Otherwise verify demands the answer that the view calls for, and makes
//     the same changes there. What it changes, nobody else may have changed.
func (w *world) call(r *rapid.T, s *session, name string, run func(context.Context, *pgx.Conn) error, verify func(*step, error) error) {
	if s.broken || s.prepared != "" {
		idle(r, "the transaction is aborted, or prepared")
	}
	guarded := s.open && rapid.Bool().Draw(r, "guarded")
	w.now += 1000
	must(r, s.conn, fmt.Sprintf(`set awa.now = '%s'`, when(w.now).Format(time.RFC3339Nano)))
	if s.open && s.repeatable && s.base == nil {
		snapshot := w.committed.clone()
		s.base, s.since = &snapshot, w.commits
		must(r, s.conn, `select 1`)
	}
	if guarded {
		must(r, s.conn, `savepoint guard`)
	}
	err := run(context.Background(), s.conn)
	r.Logf("session %d: %s: %v", s.name, name, err)
	v := w.view(s)
	code := sqlState(err)
	nothing := code == "55P03" || code == "40001"
	switch {
	case nothing && len(w.others(s)) == 0 && s.base == nil:
		r.Fatalf("session %d: %s: nobody is in the way: %v, locks: %s", s.name, name, err, w.locks())
	case nothing:
	default:
		fault := verify(v, err)
		if s.serializable && sqlState(fault) == "40001" {
			err, code, nothing = fault, "40001", true
			break
		}
		if fault != nil {
			r.Fatalf("session %d: %s: %v", s.name, name, fault)
		}
	}
	w.answers[fmt.Sprintf("%s %s", name, cmp.Or(code, fmt.Sprint(len(v.did.jobs) > len(s.did.jobs))))]++
	switch {
	case err == nil:
		w.accept(r, s, name, v)
		if guarded {
			must(r, s.conn, `release guard`)
		}
	case guarded:
		must(r, s.conn, `rollback to guard`)
		must(r, s.conn, `release guard`)
	case s.open:
		s.fall()
	}
}

// locks tells who has what in hand.
func (w *world) locks() string {
	var locks string
	err := w.observer.QueryRow(context.Background(), `
select coalesce(string_agg(format('%s %s %s %s: %s', k.pid, a.state, k.locktype,
  coalesce(k.relation::regclass::text, k.objid::text), k.mode), e'\n'), 'none')
from pg_locks as k join pg_stat_activity as a on a.pid = k.pid
where k.pid <> pg_backend_pid() and a.datname = current_database()`).Scan(&locks)
	if err != nil {
		return err.Error()
	}
	return locks
}

// accept takes a step's changes over, which nobody else may be making.
func (w *world) accept(r *rapid.T, s *session, name string, v *step) {
	for id, j := range v.did.jobs {
		if before, did := s.did.jobs[id]; did && before == j {
			continue
		}
		if w.held(s, id) {
			r.Fatalf("session %d: %s changed job %d, which another open transaction changed", s.name, name, id)
		}
		if s.base != nil && w.changed[id] > s.since {
			r.Fatalf("session %d: %s changed job %d, which somebody changed since the snapshot", s.name, name, id)
		}
	}
	s.did = v.did
	if !s.open {
		w.commit(s)
	}
}

// commit makes what s did true for all.
func (w *world) commit(s *session) {
	w.commits++
	for id, j := range s.did.jobs {
		j.own = false
		s.did.jobs[id] = j
		w.changed[id] = w.commits
	}
	if s.did.current+s.did.oldest > 0 {
		w.storage = w.commits
	}
	w.committed = w.committed.with(s.did)
	s.end()
}

// look demands that all that is committed looks as the model says.
func (w *world) look(r *rapid.T) {
	w.looks++
	// Only a prune that is not committed yet hides the storage from readers.
	err := w.compare(w.observer, w.committed)
	if sqlState(err) == "55P03" && slices.ContainsFunc(w.sessions, func(s *session) bool { return s.did.oldest > 0 }) {
		return
	}
	if err != nil {
		r.Fatal(err)
	}
	if w.looks%4 != 0 {
		return
	}
	violations, err := queue.Check(context.Background(), w.observer)
	if err != nil || len(violations) > 0 {
		r.Fatalf("check: %v, %v", describe(violations), err)
	}
}

// look is what everybody may see of a job.
type look struct {
	id                                               int64
	kind, queue                                      string
	state                                            awa.JobState
	priority, attempt, maxAttempts, errors, progress int
	claimed, ended                                   int64
}

func (f facts) look(id int64) look {
	j := f.jobs[id]
	l := look{j.id, j.kind, j.queue, j.state, j.priority, j.shown(), j.maxAttempts, j.errors, f.progressOf(j), 0, j.ended}
	if !j.waits() {
		l.claimed = j.claimed
	}
	if j.state == awa.StateCompleted || j.state == modelDead {
		l.progress = 0
	}
	return l
}

// unlisted is where a list of the jobs that wait differs from the view. If $1, so does one of
// those in any state, and the number that a batch operation would meet.
const unlisted = `
with jobs as materialized (select j.id, j.state, j.priority from awa.jobs as j)
select format('%s jobs are listed as %s, %s are: %s', cardinality(l.ids), s.state, cardinality(j.ids), l.ids)
from unnest(case when $1 then enum_range(null::awa.job_state) else '{available}' end) as s (state)
cross join lateral (select array(select id from awa.list_jobs(state => s.state, max_jobs => 10000)) as ids) as l
cross join lateral (select array(select n.id from jobs as n where n.state = s.state order by n.id desc) as ids) as j
where l.ids <> j.ids
union all
select format('%s would meet %s jobs, not %s', b.operation, m.jobs, j.jobs)
from (values
  ('cancel', '{}', '{available,scheduled,retryable,running,waiting_external}'::awa.job_state[]),
  ('reprioritize', '{"priority": 4}', '{available,scheduled,retryable}')
) as b (operation, settings, states)
cross join lateral (
  select case when $1 then awa.count_batch_jobs(b.operation, settings => b.settings::jsonb) end as jobs) as m
cross join lateral (
  select count(*) as jobs from jobs as n where n.state = any (b.states) and (b.operation = 'cancel' or n.priority <> 4)) as j
where m.jobs <> j.jobs
union all
select format('list_jobs tells %s, jobs %s', l.job, j.job)
from (select n.id, to_jsonb(n) as job from awa.list_jobs(max_jobs => 10000) as n where $1) as l
full join (select n.id, to_jsonb(n) as job from awa.jobs as n where $1) as j on j.id = l.id
where l.job is distinct from j.job
union all
select format('get_job tells %s, list_jobs %s', to_jsonb(g), to_jsonb(l))
from awa.list_jobs(max_jobs => 10) as l
left join lateral awa.get_job(l.id) as g on true
where $1 and to_jsonb(g) is distinct from to_jsonb(l)`

// compare reads all jobs and all counts and holds them against f.
func (w *world) compare(conn *pgx.Conn, f facts) error {
	ctx := context.Background()
	rows, _ := conn.Query(ctx, `
select j.id, j.kind, j.queue, j.priority, j.state::text, j.attempt, j.max_attempts, cardinality(j.errors),
  coalesce((j.progress ->> 'percent')::integer, 0), case when isfinite(j.run_at) then j.run_at else 'epoch' end,
  coalesce(j.attempted_at, 'epoch'), coalesce(j.finalized_at, 'epoch')
from awa.jobs as j
union all
select e.id, e.kind, e.queue, e.priority, 'dead letter', e.attempt, e.max_attempts, cardinality(e.errors), 0, e.run_at,
  coalesce(e.attempted_at, 'epoch'), coalesce(e.finalized_at, 'epoch')
from awa.dlq_entries as e`)
	seen := map[int64]bool{}
	var got look
	var runAt, claimed, ended time.Time
	var faults []error
	_, err := pgx.ForEachRow(rows, []any{&got.id, &got.kind, &got.queue, &got.priority, &got.state, &got.attempt,
		&got.maxAttempts, &got.errors, &got.progress, &runAt, &claimed, &ended}, func() error {
		got.claimed, got.ended = claimed.UnixMicro(), ended.UnixMicro()
		if seen[got.id] {
			faults = append(faults, fmt.Errorf("job %d is there twice", got.id))
		}
		seen[got.id] = true
		if want := f.look(got.id); got != want {
			faults = append(faults, fmt.Errorf("job %d is %+v, want %+v", got.id, got, want))
		}
		j := f.jobs[got.id]
		if endless := runAt.UnixMicro() == 0; endless != j.endless() || !endless && j.runAt != 0 && j.runAt != runAt.UnixMicro() {
			faults = append(faults, fmt.Errorf("job %d is for %s, want %s of %+v", got.id, runAt, when(j.runAt), j))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id, j := range f.jobs {
		if !seen[id] && j.state != modelGone && j.state != modelPruned {
			faults = append(faults, fmt.Errorf("job %d is lost, want %+v", id, j))
		}
	}
	for _, q := range modelQueues {
		n, err := queue.Counts(ctx, conn, q.name)
		if err != nil {
			return err
		}
		want := awa.QueueCounts{
			Queue:           q.name,
			Available:       f.in(q.name, awa.StateAvailable),
			Scheduled:       f.in(q.name, awa.StateScheduled),
			Retryable:       f.in(q.name, awa.StateRetryable),
			Running:         f.in(q.name, awa.StateRunning),
			WaitingExternal: f.in(q.name, awa.StateWaitingExternal),
			Completed:       f.in(q.name, awa.StateCompleted),
			Failed:          f.in(q.name, awa.StateFailed),
			Cancelled:       f.in(q.name, awa.StateCancelled),
			DLQ:             f.in(q.name, modelDead),
			PrunedTerminal:  f.pruned[q.name],
		}
		want.Terminal = want.Completed + want.Failed + want.Cancelled
		for key, n := range f.running(q.name) {
			if q.limit > 0 && n > q.limit {
				faults = append(faults, fmt.Errorf("%d jobs of key %s run in %s", n, key, q.name))
			}
		}
		if n != want {
			faults = append(faults, fmt.Errorf("counts are %+v, want %+v", n, want))
		}
	}
	rows, _ = conn.Query(ctx, drift+" union all ("+unlisted+")", w.looks%4 == 0)
	drifted, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, d := range drifted {
		faults = append(faults, errors.New(d))
	}
	return errors.Join(append(faults, err)...)
}
