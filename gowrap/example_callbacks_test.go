package awa_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// A payment is sent off and its job waits until the bank answers, whichever
// process the answer reaches.
func ExampleClient_RegisterCallback() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "payment"}); err != nil {
		log.Fatal(err)
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default"})
	if err != nil {
		log.Fatal(err)
	}
	id, err := queue.RegisterCallback(ctx, pool, jobs[0].Receipt, time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	job, err := queue.GetJob(ctx, pool, jobs[0].ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.State)

	// In the handler of the bank's request, which carries the id:
	if err := queue.CompleteCallback(ctx, pool, id, json.RawMessage(`{"reference": "B-17"}`)); err != nil {
		log.Fatal(err)
	}
	job, err = queue.GetJob(ctx, pool, jobs[0].ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.State, string(job.Metadata))
	// Output:
	// waiting_external
	// completed {"_awa_callback_result": {"reference": "B-17"}}
}
