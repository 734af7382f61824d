package awa

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Complete closes an attempt as completed. It reports false if the receipt is
// stale: the attempt was closed before, by this worker or by a rescue, and
// nothing changed.
//
// Errors: ErrRetry.
func (c Client) Complete(ctx context.Context, db DBTX, r Receipt) (accepted bool, err error) {
	err = c.value("complete").
		receipt(r).
		row(ctx, db).Scan(&accepted)
	return accepted, wrap("complete", err)
}

// CompleteMany closes attempts as completed, in one statement, and returns the
// stale receipts: none when every one was accepted. Receipts of several claims
// and queues may be mixed, in any order; that in which claims returned them is the
// cheapest.
//
// Errors: ErrRetry.
func (c Client) CompleteMany(ctx context.Context, db DBTX, receipts []Receipt) (stale []Receipt, err error) {
	rows := c.columns(receiptColumns, "complete_many").
		receipts("receipts", receipts).
		rows(ctx, db)
	stale, err = pgx.CollectRows(rows, scanReceipt)
	return stale, wrap("complete many", err)
}
