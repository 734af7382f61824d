package awa_test

import (
	"context"
	"fmt"
	"log"

	awa "github.com/awaqueue/awa/gowrap"
)

// Every queue at a glance, as a dashboard shows it.
func ExampleClient_Overview() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	for _, name := range []string{"email", "email", "reports"} {
		if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "k", Queue: name}); err != nil {
			log.Fatal(err)
		}
	}
	if err := queue.PauseQueue(ctx, pool, "reports"); err != nil {
		log.Fatal(err)
	}
	queues, err := queue.Overview(ctx, pool)
	if err != nil {
		log.Fatal(err)
	}
	for _, q := range queues {
		fmt.Println(q.Queue, q.Available, "available, waits:", q.OldestWaiting > 0, "paused:", q.Paused)
	}
	// Output:
	// email 2 available, waits: true paused: false
	// reports 1 available, waits: true paused: true
}

// The counts of one queue are exact at every moment.
func ExampleClient_Counts() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	for range 3 {
		if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "k"}); err != nil {
			log.Fatal(err)
		}
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default", MaxJobs: 2})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := queue.Complete(ctx, pool, jobs[0].Receipt); err != nil {
		log.Fatal(err)
	}
	n, err := queue.Counts(ctx, pool, "default")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n.Available, "available,", n.Running, "running,", n.Completed, "completed")
	// Output: 1 available, 1 running, 1 completed
}
