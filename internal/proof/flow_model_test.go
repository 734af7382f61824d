package proof

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/internal/pgtest"
)

// TestFlowModel holds random calls of what jobs wait for (callbacks, other jobs,
// slots, tokens), and of what follows them, against a model of what each job must
// be. One session makes them, each in one of the ways in which a client may, or several in a
// transaction; TestModel overlaps transactions, with callbacks but without the others.
// -rapid.checks and -rapid.steps make it longer, -rapid.seed repeats a run.
func TestFlowModel(t *testing.T) {
	shorten(t, map[string]string{"rapid.checks": "3", "rapid.steps": "70", "rapid.nofailfile": "true"})
	url := shortRing(t)
	w := &flowWorld{conn: pgtest.Conn(t, url), other: pgtest.Conn(t, url), answers: map[string]int{}}
	exec(t, w.conn, `set jit = off`)
	exec(t, w.conn, flowTables)
	w.calls = &flowConn{Conn: w.conn, ways: map[string]int{}}
	w.calls.prepares = value[string](t, w.conn, `show max_prepared_transactions`) != "0"
	rapid.Check(t, func(r *rapid.T) {
		w.restart(r)
		repeat(r, w.act, w.look)
	})
	t.Log(w.answers, w.calls.ways)
}

// flowQueue is a queue as the test configures it.
type flowQueue struct {
	name     string
	settings string
	limit    int     // of concurrency per key; 0 for none
	rate     float64 // tokens per second; 0 for no limit
	burst    float64
	depth    int  // the most that may wait; 0 for no limit
	dlq      bool // failed jobs become dead letters at once
	warns    bool // that more wait, and takes them
	paused   bool
}

var flowQueues = []flowQueue{
	{name: "free", settings: `{"failed_retention": "1 year"}`},
	{name: "letters", settings: `{"failed_retention": "1 year", "dlq_enabled": true}`, dlq: true},
	{name: "single", settings: `{"failed_retention": "1 year", "concurrency_limit": 1}`, limit: 1},
	{name: "double", settings: `{"failed_retention": "1 year", "concurrency_limit": 2}`, limit: 2},
	{name: "slow", settings: `{"failed_retention": "1 year", "rate_limit": 0.1, "rate_burst": 3}`, rate: 0.1, burst: 3},
	{name: "short", settings: `{"failed_retention": "1 year", "max_depth": 6}`, depth: 6},
}

func (w *flowWorld) anyQueue(r *rapid.T) string { return rapid.SampledFrom(w.busy).Draw(r, "queue") }

// flowJob is all that the model knows of a job.
type flowJob struct {
	id       int64
	kind     string
	queue    string
	priority int
	key      string // of concurrency
	unique   string // key, of which there is one job in a state that counts
	mask     awa.StateMask
	aside    bool    // waits for a slot, out of its lane
	after    []int64 // what it still waits for
	done     bool    // it completed
	follows  bool    // names a job for each kind of end
	state    awa.JobState
	attempt  int  // of the current or next attempt
	ran      bool // the attempt was claimed
	max      int
	errors   int
	progress int   // percent that was reported last; 0 for none
	runAt    int64 // a moment; 0 when past
	receipt  awa.Receipt
	worker   string
	created  int64 // moments
	claimed  int64
	ended    int64
	story    string // of its errors: the attempt and the moment of each
	tags     []string
	number   int // in args and metadata, which nothing changes
	expires  int64
	lease    int64 // microseconds
	deadline int64 // microseconds of an attempt, or 0
	ends     int64 // a moment, by the deadline; 0 for none
	callback awa.CallbackID
	timeout  int64 // a moment
	called   bool  // the attempt registered a callback
	left     bool  // its worker parked it
}

// shown is the attempt that awa.jobs tells.
func (j *flowJob) shown() int {
	if j.ran {
		return j.attempt
	}
	return j.attempt - 1
}

// body is what the job is to do, as its producer said.
func (j *flowJob) body() string {
	return fmt.Sprintf(`{"n": %d} {%s} {"m": %d} %d`, j.number, strings.Join(j.tags, ","), j.number, j.max)
}

// open reports whether an attempt of the job is.
func (j *flowJob) open() bool {
	return j.state == awa.StateRunning || j.state == awa.StateWaitingExternal
}

func (j *flowJob) terminal() bool {
	return slices.Contains([]awa.JobState{awa.StateCompleted, awa.StateFailed, awa.StateCancelled, modelDead, modelGone, modelPruned}, j.state)
}

// waits reports whether the job is still to be claimed.
func (j *flowJob) waits() bool { return !j.open() && !j.terminal() }

