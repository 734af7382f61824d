package awa

import (
	"encoding/json"
	"time"
)

// JobState is where a job stands.
type JobState string

// The states of a job. Completed, failed and cancelled are terminal.
const (
	StateScheduled       JobState = "scheduled"        // run_at lies in the future
	StateAvailable       JobState = "available"        // may be claimed
	StateRunning         JobState = "running"          // claimed, not finished
	StateCompleted       JobState = "completed"        // done
	StateRetryable       JobState = "retryable"        // failed, waits for its next attempt
	StateFailed          JobState = "failed"           // attempts exhausted or failed for good
	StateCancelled       JobState = "cancelled"        // closed without a result
	StateWaitingExternal JobState = "waiting_external" // waits for a callback
)

// Job is one claimed attempt.
type Job struct {
	Receipt Receipt // names the attempt; hand it to Complete or Fail

	ID          int64
	Kind        string
	Args        json.RawMessage
	Queue       string
	Priority    int16 // 1 (first) to 4, as claimed
	Attempt     int16 // 1 for the first attempt
	MaxAttempts int16
	RunAt       time.Time
	CreatedAt   time.Time
	Tags        []string
	Metadata    json.RawMessage
	Progress    json.RawMessage   // nil if the job never reported any
	Errors      []json.RawMessage // of earlier attempts, oldest first

	DeadlineAt time.Time // zero if the job has no deadline
	// LeaseExpiresAt is the time of the claim plus the lease. The attempt of a
	// registered worker outlives it for as long as the worker sends heartbeats.
	LeaseExpiresAt time.Time
}

// Bind decodes the arguments into v, as json.Unmarshal does.
func (j *Job) Bind(v any) error { return json.Unmarshal(j.Args, v) }
