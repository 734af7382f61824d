package worker_test

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// wakes demands that a client of this pool is notified of a job, and that it stops.
func wakes(t *testing.T, configure func(*pgxpool.Config)) {
	url := pgtest.URL(t)
	leakless(t)
	admin := newPool(t, url, nil)
	done := make(chan struct{}, 1)
	c := start(t, worker.Config{Pool: newPool(t, url, configure), PollInterval: time.Hour},
		tasks(func(context.Context, *worker.Job[task]) error {
			done <- struct{}{}
			return nil
		}))
	for range 3 {
		eventually(t, func() bool { return waits(t, admin) == 1 }, func() any { return waits(t, admin) })
		id := enqueue(t, admin, awa.EnqueueParams{})
		receive(t, done)
		reach(t, admin, id, awa.StateCompleted)
	}
	stop(t, c)
}

// A pool may have a handler of its own for notifications. The client is woken all the same.
func TestPoolThatHandlesNotifications(t *testing.T) {
	wakes(t, func(cfg *pgxpool.Config) {
		cfg.ConnConfig.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) {}
	})
}

// A pool may ask the server to end a statement whose context is done, and give it time. The
// wait for a notification, which is no statement, ends at once.
func TestPoolThatCancelsStatements(t *testing.T) {
	wakes(t, func(cfg *pgxpool.Config) {
		cfg.ConnConfig.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
			return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: time.Hour}
		}
	})
}

// A client may work on thousands of queues. It waits for all of them by a few calls.
func TestManyQueues(t *testing.T) {
	const many = 3000
	url := pgtest.URL(t)
	admin := newPool(t, url, nil)
	queues := map[string]worker.QueueConfig{}
	prefix := strings.Repeat("tenant ", 10)
	name := func(n int) string { return prefix + strconv.Itoa(n) }
	for n := range many {
		queues[name(n)] = worker.QueueConfig{MaxWorkers: 1}
	}
	keys := rows[int](t, admin, `select count(distinct awa._queue_key('`+prefix+`' || n))::int
		from generate_series(0, `+strconv.Itoa(many-1)+`) as n`)[0]
	sent := &calls{function: "start_waiting"}
	done := make(chan string, 1)
	c := start(t, worker.Config{Queues: queues, HeartbeatInterval: time.Second,
		Pool: newPool(t, url, func(cfg *pgxpool.Config) { cfg.ConnConfig.Tracer = sent })},
		tasks(func(_ context.Context, job *worker.Job[task]) error {
			done <- job.Queue
			return nil
		}))
	eventually(t, func() bool { return waits(t, admin) == keys }, func() any { return waits(t, admin) })
	if n := sent.n.Load(); n > many/4 {
		t.Errorf("%d calls to wait for %d queues", n, many)
	}
	enqueue(t, admin, awa.EnqueueParams{Queue: name(many / 2)})
	if got := receive(t, done); got != name(many/2) {
		t.Errorf("a job of %s", got)
	}
	stop(t, c)
}

// While the server cannot be reached, a few queues try on behalf of all.
func TestManyQueuesInAnOutage(t *testing.T) {
	const many = 500
	admin, net, url := behind(t)
	queues := map[string]worker.QueueConfig{}
	for n := range many {
		queues[strconv.Itoa(n)] = worker.QueueConfig{MaxWorkers: 1}
	}
	var log logbook
	done := make(chan struct{}, 1)
	c := start(t, worker.Config{Queues: queues, HeartbeatInterval: time.Second, Logger: log.logger(), Pool: newPool(t, url, nil)},
		tasks(func(context.Context, *worker.Job[task]) error {
			done <- struct{}{}
			return nil
		}))
	eventually(t, func() bool { return waits(t, admin) == many }, func() any { return waits(t, admin) })
	net.refusing.Store(true)
	before := net.accepted.Load()
	net.cut()
	logged := func() any { return log.messages(t, slog.LevelDebug) }
	eventually(t, func() bool {
		return log.messages(t, slog.LevelDebug)["Lost the listening connection; polling meanwhile"] >= 7
	}, logged)
	// Each tries once before it is known, which may be two connections.
	if n := net.accepted.Load() - before; n > 3*many {
		t.Errorf("%d queues connected %d times", many, n)
	}
	net.refusing.Store(false)
	enqueue(t, admin, awa.EnqueueParams{Queue: "7"})
	receive(t, done)
	stop(t, c)
}
