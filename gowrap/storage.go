package awa

import "context"

// Outcomes of Prune.
const (
	Pruned       = "pruned"  // the oldest sealed segment was reclaimed
	PruneEmpty   = "empty"   // no sealed segment
	PruneBlocked = "blocked" // the oldest sealed segment is still needed
	PruneBusy    = "busy"    // a session holds it; try again later
)

// Rotate makes the next segment the current one if that is due and possible, and
// reports what happened.
func (c Client) Rotate(ctx context.Context, db DBTX) (outcome string, err error) {
	err = c.value("rotate").row(ctx, db).Scan(&outcome)
	return outcome, wrap("rotate", err)
}

// Prune reclaims the oldest sealed segment if nothing in it is needed any more.
// It waits for no one: what stands in the way is the outcome.
func (c Client) Prune(ctx context.Context, db DBTX) (outcome string, err error) {
	err = c.value("prune").row(ctx, db).Scan(&outcome)
	return outcome, wrap("prune", err)
}

// Reset empties the whole storage: every job, count and ledger. There is no way
// back.
func (c Client) Reset(ctx context.Context, db DBTX) error {
	_, err := db.Exec(ctx, c.value("reset").build())
	return wrap("reset", err)
}
