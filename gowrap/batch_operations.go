package awa

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"
)

// Operation is what a batch operation does to each job.
type Operation string

// The operations, and the states of the jobs that they take.
const (
	OperationRetry        Operation = "retry"        // failed and cancelled
	OperationCancel       Operation = "cancel"       // whatever is not terminal
	OperationReprioritize Operation = "reprioritize" // available, scheduled and retryable
	OperationMove         Operation = "move"         // available, scheduled and retryable
	OperationDiscard      Operation = "discard"      // failed
	OperationDelete       Operation = "delete"       // any
)

// BatchState says where a batch operation stands.
type BatchState string

// The states of a batch operation. The last three are final.
const (
	BatchPending   BatchState = "pending"   // nobody has worked on it yet
	BatchRunning   BatchState = "running"   // between two bites, or in one
	BatchDone      BatchState = "done"      // every job has been met
	BatchCancelled BatchState = "cancelled" // see CancelBatchOperation
	BatchFailed    BatchState = "failed"    // it cannot go on: see LastError
)

// BatchFilter says which jobs a batch operation takes: those for which every
// field that is set holds. The zero value means all, see AllJobs.
type BatchFilter struct {
	// Queue of the jobs.
	Queue string `json:"queue,omitempty"`
	// Kind of the jobs.
	Kind string `json:"kind,omitempty"`
	// Tag that the jobs carry.
	Tag string `json:"tag,omitempty"`
	// States that the jobs are in. Defaults to all that the operation takes.
	States []JobState `json:"state,omitempty"`
	// IDs of the jobs.
	IDs []int64 `json:"ids,omitempty"`
	// MinID and MaxID are the first and the last id.
	MinID int64 `json:"min_id,omitempty"`
	MaxID int64 `json:"max_id,omitempty"`
	// CreatedAfter is the earliest time of creation, CreatedBefore the first that is
	// too late.
	CreatedAfter  time.Time `json:"created_after,omitzero"`
	CreatedBefore time.Time `json:"created_before,omitzero"`
}

// BatchSettings are the details of a batch operation.
type BatchSettings struct {
	// Queue to put the jobs into: required to move, optional to retry.
	Queue string `json:"queue,omitempty"`
	// Priority to give them: required to reprioritize, optional to move and to retry.
	Priority int `json:"priority,omitempty"`
	// Reason kept in the errors of cancelled jobs. Optional.
	Reason string `json:"reason,omitempty"`
}

// BatchParams describe a batch operation. Operation is required.
type BatchParams struct {
	Operation Operation
	Filter    BatchFilter
	Settings  BatchSettings
	// AllJobs must be set to start an operation if no field of Filter is.
	AllJobs bool
}

// batch adds the arguments that start_batch_operation and count_batch_jobs share.
func (b *call) batch(p BatchParams) (*call, error) {
	filter, err := document("filter", p.Filter)
	if err != nil {
		return nil, err
	}
	settings, err := document("settings", p.Settings)
	return b.arg("operation", "text", string(p.Operation)).
		document("filter", filter).
		document("settings", settings), err
}

// StartBatchOperation starts to do something to every job that matches a filter
// and exists now, and returns the operation's id. Maintain does the work, in
// bites: a job is taken if it matches when its turn comes. The operation starts
// when the transaction commits, and outlives crashes.
//
// Errors: ErrInvalidArgument, ErrRetry.
func (c Client) StartBatchOperation(ctx context.Context, db DBTX, p BatchParams) (id int64, err error) {
	b, err := c.value("start_batch_operation").batch(p)
	if err != nil {
		return 0, refuse("start batch operation", err)
	}
	if p.AllJobs {
		b.arg("all_jobs", "boolean", true)
	}
	err = b.row(ctx, db).Scan(&id)
	return id, wrap("start batch operation", err)
}

// CountBatchJobs is the number of jobs that a batch operation would meet if it
// were done at this moment. It looks at each job between MinID and MaxID, or at
// each there is.
//
// Errors: ErrInvalidArgument.
func (c Client) CountBatchJobs(ctx context.Context, db DBTX, p BatchParams) (jobs int64, err error) {
	b, err := c.value("count_batch_jobs").batch(p)
	if err != nil {
		return 0, refuse("count batch jobs", err)
	}
	err = b.row(ctx, db).Scan(&jobs)
	return jobs, wrap("count batch jobs", err)
}

