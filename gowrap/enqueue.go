package awa

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// EnqueueParams describes one job. Kind is required; every other field may keep
// its zero value, which leaves the default to the server.
type EnqueueParams struct {
	// Kind says which code runs the job: 1 to 200 characters.
	Kind string
	// Args are the job's arguments: anything json.Marshal accepts, or JSON as
	// json.RawMessage or []byte. Defaults to {}.
	Args any
	// Queue defaults to "default".
	Queue string
	// Priority is 1 (first) to 4. Defaults to 2.
	Priority int
	// RunAt holds the job back until then. Defaults to now.
	RunAt time.Time
	// MaxAttempts is 1 to 1000. Defaults to 25.
	MaxAttempts int
	// Tags, at most 20.
	Tags []string
	// Metadata is kept beside the arguments, in the forms Args allows. Defaults
	// to {}.
	Metadata any
	// UniqueKey admits one job at a time in the states of UniqueStates.
	UniqueKey []byte
	// UniqueStates are the states in which the job holds its key. Defaults to
	// scheduled, available, running, completed and retryable: the key of a job that
	// is done stays taken for as long as the job is in history. Leave out
	// StateCompleted to free it when the job is done.
	UniqueStates StateMask
	// OrderingKey sends jobs with equal keys through one lane of the queue: they are
	// claimed in order. Two of them may run at once all the same, and a retry goes
	// to the end.
	OrderingKey string
	// Deadline is how long one attempt may run. Defaults to no limit.
	Deadline time.Duration
	// ConcurrencyKey, of up to 200 characters, counts the job among those of its
	// queue with the same key: no more than the queue's concurrency_limit of them
	// run at a time. Without such a setting it has no effect.
	ConcurrencyKey string
	// After names jobs, by their ids, that must be completed first: until then the
	// job is scheduled. Maintain makes it available when the last of them is
	// completed, and cancels it when one of them fails for good or is cancelled.
	After []int64
	// FollowUps are enqueued when the job ends. Defaults to none.
	FollowUps *FollowUps
}

// Enqueue adds a job and returns its id. If another job holds the unique key
// its id is returned and nothing is added. The job exists when db's transaction
// commits.
//
// Errors: ErrInvalidArgument, ErrQueueFull; of a job in After that does not exist
// (any more) ErrNotFound, of one that failed or was cancelled ErrWrongState; ErrRetry
// if two transactions want each other's unique keys.
func (c Client) Enqueue(ctx context.Context, db DBTX, p EnqueueParams) (int64, error) {
	args, err := document("args", p.Args)
	if err != nil {
		return 0, refuse("enqueue", err)
	}
	metadata, err := document("metadata", p.Metadata)
	if err != nil {
		return 0, refuse("enqueue", err)
	}
	var followUps json.RawMessage
	if p.FollowUps != nil {
		if followUps, err = document("follow_ups", p.FollowUps); err != nil {
			return 0, refuse("enqueue", err)
		}
	}
	b := c.value("enqueue").
		arg("kind", "text", p.Kind).
		document("args", args).
		text("queue", p.Queue).
		integer("priority", p.Priority).
		timestamp("run_at", p.RunAt).
		integer("max_attempts", p.MaxAttempts).
		texts("tags", p.Tags).
		document("metadata", metadata)
	if p.UniqueKey != nil {
		b.arg("unique_key", "bytea", p.UniqueKey)
	}
	if p.UniqueStates != 0 {
		b.arg("unique_states", "text::bit(8)", p.UniqueStates.String())
	}
	b.text("ordering_key", p.OrderingKey).
		interval("deadline", p.Deadline).
		text("concurrency_key", p.ConcurrencyKey).
		bigints("after", p.After).
		document("follow_ups", followUps)

	var id int64
	err = b.row(ctx, db).Scan(&id)
	return id, wrap("enqueue", err)
}

// MarshalJSON writes the job as awa.enqueue_many(jobs jsonb) reads it.
func (p EnqueueParams) MarshalJSON() ([]byte, error) {
	job := jobDocument{
		Kind: p.Kind, Queue: p.Queue, Priority: p.Priority, MaxAttempts: p.MaxAttempts, Tags: p.Tags,
		OrderingKey: p.OrderingKey, Deadline: microseconds(p.Deadline),
		ConcurrencyKey: p.ConcurrencyKey, After: p.After, FollowUps: p.FollowUps,
	}
	if !p.RunAt.IsZero() {
		at := p.RunAt.UTC() // JSON has no seconds of an offset
		job.RunAt = &at
	}
	if p.UniqueKey != nil {
		job.UniqueKey = fmt.Sprintf(`\x%x`, p.UniqueKey)
	}
	if p.UniqueStates != 0 {
		job.UniqueStates = p.UniqueStates.String()
	}
	return job.marshal(p.Args, p.Metadata)
}
