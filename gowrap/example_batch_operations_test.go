package awa_test

import (
	"context"
	"fmt"
	"log"

	awa "github.com/awaqueue/awa/gowrap"
)

// After an incident: count what failed, then have all of it retried in another
// queue. Any worker's maintenance does the work; here the loop stands for it.
func ExampleClient_StartBatchOperation() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	for range 3 {
		if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "charge"}); err != nil {
			log.Fatal(err)
		}
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default", MaxJobs: 3})
	if err != nil {
		log.Fatal(err)
	}
	for _, j := range jobs {
		if _, err := queue.Fail(ctx, pool, awa.FailParams{Receipt: j.Receipt, Error: "bank is down", Terminal: true}); err != nil {
			log.Fatal(err)
		}
	}

	params := awa.BatchParams{
		Operation: awa.OperationRetry,
		Filter:    awa.BatchFilter{Kind: "charge"},
		Settings:  awa.BatchSettings{Queue: "second chance"},
	}
	n, err := queue.CountBatchJobs(ctx, pool, params)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n, "to retry")
	id, err := queue.StartBatchOperation(ctx, pool, params)
	if err != nil {
		log.Fatal(err)
	}
	for {
		if _, err := queue.Maintain(ctx, pool); err != nil {
			log.Fatal(err)
		}
		op, err := queue.GetBatchOperation(ctx, pool, id)
		if err != nil {
			log.Fatal(err)
		}
		if op.Finished() {
			fmt.Printf("%s: %d of %d\n", op.State, op.Affected, op.Matched)
			break
		}
	}
	counts, err := queue.Counts(ctx, pool, "second chance")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(counts.Available, "wait")
	// Output:
	// 3 to retry
	// done: 3 of 3
	// 3 wait
}

// An operation can be driven by hand, and ended before its time.
func ExampleClient_RunBatchOperation() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	for range 5 {
		if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "greet"}); err != nil {
			log.Fatal(err)
		}
	}
	id, err := queue.StartBatchOperation(ctx, pool, awa.BatchParams{Operation: awa.OperationCancel, AllJobs: true})
	if err != nil {
		log.Fatal(err)
	}
	op, err := queue.RunBatchOperation(ctx, pool, id, 2)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(op.State, op.Affected)
	if _, err := queue.CancelBatchOperation(ctx, pool, id); err != nil {
		log.Fatal(err)
	}
	operations, err := queue.ListBatchOperations(ctx, pool, "", 10)
	if err != nil {
		log.Fatal(err)
	}
	for _, op := range operations {
		fmt.Println(op.State, op.Affected)
	}
	// Output:
	// running 2
	// cancelled 2
}
