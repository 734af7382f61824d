package awa

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"
)

// RegisterWorker makes a worker known by name. From then on its attempts live by
// its heartbeat, not by their leases. info is a JSON document for operators, or
// nil; see ListWorkers.
//
// Errors: ErrInvalidArgument for a bad name, or info of more than 64 kB.
func (c Client) RegisterWorker(ctx context.Context, db DBTX, worker string, info json.RawMessage) error {
	err := c.value("register_worker").
		arg("worker", "text", worker).
		document("info", info).
		exec(ctx, db)
	return wrap("register worker", err)
}

// Notice tells a worker that somebody else closed one of its attempts: its finish
// would be stale, so it may stop working on it.
type Notice struct {
	Receipt Receipt
	JobID   int64
	Reason  string // "rescued", "deleted", or why the job was cancelled
}

// Heartbeat says that a worker is alive, making it known if it was not, and returns
// which of its attempts others closed since its last heartbeat. Send one every 30
// seconds or so: after 90 seconds of silence Maintain rescues the worker's attempts.
//
// Errors: ErrInvalidArgument for a bad name.
func (c Client) Heartbeat(ctx context.Context, db DBTX, worker string) ([]Notice, error) {
	rows := c.columns(`(f.receipt).ready_slot, (f.receipt).batch_id, (f.receipt).job_id, (f.receipt).run_lease, f.job_id, f.reason`,
		"heartbeat").
		arg("worker", "text", worker).
		rows(ctx, db)
	notices, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (n Notice, err error) {
		var reason *string
		err = row.Scan(&n.Receipt.ReadySlot, &n.Receipt.BatchID, &n.Receipt.JobID, &n.Receipt.RunLease, &n.JobID, &reason)
		if reason != nil {
			n.Reason = *reason
		}
		return n, err
	})
	return notices, wrap("heartbeat", err)
}

// RescueUnknown rescues the running attempts of a worker other than known, up to 500,
// and returns their number: those of a claim that was committed but whose answer was
// lost, which the worker's heartbeat keeps alive. The worker itself calls it, while no
// claim under its name is under way.
//
// Errors: ErrRetry.
func (c Client) RescueUnknown(ctx context.Context, db DBTX, worker string, known []Receipt) (rescued int64, err error) {
	err = c.value("rescue_unknown").
		arg("worker", "text", worker).
		receipts("known", known).
		row(ctx, db).Scan(&rescued)
	return rescued, wrap("rescue unknown attempts", err)
}

// WorkerInfo is a worker that has sent a heartbeat.
type WorkerInfo struct {
	Worker      string
	HeartbeatAt time.Time       // the last one
	Info        json.RawMessage // of RegisterWorker, or nil
}

// ListWorkers returns the workers that have sent a heartbeat, by name. Those that
// stay silent remain listed for a day or so.
//
// Errors: ErrRetry.
func (c Client) ListWorkers(ctx context.Context, db DBTX) ([]WorkerInfo, error) {
	rows := c.columns("f.worker, f.heartbeat_at, f.info", "list_workers").rows(ctx, db)
	workers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[WorkerInfo])
	return workers, wrap("list workers", err)
}

// Listen makes the session of conn receive notifications of the queues that it waits
// for. The channel is named after the schema, and the payload is the queue's name.
func (c Client) Listen(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "listen "+c.prefix())
	return wrap("listen", err)
}

// StartWaiting says that the session of conn waits for jobs of these queues:
// until StopWaiting whoever makes a job of theirs claimable notifies the channel
// named after the schema, with the queue as payload. Listen first, then call this,
// then claim once more before you wait. It needs a connection of its own; behind a
// transaction pool poll instead.
func (c Client) StartWaiting(ctx context.Context, conn *pgx.Conn, queues []string) error {
	return wrap("start waiting", c.value("start_waiting").arg("queues", "text[]", queues).exec(ctx, conn))
}

// StopWaiting undoes one StartWaiting of these queues.
func (c Client) StopWaiting(ctx context.Context, conn *pgx.Conn, queues []string) error {
	return wrap("stop waiting", c.value("stop_waiting").arg("queues", "text[]", queues).exec(ctx, conn))
}
