package awatest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
)

// DrainParams says what Drain works on. The zero value takes what is available in
// every queue.
type DrainParams struct {
	// Client names the schema. The zero value is the schema "awa".
	Client awa.Client
	// Queues to drain. None: every queue.
	Queues []string
	// Until sets the server's clock for this drain, so that jobs which are due by
	// then, the retries among them, are worked as well, and jobs that come after
	// others. The clock belongs to the session: it stands still at Until, and goes on
	// when Drain returns. So the retry of what fails in this drain is due after Until:
	// drain again, with a later one. Only the owner of the schema may set the clock,
	// and only one session at a time does: a second drain waits for the end of the
	// first one's transaction. Attempts that other sessions have in hand are rescued
	// when their leases end before Until, so use it in a transaction that is rolled
	// back, or in a database of the test's own. The zero time leaves the clock and
	// everything deferred alone.
	Until time.Time
	// MaxAttempts is the most attempts that are made: a job that comes back for
	// ever fails the test. Defaults to 10,000.
	MaxAttempts int
}

// Drained is one attempt that Drain made.
type Drained struct {
	Job     awa.Job
	Outcome worker.Outcome
	Err     error // what the handler returned
}

// Drain works on jobs with the handlers of mux, one after the other, until no
// queue has an available one, and returns what became of them, in the order of
// their claims. Jobs that handlers enqueue are worked as well. In a transaction
// it works on the jobs of that transaction, too, and everything is undone by its
// rollback; handlers that shall see these jobs must use the same transaction. Tests
// that drain one queue in parallel transactions wait for each other.
//
// db is a pool of pgx or one session; of database/sql a *sql.Conn or a *sql.Tx.
//
// That a handler returns an error does not fail the test: see Drained.Err.
func Drain(t testing.TB, db awa.DBTX, mux *worker.Mux, p DrainParams) []Drained {
	t.Helper()
	attempts, err := drain(t.Context(), db, mux, p)
	if err != nil {
		t.Fatalf("awatest: drain: %v", err)
	}
	return attempts
}

func drain(ctx context.Context, db awa.DBTX, mux *worker.Mux, p DrainParams) (attempts []Drained, err error) {
	if !p.Until.IsZero() {
		// The clock is a setting of one session.
		if pool, ok := db.(*pgxpool.Pool); ok {
			conn, err := pool.Acquire(ctx)
			if err != nil {
				return nil, err
			}
			defer conn.Release()
			db = conn
		}
		var reset func() error
		if reset, err = setClock(ctx, db, p.Client, p.Until); err != nil {
			return nil, err
		}
		defer func() {
			if resetErr := reset(); err == nil {
				err = resetErr
			}
		}()
	}
	d := drainer{db: db, mux: mux, params: p}
	if d.params.MaxAttempts == 0 {
		d.params.MaxAttempts = 10_000
	}
	for {
		promoted, err := d.promote(ctx)
		if err != nil {
			return d.attempts, err
		}
		worked, err := d.round(ctx)
		if err != nil {
			return d.attempts, err
		}
		if !promoted && !worked {
			return d.attempts, nil
		}
	}
}

type drainer struct {
	db       awa.DBTX
	mux      *worker.Mux
	params   DrainParams
	attempts []Drained
}

// promote makes due jobs available, if the clock was set, and those whose
// predecessors completed. It reports whether there were any.
func (d *drainer) promote(ctx context.Context) (bool, error) {
	if d.params.Until.IsZero() {
		return false, nil
	}
	// A worker that maintains the same schema may be in the way for a moment.
	for deadline := time.Now().Add(inTheWay); ; {
		reports, err := d.params.Client.Maintain(ctx, d.db)
		if err != nil {
			return false, err
		}
		for _, r := range reports {
			if r.Affected > 0 && (r.Task == "promote" || r.Task == "dependents") {
				return true, nil
			}
		}
		due, err := d.due(ctx)
		if err != nil || due == nil {
			return false, err
		}
		if time.Now().After(deadline) {
			return false, fmt.Errorf("job %d, %s, is due and was not promoted: another session holds it, or maintains the schema in an open transaction", due.ID, due.Kind)
		}
	}
}

// inTheWay is how long a drain tries to promote what is due.
const inTheWay = 10 * time.Second

// due returns a job that should have been promoted, or nil.
func (d *drainer) due(ctx context.Context) (*awa.JobInfo, error) {
	for _, state := range []awa.JobState{awa.StateScheduled, awa.StateRetryable} {
		jobs, err := listJobs(ctx, d.db, d.params.Client, awa.ListJobsParams{State: state})
		if err != nil {
			return nil, err
		}
		for i := range jobs {
			if at := jobs[i].RunAt; !at.IsZero() && !at.After(d.params.Until) {
				return &jobs[i], nil
			}
		}
	}
	return nil, nil
}

// round works on each queue until it has nothing available. It reports whether
// any had. Jobs are claimed one by one, so that a handler may cancel what comes
// later, or enqueue what comes first.
func (d *drainer) round(ctx context.Context) (worked bool, err error) {
	queues := d.params.Queues
	if len(queues) == 0 {
		overview, err := d.params.Client.Overview(ctx, d.db)
		if err != nil {
			return false, err
		}
		for _, q := range overview {
			queues = append(queues, q.Queue)
		}
	}
	for _, queue := range queues {
		for {
			jobs, err := d.params.Client.Claim(ctx, d.db, awa.ClaimParams{Queue: queue})
			if err != nil {
				return worked, err
			}
			if len(jobs) == 0 {
				break
			}
			worked = true
			if err := d.work(ctx, &jobs[0]); err != nil {
				return worked, err
			}
		}
	}
	return worked, nil
}

func (d *drainer) work(ctx context.Context, job *awa.Job) error {
	if len(d.attempts) == d.params.MaxAttempts {
		return fmt.Errorf("%d attempts and no end; the next one is attempt %d of job %d, %s %s",
			len(d.attempts), job.Attempt, job.ID, job.Kind, job.Args)
	}
	res, err := d.mux.Work(ctx, d.params.Client, d.db, job)
	d.attempts = append(d.attempts, Drained{Job: *job, Outcome: res.Outcome, Err: res.Err})
	if err != nil {
		return fmt.Errorf("job %d, %s: %w (the handler returned %v)", job.ID, job.Kind, err, res.Err)
	}
	return nil
}
