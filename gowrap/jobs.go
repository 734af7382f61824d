package awa

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"
)

// JobInfo is a job as it stands, in any state: a row of awa.jobs. What is null
// there is the zero value here.
type JobInfo struct {
	ID                int64
	Kind              string
	Queue             string
	Args              json.RawMessage
	State             JobState
	Priority          int16
	Attempt           int16 // attempts begun
	MaxAttempts       int16
	RunAt             time.Time // zero if it is infinity, as while the job waits for other jobs or a slot of its concurrency key
	HeartbeatAt       time.Time
	DeadlineAt        time.Time
	AttemptedAt       time.Time
	FinalizedAt       time.Time // zero unless the job is terminal
	CreatedAt         time.Time
	Errors            []json.RawMessage // oldest first
	Metadata          json.RawMessage
	Tags              []string
	UniqueKey         []byte
	UniqueStates      StateMask
	CallbackID        CallbackID
	CallbackTimeoutAt time.Time
	RunLease          int64 // counts every attempt, also those before a retry
	Progress          json.RawMessage
}

// jobColumns are read by position in JobInfo.targets.
const jobColumns = `v.id, v.kind, v.queue, v.args, v.state::text, v.priority, v.attempt, v.max_attempts, ` +
	`case when isfinite(v.run_at) then v.run_at end, v.heartbeat_at, v.deadline_at, v.attempted_at, v.finalized_at, v.created_at, ` +
	`v.errors, v.metadata, v.tags, v.unique_key, coalesce(v.unique_states::integer, 0), ` +
	`v.callback_id::text, v.callback_timeout_at, v.run_lease, v.progress`

func (j *JobInfo) targets() []any {
	null := func(t *time.Time) any { return (*zeronull.Timestamptz)(t) }
	return []any{
		&j.ID, &j.Kind, &j.Queue, &j.Args, &j.State, &j.Priority, &j.Attempt, &j.MaxAttempts,
		null(&j.RunAt), null(&j.HeartbeatAt), null(&j.DeadlineAt), null(&j.AttemptedAt), null(&j.FinalizedAt), &j.CreatedAt,
		&j.Errors, &j.Metadata, &j.Tags, &j.UniqueKey, &j.UniqueStates,
		(*zeronull.Text)(&j.CallbackID), null(&j.CallbackTimeoutAt), &j.RunLease, &j.Progress,
	}
}

// jobs starts a call of a function that returns rows of awa.jobs.
func (c Client) jobs(function string) *call {
	return c.start("select "+jobColumns+" from ", function, ") as v")
}

func scanJob(row pgx.CollectableRow) (j JobInfo, err error) {
	err = row.Scan(j.targets()...)
	return j, err
}

// GetJob returns a job in any state. A dead letter is no job any more, nor is
// one whose history was pruned.
//
// Errors: ErrNotFound, ErrRetry.
func (c Client) GetJob(ctx context.Context, db DBTX, jobID int64) (JobInfo, error) {
	rows := c.jobs("get_job").arg("job_id", "bigint", jobID).rows(ctx, db)
	job, err := pgx.CollectOneRow(rows, scanJob)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	return job, wrap("get job", err)
}

// ListJobsParams says which jobs to list. The zero value lists the newest of all.
type ListJobsParams struct {
	// Queue of the jobs. Empty: all queues.
	Queue string
	// Kind of the jobs. Empty: all kinds.
	Kind string
	// State of the jobs. Empty: all states.
	State JobState
	// Before is the id below which the list begins: the last one of the page
	// before. Zero: begin with the newest.
	Before int64
	// Limit is the most jobs to list. Defaults to 100.
	Limit int
}

// ListJobs returns jobs, highest id first.
//
// Errors: ErrInvalidArgument for a negative limit, ErrRetry.
func (c Client) ListJobs(ctx context.Context, db DBTX, p ListJobsParams) ([]JobInfo, error) {
	b := c.jobs("list_jobs").
		text("queue", p.Queue).
		text("kind", p.Kind)
	if p.State != "" {
		b.arg("state", "text::"+b.schema+".job_state", string(p.State))
	}
	if p.Before != 0 {
		b.arg("before", "bigint", p.Before)
	}
	rows := b.integer("max_jobs", p.Limit).rows(ctx, db)
	jobs, err := pgx.CollectRows(rows, scanJob)
	return jobs, wrap("list jobs", err)
}
