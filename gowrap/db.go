package awa

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DBTX is where a call runs. *pgxpool.Pool, *pgxpool.Conn, *pgx.Conn and pgx.Tx
// satisfy it. A call is safe for concurrent use if the DBTX is: a pool is, a
// connection or a transaction is not.
type DBTX interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// readCommitted runs f in a transaction that is READ COMMITTED, whatever the default
// of the database. A caller's transaction stays what it is.
func readCommitted(ctx context.Context, db DBTX, f func(DBTX) error) error {
	switch db := db.(type) {
	case interface {
		BeginTx(context.Context, pgx.TxOptions) (pgx.Tx, error)
	}:
		if inTransaction(db) {
			break
		}
		return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error { return f(tx) })
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
