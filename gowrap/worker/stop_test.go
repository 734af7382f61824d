package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// A soft stop lets handlers finish and claims nothing more.
func TestSoftStop(t *testing.T) {
	url := pgtest.URL(t)
	leakless(t)
	pool := newPool(t, url, nil)
	running, finish := make(chan struct{}), make(chan struct{})
	c := start(t, worker.Config{Pool: pool, SoftStopTimeout: time.Minute}, tasks(
		func(ctx context.Context, job *worker.Job[task]) error {
			running <- struct{}{}
			<-finish
			return ctx.Err()
		}))
	first := enqueue(t, pool, awa.EnqueueParams{})
	receive(t, running)
	stopped := make(chan error, 1)
	go func() { stopped <- c.Stop(context.Background()) }()
	eventually(t, func() bool { return waits(t, pool) == 0 }, func() any { return "somebody waits for jobs" })
	second := enqueue(t, pool, awa.EnqueueParams{})
	select {
	case <-c.Stopped():
		t.Error("stopped although a handler runs")
	default:
	}
	close(finish)
	if err := receive(t, stopped); err != nil {
		t.Error(err)
	}
	<-c.Stopped()
	reach(t, pool, first, awa.StateCompleted)
	reach(t, pool, second, awa.StateAvailable)
	requireHealthy(t, pool)
}

// waits counts the sessions that wait for jobs.
func waits(t *testing.T, db awa.DBTX) int {
	t.Helper()
	return rows[int](t, db, `select count(*)::int from pg_locks as l
		where l.locktype = 'advisory' and l.mode = 'ShareLock'
		  and l.objid <> 8 -- the gate of the ring
		  and l.database = (select oid from pg_database where datname = current_database())`)[0]
}

// A hard stop tells handlers to give up. What they leave unfinished is available
// at once and not counted; what they finish all the same, or decide, is kept.
func TestHardStop(t *testing.T) {
	url := pgtest.URL(t)
	leakless(t)
	pool := newPool(t, url, nil)
	running := make(chan struct{}, 3)
	c := start(t, worker.Config{Pool: pool, SoftStopTimeout: -1}, tasks(
		func(ctx context.Context, job *worker.Job[task]) error {
			running <- struct{}{}
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), worker.ErrStopping) {
				t.Errorf("the cause is %v", context.Cause(ctx))
			}
			switch job.Args.N {
			case 0:
				return ctx.Err()
			case 1:
				return nil
			}
			return worker.Terminal(errBroken)
		}))
	var ids []int64
	for n := range 3 {
		ids = append(ids, enqueue(t, pool, awa.EnqueueParams{Args: task{n}}))
	}
	for range ids {
		receive(t, running)
	}
	stop(t, c)
	expect := func(id int64, state awa.JobState, attempt int16) {
		t.Helper()
		j, err := queue.GetJob(t.Context(), pool, id)
		if err != nil || j.State != state || j.Attempt != attempt {
			t.Errorf("job %d is %s after %d attempts (%v), want %s after %d", id, j.State, j.Attempt, err, state, attempt)
		}
	}
	expect(ids[0], awa.StateAvailable, 0)
	expect(ids[1], awa.StateCompleted, 1)
	expect(ids[2], awa.StateFailed, 1)
	jobs, err := queue.Claim(t.Context(), pool, awa.ClaimParams{Queue: "default"})
	if err != nil || len(jobs) != 1 || jobs[0].Attempt != 1 {
		t.Errorf("claimed %+v, %v", jobs, err)
	}
	requireHealthy(t, pool)
}