// is matches jobs by their state.
func is(states ...awa.JobState) func(*flowJob) bool {
	return func(j *flowJob) bool { return slices.Contains(states, j.state) }
}

// flowWorld is the storage and what it must look like.
type flowWorld struct {
	conn      *pgx.Conn
	calls     *flowConn // the same, as clients use it
	other     *pgx.Conn // a session with transactions of its own, which are not of awa
	now       int64
	queues    map[string]*flowQueue
	busy      []string // the queues that are used
	actions   []func(*rapid.T)
	keys      map[string]*flowJob // the job that took a unique key last
	jobs      map[int64]*flowJob
	receipts  []awa.Receipt
	callbacks []awa.CallbackID
	due       map[int64]string // by job that ended: the kind that must follow it
	batches   []*flowBatch     // under way, in the order of their start
	schedules map[string]*flowSchedule
	fires     map[string]*flowSchedule // that must have their job
	tokens    float64
	spent     int64                      // when tokens was true
	beats     map[string]int64           // by worker: its last heartbeat
	notices   map[awa.Receipt]flowNotice // what a heartbeat must tell, by receipts without slots
	rebased   int64                      // a moment
	late      map[awa.Receipt]int64      // attempts of silent workers that a pass left for later
	pruned    bool                       // history may have left since the last look
	left      map[string]int64           // by queue: jobs that left with their segments
	answers   map[string]int
	looks     int
	numbers   int
}

func (w *flowWorld) restart(r *rapid.T) {
	must(r, w.other, `rollback`)
	must(r, w.conn, `rollback`)
	w.calls.together = false
	must(r, w.conn, `select awa.reset()`)
	// The time that a run takes is not to decide what maintain does.
	must(r, w.conn, `update awa.storage_settings set segment_max_age = '1 day', history_retention = $1`,
		rapid.SampledFrom([]time.Duration{0, 24 * time.Hour}).Draw(r, "retention"))
	w.configure(r)
	w.receipts, w.callbacks = nil, nil
	// What a run leaves out makes the rest meet more often.
	w.actions = some(r, w.allActions())
	w.busy = some(r, slices.Sorted(maps.Keys(w.queues)))
	w.schedules = map[string]*flowSchedule{}
	// The same all day, so that a seed repeats what the clock does to schedules.
	w.now = time.Now().Truncate(24 * time.Hour).Add(48 * time.Hour).UnixMicro()
	w.looks = 0
	w.forgetJobs()
}

// at moves the clock on by a little and tells the storage.
func (w *flowWorld) at(r *rapid.T) context.Context {
	w.calls.r = r
	w.now += 1000
	must(r, w.conn, fmt.Sprintf(`set awa.now = '%s'`, when(w.now).Format(time.RFC3339Nano)))
	return context.Background()
}

// demand holds an answer against what it must be.
func (w *flowWorld) demand(r *rapid.T, call string, got, want any, err error) {
	r.Helper()
	r.Logf("%s: %v, %v", call, got, err)
	if fault := answered(got, want, err); fault != nil {
		r.Fatalf("%s: %v", call, fault)
	}
	switch want.(type) {
	case int, int64, bool:
		call = fmt.Sprintf("%s %v", call, want)
	}
	w.answers[call]++
}

// refuse demands an error.
func (w *flowWorld) refuse(r *rapid.T, call string, got, want error) {
	r.Helper()
	if !errors.Is(got, want) {
		r.Fatalf("%s: got %v, want %v", call, got, want)
	}
	w.answers[fmt.Sprintf("%s: %v", call, want)]++
}

// sorted returns the jobs that match, lowest id first.
func (w *flowWorld) sorted(match func(*flowJob) bool) []*flowJob {
	var jobs []*flowJob
	for _, j := range w.jobs {
		if match(j) {
			jobs = append(jobs, j)
		}
	}
	slices.SortFunc(jobs, func(a, b *flowJob) int { return int(a.id - b.id) })
	return jobs
}

