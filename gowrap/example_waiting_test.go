package awa_test

import (
	"context"
	"fmt"
	"log"
	"time"

	awa "github.com/awaqueue/awa/gowrap"
)

// A session that waits is woken by the producer; while nobody waits, producers
// notify nobody.
func ExampleClient_StartWaiting() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()

	queue := awa.New()
	conn, err := pool.Acquire(ctx) // waiting needs a connection of its own
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Release()
	if err := queue.Listen(ctx, conn.Conn()); err != nil {
		log.Fatal(err)
	}
	queues := []string{"email"}
	if err := queue.StartWaiting(ctx, conn.Conn(), queues); err != nil {
		log.Fatal(err)
	}
	// What came before StartWaiting woke nobody: look once before waiting.
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "email"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(jobs), "jobs at first")

	if _, err := queue.Enqueue(ctx, pool, awa.EnqueueParams{Kind: "greet", Queue: "email"}); err != nil {
		log.Fatal(err)
	}
	patience, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	note, err := conn.Conn().WaitForNotification(patience)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("something to do in", note.Payload)
	if err := queue.StopWaiting(ctx, conn.Conn(), queues); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 0 jobs at first
	// something to do in email
}
