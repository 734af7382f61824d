package awa

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// RebuiltCounter is one terminal counter that a rebuild corrected.
type RebuiltCounter struct {
	ReadySlot    int16
	Queue        string
	Priority     int16
	EnqueueShard int16
	Before       int64
	After        int64
}

// Drift is what the rebuild corrected.
func (r RebuiltCounter) Drift() int64 { return r.After - r.Before }

// CheckpointTerminalCounters writes down the totals of the terminal counters that
// changed, so that reading them stays short, and returns how many. Maintain does
// it when it is due. It does nothing while another session is at it. A transaction
// around it must be READ COMMITTED.
func (c Client) CheckpointTerminalCounters(ctx context.Context, db DBTX) (keys int64, err error) {
	err = readCommitted(ctx, db, func(db DBTX) error {
		return c.value("checkpoint_terminal_counters").row(ctx, db).Scan(&keys)
	})
	return keys, wrap("checkpoint terminal counters", err)
}

// RebuildTerminalCounters counts the terminal jobs anew and returns the counters
// that had drifted: none when all were right. It is exact beside writers, never
// blocks them, and takes time in proportion to the history that is kept. A
// transaction around it must be READ COMMITTED.
//
// Errors: ErrBusy while another session rebuilds or checkpoints.
func (c Client) RebuildTerminalCounters(ctx context.Context, db DBTX) (counters []RebuiltCounter, err error) {
	err = readCommitted(ctx, db, func(db DBTX) error {
		rows := c.columns("f.ready_slot, f.queue, f.priority, f.enqueue_shard, f.before, f.after",
			"rebuild_terminal_counters").
			rows(ctx, db)
		counters, err = pgx.CollectRows(rows, pgx.RowToStructByPos[RebuiltCounter])
		return err
	})
	return counters, wrap("rebuild terminal counters", err)
}
