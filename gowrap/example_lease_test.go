package awa_test

import (
	"context"
	"fmt"
	"log"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// A worker without heartbeats has until the end of its lease. One that needs
// longer says so in time; else Maintain takes the job for lost.
func ExampleClient_ExtendLease() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	for _, kind := range []string{"slow", "lost"} {
		if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: kind}); err != nil {
			log.Fatal(err)
		}
	}
	// So short a lease has run out when the next call begins.
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default", MaxJobs: 2, Lease: time.Microsecond})
	if err != nil {
		log.Fatal(err)
	}
	stale, err := queue.ExtendLease(ctx, pool, []awa.Receipt{jobs[0].Receipt}, 10*time.Minute)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(stale), "stale")
	if _, err := queue.Maintain(ctx, pool); err != nil {
		log.Fatal(err)
	}
	for _, job := range jobs {
		now, err := queue.GetJob(ctx, pool, job.ID)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(now.Kind, "is", now.State)
	}
	// Output:
	// 0 stale
	// slow is running
	// lost is retryable
}
