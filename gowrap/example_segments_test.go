package awa_test

import (
	"context"
	"fmt"
	"log"

	awa "github.com/awaqueue/awa/gowrap"
)

// History is reclaimed by the segment: one is sealed, and emptied when all its
// jobs are done. Maintain does both when they are due.
func ExampleClient_Prune() {
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
	if _, err := queue.Complete(ctx, pool, jobs[0].Receipt); err != nil {
		log.Fatal(err)
	}
	for _, step := range []func(context.Context, awa.DBTX) (string, error){queue.Rotate, queue.Prune} {
		outcome, err := step(ctx, pool)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(outcome)
	}
	counts, err := queue.Counts(ctx, pool, "default")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(counts.Completed, "in history,", counts.PrunedTerminal, "pruned")
	// Output:
	// rotated
	// pruned
	// 0 in history, 1 pruned
}

// The slots of the ring: which one takes jobs, and what holds the oldest.
func ExampleClient_StorageStatus() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	slots, err := awa.New().StorageStatus(ctx, pool)
	if err != nil {
		log.Fatal(err)
	}
	phases := map[string]int{}
	for _, slot := range slots {
		phases[slot.Phase]++
	}
	fmt.Println(phases)
	// Output: map[current:1 empty:7]
}

// A reset empties everything, for example between the runs of a load test.
func ExampleClient_Reset() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "greet"}); err != nil {
		log.Fatal(err)
	}
	if err := queue.Reset(ctx, pool, awa.ResetParams{KeepConfig: true}); err != nil {
		log.Fatal(err)
	}
	counts, err := queue.Counts(ctx, pool, "default")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(counts.Available, "left")
	// Output: 0 left
}

// After a dump was restored into another cluster, what waits is offered anew.
func ExampleClient_Rebase() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "greet"}); err != nil {
		log.Fatal(err)
	}
	waiting, err := queue.Rebase(ctx, pool)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(waiting, "waiting")
	// Output: 1 waiting
}
