package awa_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	awa "github.com/awaqueue/awa/gowrap"
)

// One import at a time for each customer: the second one of a customer waits
// until the first is done, and nobody else waits for it.
func ExampleEnqueueParams_concurrencyKey() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	if err := queue.ConfigureQueue(ctx, pool, "imports", map[string]any{"concurrency_limit": 1}); err != nil {
		log.Fatal(err)
	}
	for _, customer := range []string{"ada", "ada", "bob"} {
		if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{
			Kind: "import " + customer, Queue: "imports", ConcurrencyKey: customer,
		}); err != nil {
			log.Fatal(err)
		}
	}
	for range 2 {
		jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "imports", MaxJobs: 10})
		if err != nil {
			log.Fatal(err)
		}
		for _, job := range jobs {
			fmt.Println(job.Kind)
			if _, err := queue.Complete(ctx, pool, job.Receipt); err != nil {
				log.Fatal(err)
			}
		}
		fmt.Println("--")
	}
	// Output:
	// import ada
	// import bob
	// --
	// import ada
	// --
}

// A service takes ten calls a second and no more than three at once. Whoever
// claims, and however much, the queue hands out no more than that.
func ExampleClient_ConfigureQueue_rateLimit() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	settings := map[string]any{"rate_limit": 10, "rate_burst": 3}
	if err := queue.ConfigureQueue(ctx, pool, "calls", settings); err != nil {
		log.Fatal(err)
	}
	args, err := awa.ArgsOf(make([]struct{}, 100))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := queue.EnqueueMany(ctx, pool, awa.EnqueueManyParams{Kind: "call", Queue: "calls", Args: args}); err != nil {
		log.Fatal(err)
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "calls", MaxJobs: 100})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(jobs), "claimed")
	// Output: 3 claimed
}

// Producers learn that a queue is full, and may turn their own callers away.
func ExampleClient_ConfigureQueue_maxDepth() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	settings := map[string]any{"max_depth": 2, "on_full": "reject"} // "warn" adds the job with a warning
	if err := queue.ConfigureQueue(ctx, pool, "thumbnails", settings); err != nil {
		log.Fatal(err)
	}
	for range 3 {
		_, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "thumbnail", Queue: "thumbnails"})
		switch {
		case errors.Is(err, awa.ErrQueueFull):
			fmt.Println("try again later")
		case err != nil:
			log.Fatal(err)
		default:
			fmt.Println("added")
		}
	}
	// Output:
	// added
	// added
	// try again later
}
