package awa

import (
	"cmp"
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// view builds one query of a view. Conditions that are not given are left out, so
// that the planner sees those that are.
type view struct {
	schema string
	sql    []byte
	args   []any
}

// from starts a query of a view, read as v.
func (c Client) from(name, columns string) *view {
	q := &view{schema: c.prefix(), sql: make([]byte, 0, 1024)}
	q.sql = append(q.sql, "select "+columns+" from "+q.schema+"."+name+" as v"...)
	return q
}

// where adds `condition $n::cast`.
func (q *view) where(condition, cast string, value any) *view {
	word := " and "
	if len(q.args) == 0 {
		word = " where "
	}
	q.args = append(q.args, value)
	q.sql = append(q.sql, word+condition+" $"+strconv.Itoa(len(q.args))+"::"+cast...)
	return q
}

// text adds a condition unless its value is empty.
func (q *view) text(condition, value string) *view {
	if value == "" {
		return q
	}
	return q.where(condition, "text", value)
}

// before adds the bound of a page unless it is zero.
func (q *view) before(id int64) *view {
	if id == 0 {
		return q
	}
	return q.where("v.id <", "bigint", id)
}

// newest orders by id, highest first, and limits the rows: to 100 if
// the limit is zero.
func (q *view) newest(limit int) *view {
	q.args = append(q.args, cmp.Or(limit, 100))
	q.sql = append(q.sql, " order by v.id desc limit $"+strconv.Itoa(len(q.args))+"::bigint"...)
	return q
}

// order orders the rows.
func (q *view) order(columns string) *view {
	q.sql = append(q.sql, " order by "+columns...)
	return q
}

// rows runs the query; its error is also the error of the rows.
func (q *view) rows(ctx context.Context, db DBTX) pgx.Rows {
	rows, _ := db.Query(ctx, string(q.sql), q.args...)
	return rows
}
