package awa

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/awaqueue/awa/internal/txn"
)

// DBTX is where a call runs. *pgxpool.Pool, *pgxpool.Conn, *pgx.Conn and pgx.Tx
// satisfy it. A call is safe for concurrent use if the DBTX is: a pool is, a
// connection or a transaction is not.
type DBTX interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// readCommitted runs f and, where the database has another level by default, does so in a
// transaction that is READ COMMITTED. A statement of its own is better, for it cannot be left
// open. A caller's transaction stays what it is.
func readCommitted(ctx context.Context, db DBTX, f func(DBTX) error) error {
	var level string
	if err := db.QueryRow(ctx, "select current_setting('transaction_isolation')").Scan(&level); err != nil {
		return err
	}
	if level == "read committed" {
		return f(db)
	}
	switch db := db.(type) {
	case txn.Beginner:
		if inTransaction(db) {
			break
		}
		return txn.ReadCommitted(ctx, db, func(tx pgx.Tx) error { return f(tx) })
	case stdDB:
		pool, ok := db.db.(*sql.DB)
		if !ok {
			break
		}
		tx, err := pool.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after a commit it does nothing
		if _, err := tx.ExecContext(ctx, txn.Bound); err != nil {
			return err
		}
		if err := f(stdDB{tx}); err != nil {
			return err
		}
		return tx.Commit()
	}
	return f(db)
}

// inTransaction reports whether a connection is in a transaction that was begun by
// a statement.
func inTransaction(db any) bool {
	if c, ok := db.(interface{ Conn() *pgx.Conn }); ok {
		db = c.Conn()
	}
	c, ok := db.(*pgx.Conn)
	return ok && c.PgConn().TxStatus() != 'I'
}
