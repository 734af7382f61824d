package awa

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// SegmentStatus is one slot of the ring. What is not known of a slot is nil.
type SegmentStatus struct {
	Slot       int16
	Generation *int64 // counts the segments ever made
	Phase      string // current, sealed or empty
	RotatedAt  *time.Time
	Bytes      int64
	Waiting    *int64 // jobs not claimed yet, of the oldest sealed segment alone
	Running    *int64 // attempts not finished yet, likewise
	Reason     string // why the oldest sealed segment is or is not ready to prune
}

// StorageStatus describes every slot of the ring, and what holds the oldest
// sealed segment. It reads that segment.
func (c Client) StorageStatus(ctx context.Context, db DBTX) ([]SegmentStatus, error) {
	rows := c.columns("f.slot, f.generation, f.phase, f.rotated_at, coalesce(f.bytes, 0), "+
		"f.waiting, f.running, coalesce(f.reason, '')", "storage_status").
		rows(ctx, db)
	slots, err := pgx.CollectRows(rows, pgx.RowToStructByPos[SegmentStatus])
	return slots, wrap("storage status", err)
}
