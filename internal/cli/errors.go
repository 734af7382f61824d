package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// errViolated ends a command with exit code 2: its output has told why.
var errViolated = errors.New("violated")

// report prints err as a user needs it, message, SQLSTATE and hint, and returns
// the exit code.
func report(w io.Writer, err error) int {
	var child *exec.ExitError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errViolated):
		return exitViolated
	case errors.As(err, &child):
		return childExit(child)
	case unread(err):
		return exitError
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(w, "awa-admin: interrupted")
		return exitError
	}
	fmt.Fprintf(w, "awa-admin: %s\n", lines(err.Error()))
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		if pgErr.Detail != "" {
			fmt.Fprintf(w, "detail: %s\n", lines(pgErr.Detail))
		}
		if hint := hintOf(pgErr); hint != "" {
			fmt.Fprintf(w, "hint: %s\n", lines(hint))
		}
	}
	return exitError
}

// unread reports whether err is that of a pipe that nobody reads any more, as after head: no
// news to the user. A connection that breaks fails with the same errno, but not at a path.
func unread(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path) && errors.Is(path, syscall.EPIPE)
}

// lines are those of a text that may have names of others in it.
func lines(text string) string { return plain(text, "\n\t") }

// hintOf is the server's hint, or ours where it has none that helps.
func hintOf(err *pgconn.PgError) string {
	switch err.Code {
	case "3F000", "42883", "42P01": // no such schema, function, relation
		return "Is this version of awa installed? See: awa-admin migrate status"
	case "22P02": // no value of its type
		if strings.Contains(err.Message, "job_state") {
			return "A job is " + states + "."
		}
	case "25006": // read-only transaction
		if err.Hint == "" {
			return "The server is a standby, or default_transaction_read_only is on for this role or database."
		}
	case "42501": // insufficient privilege
		if err.Hint == "" {
			return "awa_reader may look, awa_worker may maintain, awa_operator may change things, the owner of the schema may migrate: grant one of these roles, or connect as another."
		}
	}
	return err.Hint
}

// childExit is the exit code of a command that awa-admin ran, as a shell tells
// it.
func childExit(err *exec.ExitError) int {
	if code := err.ExitCode(); code >= 0 {
		return code
	}
	return exitError // ended by a signal
}
