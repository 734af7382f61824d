package awa_test

import (
	"context"
	"fmt"
	"log"

	awa "github.com/awaqueue/awa/gowrap"
)

// Jobs that differ in their arguments alone go in with one statement.
func ExampleClient_EnqueueMany() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	type page struct {
		URL string `json:"url"`
	}
	pages := make([]page, 10_000)
	for i := range pages {
		pages[i].URL = fmt.Sprintf("https://example.com/%d", i)
	}
	args, err := awa.ArgsOf(pages)
	if err != nil {
		log.Fatal(err)
	}
	ids, err := awa.New().EnqueueMany(ctx, pool, awa.EnqueueManyParams{Kind: "crawl", Args: args})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(ids), "jobs")
	// Output: 10000 jobs
}

// Jobs of any kind go in with one statement, too, all of them or none.
func ExampleClient_EnqueueMixed() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	ids, err := awa.New().EnqueueMixed(ctx, pool, "orders", []awa.EnqueueParams{
		{Kind: "charge", Args: map[string]int{"order": 7}, Priority: 1},
		{Kind: "send_receipt", Args: map[string]int{"order": 7}, Queue: "email"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(ids), "jobs")
	// Output: 2 jobs
}
