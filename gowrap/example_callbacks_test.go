package awa_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

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

// The outside could not do it. That is a failed attempt: the job comes back.
func ExampleClient_FailCallback() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()
	queue := awa.New()
	job, id := askedBank(ctx, pool)

	if err := queue.FailCallback(ctx, pool, id, "account unknown"); err != nil {
		log.Fatal(err)
	}
	info, err := queue.GetJob(ctx, pool, job.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.State, "after", info.Attempt, "attempt")

	// An id is good for one answer.
	err = queue.FailCallback(ctx, pool, id, "account unknown")
	fmt.Println(errors.Is(err, awa.ErrNotFound))
	// Output:
	// retryable after 1 attempt
	// true
}

// The outside asks to be asked again: the job starts over, at once.
func ExampleClient_RetryCallback() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()
	queue := awa.New()
	_, id := askedBank(ctx, pool)

	if err := queue.RetryCallback(ctx, pool, id); err != nil {
		log.Fatal(err)
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(jobs[0].Kind, "attempt", jobs[0].Attempt)
	// Output: payment attempt 1
}

// The answer is one step of the job, and the worker that waits for it goes on with
// the same receipt.
func ExampleClient_ResumeCallback() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()
	queue := awa.New()
	job, id := askedBank(ctx, pool)

	// The worker looks now and then.
	status, err := queue.CallbackStatus(ctx, pool, job.Receipt)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status.Open, status.Waiting == id)

	// Meanwhile, in the handler of the bank's request:
	if err := queue.ResumeCallback(ctx, pool, id, json.RawMessage(`{"reference": "B-17"}`)); err != nil {
		log.Fatal(err)
	}

	status, err = queue.CallbackStatus(ctx, pool, job.Receipt)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status.Open, status.Waiting == "", string(status.Payload))
	accepted, err := queue.Complete(ctx, pool, job.Receipt)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("completed:", accepted)
	// Output:
	// true true
	// true true {"reference": "B-17"}
	// completed: true
}

// A worker that does not stay for the answer leaves the job to whoever claims it
// then.
func ExampleClient_Park() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()
	queue := awa.New()
	job, id := askedBank(ctx, pool)

	if _, err := queue.Park(ctx, pool, job.Receipt); err != nil {
		log.Fatal(err)
	}

	// In the handler of the bank's request, a day later:
	if err := queue.ResumeCallback(ctx, pool, id, json.RawMessage(`"B-17"`)); err != nil {
		log.Fatal(err)
	}
	jobs, err := queue.Claim(ctx, pool, awa.ClaimParams{Queue: "default"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("attempt", jobs[0].Attempt, string(jobs[0].Metadata))
	// Output: attempt 1 {"_awa_callback_result": "B-17"}
}

// The outside needs longer than it was given, and says so in time.
func ExampleClient_HeartbeatCallback() {
	ctx := context.Background()
	pool, done := freshPool(ctx)
	defer done()
	queue := awa.New()
	job, id := askedBank(ctx, pool)

	if err := queue.HeartbeatCallback(ctx, pool, id, 48*time.Hour); err != nil {
		log.Fatal(err)
	}
	info, err := queue.GetJob(ctx, pool, job.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.State, time.Until(info.CallbackTimeoutAt).Round(time.Hour))
	// Output: waiting_external 48h0m0s
}

// askedBank returns a payment that waits for the bank, and the id of the answer.
func askedBank(ctx context.Context, pool *pgxpool.Pool) (awa.Job, awa.CallbackID) {
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
	return jobs[0], id
}
