package awa_test

import (
	"context"
	"fmt"
	"log"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// Only the kind is required; what is left out keeps the server's default.
func ExampleClient_Enqueue() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	type mail struct {
		To string `json:"to"`
	}
	queue := awa.New()
	if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{
		Kind: "send_email", Args: mail{"a@b.c"}, Queue: "email", Priority: 1,
	}); err != nil {
		log.Fatal(err)
	}
	if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{
		Kind: "send_email", Args: mail{"d@e.f"}, Queue: "email", RunAt: time.Now().Add(time.Hour),
	}); err != nil {
		log.Fatal(err)
	}

	counts, err := queue.Counts(ctx, pool, "email")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(counts.Available, "available,", counts.Scheduled, "scheduled")
	// Output: 1 available, 1 scheduled
}
