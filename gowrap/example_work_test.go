package awa_test

import (
	"context"
	"fmt"
	"log"

	awa "github.com/awaqueue/awa/gowrap"
)

// The whole cycle of a worker: claim a batch, do the work, complete the batch
// through its receipts.
func ExampleClient_Claim() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	for _, name := range []string{"Ada", "Grace"} {
		if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "greet", Args: map[string]string{"name": name}}); err != nil {
			log.Fatal(err)
		}
	}

	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default", MaxJobs: 100})
	if err != nil {
		log.Fatal(err)
	}
	var receipts []awa.Receipt
	for _, job := range jobs {
		var args struct{ Name string }
		if err := job.Bind(&args); err != nil {
			log.Fatal(err)
		}
		fmt.Println("Hello,", args.Name)
		receipts = append(receipts, job.Receipt)
	}
	stale, err := queue.CompleteMany(ctx, pool, receipts)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(stale), "stale")
	// Output:
	// Hello, Ada
	// Hello, Grace
	// 0 stale
}

// A receipt is good once. Whoever comes second learns it and changes nothing.
func ExampleClient_Complete() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "greet"}); err != nil {
		log.Fatal(err)
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default"})
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		accepted, err := queue.Complete(ctx, pool, jobs[0].Receipt)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(accepted)
	}
	// Output:
	// true
	// false
}

// A failed attempt is retried while attempts are left, unless the failure is for
// good.
func ExampleClient_Fail() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	for _, kind := range []string{"flaky", "hopeless"} {
		if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: kind}); err != nil {
			log.Fatal(err)
		}
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default", MaxJobs: 2})
	if err != nil {
		log.Fatal(err)
	}
	for _, job := range jobs {
		state, err := queue.Fail(ctx, pool, awa.FailParams{
			Receipt: job.Receipt, Error: "no route to host", Terminal: job.Kind == "hopeless",
		})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(job.Kind, "is", state)
	}
	// Output:
	// flaky is retryable
	// hopeless is failed
}
