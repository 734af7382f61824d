package awa_test

import (
	"context"
	"fmt"
	"log"

	awa "github.com/awaqueue/awa/gowrap"
)

// Failed jobs are put aside as dead letters, looked at, and run once more when
// their cause is gone.
func ExampleClient_BulkMoveFailedToDLQ() {
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
	if _, err := queue.Fail(ctx, pool, awa.FailParams{Receipt: jobs[0].Receipt, Error: "no voice", Terminal: true}); err != nil {
		log.Fatal(err)
	}

	moved, err := queue.BulkMoveFailedToDLQ(ctx, pool, awa.BulkMoveFailedParams{Queue: "default", Reason: "to be looked at"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(moved, "moved")
	letters, err := queue.ListDeadLetters(ctx, pool, awa.ListDeadLettersParams{Queue: "default"})
	if err != nil {
		log.Fatal(err)
	}
	for _, letter := range letters {
		fmt.Println(letter.Kind, "is", letter.Reason)
		retried, err := queue.RetryFromDLQ(ctx, pool, awa.RetryParams{JobID: letter.ID})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("retried:", retried)
	}
	// Output:
	// 1 moved
	// greet is to be looked at
	// retried: true
}

// What nobody wants back is purged.
func ExampleClient_PurgeDLQ() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	purged, err := queue.PurgeDLQ(ctx, pool, awa.PurgeDLQParams{
		DeadLetterFilter: awa.DeadLetterFilter{Queue: "default", Kind: "greet"},
	})
	if err != nil {
		log.Fatal(err)
	}
	depths, err := queue.DLQDepth(ctx, pool, "")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(purged, "purged,", len(depths), "queues hold dead letters")
	// Output: 0 purged, 0 queues hold dead letters
}

// One failed job is put aside by its id; the letters of a kind go back together.
func ExampleClient_BulkRetryFromDLQ() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	id, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "greet"})
	if err != nil {
		log.Fatal(err)
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := queue.Fail(ctx, pool, awa.FailParams{Receipt: jobs[0].Receipt, Error: "no voice", Terminal: true}); err != nil {
		log.Fatal(err)
	}
	moved, err := queue.MoveFailedToDLQ(ctx, pool, id, "until the voice is back")
	if err != nil {
		log.Fatal(err)
	}
	retried, err := queue.BulkRetryFromDLQ(ctx, pool, awa.DeadLetterFilter{Kind: "greet"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(moved, retried)
	// Output: true 1
}
