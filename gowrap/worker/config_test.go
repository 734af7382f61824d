package worker_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// A config that cannot work is refused with a reason.
func TestConfig(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	one := map[string]worker.QueueConfig{"default": {}}
	for reason, cfg := range map[string]worker.Config{
		"Pool is nil":      {Queues: one},
		"Queues is empty":  {Pool: pool},
		"name is missing":  {Pool: pool, Queues: map[string]worker.QueueConfig{"": {}}},
		"negative":         {Pool: pool, Queues: one, MaxWorkers: -1},
		"Lease is negat":   {Pool: pool, Queues: one, Lease: -1},
		"PollInterval is ": {Pool: pool, Queues: one, PollInterval: -1},
		"CallbackPollInt":  {Pool: pool, Queues: one, CallbackPollInterval: -1},
		"queue \"éé":       {Pool: pool, Queues: map[string]worker.QueueConfig{strings.Repeat("é", 201): {}}},
		"Config.Name":      {Pool: pool, Queues: one, Name: strings.Repeat("é", worker.LongestWorker+1)},
		"Config.Lease":     {Pool: pool, Queues: one, Lease: 1<<63 - 1},
	} {
		if _, err := worker.New(cfg, worker.NewMux()); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("want %q: %v", reason, err)
		}
	}
	for _, mux := range []*worker.Mux{nil, {}} {
		if _, err := worker.New(worker.Config{Pool: pool, Queues: one}, mux); err == nil {
			t.Errorf("the mux %v is accepted", mux)
		}
	}
}

// A pool of one connection is slow, and enough.
func TestSmallPool(t *testing.T) {
	url := pgtest.URL(t)
	admin := newPool(t, url, nil)
	drainEach(t, admin, 300, func(mux *worker.Mux) {
		start(t, worker.Config{Pool: newPool(t, url, func(cfg *pgxpool.Config) { cfg.MaxConns = 1 })}, mux)
	})
}

// While as many finishes are unwritten as may be, no job is claimed: nothing is gained
// by a wait for more of them.
func TestFewUnacknowledged(t *testing.T) {
	pool := newPool(t, pgtest.URL(t), nil)
	enqueueMany(t, pool, "default", 10)
	start(t, worker.Config{Pool: pool, MaxUnacknowledged: 1, CompleteDelay: time.Hour,
		Queues: map[string]worker.QueueConfig{"default": {MaxWorkers: 1}}}, tasks(func(context.Context, *worker.Job[task]) error { return nil }))
	eventually(t, func() bool { return counts(t, pool, "default").Completed == 10 },
		func() any { return counts(t, pool, "default") })
}

// A kind has one handler.
func TestHandleTwice(t *testing.T) {
	mux := tasks(func(context.Context, *worker.Job[task]) error { return nil })
	defer func() {
		if recover() == nil {
			t.Error("a second handler is accepted")
		}
	}()
	mux.Handle("task", func(context.Context, *worker.Attempt) error { return nil })
}

// What cannot be called is refused where it is registered.
func TestRegisterNil(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a handler that is nil is accepted")
		}
	}()
	worker.Register[task](worker.NewMux(), nil)
}
