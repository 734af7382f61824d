package awa

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// RebuiltCounter is one terminal counter before and after a rebuild.
type RebuiltCounter struct {
	ReadySlot    int16
	Queue        string
	Priority     int16
	EnqueueShard int16
	Before       int64
	After        int64
}

// Drift is what the rebuild corrected; 0 for a counter that was right.
func (r RebuiltCounter) Drift() int64 { return r.After - r.Before }

// CheckpointTerminalCounters writes down the totals of the terminal counters, so
// that reading them stays short. Maintain does it when it is due.
func (c Client) CheckpointTerminalCounters(ctx context.Context, db DBTX) error {
	_, err := db.Exec(ctx, c.value("checkpoint_terminal_counters").build())
	return wrap("checkpoint terminal counters", err)
}

// RebuildTerminalCounters counts the terminal jobs anew and reports every
// counter. It is exact beside writers, and takes time in proportion to the
// history that is kept.
func (c Client) RebuildTerminalCounters(ctx context.Context, db DBTX) ([]RebuiltCounter, error) {
	rows := c.columns("f.ready_slot, f.queue, f.priority, f.enqueue_shard, f.before, f.after",
		"rebuild_terminal_counters").
		rows(ctx, db)
	counters, err := pgx.CollectRows(rows, pgx.RowToStructByPos[RebuiltCounter])
	return counters, wrap("rebuild terminal counters", err)
}
