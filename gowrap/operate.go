package awa

import (
	"context"
	"time"
)

// Cancel ends a job that is not terminal: a waiting one never runs, a running
// attempt is closed at once and its worker's finish is stale. The reason is kept
// in the job's errors; empty says "cancelled". It reports false if the job is
// terminal or unknown.
//
// Errors: ErrRetry.
func (c Client) Cancel(ctx context.Context, db DBTX, jobID int64, reason string) (cancelled bool, err error) {
	err = c.value("cancel").
		arg("job_id", "bigint", jobID).
		text("reason", reason).
		row(ctx, db).Scan(&cancelled)
	return cancelled, wrap("cancel", err)
}

// CancelByUniqueKey cancels the job that holds a unique key, as Cancel does. It
// reports false if none holds it, or one that is terminal.
//
// Errors: ErrRetry.
func (c Client) CancelByUniqueKey(ctx context.Context, db DBTX, key []byte) (cancelled bool, err error) {
	err = c.value("cancel_by_unique_key").
		arg("unique_key", "bytea", key).
		row(ctx, db).Scan(&cancelled)
	return cancelled, wrap("cancel by unique key", err)
}

// RetryParams says which job to run once more, and what to change about it.
// JobID is required.
type RetryParams struct {
	// JobID names the job.
	JobID int64
	// Queue to put it into. Defaults to the one it was in.
	Queue string
	// Priority to give it. Defaults to the one it had.
	Priority int
	// RunAt holds it back until then. Defaults to now.
	RunAt time.Time
}

// retry adds the arguments that retry and retry_from_dlq share.
func (b *call) retry(p RetryParams) *call {
	return b.arg("job_id", "bigint", p.JobID).
		text("queue", p.Queue).
		integer("priority", p.Priority).
		timestamp("run_at", p.RunAt)
}

// Retry puts a failed or cancelled job of the history back into its queue. Its
// attempts start over, its errors stay. It reports false if history holds no
// such job; of two callers one gets it.
//
// Errors: ErrInvalidArgument, ErrRetry, ErrDuplicate if another job holds its unique
// key by now.
func (c Client) Retry(ctx context.Context, db DBTX, p RetryParams) (retried bool, err error) {
	err = c.value("retry").retry(p).row(ctx, db).Scan(&retried)
	return retried, wrap("retry", err)
}

// Delete removes a job wherever it is: waiting, running, terminal or a dead
// letter. A running attempt is closed, its worker's finish is stale. It reports
// false if the job is nowhere.
//
// Errors: ErrRetry.
func (c Client) Delete(ctx context.Context, db DBTX, jobID int64) (deleted bool, err error) {
	err = c.value("delete_job_compat").
		arg("p_id", "bigint", jobID).
		row(ctx, db).Scan(&deleted)
	return deleted, wrap("delete", err)
}

// DiscardFailedByKind removes the failed jobs of a kind from history, in one
// queue or, if it is empty, in all, and returns how many. Dead letters stay: see
// PurgeDLQ.
//
// Errors: ErrRetry.
func (c Client) DiscardFailedByKind(ctx context.Context, db DBTX, kind, queue string) (jobs int64, err error) {
	err = c.value("discard_failed_by_kind").
		arg("kind", "text", kind).
		text("queue", queue).
		row(ctx, db).Scan(&jobs)
	return jobs, wrap("discard failed by kind", err)
}