// A handler that does not listen cannot hold up the stop, and its job goes back.
func TestStubbornHandler(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	running, finish := make(chan struct{}, 1), make(chan struct{})
	c, err := worker.New(worker.Config{Pool: pool, SoftStopTimeout: time.Hour,
		Queues: map[string]worker.QueueConfig{"default": {}}}, tasks(
		func(ctx context.Context, job *worker.Job[task]) error {
			running <- struct{}{}
			<-finish
			return nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer close(finish)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := enqueue(t, pool, awa.EnqueueParams{})
	receive(t, running)
	now, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Stop(now); !errors.Is(err, worker.ErrUnfinished) {
		t.Errorf("Stop returned %v", err)
	}
	if j := reach(t, pool, id, awa.StateAvailable); j.Attempt != 0 {
		t.Errorf("%d attempts count", j.Attempt)
	}
}

// Run ends with its context and can be had once.
func TestRun(t *testing.T) {
	url := pgtest.URL(t)
	leakless(t)
	pool := newPool(t, url, nil)
	done := make(chan struct{})
	c, err := worker.New(worker.Config{Pool: pool, Queues: map[string]worker.QueueConfig{"default": {}}},
		tasks(func(context.Context, *worker.Job[task]) error { close(done); return nil }))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	id := enqueue(t, pool, awa.EnqueueParams{})
	receive(t, done)
	cancel()
	if err := receive(t, ended); err != nil {
		t.Error(err)
	}
	if j, err := queue.GetJob(t.Context(), pool, id); err != nil || j.State != awa.StateCompleted {
		t.Errorf("Run returned before the job was completed: %s, %v", j.State, err)
	}
	if err := c.Run(t.Context()); !errors.Is(err, worker.ErrStarted) {
		t.Errorf("a second Run returned %v", err)
	}
}

// Stop of a client that never ran returns, and the client cannot be run any more.
func TestStopBeforeStart(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	c, err := worker.New(worker.Config{Pool: pool, Queues: map[string]worker.QueueConfig{"default": {}}}, worker.NewMux())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	<-c.Stopped()
	if err := c.Start(t.Context()); !errors.Is(err, worker.ErrStarted) {
		t.Errorf("Start returned %v", err)
	}
}

// Many attempts go back with few statements, and are available when Stop returns
// although nobody maintains.
func TestHardStopOfManyHandlers(t *testing.T) {
	url := pgtest.URL(t)
	leakless(t)
	pool := newPool(t, url, nil)
	const many = 1000
	running := make(chan struct{}, many)
	c := start(t, worker.Config{Pool: pool, SoftStopTimeout: -1, DisableMaintain: true,
		Queues: map[string]worker.QueueConfig{"default": {MaxWorkers: many}}}, tasks(
		func(ctx context.Context, job *worker.Job[task]) error {
			running <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}))
	enqueueMany(t, pool, "default", many)
	for range many {
		receive(t, running)
	}
	begin := time.Now()
	stop(t, c)
	t.Logf("%d attempts given back in %v", many, time.Since(begin))
	if n := counts(t, pool, "default"); n.Available != many {
		t.Errorf("%+v", n)
	}
	jobs, err := queue.Claim(t.Context(), pool, awa.ClaimParams{Queue: "default", MaxJobs: many + 1})
	if err != nil || len(jobs) != many {
		t.Fatalf("%d claimed, %v", len(jobs), err)
	}
	for _, j := range jobs {
		if j.Attempt != 1 {
			t.Fatalf("attempt %d of job %d", j.Attempt, j.ID)
		}
	}
	requireHealthy(t, pool)
}

// A claim has taken its jobs, and the answer is on its way, at a hard stop. It may still come: the
// jobs go back. Cut off, they would come back by rescue.
func TestHardStopBeforeAnAnswer(t *testing.T) {
	admin, net, url := behind(t)
	const many = 5
	enqueueMany(t, admin, "default", many)
	held := make(chan struct{})
	release := sync.OnceFunc(func() { close(held) })
	defer release()
	net.on("awa.claim(", 1, fate{held: held})
	var log logbook
	pool := newPool(t, url, func(cfg *pgxpool.Config) {
		cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // or a claim is prepared first
	})
	c := newClient(t, worker.Config{Pool: pool, DisableMaintain: true, Logger: log.logger()},
		tasks(func(context.Context, *worker.Job[task]) error { return nil }))
	c.SetGrace(patience)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return counts(t, admin, "default").Running == many },
		func() any { return counts(t, admin, "default") })
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- c.Stop(ended) }()
	eventually(t, func() bool { return log.messages(t, slog.LevelInfo)["Worker stops"] > 0 }, func() any { return log.text() })
	release()
	if err := receive(t, stopped); err != nil {
		t.Error(err)
	}
	jobs, err := queue.Claim(t.Context(), admin, awa.ClaimParams{Queue: "default", MaxJobs: many + 1})
	if err != nil || len(jobs) != many {
		t.Errorf("%d jobs are available, %v", len(jobs), err)
	}
	for _, j := range jobs {
		if j.Attempt != 1 {
			t.Errorf("attempt %d of job %d", j.Attempt, j.ID)
		}
	}
	requireHealthy(t, admin)
}
