// Package txn begins transactions that a client cannot leave open by vanishing.
package txn

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Bound has the server end a transaction whose client says nothing for a while. Without it
// locks stay until the server finds out that nobody is at the other end, by default for hours.
const Bound = "set local idle_in_transaction_session_timeout = '30s'"

// Beginner is a pool, or a connection that is in no transaction.
type Beginner interface {
	BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error)
}

// ReadCommitted runs f in a transaction with this bound that is READ COMMITTED, whatever the
// default of the database is, and commits it unless f fails.
func ReadCommitted(ctx context.Context, db Beginner, f func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, Bound); err != nil {
			return err
		}
		return f(tx)
	})
}
