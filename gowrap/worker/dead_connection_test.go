package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
)

// What a handler asks of its attempt by a connection that is dead fails after a while, and works
// by the next one.
func TestHandlerOnADeadConnection(t *testing.T) {
	for name, ask := range map[string]func(context.Context, *worker.Job[task]) error{
		"progress": func(ctx context.Context, job *worker.Job[task]) error { return job.SetProgress(ctx, 50, "half") },
		"callback": func(ctx context.Context, job *worker.Job[task]) error {
			_, err := job.RegisterCallback(ctx, time.Hour)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			admin, net, url := behind(t)
			pool := newPool(t, url, func(cfg *pgxpool.Config) { cfg.MaxConns = 4 })
			began, proceed, failed := make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)
			c := begin(t, worker.Config{Pool: pool}, 300*time.Millisecond,
				tasks(func(ctx context.Context, job *worker.Job[task]) error {
					began <- struct{}{}
					<-proceed
					err := ask(ctx, job)
					failed <- err
					for err != nil && ctx.Err() == nil {
						err = ask(ctx, job)
					}
					return err
				}))
			id := enqueue(t, admin, awa.EnqueueParams{})
			receive(t, began)
			heal := net.blackout()
			close(proceed)
			if err := receive(t, failed); err == nil {
				t.Error("a dead connection answers")
			}
			heal()
			if j := reach(t, admin, id, awa.StateCompleted); j.Attempt != 1 {
				t.Errorf("it was completed by attempt %d", j.Attempt)
			}
			stop(t, c)
			requireHealthy(t, admin)
		})
	}
}
