package lifecycle_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// No call has the server compile a plan of its own, which takes longer than the call.
// What forbids a scan, and has nothing else where a table has no index, costs enough.
func TestCallsAreNotCompiled(t *testing.T) {
	var compiled []string
	conn := explaining(t, func(message string) {
		if strings.Contains(message, "\nJIT:") {
			compiled = append(compiled, message)
		}
	})
	exec := execOn(t, conn)
	exec(`set jit = on`)
	var can bool
	if err := conn.QueryRow(t.Context(), `select pg_jit_available()`).Scan(&can); err != nil {
		t.Fatal(err)
	}
	if !can {
		t.Skip("the server compiles nothing")
	}
	exec(callSetup)
	exec(`set auto_explain.log_nested_statements = on`)
	for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable} {
		for _, c := range apiCalls {
			if strings.Contains(c.call, "awa.jobs") {
				continue
			}
			if c.before != "" {
				exec(c.before)
			}
			compiled = nil
			exec(`set auto_explain.log_min_duration = 0; set client_min_messages = log`)
			err := pgx.BeginTxFunc(t.Context(), conn, pgx.TxOptions{IsoLevel: level}, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), c.call)
				return err
			})
			exec(`set auto_explain.log_min_duration = -1; set client_min_messages = notice`)
			var pgErr *pgconn.PgError
			if err != nil && !(errors.As(err, &pgErr) && pgErr.Code == "25001") {
				t.Fatalf("%s, %s: %v", c.name, level, err)
			}
			for _, plan := range compiled {
				t.Errorf("%s, %s: %s", c.name, level, plan)
			}
		}
	}
}
