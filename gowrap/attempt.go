package awa

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
)

// Snooze puts a running job back for later: it is scheduled, or with a delay of
// zero available at once, and the attempt is not counted. Progress stays. If
// another job took its unique key meanwhile the job is cancelled, and its error
// says so. It reports false if the receipt is stale.
//
// Errors: ErrInvalidArgument for a negative delay, ErrRetry.
func (c Client) Snooze(ctx context.Context, db DBTX, r Receipt, delay time.Duration) (accepted bool, err error) {
	err = c.value("snooze").
		receipt(r).
		duration("delay", delay).
		row(ctx, db).Scan(&accepted)
	return accepted, wrap("snooze", err)
}

// SnoozeMany is Snooze for many attempts, in one statement, and returns the stale
// receipts: none when every one was accepted. With a delay of zero it gives back
// what a worker claimed and will not do.
//
// Errors: ErrInvalidArgument for a negative delay, ErrRetry.
func (c Client) SnoozeMany(ctx context.Context, db DBTX, receipts []Receipt, delay time.Duration) (stale []Receipt, err error) {
	rows := c.columns(receiptColumns, "snooze_many").
		receipts("receipts", receipts).
		duration("delay", delay).
		rows(ctx, db)
	stale, err = pgx.CollectRows(rows, scanReceipt)
	return stale, wrap("snooze many", err)
}

// CancelAttempt closes a running attempt as cancelled: the worker gives the job
// up for good. The reason is kept in the job's errors; empty says "cancelled". It
// reports false if the receipt is stale.
//
// Errors: ErrRetry.
func (c Client) CancelAttempt(ctx context.Context, db DBTX, r Receipt, reason string) (accepted bool, err error) {
	err = c.value("cancel_attempt").
		receipt(r).
		text("reason", reason).
		row(ctx, db).Scan(&accepted)
	return accepted, wrap("cancel attempt", err)
}

// ExtendLease gives running attempts a lease of that length from now and returns
// the stale receipts: none when every one was extended. A lease of zero means 5
// minutes. A worker that sends heartbeats needs no extension.
//
// Errors: ErrInvalidArgument, ErrRetry.
func (c Client) ExtendLease(ctx context.Context, db DBTX, receipts []Receipt, lease time.Duration) (stale []Receipt, err error) {
	rows := c.columns(receiptColumns, "extend_lease").
		receipts("receipts", receipts).
		interval("lease", lease).
		rows(ctx, db)
	stale, err = pgx.CollectRows(rows, scanReceipt)
	return stale, wrap("extend lease", err)
}

// ProgressParams says how far an attempt has come. Receipt is required.
type ProgressParams struct {
	// Receipt of the attempt.
	Receipt Receipt
	// Percent done; kept within 0 to 100.
	Percent int
	// Message replaces the last one. Optional.
	Message string
	// Metadata is an object whose keys are merged into the earlier ones. Optional.
	Metadata json.RawMessage
}

// SetProgress records how far a running attempt has come. The next attempt of the
// job finds it in Job.Progress; a completed job has none. It reports false if the
// receipt is stale.
//
// Errors: ErrInvalidArgument, ErrRetry.
func (c Client) SetProgress(ctx context.Context, db DBTX, p ProgressParams) (accepted bool, err error) {
	err = c.value("set_progress").
		receipt(p.Receipt).
		number("percent", p.Percent).
		text("message", p.Message).
		document("metadata", p.Metadata).
		row(ctx, db).Scan(&accepted)
	return accepted, wrap("set progress", err)
}