// look demands that every job is where the model says, that what follows a job is
// there, and that the counts are of what is there.
func (w *flowWorld) look(r *rapid.T) {
	ctx := context.Background()
	rows, _ := w.conn.Query(ctx, `
select j.id, j.kind, j.queue, j.priority, j.place, coalesce((j.metadata ->> 'awa:follows')::bigint, 0), j.run_at = 'infinity',
  case when isfinite(j.run_at) then j.run_at else now() end, coalesce(j.metadata ->> 'cron_name', ''),
  j.attempt, cardinality(j.errors), coalesce((j.progress ->> 'percent')::integer, 0), coalesce(j.callback_id::text, ''),
  coalesce(j.callback_timeout_at, 'epoch'), coalesce(j.deadline_at, 'epoch'), j.created_at, coalesce(j.attempted_at, 'epoch'), coalesce(j.finalized_at, 'epoch'),
  (select coalesce(string_agg(format(' %s at %s', coalesce(e.error ->> 'attempt', '0'), (extract(epoch from (e.error ->> 'at')::timestamptz) * 1000000)::bigint), '' order by e.n), '')
   from unnest(j.errors) with ordinality as e (error, n)), case when j.state in ('running', 'waiting_external') then j.run_lease else 0 end,
  format('%s %s %s %s', j.args, j.tags, j.metadata - array(select k.key from jsonb_object_keys(j.metadata) as k (key) where k.key ~ '^_?awa'), j.max_attempts),
  coalesce(convert_from(j.unique_key, 'utf8') || j.unique_states, '')
from (
  select k.*, k.state::text as place from awa.jobs as k
  union all
  select id, kind, queue, args, state, priority, attempt, max_attempts, run_at, heartbeat_at, deadline_at, attempted_at, finalized_at, created_at, errors,
    metadata, tags, unique_key, unique_states, callback_id, callback_timeout_at, run_lease, progress, 'dead letter'
  from awa.dlq_entries
) as j`)
	seen := map[int64]bool{}
	counts := map[string]map[awa.JobState]int64{}
	var id, follows int64
	var kind, name, cron string
	var priority int
	var state awa.JobState
	var endless bool
	var runAt, timeout, ends, created, claimed, ended time.Time
	var faults []error
	var has flowLook
	_, err := pgx.ForEachRow(rows, []any{
		&id, &kind, &name, &priority, &state, &follows, &endless, &runAt, &cron,
		&has.attempt, &has.errors, &has.progress, &has.callback, &timeout, &ends, &created, &claimed, &ended, &has.story, &has.lease, &has.body, &has.key,
	}, func() error {
		if has.timeout, has.ends = timeout.UnixMicro(), ends.UnixMicro(); state != awa.StateRunning {
			has.ends = 0 // history tells of the last one's
		}
		has.created, has.claimed, has.ended = created.UnixMicro(), claimed.UnixMicro(), ended.UnixMicro()
		if counts[name] == nil {
			counts[name] = map[awa.JobState]int64{}
		}
		counts[name][state]++
		j, known := w.jobs[id]
		switch {
		case seen[id]:
			faults = append(faults, fmt.Errorf("job %d is there twice", id))
		case known:
			if name != j.queue || priority != j.priority {
				faults = append(faults, fmt.Errorf("job %d is in %s at %d, want %+v", id, name, priority, *j))
			}
			faults = append(faults, w.compare(j, state, endless, runAt.UnixMicro()))
			want := j.look()
			if j.number == 0 { // of a schedule or a follow-up
				want.body = has.body
			}
			if has != want {
				faults = append(faults, fmt.Errorf("job %d has %+v, want %+v of %+v", id, has, want, *j))
			}
		case follows != 0 && w.due[follows] == kind:
			delete(w.due, follows)
			w.jobs[id] = &flowJob{id: id, kind: kind, queue: name, priority: 2, state: awa.StateAvailable, attempt: 1, max: 25, created: has.created}
			w.answers[kind]++
		case w.fires[fireOf(cron, kind, runAt.UnixMicro())] != nil:
			fire := fireOf(cron, kind, runAt.UnixMicro())
			s := w.fires[fire]
			delete(w.fires, fire)
			w.jobs[id] = &flowJob{id: id, kind: kind, queue: s.Queue, priority: s.Priority, state: awa.StateAvailable, attempt: 1, max: 25, created: has.created}
			if name != s.Queue || priority != s.Priority {
				faults = append(faults, fmt.Errorf("job %d is in %s at %d, want %+v", id, name, priority, *s))
			}
		default:
			faults = append(faults, fmt.Errorf("job %d of kind %s is unknown, it follows %d", id, kind, follows))
		}
		seen[id] = true
		return nil
	})
	for _, j := range w.sorted(func(j *flowJob) bool { return !seen[j.id] && !is(modelPruned, modelGone)(j) }) {
		if w.pruned && (j.state == awa.StateCompleted || j.state == awa.StateCancelled) {
			j.state = modelPruned
			w.left[j.queue]++
			w.answers["pruned"]++
			continue
		}
		faults = append(faults, fmt.Errorf("job %d is lost, want %+v", j.id, *j))
	}
	w.pruned = false
	for id, kind := range w.due {
		faults = append(faults, fmt.Errorf("no %s follows job %d", kind, id))
	}
	for fire := range w.fires {
		faults = append(faults, fmt.Errorf("no job of the fire %s", fire))
	}
	faults = append(faults, w.plan(ctx)...)
	faults = append(faults, w.inForce(ctx)...)
	if err = errors.Join(append(faults, err, w.count(ctx, counts))...); err != nil {
		r.Fatal(err)
	}
	if w.looks++; w.looks%4 == 0 {
		rows, _ := w.conn.Query(ctx, drift+" union all ("+unlisted+")", true)
		if drifted, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(drifted) > 0 {
			r.Fatalf("%v, %v", drifted, err)
		}
		violations, err := queue.Check(ctx, w.conn)
		if err != nil || len(violations) > 0 {
			r.Fatalf("check: %v, %v", describe(violations), err)
		}
	}
}

