package awa

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// FailManyParams says how attempts failed. Receipts is required.
type FailManyParams struct {
	// Receipts of the attempts.
	Receipts []Receipt
	// Errors holds one text for each receipt, or nothing.
	Errors []string
	// RetryAfter is the delay before the next attempt. Defaults to the backoff of
	// each attempt; see Backoff. For no delay at all pass a microsecond.
	RetryAfter time.Duration
	// Terminal closes the jobs as failed, whatever attempts they have left.
	Terminal bool
}

// FailManyResult is what became of one job.
type FailManyResult struct {
	Receipt Receipt
	State   JobState // StateRetryable, StateFailed or StateCancelled, as Fail says
}

// FailMany closes attempts as failed, in one statement, and reports on each
// receipt that was accepted, in the order given. Stale receipts are left out.
//
// Errors: ErrInvalidArgument, ErrRetry.
func (c Client) FailMany(ctx context.Context, db DBTX, p FailManyParams) ([]FailManyResult, error) {
	b := c.columns("(f.receipt).ready_slot, (f.receipt).batch_id, (f.receipt).job_id, (f.receipt).run_lease, "+
		"f.state::text", "fail_many").
		receipts("receipts", p.Receipts).
		texts("errors", p.Errors).
		interval("retry_after", p.RetryAfter)
	if p.Terminal {
		b.arg("terminal", "boolean", true)
	}
	results, err := pgx.CollectRows(b.rows(ctx, db), func(row pgx.CollectableRow) (r FailManyResult, err error) {
		err = row.Scan(&r.Receipt.ReadySlot, &r.Receipt.BatchID, &r.Receipt.JobID, &r.Receipt.RunLease, &r.State)
		return r, err
	})
	return results, wrap("fail many", err)
}
