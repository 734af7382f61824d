package awa

import "context"

// Outcomes of Prune.
const (
	Pruned       = "pruned"  // the oldest sealed segment was reclaimed
	PruneEmpty   = "empty"   // no sealed segment
	PruneBlocked = "blocked" // more than a few of its jobs wait or run
	PruneBusy    = "busy"    // a session holds it; try again later
)

// Outcomes of Rotate.
const (
	Rotated       = "rotated" // the next segment is the current one
	RotateIdle    = "idle"    // the current segment has no jobs and few heartbeats
	RotateBlocked = "blocked" // the next slot is not pruned yet
	RotateBusy    = "busy"    // another session rotates or prunes
)

// Rotate seals the current segment and opens the next, and reports what happened.
// It waits for no one. A transaction around it must be READ COMMITTED.
func (c Client) Rotate(ctx context.Context, db DBTX) (outcome string, err error) {
	err = readCommitted(ctx, db, func(db DBTX) error { return c.value("rotate").row(ctx, db).Scan(&outcome) })
	return outcome, wrap("rotate", err)
}

// Prune reclaims the oldest sealed segment if nothing in it is needed any more.
// It waits for others for half a second at most: what stands in the way then is the
// outcome. A transaction around it must be READ COMMITTED.
func (c Client) Prune(ctx context.Context, db DBTX) (outcome string, err error) {
	err = readCommitted(ctx, db, func(db DBTX) error { return c.value("prune").row(ctx, db).Scan(&outcome) })
	return outcome, wrap("prune", err)
}

// ResetParams says what a reset leaves.
type ResetParams struct {
	// KeepConfig keeps the settings of the queues, and the schedules, which go on
	// from now.
	KeepConfig bool
}

// Reset empties the whole storage: every job, count and ledger. There is no way
// back. It waits for every open transaction that used the queues, for the session's
// lock_timeout or a minute.
//
// Errors: ErrBusy when such a transaction stays open.
func (c Client) Reset(ctx context.Context, db DBTX, p ResetParams) error {
	b := c.value("reset")
	if p.KeepConfig {
		b.arg("keep_config", "boolean", true)
	}
	return wrap("reset", b.exec(ctx, db))
}

// Rebase makes a storage usable that was restored from a dump, or copied
// logically, into another cluster: what waits is offered anew in the order of
// the ids, history and counts stay. It returns the number of waiting jobs. It
// locks everything and rewrites what is retained; run it before the workers
// start. A transaction around it must be READ COMMITTED.
//
// Errors: ErrBusy when a transaction that used the queues stays open.
func (c Client) Rebase(ctx context.Context, db DBTX) (jobs int64, err error) {
	err = readCommitted(ctx, db, func(db DBTX) error { return c.value("rebase").row(ctx, db).Scan(&jobs) })
	return jobs, wrap("rebase", err)
}
