package awa

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// CallbackID names the answer that a job waits for. It is good for one answer.
// Send it to whoever will answer; it cannot be guessed. A text that is no id at all
// is ErrInvalidArgument.
type CallbackID string

// RegisterCallback makes a running job wait for an answer from outside: its state
// is StateWaitingExternal until one of CompleteCallback, FailCallback,
// RetryCallback or ResumeCallback names the id, or its receipt finishes it. After
// timeout the attempt fails like any other. An earlier id of the job is void. The
// id is empty if the receipt is stale.
//
// Errors: ErrInvalidArgument for a timeout of zero or less, ErrRetry.
func (c Client) RegisterCallback(ctx context.Context, db DBTX, r Receipt, timeout time.Duration) (CallbackID, error) {
	var id *CallbackID
	err := c.value("register_callback").asText().
		receipt(r).
		duration("timeout", timeout).
		row(ctx, db).Scan(&id)
	if id == nil {
		return "", wrap("register callback", err)
	}
	return *id, wrap("register callback", err)
}

// CompleteCallback answers: the job is completed. The result, a JSON value or nil,
// is kept in the job's metadata under "_awa_callback_result".
//
// Errors: ErrNotFound for an id that is unknown, answered, replaced or too late;
// ErrInvalidArgument for a result that is too large, ErrRetry.
func (c Client) CompleteCallback(ctx context.Context, db DBTX, id CallbackID, result json.RawMessage) error {
	err := c.value("complete_callback").
		arg("callback_id", "text::uuid", string(id)).
		document("result", result).
		exec(ctx, db)
	return wrap("complete callback", err)
}

// FailCallback answers: the attempt failed. The job is retried after its backoff,
// or failed for good when its attempts are used up, as after Fail.
//
// Errors: ErrNotFound for an id that is unknown, answered, replaced or too late;
// ErrRetry.
func (c Client) FailCallback(ctx context.Context, db DBTX, id CallbackID, reason string) error {
	err := c.value("fail_callback").
		arg("callback_id", "text::uuid", string(id)).
		text("error", reason).
		exec(ctx, db)
	return wrap("fail callback", err)
}

// RetryCallback answers: the job is available again at once and its attempts
// start over. The old receipt is stale.
//
// Errors: ErrNotFound for an id that is unknown, answered, replaced or too late;
// ErrDuplicate if another job holds its unique key by now, ErrRetry.
func (c Client) RetryCallback(ctx context.Context, db DBTX, id CallbackID) error {
	err := c.value("retry_callback").
		arg("callback_id", "text::uuid", string(id)).
		exec(ctx, db)
	return wrap("retry callback", err)
}

// ResumeCallback answers: the attempt runs on under its old receipt, with the
// lease of its claim from now. Its worker reads the payload, a JSON value or nil,
// by CallbackStatus. If the worker has left the attempt, see Park, the job is
// available again instead.
//
// Errors: ErrNotFound for an id that is unknown, answered, replaced or too late;
// ErrDuplicate if another job holds its unique key by now, ErrInvalidArgument for a
// payload that is too large, ErrRetry.
func (c Client) ResumeCallback(ctx context.Context, db DBTX, id CallbackID, payload json.RawMessage) error {
	err := c.value("resume_callback").
		arg("callback_id", "text::uuid", string(id)).
		document("payload", payload).
		exec(ctx, db)
	return wrap("resume callback", err)
}

// Park says that the worker of a waiting attempt has left it: ResumeCallback then
// makes the job available again, for whoever claims it, its attempt not counted and
// the payload in its metadata. A job that was resumed before is available at once. It
// reports false if the receipt is stale or never registered a callback.
//
// Errors: ErrDuplicate if another job holds its unique key by now, ErrRetry.
func (c Client) Park(ctx context.Context, db DBTX, r Receipt) (accepted bool, err error) {
	err = c.value("park").
		receipt(r).
		row(ctx, db).Scan(&accepted)
	return accepted, wrap("park", err)
}

// HeartbeatCallback says that whoever is to answer still works on it: it times
// out that long from now instead.
//
// Errors: ErrNotFound for an id that is unknown, answered, replaced or too late;
// ErrInvalidArgument for a timeout of zero or less, ErrRetry.
func (c Client) HeartbeatCallback(ctx context.Context, db DBTX, id CallbackID, timeout time.Duration) error {
	err := c.value("heartbeat_callback").
		arg("callback_id", "text::uuid", string(id)).
		duration("timeout", timeout).
		exec(ctx, db)
	return wrap("heartbeat callback", err)
}

// CallbackStatus is how an attempt that registered a callback stands.
type CallbackStatus struct {
	// Open is false once the attempt is closed, by an answer or otherwise.
	Open bool
	// Waiting is the id that the attempt waits for; empty once it was resumed.
	Waiting CallbackID
	// Payload of ResumeCallback.
	Payload json.RawMessage
}

// CallbackStatus tells the worker of a waiting attempt how it stands. To wait for
// the answer, call it now and then.
func (c Client) CallbackStatus(ctx context.Context, db DBTX, r Receipt) (CallbackStatus, error) {
	var (
		waiting *CallbackID
		payload *string
	)
	err := c.columns("f.callback_id::text, f.payload::text", "callback_status").
		receipt(r).
		row(ctx, db).Scan(&waiting, &payload)
	if errors.Is(err, pgx.ErrNoRows) {
		return CallbackStatus{}, nil
	} else if err != nil {
		return CallbackStatus{}, wrap("callback status", err)
	}
	status := CallbackStatus{Open: true}
	if waiting != nil {
		status.Waiting = *waiting
	}
	if payload != nil {
		status.Payload = json.RawMessage(*payload)
	}
	return status, nil
}
