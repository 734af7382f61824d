package awa

import "time"

// FollowUps are jobs that are enqueued when another one ends, by the statement that
// ends it, whatever the depth of their queue. "awa:follows" in their metadata is the
// id of that job.
type FollowUps struct {
	// Completed follow when the job is completed.
	Completed []FollowUp `json:"completed,omitempty"`
	// Failed follow when the job fails for good with attempts left.
	Failed []FollowUp `json:"failed,omitempty"`
	// Exhausted follow when the job's last attempt failed.
	Exhausted []FollowUp `json:"exhausted,omitempty"`
}

// FollowUp describes one such job. Kind is required; every other field may keep its
// zero value.
type FollowUp struct {
	// Kind says which code runs the job: 1 to 200 characters.
	Kind string
	// Args in the forms of EnqueueParams.Args. Defaults to {}.
	Args any
	// Queue defaults to that of the job followed.
	Queue string
	// Priority is 1 (first) to 4. Defaults to 2.
	Priority int
	// Delay holds the job back for so long after the end of the other.
	Delay time.Duration
	// MaxAttempts is 1 to 1000. Defaults to 25.
	MaxAttempts int
	// Tags, at most 20.
	Tags []string
	// Metadata in the forms of EnqueueParams.Args. Defaults to {}.
	Metadata any
	// OrderingKey as in EnqueueParams.
	OrderingKey string
	// Deadline is how long one attempt may run. Defaults to no limit.
	Deadline time.Duration
	// ConcurrencyKey as in EnqueueParams.
	ConcurrencyKey string
	// FollowUps of this job in turn.
	FollowUps *FollowUps
}

// MarshalJSON writes the job as follow_ups of awa.enqueue reads it.
func (f FollowUp) MarshalJSON() ([]byte, error) {
	job := jobDocument{
		Kind: f.Kind, Queue: f.Queue, Priority: f.Priority, Delay: microseconds(f.Delay), MaxAttempts: f.MaxAttempts,
		Tags: f.Tags, OrderingKey: f.OrderingKey, Deadline: microseconds(f.Deadline),
		ConcurrencyKey: f.ConcurrencyKey, FollowUps: f.FollowUps,
	}
	return job.marshal(f.Args, f.Metadata)
}
