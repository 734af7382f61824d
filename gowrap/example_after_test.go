package awa_test

import (
	"context"
	"fmt"
	"log"

	awa "github.com/awaqueue/awa/gowrap"
)

// A report is made when both of its sources are loaded. Had one of them failed
// for good, the report would be cancelled.
func ExampleEnqueueParams_after() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	sources, err := queue.EnqueueMixed(ctx, pool, "", []awa.EnqueueParams{{Kind: "load orders"}, {Kind: "load stock"}})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "report", After: sources}); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default", MaxJobs: 10})
		if err != nil {
			log.Fatal(err)
		}
		for _, job := range jobs {
			fmt.Println(job.Kind)
			if _, err := queue.Complete(ctx, pool, job.Receipt); err != nil {
				log.Fatal(err)
			}
		}
		// A worker.Client does this by itself.
		if _, err := queue.Maintain(ctx, pool); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// load orders
	// load stock
	// report
}
