package awa

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Violation is a broken invariant of the storage.
type Violation struct {
	Invariant string
	Detail    string
	Expected  *int64 // nil where the invariant is no number
	Actual    *int64
}

// Check tests every invariant of the storage against its rows and returns the
// violations: none when it is healthy. It reads everything that is retained.
//
// Errors: ErrRetry.
func (c Client) Check(ctx context.Context, db DBTX) ([]Violation, error) {
	rows := c.columns("f.invariant, coalesce(f.detail, ''), f.expected, f.actual", "check").
		rows(ctx, db)
	violations, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Violation])
	return violations, wrap("check", err)
}
