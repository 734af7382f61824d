package awa

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"
)

// MoveFailedToDLQ moves a failed job from history to the dead letters, errors and
// all. The reason is optional. It reports false if history holds no such job; of
// two callers one gets it.
//
// Errors: ErrRetry.
func (c Client) MoveFailedToDLQ(ctx context.Context, db DBTX, jobID int64, reason string) (moved bool, err error) {
	err = c.value("move_failed_to_dlq").
		arg("job_id", "bigint", jobID).
		text("reason", reason).
		row(ctx, db).Scan(&moved)
	return moved, wrap("move failed to dlq", err)
}

// BulkMoveFailedParams says which failed jobs to move. The zero value takes all.
type BulkMoveFailedParams struct {
	// Queue of the jobs. Empty: all queues.
	Queue string
	// Kind of the jobs. Empty: all kinds.
	Kind string
	// Reason kept with the dead letters. Optional.
	Reason string
	// MaxJobs is the most jobs to move, oldest first. Zero: no limit.
	MaxJobs int
}

// BulkMoveFailedToDLQ moves failed jobs from history to the dead letters and
// returns how many.
//
// Errors: ErrInvalidArgument for a negative MaxJobs, ErrRetry.
func (c Client) BulkMoveFailedToDLQ(ctx context.Context, db DBTX, p BulkMoveFailedParams) (jobs int64, err error) {
	err = c.value("bulk_move_failed_to_dlq").
		text("queue", p.Queue).
		text("kind", p.Kind).
		text("reason", p.Reason).
		integer("max_jobs", p.MaxJobs).
		row(ctx, db).Scan(&jobs)
	return jobs, wrap("bulk move failed to dlq", err)
}

// RetryFromDLQ puts a dead letter back into its queue. Its attempts start over,
// its errors stay. It reports false if there is no such dead letter.
//
// Errors: ErrInvalidArgument, ErrDuplicate if another job holds its unique key by
// now; the dead letter then stays.
func (c Client) RetryFromDLQ(ctx context.Context, db DBTX, p RetryParams) (retried bool, err error) {
	err = c.value("retry_from_dlq").retry(p).row(ctx, db).Scan(&retried)
	return retried, wrap("retry from dlq", err)
}

// DeadLetterFilter says which dead letters are meant. The zero value means all.
type DeadLetterFilter struct {
	// Queue of the letters. Empty: all queues.
	Queue string
	// Kind of the letters. Empty: all kinds.
	Kind string
	// Tag that the letters carry. Empty: any or none.
	Tag string
	// MaxJobs is the most letters to take, lowest id first. Zero: no limit.
	MaxJobs int
}

// filter adds the arguments that the bulk functions share.
func (b *call) filter(f DeadLetterFilter) *call {
	return b.text("queue", f.Queue).
		text("kind", f.Kind).
		text("tag", f.Tag).
		integer("max_jobs", f.MaxJobs)
}

// BulkRetryFromDLQ puts dead letters back into their queues and returns how many.
// One whose unique key another job holds by now stays.
//
// Errors: ErrInvalidArgument for a negative MaxJobs.
func (c Client) BulkRetryFromDLQ(ctx context.Context, db DBTX, f DeadLetterFilter) (jobs int64, err error) {
	err = c.value("bulk_retry_from_dlq").filter(f).row(ctx, db).Scan(&jobs)
	return jobs, wrap("bulk retry from dlq", err)
}

// PurgeDLQParams says which dead letters to delete. The zero value deletes all.
type PurgeDLQParams struct {
	DeadLetterFilter
	// OlderThan spares letters that are younger, up to 100 years. Zero: spares none.
	OlderThan time.Duration
}

// PurgeDLQ deletes dead letters for good and returns how many. It skips those that
// another session holds, and never waits.
//
// Errors: ErrInvalidArgument for a negative MaxJobs or OlderThan.
func (c Client) PurgeDLQ(ctx context.Context, db DBTX, p PurgeDLQParams) (jobs int64, err error) {
	err = c.value("purge_dlq").
		filter(p.DeadLetterFilter).
		interval("older_than", p.OlderThan).
		row(ctx, db).Scan(&jobs)
	return jobs, wrap("purge dlq", err)
}

// DLQDepth is the number of dead letters of a queue.
type DLQDepth struct {
	Queue string
	Depth int64
}

// DLQDepth counts the dead letters of a queue or, if it is empty, of every queue.
// Queues that have none are left out.
func (c Client) DLQDepth(ctx context.Context, db DBTX, queue string) ([]DLQDepth, error) {
	rows := c.columns("f.queue, f.depth", "dlq_depth").
		text("queue", queue).
		rows(ctx, db)
	depths, err := pgx.CollectRows(rows, pgx.RowToStructByPos[DLQDepth])
	return depths, wrap("dlq depth", err)
}

// DeadLetter is a failed job that was put aside: a row of awa.dlq_entries.
type DeadLetter struct {
	JobInfo
	Reason           string
	At               time.Time // when it was put aside
	OriginalRunLease int64     // the RunLease of the attempt that failed
}

// ListDeadLettersParams says which dead letters to list. The zero value lists the
// newest of all.
type ListDeadLettersParams struct {
	// Queue of the letters. Empty: all queues.
	Queue string
	// Kind of the letters. Empty: all kinds.
	Kind string
	// Tag that the letters carry. Empty: any or none.
	Tag string
	// Before is the id below which the list begins: the last one of the page
	// before. Zero: begin with the newest.
	Before int64
	// Limit is the most letters to list. Defaults to 100.
	Limit int
}

// ListDeadLetters returns dead letters, highest id first.
func (c Client) ListDeadLetters(ctx context.Context, db DBTX, p ListDeadLettersParams) ([]DeadLetter, error) {
	q := c.from("dlq_entries", jobColumns+", v.dlq_reason, v.dlq_at, v.original_run_lease").
		text("v.queue =", p.Queue).
		text("v.kind =", p.Kind)
	if p.Tag != "" {
		q.where("v.tags @>", "text[]", []string{p.Tag})
	}
	rows := q.before(p.Before).newest(p.Limit).rows(ctx, db)
	letters, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d DeadLetter, err error) {
		err = row.Scan(append(d.targets(), (*zeronull.Text)(&d.Reason), &d.At, &d.OriginalRunLease)...)
		return d, err
	})
	return letters, wrap("list dead letters", err)
}
