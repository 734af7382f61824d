package awa

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Conditions that a caller may want to tell apart. Test with errors.Is. The
// *pgconn.PgError with the message, detail and hint of the server stays within
// reach of errors.As.
var (
	// ErrStale: the receipt's attempt is closed. Methods of Client report that as a
	// result instead; package worker returns it. SQLSTATE AW001, which no function of
	// the server raises yet.
	ErrStale = errors.New("stale receipt")
	// ErrNotFound: no such job, queue or callback (AW002).
	ErrNotFound = errors.New("not found")
	// ErrWrongState: the job's state does not allow the operation (AW003).
	ErrWrongState = errors.New("wrong state")
	// ErrDuplicate: the unique key is held by another job (AW004, 23505).
	ErrDuplicate = errors.New("duplicate")
	// ErrNeedsRebase: the storage was restored into another cluster and needs
	// awa.rebase() (AW005).
	ErrNeedsRebase = errors.New("storage needs rebase")
	// ErrInvalidArgument: an argument is outside its limits (AW006), or no value of
	// its type (class 22): text with a zero in it, JSON that is none, an unknown state.
	// So is what json.Marshal refuses; no statement is then made.
	ErrInvalidArgument = errors.New("invalid argument")
	// ErrQueueFull: the queue is at its max_depth and rejects (AW007).
	ErrQueueFull = errors.New("queue is full")
	// ErrRetry: nothing happened; make the same call again, in a new transaction
	// (40001, 40P01). REPEATABLE READ and SERIALIZABLE callers see it; others when
	// the job was on its way from one place to another, or two transactions each
	// waited for the other.
	ErrRetry = errors.New("retry the transaction")
	// ErrBusy: another session is at the same task, or in its way; nothing happened
	// (55P03).
	ErrBusy = errors.New("another session is at it")
)

var bySQLState = map[string]error{
	"AW001": ErrStale,
	"AW002": ErrNotFound,
	"AW003": ErrWrongState,
	"AW004": ErrDuplicate,
	"AW005": ErrNeedsRebase,
	"AW006": ErrInvalidArgument,
	"AW007": ErrQueueFull,
	"23505": ErrDuplicate,
	"40001": ErrRetry,
	"40P01": ErrRetry,
	"55P03": ErrBusy,
}

// remedies for SQLSTATEs that PostgreSQL raises before a function could give a hint.
var remedies = map[string]string{
	"3F000": notInstalled, // no such schema
	"42883": notInstalled, // no such function
	"42P01": notInstalled, // no such relation
	"42P05": strangeSession,
	"26000": strangeSession,
}

const (
	notInstalled = "is this version of awa installed? awa-admin migrate installs it"
	// A prepared statement is there already, or not: a pooler gave the connection another
	// session than the one that prepared it.
	strangeSession = "behind a pooler in transaction mode set DefaultQueryExecMode to pgx.QueryExecModeExec"
)

// dataException is the class of SQLSTATEs with which the server refuses a value
// before a function sees it.
const dataException = "22"

// wrap says which call failed and joins the sentinel for err's SQLSTATE, so that
// errors.Is finds the sentinel and errors.As still finds the *pgconn.PgError.
func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		sentinel := bySQLState[pgErr.Code]
		if strings.HasPrefix(pgErr.Code, dataException) || cutShort(pgErr) {
			sentinel = ErrInvalidArgument
		}
		if sentinel != nil {
			return fmt.Errorf("awa: %s: %w: %w", op, sentinel, err)
		}
		if remedy := remedies[pgErr.Code]; remedy != "" {
			return fmt.Errorf("awa: %s: %w; %s", op, err, remedy)
		}
	}
	return fmt.Errorf("awa: %s: %w", op, err)
}

// cutShort reports whether a zero in a text ended the message that the text is in, as
// the statement itself is in the simple protocol. A pooler uses the SQLSTATE for faults of
// other kinds, and names no routine.
func cutShort(err *pgconn.PgError) bool {
	return err.Code == "08P01" && err.Routine == "pq_getmsgend"
}

// refuse is wrap for an argument that cannot be sent to the server.
func refuse(op string, err error) error {
	return fmt.Errorf("awa: %s: %w: %w", op, ErrInvalidArgument, err)
}
