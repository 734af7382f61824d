package awa_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// A long job says how far it has come. When it goes back into the queue the next
// attempt takes up from there, and the snooze costs it no attempt.
func ExampleClient_SetProgress() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "export"}); err != nil {
		log.Fatal(err)
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = queue.SetProgress(ctx, pool, awa.ProgressParams{
		Receipt: jobs[0].Receipt, Percent: 40, Message: "4 of 10 files"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := queue.Snooze(ctx, pool, jobs[0].Receipt, time.Microsecond); err != nil {
		log.Fatal(err)
	}

	if _, err := queue.Maintain(ctx, pool); err != nil {
		log.Fatal(err)
	}
	jobs, err = queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("attempt", jobs[0].Attempt, string(jobs[0].Progress))
	// Output: attempt 1 {"message": "4 of 10 files", "percent": 40}
}

// Whoever looks after the workers sees which of them are alive.
func ExampleClient_ListWorkers() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	if err := queue.RegisterWorker(ctx, pool, "worker-1", json.RawMessage(`{"version": "1.4"}`)); err != nil {
		log.Fatal(err)
	}
	workers, err := queue.ListWorkers(ctx, pool)
	if err != nil {
		log.Fatal(err)
	}
	for _, w := range workers {
		fmt.Println(w.Worker, string(w.Info), time.Since(w.HeartbeatAt) < time.Minute)
	}
	// Output: worker-1 {"version": "1.4"} true
}

// A claim was committed, and its answer lost on the way. The worker's heartbeat keeps the
// job alive, so the worker has it rescued.
func ExampleClient_RescueUnknown() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	for range 2 {
		if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "resize"}); err != nil {
			log.Fatal(err)
		}
	}
	known, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default", Worker: "worker-1"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default", Worker: "worker-1"}); err != nil {
		log.Fatal(err) // and here it is lost
	}
	rescued, err := queue.RescueUnknown(ctx, pool, "worker-1", []awa.Receipt{known[0].Receipt})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(rescued, "rescued")
	// Output: 1 rescued
}

// A worker with a name learns from its heartbeat which of its attempts somebody
// else closed.
func ExampleClient_Heartbeat() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	if err := queue.RegisterWorker(ctx, pool, "worker-1", nil); err != nil {
		log.Fatal(err)
	}
	id, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "report"})
	if err != nil {
		log.Fatal(err)
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default", Worker: "worker-1"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := queue.Cancel(ctx, pool, id, "not needed any more"); err != nil {
		log.Fatal(err)
	}

	notices, err := queue.Heartbeat(ctx, pool, "worker-1")
	if err != nil {
		log.Fatal(err)
	}
	for _, n := range notices {
		fmt.Println(n.Receipt == jobs[0].Receipt, n.Reason)
	}
	accepted, err := queue.Complete(ctx, pool, jobs[0].Receipt)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("accepted:", accepted)
	// Output:
	// true not needed any more
	// accepted: false
}
