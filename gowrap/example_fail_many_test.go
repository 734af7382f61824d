package awa_test

import (
	"context"
	"fmt"
	"log"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// A batch fails together: here the service that all its jobs need is down.
func ExampleClient_FailMany() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	for range 3 {
		if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "push"}); err != nil {
			log.Fatal(err)
		}
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default", MaxJobs: 3})
	if err != nil {
		log.Fatal(err)
	}
	failed := awa.FailManyParams{RetryAfter: time.Minute}
	for _, job := range jobs {
		failed.Receipts = append(failed.Receipts, job.Receipt)
		failed.Errors = append(failed.Errors, "connection refused")
	}
	results, err := queue.FailMany(ctx, pool, failed)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range results {
		fmt.Println(r.State)
	}
	// Output:
	// retryable
	// retryable
	// retryable
}

// The delay after each failed attempt, unless FailParams says another: a second,
// doubled each time, and up to a quarter more at random.
func ExampleClient_Backoff() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	for attempt := 1; attempt <= 3; attempt++ {
		delay, err := awa.New().Backoff(ctx, pool, attempt)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("attempt", attempt, "at least", delay.Truncate(time.Second))
	}
	// Unordered output:
	// attempt 1 at least 1s
	// attempt 2 at least 2s
	// attempt 3 at least 4s
}
