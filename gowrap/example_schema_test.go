package awa_test

import (
	"context"
	"fmt"
	"log"

	awa "github.com/awaqueue/awa/gowrap"
)

// Queues that must not meet live in schemas of their own.
func ExampleWithSchema() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()
	installInto(ctx, pool, "billing") // as awa-admin migrate --schema billing does

	billing := awa.WithSchema("billing")
	if _, err := billing.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "charge"}); err != nil {
		log.Fatal(err)
	}
	for _, queue := range []awa.Client{awa.New(), billing} {
		jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default"})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(len(jobs), "in", queue.Schema())
	}
	// Output:
	// 0 in awa
	// 1 in billing
}
