package awa_test

import (
	"context"
	"fmt"
	"log"

	awa "github.com/awaqueue/awa/gowrap"
)

// Something has to call Maintain now and then: it promotes what is due and
// reclaims what is done.
func ExampleClient_Maintain() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	reports, err := awa.New().Maintain(ctx, pool)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(reports) > 0)
	// Output: true
}

// A healthy storage violates nothing, and its counters have no drift to heal.
func ExampleClient_Check() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	violations, err := queue.Check(ctx, pool)
	if err != nil {
		log.Fatal(err)
	}
	counters, err := queue.RebuildTerminalCounters(ctx, pool)
	if err != nil {
		log.Fatal(err)
	}
	var drift int64
	for _, c := range counters {
		drift += c.Drift()
	}
	fmt.Println(len(violations), "violations, drift", drift)
	// Output: 0 violations, drift 0
}

// Reading the counters stays short while Maintain writes checkpoints of them. A
// program that does not call Maintain may write them itself.
func ExampleClient_CheckpointTerminalCounters() {
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
	if _, err := queue.Complete(ctx, pool, jobs[0].Receipt); err != nil {
		log.Fatal(err)
	}
	changed, err := queue.CheckpointTerminalCounters(ctx, pool)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(changed > 0)
	// Output: true
}

// History is kept for longer.
func ExampleClient_ConfigureStorage() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	settings, err := awa.New().ConfigureStorage(ctx, pool, map[string]any{"history_retention": "6 hours"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(settings))
	// Output: {"worker_silence": "00:01:30", "segment_max_age": "00:10:00", "straggler_limit": 1000, "history_retention": "06:00:00", "segment_max_bytes": 536870912}
}
