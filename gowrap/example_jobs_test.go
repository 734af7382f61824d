package awa_test

import (
	"context"
	"fmt"
	"log"

	awa "github.com/awaqueue/awa/gowrap"
)

// Lists go by pages, the newest job first.
func ExampleClient_ListJobs() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	for _, name := range []string{"Ada", "Grace", "Mary"} {
		_, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "greet", Args: map[string]string{"name": name}})
		if err != nil {
			log.Fatal(err)
		}
	}
	page := awa.ListJobsParams{Kind: "greet", State: awa.StateAvailable, Limit: 2}
	for {
		jobs, err := queue.ListJobs(ctx, pool, page)
		if err != nil {
			log.Fatal(err)
		}
		for _, job := range jobs {
			fmt.Println(string(job.Args))
		}
		if len(jobs) < page.Limit {
			break
		}
		page.Before = jobs[len(jobs)-1].ID
		fmt.Println("next page")
	}
	// Output:
	// {"name": "Mary"}
	// {"name": "Grace"}
	// next page
	// {"name": "Ada"}
}

// One job in any state, with what became of it.
func ExampleClient_GetJob() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	id, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "greet", Tags: []string{"polite"}})
	if err != nil {
		log.Fatal(err)
	}
	job, err := queue.GetJob(ctx, pool, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.Kind, job.State, job.Tags, "attempts:", job.Attempt, "of", job.MaxAttempts)
	// Output: greet available [polite] attempts: 0 of 25
}

// The failed jobs of a kind that nobody will fix are removed.
func ExampleClient_DiscardFailedByKind() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "retired"}); err != nil {
		log.Fatal(err)
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := queue.Fail(ctx, pool, awa.FailParams{Receipt: jobs[0].Receipt, Terminal: true}); err != nil {
		log.Fatal(err)
	}
	discarded, err := queue.DiscardFailedByKind(ctx, pool, "retired", "")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(discarded, "discarded")
	// Output: 1 discarded
}
