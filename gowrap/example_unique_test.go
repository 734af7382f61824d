package awa_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	awa "github.com/awaqueue/awa/gowrap"
)

// One job at a time for a kind and its arguments: the key is made of both, and
// the mask frees it when the job is done.
func ExampleClient_UniqueKeyOf() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	args := json.RawMessage(`{"customer": 7}`)
	key, err := queue.UniqueKeyOf(ctx, pool, "sync", "", args)
	if err != nil {
		log.Fatal(err)
	}
	sync := awa.EnqueueParams{Kind: "sync", Args: args, UniqueKey: key, UniqueStates: awa.InStates(
		awa.StateScheduled, awa.StateAvailable, awa.StateRunning, awa.StateRetryable)}

	var ids []int64
	enqueue := func() {
		id, err := queue.Enqueue(ctx, pool, sync)
		if err != nil {
			log.Fatal(err)
		}
		ids = append(ids, id)
	}
	enqueue()
	enqueue() // adds nothing: the first one holds the key
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default", MaxJobs: 10})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := queue.Complete(ctx, pool, jobs[0].Receipt); err != nil {
		log.Fatal(err)
	}
	enqueue()
	fmt.Println(len(jobs), "claimed;", ids[0] == ids[1], ids[1] == ids[2])
	// Output: 1 claimed; true false
}
