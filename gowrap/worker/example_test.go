package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
	"github.com/awaqueue/awa/internal/pgtest"
)

// Greet is a kind of job.
type Greet struct {
	Name string `json:"name"`
}

// Kind implements worker.Args.
func (Greet) Kind() string { return "greet" }

// A program that works on a queue until it is told to stop. Here that is when the
// job is done; a real one takes the context of signal.NotifyContext.
func Example() {
	pool, done := freshPool()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	mux := worker.NewMux()
	worker.Register(mux, func(ctx context.Context, job *worker.Job[Greet]) error {
		fmt.Println("Hello,", job.Args.Name)
		stop()
		return nil
	})
	client, err := worker.New(worker.Config{
		Pool:   pool,
		Queues: map[string]worker.QueueConfig{"greetings": {MaxWorkers: 10}},
		Logger: quiet,
	}, mux)
	if err != nil {
		log.Fatal(err)
	}

	_, err = worker.EnqueueTyped(ctx, awa.New(), pool, Greet{"Ada"}, awa.EnqueueParams{Queue: "greetings"})
	if err != nil {
		log.Fatal(err)
	}
	if err := client.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: Hello, Ada
}

// The handler decides by what it returns.
func ExampleSnooze() {
	pool, done := freshPool()
	defer done()
	ctx := context.Background()

	mux := worker.NewMux()
	worker.Register(mux, func(ctx context.Context, job *worker.Job[Greet]) error {
		switch job.Args.Name {
		case "":
			return worker.Cancel("nobody to greet")
		case "Bob":
			return worker.Snooze(time.Hour) // he is asleep
		case "Carl":
			return worker.RetryAfter(time.Minute, errors.New("line is busy"))
		case "Dan":
			return worker.Terminal(errors.New("no such person"))
		}
		return nil
	})
	for _, name := range []string{"Ada", "", "Bob", "Carl", "Dan"} {
		if _, err := worker.EnqueueTyped(ctx, awa.New(), pool, Greet{name}, awa.EnqueueParams{}); err != nil {
			log.Fatal(err)
		}
	}

	// A loop of one's own; a Client does the same for many jobs at once.
	jobs, err := awa.New().Claim(ctx, pool, awa.ClaimParams{Queue: "default", MaxJobs: 10})
	if err != nil {
		log.Fatal(err)
	}
	for _, job := range jobs {
		res, err := mux.Work(ctx, awa.New(), pool, &job)
		if err != nil {
			log.Fatal(err)
		}
		info, err := awa.New().GetJob(ctx, pool, job.ID)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(res.Outcome, "→", info.State)
	}
	// Output:
	// completed → completed
	// cancelled → cancelled
	// snoozed → scheduled
	// failed → retryable
	// failed → failed
}

// The work and the completion are one transaction: both happen or neither.
func ExampleAttempt_CompleteTx() {
	pool, done := freshPool()
	defer done()
	ctx := context.Background()
	if _, err := pool.Exec(ctx, "create table greeted (name text)"); err != nil {
		log.Fatal(err)
	}

	finished := make(chan struct{})
	mux := worker.NewMux()
	worker.Register(mux, func(ctx context.Context, job *worker.Job[Greet]) error {
		defer close(finished)
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "insert into greeted values ($1)", job.Args.Name); err != nil {
				return err
			}
			return job.CompleteTx(ctx, tx)
		})
	})
	client, err := worker.New(worker.Config{
		Pool: pool, Queues: map[string]worker.QueueConfig{"default": {}}, Logger: quiet}, mux)
	if err != nil {
		log.Fatal(err)
	}
	if err := client.Start(ctx); err != nil {
		log.Fatal(err)
	}
	id, err := worker.EnqueueTyped(ctx, awa.New(), pool, Greet{"Ada"}, awa.EnqueueParams{})
	if err != nil {
		log.Fatal(err)
	}
	<-finished
	if err := client.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	job, err := awa.New().GetJob(ctx, pool, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.State)
	// Output: completed
}

// A middleware wraps every handler.
func ExampleMux_Use() {
	mux := worker.NewMux()
	mux.Use(func(next worker.Handler) worker.Handler {
		return func(ctx context.Context, attempt *worker.Attempt) error {
			err := next(ctx, attempt)
			// Arguments that this version cannot read: do not try again.
			if _, ok := errors.AsType[*worker.DecodeError](err); ok {
				return worker.Terminal(err)
			}
			return err
		}
	})
	worker.Register(mux, func(context.Context, *worker.Job[Greet]) error { return nil })
	fmt.Println(mux.Kinds())
	// Output: [greet]
}

var quiet = slog.New(slog.DiscardHandler)

// freshPool returns a pool on a database with awa in it, and what removes it. An
// application opens its own pool instead.
func freshPool() (*pgxpool.Pool, func()) {
	ctx := context.Background()
	url, drop, err := pgtest.New(ctx)
	if err != nil {
		panic(err)
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		panic(err)
	}
	return pool, func() {
		pool.Close()
		if err := drop(); err != nil {
			panic(err)
		}
	}
}
