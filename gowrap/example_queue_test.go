package awa_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	awa "github.com/awaqueue/awa/gowrap"
)

// A queue may put its failed jobs aside by itself.
func ExampleClient_ConfigureQueue() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	settings := map[string]any{"dlq_enabled": true, "dlq_retention": "30 days"}
	if err := queue.ConfigureQueue(ctx, pool, "email", settings); err != nil {
		log.Fatal(err)
	}
	if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "greet", Queue: "email"}); err != nil {
		log.Fatal(err)
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "email"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := queue.Fail(ctx, pool, awa.FailParams{Receipt: jobs[0].Receipt, Terminal: true}); err != nil {
		log.Fatal(err)
	}
	depths, err := queue.DLQDepth(ctx, pool, "email")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(depths)
	// Output: [{email 1}]
}

// What is set can be read, and given to another queue.
func ExampleClient_QueueSettings() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	if err := queue.ConfigureQueue(ctx, pool, "email", map[string]any{"max_depth": 1000, "notify": false}); err != nil {
		log.Fatal(err)
	}
	settings, err := queue.QueueSettings(ctx, pool, "email")
	if err != nil {
		log.Fatal(err)
	}
	if err := queue.ConfigureQueue(ctx, pool, "letters", settings); err != nil {
		log.Fatal(err)
	}
	settings, err = queue.QueueSettings(ctx, pool, "letters")
	if err != nil {
		log.Fatal(err)
	}
	var letters struct {
		MaxDepth int64 `json:"max_depth"`
		Notify   bool  `json:"notify"`
	}
	if err := json.Unmarshal(settings, &letters); err != nil {
		log.Fatal(err)
	}
	fmt.Println(letters.MaxDepth, letters.Notify)
	// Output: 1000 false
}

// Claims of a paused queue yield nothing; producers go on.
func ExampleClient_PauseQueue() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	if err := queue.PauseQueue(ctx, pool, "email"); err != nil {
		log.Fatal(err)
	}
	if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "greet", Queue: "email"}); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "email"})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(len(jobs), "claimed")
		if err := queue.ResumeQueue(ctx, pool, "email"); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 0 claimed
	// 1 claimed
}

// A queue whose name has had its day is removed once nothing is left in it.
func ExampleClient_RemoveQueue() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	if err := queue.ConfigureQueue(ctx, pool, "customer 42", map[string]any{"rate_limit": 10}); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		removed, err := queue.RemoveQueue(ctx, pool, "customer 42")
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(removed)
	}
	// Output:
	// true
	// false
}

// While a job holds its unique key, the same call again adds nothing, and the key
// is enough to cancel it.
func ExampleClient_CancelByUniqueKey() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	digest := awa.EnqueueParams{Kind: "digest", UniqueKey: []byte("digest for ada")}
	first, err := queue.Enqueue(ctx, pool, digest)
	if err != nil {
		log.Fatal(err)
	}
	second, err := queue.Enqueue(ctx, pool, digest)
	if err != nil {
		log.Fatal(err)
	}
	cancelled, err := queue.CancelByUniqueKey(ctx, pool, digest.UniqueKey)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(first == second, cancelled)
	// Output: true true
}