// flowLook is what else everybody may see of a job.
type flowLook struct {
	attempt, errors, progress int
	callback                  string
	timeout, ends, lease      int64
	created, claimed, ended   int64
	story, body, key          string
}

func (j *flowJob) look() flowLook {
	l := flowLook{attempt: j.shown(), errors: j.errors, progress: j.progress, created: j.created, story: j.story, body: j.body()}
	if j.unique != "" {
		l.key = j.unique + j.mask.String()
	}
	if j.open() {
		l.lease = j.receipt.RunLease
	}
	if j.open() || j.terminal() {
		l.claimed, l.ended = j.claimed, j.ended
	}
	switch j.state {
	case awa.StateCompleted:
		l.progress = 0
	case awa.StateWaitingExternal:
		l.callback, l.timeout = string(j.callback), j.timeout
	case awa.StateRunning:
		l.ends = j.ends
	}
	return l
}

// inForce demands that each unique key that a job holds is that job's.
func (w *flowWorld) inForce(ctx context.Context) (faults []error) {
	rows, _ := w.conn.Query(ctx, `select convert_from(u.unique_key, 'utf8'), u.job_id from awa.job_unique_claims as u`)
	holders := map[string]int64{}
	var key string
	var id int64
	if _, err := pgx.ForEachRow(rows, []any{&key, &id}, func() error {
		holders[key] = id
		return nil
	}); err != nil {
		return []error{err}
	}
	for key, j := range w.keys {
		if j.counts(j.place()) && holders[key] != j.id {
			faults = append(faults, fmt.Errorf("key %s is of job %d, want %+v", key, holders[key], *j))
		}
	}
	return faults
}

// compare holds one job against the model. A job that waits for a slot may be set
// aside, and one that waits for others is.
func (w *flowWorld) compare(j *flowJob, state awa.JobState, endless bool, runAt int64) error {
	may := j.key != "" && w.queues[j.queue].limit > 0 && j.state == awa.StateAvailable
	was := j.aside
	j.aside = may && state == awa.StateScheduled && endless
	if was && !j.aside && j.gains() && state == awa.StateScheduled {
		j.state, j.runAt = state, -1 // back, if it gets its unique key
	}
	switch {
	case j.aside:
	case state != j.state:
		return fmt.Errorf("job %d is %s, want %+v", j.id, state, *j)
	case endless != (len(j.after) > 0 && !j.terminal()):
		return fmt.Errorf("job %d waits for others: %v, want %+v", j.id, endless, *j)
	case j.runAt < 0: // by the default delay: whatever it is
		j.runAt = runAt
	case j.runAt != 0 && runAt != j.runAt:
		return fmt.Errorf("job %d is for %s, want %s", j.id, when(runAt), when(j.runAt))
	}
	return nil
}

func (w *flowWorld) count(ctx context.Context, counts map[string]map[awa.JobState]int64) error {
	var faults []error
	for _, q := range flowQueues {
		n, err := queue.Counts(ctx, w.conn, q.name)
		c := counts[q.name]
		got := []int64{n.Available, n.Scheduled, n.Retryable, n.Running, n.WaitingExternal, n.Completed, n.Failed, n.Cancelled, n.DLQ, n.PrunedTerminal}
		want := []int64{
			c[awa.StateAvailable], c[awa.StateScheduled], c[awa.StateRetryable], c[awa.StateRunning], c[awa.StateWaitingExternal],
			c[awa.StateCompleted], c[awa.StateFailed], c[awa.StateCancelled],
			int64(len(w.sorted(func(j *flowJob) bool { return j.queue == q.name && j.state == modelDead }))), w.left[q.name],
		}
		if !slices.Equal(got, want) {
			err = errors.Join(err, errors.New("queue "+strconv.Quote(q.name)+fmt.Sprintf(" counts %v, there are %v", got, want)))
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}
