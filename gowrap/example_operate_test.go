package awa_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	awa "github.com/awaqueue/awa/gowrap"
)

// A job that should not run is cancelled, and retried when it should after all.
func ExampleClient_Cancel() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	id, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "greet"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := queue.Cancel(ctx, pool, id, "nobody home"); err != nil {
		log.Fatal(err)
	}
	job, err := queue.GetJob(ctx, pool, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.State)
	if _, err := queue.Retry(ctx, pool, awa.RetryParams{JobID: id}); err != nil {
		log.Fatal(err)
	}
	waiting, err := queue.ListJobs(ctx, pool, awa.ListJobsParams{Queue: "default", State: awa.StateAvailable})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(waiting), "waiting")
	// Output:
	// cancelled
	// 1 waiting
}

// A deleted job leaves nothing behind.
func ExampleClient_Delete() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	id, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "greet"})
	if err != nil {
		log.Fatal(err)
	}
	deleted, err := queue.Delete(ctx, pool, id)
	if err != nil {
		log.Fatal(err)
	}
	_, err = queue.GetJob(ctx, pool, id)
	fmt.Println(deleted, errors.Is(err, awa.ErrNotFound))
	// Output: true true
}
