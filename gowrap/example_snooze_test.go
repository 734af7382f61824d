package awa_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// What a job needs is not there yet: it comes back later, and the attempt is not
// counted.
func ExampleClient_Snooze() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	id, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "import"})
	if err != nil {
		log.Fatal(err)
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default"})
	if err != nil {
		log.Fatal(err)
	}
	accepted, err := queue.Snooze(ctx, pool, jobs[0].Receipt, time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	job, err := queue.GetJob(ctx, pool, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(accepted, job.State, "after", job.Attempt, "attempts")
	// Output: true scheduled after 0 attempts
}

// A worker that must leave gives back what it has claimed and not done: others may
// take it at once.
func ExampleClient_SnoozeMany() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	for range 3 {
		if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "import"}); err != nil {
			log.Fatal(err)
		}
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default", MaxJobs: 3})
	if err != nil {
		log.Fatal(err)
	}
	var receipts []awa.Receipt
	for _, job := range jobs {
		receipts = append(receipts, job.Receipt)
	}
	stale, err := queue.SnoozeMany(ctx, pool, receipts, 0)
	if err != nil {
		log.Fatal(err)
	}
	counts, err := queue.Counts(ctx, pool, "default")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(stale), "stale,", counts.Available, "available")
	// Output: 0 stale, 3 available
}

// A worker finds that a job is pointless: no later attempt would help.
func ExampleClient_CancelAttempt() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	id, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "remind"})
	if err != nil {
		log.Fatal(err)
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := queue.CancelAttempt(ctx, pool, jobs[0].Receipt, "already paid"); err != nil {
		log.Fatal(err)
	}
	job, err := queue.GetJob(ctx, pool, id)
	if err != nil {
		log.Fatal(err)
	}
	var last struct{ Error string }
	if err := json.Unmarshal(job.Errors[len(job.Errors)-1], &last); err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.State+":", last.Error)
	// Output: cancelled: already paid
}
