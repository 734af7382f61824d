package worker_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

func TestMain(m *testing.M) {
	if file := os.Getenv(chaosEnv); file != "" {
		if err := chaosWorker(file); err != nil {
			panic(err)
		}
		return
	}
	pgtest.Main(m)
}

var queue = awa.New()

// patience is for what must come to pass, on a machine that is busy with other things.
const patience = 2 * time.Minute

// task is a kind of job.
type task struct {
	N int `json:"n"`
}

func (task) Kind() string { return "task" }

// leakless fails the test if it leaves a goroutine behind. Call it when the server
// runs, and before anything else that is cleaned up.
func leakless(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	server := goleak.IgnoreAnyFunction("github.com/awaqueue/awa/internal/localpg.(*Server).startOnce.func1")
	t.Cleanup(func() { goleak.VerifyNone(t, before, server) })
}

// newPool is a pool on the database of url, changed by configure if that is not nil.
func newPool(t testing.TB, url string, configure func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConns = 10
	if configure != nil {
		configure(cfg)
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// start runs a client until the test ends, or is stopped by it. What the config
// leaves open is: the queue "default" with 10 workers, and no logging but on
// failure.
func start(t testing.TB, cfg worker.Config, mux *worker.Mux) *worker.Client {
	t.Helper()
	c := newClient(t, cfg, mux)
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, c) })
	return c
}

func newClient(t testing.TB, cfg worker.Config, mux *worker.Mux) *worker.Client {
	t.Helper()
	if cfg.Queues == nil {
		cfg.Queues = map[string]worker.QueueConfig{"default": {MaxWorkers: 10}}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	if cfg.HeartbeatInterval == 0 {
		cfg.HeartbeatInterval = 20 * time.Millisecond
	}
	c, err := worker.New(cfg, mux)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func stop(t testing.TB, c *worker.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// tasks is a mux whose kind task is done by f.
func tasks(f func(context.Context, *worker.Job[task]) error) *worker.Mux {
	mux := worker.NewMux()
	worker.Register(mux, f)
	return mux
}

func enqueue(t testing.TB, db awa.DBTX, p awa.EnqueueParams) int64 {
	t.Helper()
	if p.Kind == "" {
		p.Kind = "task"
	}
	id, err := queue.Enqueue(context.Background(), db, p)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// enqueueMany enqueues n tasks numbered from 0.
func enqueueMany(t testing.TB, db awa.DBTX, name string, n int) {
	t.Helper()
	exec(t, db, `select awa.enqueue_many('task', array(
		select jsonb_build_object('n', i - 1) from generate_series(1, $1::integer) as i), queue => $2)`, n, name)
}

func exec(t testing.TB, db awa.DBTX, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func counts(t testing.TB, db awa.DBTX, name string) awa.QueueCounts {
	t.Helper()
	n, err := queue.Counts(context.Background(), db, name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// reach waits until a job is in a state, and returns it.
func reach(t testing.TB, db awa.DBTX, id int64, state awa.JobState) awa.JobInfo {
	t.Helper()
	return until(t, db, id, func(j awa.JobInfo) bool { return j.State == state })
}

// until waits until a job is as wanted, and returns it.
func until(t testing.TB, db awa.DBTX, id int64, wanted func(awa.JobInfo) bool) (j awa.JobInfo) {
	t.Helper()
	eventually(t, func() (ok bool) {
		var err error
		if j, err = queue.GetJob(context.Background(), db, id); err != nil {
			t.Fatal(err)
		}
		return wanted(j)
	}, func() any { return j })
	return j
}

// eventually waits until the condition holds.
func eventually(t testing.TB, condition func() bool, state func() any) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come to pass; at last: %+v", state())
		}
	}
}

// receive waits for a value.
func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// requireHealthy demands that check() has nothing to say.
func requireHealthy(t testing.TB, db awa.DBTX) {
	t.Helper()
	violations, err := queue.Check(context.Background(), db)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range violations {
		t.Errorf("check: %s: %s", v.Invariant, v.Detail)
	}
}
