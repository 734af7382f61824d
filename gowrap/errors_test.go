package awa

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestWrapFindsTheSentinelAndKeepsTheError(t *testing.T) {
	for state, sentinel := range bySQLState {
		err := wrap("op", &pgconn.PgError{Code: state, Message: "the message", Hint: "the hint"})
		var pgErr *pgconn.PgError
		if !errors.Is(err, sentinel) || !errors.As(err, &pgErr) || pgErr.Hint != "the hint" {
			t.Errorf("%s: %v", state, err)
		}
		for _, other := range bySQLState {
			if other != sentinel && errors.Is(err, other) {
				t.Errorf("%s is also %v", state, other)
			}
		}
		if !strings.HasPrefix(err.Error(), "awa: op: ") || !strings.Contains(err.Error(), "the message") {
			t.Errorf("%s: %q", state, err)
		}
	}
}

// The server itself refuses some arguments before a function sees them.
func TestDataExceptionsAreInvalidArguments(t *testing.T) {
	for _, state := range []string{"22P02", "22P05", "22021", "22008"} {
		if err := wrap("op", &pgconn.PgError{Code: state}); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%s: %v", state, err)
		}
	}
}

func TestWrapLeavesOtherErrorsAlone(t *testing.T) {
	if err := wrap("op", nil); err != nil {
		t.Error(err)
	}
	if err := wrap("op", context.Canceled); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	err := wrap("op", &pgconn.PgError{Code: "42P01"})
	for _, sentinel := range bySQLState {
		if errors.Is(err, sentinel) {
			t.Errorf("42P01 is %v", sentinel)
		}
	}
}

// What PostgreSQL refuses before a function is called comes without a hint of its own.
func TestWrapTellsTheRemedy(t *testing.T) {
	for state, remedy := range map[string]string{
		"42P05": "QueryExecModeExec", "26000": "QueryExecModeExec", // a pooler
		"3F000": "awa-admin migrate", "42883": "awa-admin migrate", // awa is not installed, or older
	} {
		err := wrap("op", &pgconn.PgError{Code: state, Message: "the message"})
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || !strings.Contains(err.Error(), "the message") || !strings.Contains(err.Error(), remedy) {
			t.Errorf("%s: %v", state, err)
		}
	}
}
