package awa

import (
	"context"
	"time"
)

// FailParams says how an attempt failed. Receipt is required.
type FailParams struct {
	// Receipt of the attempt.
	Receipt Receipt
	// Error is kept in the job's errors. Optional.
	Error string
	// RetryAfter is the delay before the next attempt. Defaults to the backoff of
	// the attempt; see Backoff. For no delay at all pass a microsecond.
	RetryAfter time.Duration
	// Terminal closes the job as failed, whatever attempts it has left.
	Terminal bool
}

// Fail closes an attempt as failed and reports what became of the job:
// StateRetryable if it has attempts left, else StateFailed; StateCancelled if
// another job took its unique key meanwhile. The state is empty if the receipt is
// stale: the attempt was closed before and nothing changed.
//
// Errors: ErrInvalidArgument for a negative delay, ErrRetry.
func (c Client) Fail(ctx context.Context, db DBTX, p FailParams) (JobState, error) {
	b := c.value("fail").asText().
		receipt(p.Receipt).
		text("error", p.Error).
		interval("retry_after", p.RetryAfter)
	if p.Terminal {
		b.arg("terminal", "boolean", true)
	}
	var state *JobState
	if err := b.row(ctx, db).Scan(&state); err != nil {
		return "", wrap("fail", err)
	}
	if state == nil {
		return "", nil
	}
	return *state, nil
}
