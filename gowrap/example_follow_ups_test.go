package awa_test

import (
	"context"
	"fmt"
	"log"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// An upload that gives up for good leaves word, and one that succeeds is tidied up
// after an hour.
func ExampleFollowUps() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	_, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{
		Kind: "upload", MaxAttempts: 1,
		FollowUps: &awa.FollowUps{
			Completed: []awa.FollowUp{{Kind: "remove_source", Delay: time.Hour}},
			Exhausted: []awa.FollowUp{{Kind: "alert", Args: map[string]string{"to": "ops"}, Queue: "alerts"}},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := queue.Fail(ctx, pool, awa.FailParams{Receipt: jobs[0].Receipt, Error: "disk full"}); err != nil {
		log.Fatal(err)
	}
	alerts, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "alerts"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(alerts[0].Kind, string(alerts[0].Args))
	// Output: alert {"to": "ops"}
}
