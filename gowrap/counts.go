package awa

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// QueueCounts says how many jobs of a queue are in each state.
type QueueCounts struct {
	Queue           string
	Available       int64
	Scheduled       int64
	Retryable       int64
	Running         int64
	WaitingExternal int64
	Completed       int64
	Failed          int64
	Cancelled       int64
	Terminal        int64 // Completed + Failed + Cancelled: still in history
	DLQ             int64 // dead letters
	PrunedTerminal  int64 // terminal jobs whose history was pruned, ever
}

// countColumns are read by position in QueueCounts.targets.
const countColumns = "f.queue, f.available, f.scheduled, f.retryable, f.running, f.waiting_external, " +
	"f.completed, f.failed, f.cancelled, f.terminal, f.dlq, f.pruned_terminal"

func (q *QueueCounts) targets() []any {
	return []any{&q.Queue, &q.Available, &q.Scheduled, &q.Retryable, &q.Running, &q.WaitingExternal,
		&q.Completed, &q.Failed, &q.Cancelled, &q.Terminal, &q.DLQ, &q.PrunedTerminal}
}

// Counts returns the exact counts of a queue, in time that depends neither on
// its backlog nor on its history.
//
// Errors: ErrRetry.
func (c Client) Counts(ctx context.Context, db DBTX, queue string) (QueueCounts, error) {
	var n QueueCounts
	err := c.columns(countColumns, "queue_counts").
		arg("queue", "text", queue).
		row(ctx, db).
		Scan(n.targets()...)
	return n, wrap("counts", err)
}

// ByState returns the jobs in each state; the terminal ones are those not yet pruned.
func (q QueueCounts) ByState() map[JobState]int64 {
	return map[JobState]int64{
		StateAvailable: q.Available, StateScheduled: q.Scheduled, StateRetryable: q.Retryable,
		StateRunning: q.Running, StateWaitingExternal: q.WaitingExternal,
		StateCompleted: q.Completed, StateFailed: q.Failed, StateCancelled: q.Cancelled,
	}
}

// QueueOverview is a queue at a glance.
type QueueOverview struct {
	QueueCounts

	OldestWaiting     time.Duration // how long the first claimable job has waited; zero if none waits
	EnqueuedPerSecond float64       // over about the last minute
	ClosedPerSecond   float64       // attempts that ended, over about the last minute
	Paused            bool
}

// Overview returns the figures of every queue, by name.
//
// Errors: ErrRetry.
func (c Client) Overview(ctx context.Context, db DBTX) ([]QueueOverview, error) {
	rows := c.columns(countColumns+", extract(epoch from coalesce(f.oldest_waiting, '0'))::float8, "+
		"f.enqueued_per_second, f.closed_per_second, f.paused", "queue_overview").
		rows(ctx, db)
	queues, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (q QueueOverview, err error) {
		var waiting float64
		err = row.Scan(append(q.targets(), &waiting, &q.EnqueuedPerSecond, &q.ClosedPerSecond, &q.Paused)...)
		q.OldestWaiting = time.Duration(min(waiting, 9e9) * float64(time.Second)) // 285 years, near the longest
		return q, err
	})
	return queues, wrap("overview", err)
}
