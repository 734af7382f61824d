package worker

import (
	"fmt"
	"strings"
	"time"
)

// SnoozeError is what Snooze returns.
type SnoozeError struct{ Delay time.Duration }

func (e *SnoozeError) Error() string { return fmt.Sprintf("snoozed for %v", e.Delay) }

// Snooze puts the job back into its queue after d. The attempt is not counted
// and no error is kept. A negative d means at once. A client rounds d up, by at most
// a hundredth and no more than a second, to write jobs together.
func Snooze(d time.Duration) error { return &SnoozeError{max(d, 0)} }

// RetryAfterError is what RetryAfter returns. It wraps the reason.
type RetryAfterError struct {
	Delay time.Duration
	Err   error // may be nil
}

func (e *RetryAfterError) Error() string { return text(e.Err, "to be retried") }
func (e *RetryAfterError) Unwrap() error { return e.Err }

// RetryAfter fails the attempt because of err and, if the job has attempts left,
// starts the next one after d instead of the server's backoff, rounded up as by Snooze.
// A d of zero or less means at once.
func RetryAfter(d time.Duration, err error) error { return &RetryAfterError{max(d, 0), err} }

// CancelError is what Cancel returns.
type CancelError struct{ Reason string }

func (e *CancelError) Error() string { return "cancelled: " + e.Reason }

// Cancel gives the job up for good: it is cancelled, with the reason in its errors.
func Cancel(reason string) error { return &CancelError{reason} }

// TerminalError is what Terminal returns. It wraps the reason.
type TerminalError struct{ Err error } // may be nil

func (e *TerminalError) Error() string { return text(e.Err, "failed for good") }
func (e *TerminalError) Unwrap() error { return e.Err }

// Terminal fails the job because of err, whatever attempts it has left.
func Terminal(err error) error { return &TerminalError{err} }

// PanicError is the error of a handler that panicked.
type PanicError struct {
	Value any    // what panic was called with
	Stack []byte // of the goroutine, as runtime/debug.Stack returns it
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n\n%s", e.Value, e.Stack) }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// UnknownKindError is the error of a job whose kind has no handler. The attempt
// fails and is retried: while a new version is rolled out, another worker may
// know the kind.
type UnknownKindError struct{ Kind string }

func (e *UnknownKindError) Error() string { return fmt.Sprintf("no handler for kind %q", e.Kind) }

// DecodeError is the error of a job whose arguments do not decode into the type
// registered for its kind. The attempt fails and is retried, for the same reason as
// with UnknownKindError; a middleware may return Terminal of it instead.
type DecodeError struct {
	Kind string
	Err  error
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("arguments of kind %q do not decode: %v", e.Kind, e.Err)
}
func (e *DecodeError) Unwrap() error { return e.Err }

func text(err error, without string) string {
	if err == nil {
		return without
	}
	return err.Error()
}

// storable is what PostgreSQL takes as text: valid UTF-8 without zeros, of a
// length that a connection carries easily. The server keeps less.
func storable(s string) string {
	if len(s) > 40_000 {
		s = s[:40_000]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