// BatchOperation is a batch operation and how far it has come.
type BatchOperation struct {
	ID        int64
	Operation Operation
	Filter    json.RawMessage // as given, with the number of ids in place of the ids
	Settings  json.RawMessage
	State     BatchState
	// Matched jobs were affected, skipped because somebody else changed them
	// meanwhile, or failed: see LastError.
	Matched, Affected, Skipped, Failed int64
	// Cursor is the id up to which jobs have been met, Last the last to meet.
	Cursor, Last int64
	CreatedAt    time.Time
	StartedAt    time.Time // of the first bite; zero before
	FinishedAt   time.Time // zero before
	LastError    string
}

// Finished reports whether the operation has ended, one way or another.
func (b *BatchOperation) Finished() bool { return !b.FinishedAt.IsZero() }

const batchColumns = "f.id, f.operation, f.filter, f.settings, f.state, f.matched, f.affected, f.skipped, f.failed, " +
	"f.cursor_id, f.last_id, f.created_at, f.started_at, f.finished_at, f.last_error"

func scanBatch(row pgx.CollectableRow) (b BatchOperation, err error) {
	err = row.Scan(&b.ID, &b.Operation, &b.Filter, &b.Settings, &b.State, &b.Matched, &b.Affected, &b.Skipped, &b.Failed,
		&b.Cursor, &b.Last, &b.CreatedAt, (*zeronull.Timestamptz)(&b.StartedAt), (*zeronull.Timestamptz)(&b.FinishedAt),
		(*zeronull.Text)(&b.LastError))
	return b, err
}

// RunBatchOperation works on a batch operation now, without waiting for its turn: it
// takes up to maxJobs jobs, 1,000 if that is zero, and returns the operation as it is
// then. It ends early when another transaction holds one of the jobs for longer than
// 50 ms; call it again. Two callers take turns.
//
// Errors: ErrNotFound, ErrInvalidArgument, ErrRetry.
func (c Client) RunBatchOperation(ctx context.Context, db DBTX, id int64, maxJobs int) (BatchOperation, error) {
	rows := c.columns(batchColumns, "run_batch_operation").
		arg("id", "bigint", id).
		integer("max_jobs", maxJobs).
		rows(ctx, db)
	b, err := pgx.CollectExactlyOneRow(rows, scanBatch)
	return b, wrap("run batch operation", err)
}

// GetBatchOperation returns one batch operation. Finished ones are forgotten
// after 90 days.
//
// Errors: ErrNotFound.
func (c Client) GetBatchOperation(ctx context.Context, db DBTX, id int64) (BatchOperation, error) {
	rows := c.columns(batchColumns, "get_batch_operation").
		arg("id", "bigint", id).
		rows(ctx, db)
	b, err := pgx.CollectExactlyOneRow(rows, scanBatch)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	return b, wrap("get batch operation", err)
}

// ListBatchOperations returns up to limit batch operations, the newest first: 100
// if limit is zero. An empty state means all.
//
// Errors: ErrInvalidArgument.
func (c Client) ListBatchOperations(ctx context.Context, db DBTX, state BatchState, limit int) ([]BatchOperation, error) {
	rows := c.columns(batchColumns, "list_batch_operations").
		text("state", string(state)).
		integer("max_operations", limit).
		rows(ctx, db)
	operations, err := pgx.CollectRows(rows, scanBatch)
	return operations, wrap("list batch operations", err)
}

// CancelBatchOperation ends a batch operation where it is: what it has done stays
// done. It waits for a bite that is under way, and reports false if the operation
// is finished or unknown.
func (c Client) CancelBatchOperation(ctx context.Context, db DBTX, id int64) (cancelled bool, err error) {
	err = c.value("cancel_batch_operation").
		arg("id", "bigint", id).
		row(ctx, db).Scan(&cancelled)
	return cancelled, wrap("cancel batch operation", err)
}
