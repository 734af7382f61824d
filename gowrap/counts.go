package awa

import (
	"context"
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

// Counts returns the exact counts of a queue, in time that depends neither on
// its backlog nor on its history.
func (c Client) Counts(ctx context.Context, db DBTX, queue string) (QueueCounts, error) {
	var n QueueCounts
	err := c.columns("f.queue, f.available, f.scheduled, f.retryable, f.running, f.waiting_external, "+
		"f.completed, f.failed, f.cancelled, f.terminal, f.dlq, f.pruned_terminal", "queue_counts").
		arg("queue", "text", queue).
		row(ctx, db).
		Scan(&n.Queue, &n.Available, &n.Scheduled, &n.Retryable, &n.Running, &n.WaitingExternal,
			&n.Completed, &n.Failed, &n.Cancelled, &n.Terminal, &n.DLQ, &n.PrunedTerminal)
	return n, wrap("counts", err)
}
