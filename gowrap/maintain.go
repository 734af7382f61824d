package awa

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// TaskReport says what one maintenance task did.
type TaskReport struct {
	Task     string
	Outcome  string // "failed": with the error in Detail, and the other tasks are done
	Affected int64  // jobs, rows or segments, as the task counts
	Detail   string
}

// Maintain runs the tasks that are due (promotion, rescue, checkpoints, rotation,
// pruning, …) in small bites and reports on each. Call it every second or so
// from as many processes as you like. A transaction around it must be READ COMMITTED.
func (c Client) Maintain(ctx context.Context, db DBTX) (reports []TaskReport, err error) {
	err = readCommitted(ctx, db, func(db DBTX) error {
		rows := c.columns("f.task, f.outcome, coalesce(f.affected, 0), coalesce(f.detail, '')", "maintain").
			rows(ctx, db)
		reports, err = pgx.CollectRows(rows, pgx.RowToStructByPos[TaskReport])
		return err
	})
	return reports, wrap("maintain", err)
}
