// Worker works on two queues: short mails, of which many run at once, and long
// reports, of which few do. SIGINT or SIGTERM stops it: running handlers finish,
// and what they cannot finish goes back into the queue.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
)

// Mail is a job of the queue "mail".
type Mail struct {
	To string `json:"to"`
}

// Kind names the job.
func (Mail) Kind() string { return "mail" }

// Report is a job of the queue "reports".
type Report struct {
	Month int `json:"month"`
}

// Kind names the job.
func (Report) Kind() string { return "report" }

func main() {
	enqueue := flag.Int("enqueue", 0, "add so many jobs to each queue first")
	pooled := flag.Bool("pooled", false, "there is a pooler in transaction mode in between")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *enqueue, *pooled); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, enqueue int, pooled bool) error {
	cfg, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL")) // empty: the PG* variables
	if err != nil {
		return err
	}
	if pooled {
		// Two statements may reach two servers, so none is prepared for later.
		cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := add(ctx, pool, enqueue); err != nil {
		return err
	}

	client, err := worker.New(worker.Config{
		Pool: pool,
		Queues: map[string]worker.QueueConfig{
			"mail":    {MaxWorkers: 20, Weight: 3},
			"reports": {MaxWorkers: 2},
		},
		PollOnly: pooled, // LISTEN needs a server connection of its own
	}, handlers())
	if err != nil {
		return err
	}
	return client.Run(ctx)
}

func add(ctx context.Context, pool *pgxpool.Pool, n int) error {
	queue := awa.New()
	for i := range n {
		mail := Mail{To: fmt.Sprintf("customer%d@example.com", i)}
		if _, err := worker.EnqueueTyped(ctx, queue, pool, mail, awa.EnqueueParams{Queue: "mail"}); err != nil {
			return err
		}
		report := Report{Month: i%13 + 1}
		if _, err := worker.EnqueueTyped(ctx, queue, pool, report, awa.EnqueueParams{Queue: "reports"}); err != nil {
			return err
		}
	}
	return nil
}

var errNoMonth = errors.New("a year has twelve months")

func handlers() *worker.Mux {
	mux := worker.NewMux()
	mux.Use(timed)
	worker.Register(mux, func(_ context.Context, job *worker.Job[Mail]) error {
		fmt.Println("mail to", job.Args.To)
		return nil
	})
	worker.Register(mux, func(ctx context.Context, job *worker.Job[Report]) error {
		if job.Args.Month > 12 {
			return worker.Terminal(errNoMonth) // another attempt would not help
		}
		if err := job.SetProgress(ctx, 50, "half of it"); err != nil {
			return err
		}
		fmt.Println("report of month", job.Args.Month)
		return nil
	})
	return mux
}

// timed is a middleware: it sees every attempt of every kind.
func timed(next worker.Handler) worker.Handler {
	return func(ctx context.Context, attempt *worker.Attempt) error {
		begin := time.Now()
		err := next(ctx, attempt)
		if err != nil {
			log.Printf("job %d, %s, attempt %d, after %v: %v", attempt.ID, attempt.Kind, attempt.Attempt, time.Since(begin), err)
		}
		return err
	}
}
