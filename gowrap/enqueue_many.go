package awa

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// EnqueueManyParams describes jobs that differ in their arguments alone. Kind is
// required; every other field may keep its zero value, which leaves the default
// to the server.
type EnqueueManyParams struct {
	// Kind of every job: 1 to 200 characters.
	Kind string
	// Args holds one JSON document a job; see ArgsOf. None: nothing is added.
	Args []json.RawMessage
	// Queue defaults to "default".
	Queue string
	// Priority is 1 (first) to 4. Defaults to 2.
	Priority int
	// RunAt holds the jobs back until then. Defaults to now.
	RunAt time.Time
	// MaxAttempts is 1 to 1000. Defaults to 25.
	MaxAttempts int
	// Tags of every job, at most 20.
	Tags []string
	// Metadata of every job. Defaults to {}.
	Metadata any
	// OrderingKey of every job: they go through one lane of the queue, in order.
	OrderingKey string
	// Deadline is how long one attempt may run. Defaults to no limit.
	Deadline time.Duration
}

// EnqueueMany adds one job for each of p.Args in one statement and returns the
// ids in the same order. It is the fast way in: one call of 100,000 is well
// within reason.
//
// Errors: ErrInvalidArgument, ErrQueueFull; then no job was added.
func (c Client) EnqueueMany(ctx context.Context, db DBTX, p EnqueueManyParams) ([]int64, error) {
	metadata, err := document("metadata", p.Metadata)
	if err != nil {
		return nil, refuse("enqueue many", err)
	}
	args := make([]string, len(p.Args))
	for i, doc := range p.Args {
		args[i] = string(doc)
	}
	var ids []int64
	err = c.value("enqueue_many").
		arg("kind", "text", p.Kind).
		arg("args", "jsonb[]", args).
		text("queue", p.Queue).
		integer("priority", p.Priority).
		timestamp("run_at", p.RunAt).
		integer("max_attempts", p.MaxAttempts).
		texts("tags", p.Tags).
		document("metadata", metadata).
		text("ordering_key", p.OrderingKey).
		interval("deadline", p.Deadline).
		row(ctx, db).Scan(&ids)
	return ids, wrap("enqueue many", err)
}

// EnqueueMixed adds jobs of any kind in one statement and returns their ids in
// the same order. A job whose Queue is empty goes to queue, and if that is empty
// too to "default". A job whose unique key is held yields the id of the holder.
//
// Errors: those of Enqueue; then no job was added.
func (c Client) EnqueueMixed(ctx context.Context, db DBTX, queue string, jobs []EnqueueParams) ([]int64, error) {
	docs := make([]json.RawMessage, len(jobs))
	for i, job := range jobs {
		doc, err := job.MarshalJSON()
		if err != nil {
			return nil, refuse("enqueue mixed", fmt.Errorf("job %d: %w", i, err))
		}
		docs[i] = doc
	}
	doc, err := json.Marshal(docs)
	if err != nil {
		return nil, refuse("enqueue mixed", err)
	}
	var ids []int64
	err = c.value("enqueue_many").
		document("jobs", doc).
		text("queue", queue).
		row(ctx, db).Scan(&ids)
	return ids, wrap("enqueue mixed", err)
}
