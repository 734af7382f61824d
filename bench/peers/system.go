package main

import (
	"context"
	"errors"
	"time"

	"github.com/awaqueue/awa/internal/bench"
)

// queueName is the one queue of every scenario.
const queueName = "bench"

// system is a job queue to measure.
type system interface {
	name() string
	// settings says which version is used and how it is told to work.
	settings() string
	// open prepares a fresh database for it.
	open(ctx context.Context, db *bench.Database) (session, error)
	// fresh makes the database that open wants.
	fresh(ctx context.Context, server *bench.Server) (*bench.Database, error)
}

// session is a system at work on a database of its own. What a system has no
// equal of returns errNone.
type session interface {
	// bulk enqueues n jobs of so many bytes each on one connection, in the
	// largest batches that the system is meant for.
	bulk(ctx context.Context, n, size int) (time.Duration, error)
	// drain runs and finishes n jobs that wait, in batches where there are any,
	// until the last one is durably finished.
	drain(ctx context.Context, n int) (time.Duration, error)
	// produce enqueues single jobs from n connections for as long as told.
	produce(ctx context.Context, n int, d time.Duration) (rate float64, err error)
	// oneJob claims and finishes single jobs on n connections for as long as told.
	oneJob(ctx context.Context, n int, d time.Duration) (rate float64, err error)
	// traffic produces and works at once, as fast as the system can with a short
	// backlog, and returns the jobs finished in each second.
	traffic(ctx context.Context, d time.Duration) (perSecond []float64, err error)
	// flow enqueues numbered jobs at a steady rate, and works them at once.
	flow(ctx context.Context, l load) (*course, error)
	// hold enqueues one job in a transaction that stays open until release ends it.
	hold(ctx context.Context) (release func() error, err error)
	close() error
}

// errNone is what a system has no equal of.
var errNone = errors.New("no equal")

// batch is how many jobs one claim takes where a system claims in batches.
const batch = 200

// backlog is how many jobs traffic keeps waiting.
const backlog = 20_000

// chunk is how many jobs traffic enqueues at once.
const chunk = 2000
