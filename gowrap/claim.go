package awa

import (
	"context"
	"time"
)

// ClaimParams says what to claim. Queue is required.
type ClaimParams struct {
	// Queue to claim from.
	Queue string
	// MaxJobs is the most jobs to take. Defaults to 1.
	MaxJobs int
	// Worker is the claimer's name, kept with the claim. A worker that was
	// registered lives by its heartbeat, any other by its lease.
	Worker string
	// Lease is how long the claimer has to finish before the jobs go to another.
	// Defaults to 5 minutes.
	Lease time.Duration
	// Async commits the claim without waiting for the disk, by a setting that is
	// local to the transaction: a pooler in transaction mode is no obstacle. A crash
	// of the server may then forget the claim: the jobs are handed out again and
	// the receipts are stale. The commit of a finish saves the claim before it. Use
	// it for a call that is a transaction of its own, for the setting holds for the
	// whole of the transaction.
	Async bool
}

// claimColumns are read by position in jobDecoder. What the caller knows, the
// queue, does not travel back with every job.
const claimColumns = `(f.receipt).ready_slot, (f.receipt).batch_id, f.job_id, (f.receipt).run_lease, ` +
	`f.kind, f.args, f.priority, f.attempt, f.max_attempts, f.run_at, f.created_at, ` +
	`f.tags, f.metadata, f.progress, f.errors, f.deadline_at, f.lease_expires_at`

// Claim takes up to p.MaxJobs jobs, in claim order: by priority, then in the
// order in which they became visible. It returns no jobs and writes nothing when
// there is nothing to do. Claimers of one queue take turns: a second one waits
// for the first one's commit, so keep a transaction that claims short.
//
// Errors: ErrInvalidArgument, ErrRetry, ErrNeedsRebase.
func (c Client) Claim(ctx context.Context, db DBTX, p ClaimParams) ([]Job, error) {
	b := c.columns(claimColumns, "claim")
	if p.Async {
		b = c.asynchronous(claimColumns, "claim")
	}
	rows := b.
		arg("queue", "text", p.Queue).
		integer("max_jobs", p.MaxJobs).
		text("worker", p.Worker).
		interval("lease", p.Lease).
		rows(ctx, db)
	jobs, err := decodeJobs(rows, p.Queue, p.MaxJobs)
	return jobs, wrap("claim", err)
}
