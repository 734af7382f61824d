package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
	"github.com/awaqueue/awa/gowrap/worker"
)

// Pay is a kind of job.
type Pay struct {
	Amount int `json:"amount"`
}

// Kind implements worker.Args.
func (Pay) Kind() string { return "pay" }

// The bank is asked and answers some day. Until then the job occupies no handler,
// and no worker need run.
func ExampleAttempt_RegisterCallback() {
	pool, done := freshPool()
	defer done()
	ctx := context.Background()

	bank := make(chan awa.CallbackID, 1)
	mux := worker.NewMux()
	worker.Register(mux, func(ctx context.Context, job *worker.Job[Pay]) error {
		id, err := job.RegisterCallback(ctx, 72*time.Hour)
		if err != nil {
			return err
		}
		bank <- id // with the amount
		return worker.Waiting
	})
	client, err := worker.New(worker.Config{
		Pool: pool, Queues: map[string]worker.QueueConfig{"default": {}}, Logger: quiet}, mux)
	if err != nil {
		log.Fatal(err)
	}
	if err := client.Start(ctx); err != nil {
		log.Fatal(err)
	}
	payment, err := worker.EnqueueTyped(ctx, awa.New(), pool, Pay{12}, awa.EnqueueParams{})
	if err != nil {
		log.Fatal(err)
	}
	id := <-bank
	if err := client.Stop(ctx); err != nil {
		log.Fatal(err)
	}

	// The bank's request arrives, in whatever process.
	if err := awa.New().CompleteCallback(ctx, pool, id, json.RawMessage(`{"reference": "B-17"}`)); err != nil {
		log.Fatal(err)
	}
	job, err := awa.New().GetJob(ctx, pool, payment)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.State)
	// Output: completed
}

// The answer comes soon, and there is more to do with it: the handler stays.
func ExampleAttempt_AwaitCallback() {
	pool, done := freshPool()
	defer done()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	bank := make(chan awa.CallbackID, 1)
	mux := worker.NewMux()
	worker.Register(mux, func(ctx context.Context, job *worker.Job[Pay]) error {
		id, err := job.RegisterCallback(ctx, time.Minute)
		if err != nil {
			return err
		}
		bank <- id
		answer, err := job.AwaitCallback(ctx)
		if err != nil {
			return err
		}
		fmt.Println("the bank says", string(answer))
		stop()
		return nil
	})
	client, err := worker.New(worker.Config{
		Pool: pool, Queues: map[string]worker.QueueConfig{"default": {}}, Logger: quiet,
		CallbackPollInterval: 50 * time.Millisecond}, mux)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := worker.EnqueueTyped(ctx, awa.New(), pool, Pay{12}, awa.EnqueueParams{}); err != nil {
		log.Fatal(err)
	}
	go func() {
		if err := awa.New().ResumeCallback(ctx, pool, <-bank, json.RawMessage(`"agreed"`)); err != nil {
			log.Fatal(err)
		}
	}()
	if err := client.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: the bank says "agreed"
}
