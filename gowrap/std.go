package awa

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// StdDBTX is what database/sql offers: *sql.DB, *sql.Conn and *sql.Tx satisfy it.
type StdDBTX interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// StdDB makes a DBTX of a database that was opened through database/sql with the
// driver github.com/jackc/pgx/v5/stdlib. Given a *sql.Tx, calls belong to that
// transaction. Other drivers do not encode what the calls pass.
//
// Every method that takes a DBTX works through it. A worker should use pgx itself, which spares the
// conversions. It is safe for concurrent use if db is.
func StdDB(db StdDBTX) DBTX { return stdDB{db} }

type stdDB struct{ db StdDBTX }

func (s stdDB) Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error) {
	res, err := s.db.ExecContext(ctx, query, args...)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	// database/sql keeps of the tag the number of rows alone.
	n, err := res.RowsAffected()
	return pgconn.NewCommandTag(fmt.Sprintf("SELECT %d", n)), err
}

func (s stdDB) Query(ctx context.Context, query string, args ...any) (pgx.Rows, error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return &stdRows{err: err}, err
	}
	r := &stdRows{rows: rows}
	r.describe()
	return r, r.err
}

func (s stdDB) QueryRow(ctx context.Context, query string, args ...any) pgx.Row {
	rows, _ := s.Query(ctx, query, args...)
	return stdRow{rows}
}

// stdRow is the first row of a query.
type stdRow struct{ rows pgx.Rows }

func (r stdRow) Scan(dest ...any) error {
	defer r.rows.Close()
	if r.rows.Next() {
		if err := r.rows.Scan(dest...); err != nil {
			return err
		}
		r.rows.Close()
		return r.rows.Err()
	}
	if err := r.rows.Err(); err != nil {
		return err
	}
	return pgx.ErrNoRows
}
