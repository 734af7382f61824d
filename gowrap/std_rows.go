package awa

import (
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// stdRows shows the rows of database/sql as pgx.Rows. The driver has decoded each
// value into one of the few types of database/sql, so it is written as
// PostgreSQL writes it in text, which the type map reads into whatever is asked
// for.
type stdRows struct {
	rows   *sql.Rows // nil: the query failed
	fields []pgconn.FieldDescription
	types  *pgtype.Map
	values []any
	raw    [][]byte
	read   int64
	err    error
}

// describe finds the type of each column.
func (r *stdRows) describe() {
	columns, err := r.rows.ColumnTypes()
	if err != nil {
		r.fail(err)
		return
	}
	r.types = pgtype.NewMap()
	r.fields = make([]pgconn.FieldDescription, len(columns))
	r.values = make([]any, len(columns))
	r.raw = make([][]byte, len(columns))
	for i, c := range columns {
		r.fields[i] = pgconn.FieldDescription{
			Name: c.Name(), DataTypeOID: r.oid(c.DatabaseTypeName()), Format: pgx.TextFormatCode}
	}
}

// oid reads a type as the driver writes it: the name in upper case, or the number
// of a type that it does not know. Zero is a type that is read as text.
func (r *stdRows) oid(name string) uint32 {
	if t, ok := r.types.TypeForName(strings.ToLower(name)); ok {
		return t.OID
	}
	n, _ := strconv.ParseUint(name, 10, 32)
	return uint32(n)
}

// fail keeps the first error and ends the rows.
func (r *stdRows) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	if r.rows != nil {
		_ = r.rows.Close()
	}
}

func (r *stdRows) Close() {
	if r.rows == nil {
		return
	}
	if err := errors.Join(r.rows.Err(), r.rows.Close()); err != nil {
		r.fail(err)
	}
}

func (r *stdRows) Next() bool {
	if r.err != nil {
		return false
	}
	if !r.rows.Next() {
		r.Close()
		return false
	}
	targets := make([]any, len(r.values))
	for i := range targets {
		targets[i] = &r.values[i]
	}
	if err := r.rows.Scan(targets...); err != nil {
		r.fail(err)
		return false
	}
	for i, v := range r.values {
		text, err := textOf(v, r.fields[i].DataTypeOID)
		if err != nil {
			r.fail(fmt.Errorf("column %s: %w", r.fields[i].Name, err))
			return false
		}
		r.raw[i] = text
	}
	r.read++
	return true
}

// textOf writes a value as PostgreSQL does; null is nil.
func textOf(v any, oid uint32) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []byte(v), nil
	case []byte:
		if oid == pgtype.ByteaOID {
			return hex.AppendEncode([]byte(`\x`), v), nil
		}
		return v, nil
	case int64:
		return strconv.AppendInt(nil, v, 10), nil
	case float64:
		return strconv.AppendFloat(nil, v, 'g', -1, 64), nil
	case bool:
		return strconv.AppendBool(nil, v), nil
	case time.Time:
		return v.UTC().AppendFormat(nil, "2006-01-02 15:04:05.999999+00"), nil
	}
	return nil, fmt.Errorf("database/sql delivers a %T", v)
}

func (r *stdRows) Scan(dest ...any) error {
	if len(dest) == 1 {
		if whole, ok := dest[0].(pgx.RowScanner); ok {
			err := whole.ScanRow(r)
			if err != nil {
				r.fail(err)
			}
			return err
		}
	}
	if len(dest) != len(r.raw) {
		err := fmt.Errorf("%d columns for %d targets", len(r.raw), len(dest))
		r.fail(err)
		return err
	}
	for i, d := range dest {
		if d == nil {
			continue
		}
		if err := r.types.Scan(r.fields[i].DataTypeOID, pgx.TextFormatCode, r.raw[i], d); err != nil {
			err = fmt.Errorf("column %s: %w", r.fields[i].Name, err)
			r.fail(err)
			return err
		}
	}
	return nil
}

func (r *stdRows) Err() error { return r.err }

func (r *stdRows) CommandTag() pgconn.CommandTag {
	return pgconn.NewCommandTag("SELECT " + strconv.FormatInt(r.read, 10))
}

func (r *stdRows) FieldDescriptions() []pgconn.FieldDescription { return r.fields }

func (r *stdRows) Values() ([]any, error) { return r.values, r.err }

func (r *stdRows) RawValues() [][]byte { return r.raw }

// Conn is nil: database/sql keeps the connection to itself.
func (r *stdRows) Conn() *pgx.Conn { return nil }

func (r *stdRows) TypeMap() *pgtype.Map { return r.types }
