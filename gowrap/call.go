package awa

import (
	"context"
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// call builds one statement around one function call in named notation. An
// argument that is not added keeps the default that the function declares. Each
// placeholder carries its type, so that overloads resolve alike in every query
// mode.
type call struct {
	schema string
	sql    []byte
	tail   string
	args   []any
	first  bool
}

// value starts a call of a function that returns one value.
func (c Client) value(function string) *call {
	return c.start("select ", function, ")")
}

// columns starts a call of a function that returns rows, read as f.
func (c Client) columns(selected, function string) *call {
	return c.start("select "+selected+" from ", function, ") as f")
}

// asynchronous is columns in a transaction that does not wait for the disk. The
// planner keeps the subquery for the sake of its volatile function.
func (c Client) asynchronous(selected, function string) *call {
	return c.start("select "+selected+
		" from (select set_config('synchronous_commit', 'off', true)) as s cross join lateral ", function, ") as f")
}

func (c Client) start(head, function, tail string) *call {
	b := &call{schema: c.prefix(), sql: make([]byte, 0, 512), tail: tail, first: true}
	b.sql = append(b.sql, head...)
	b.sql = append(b.sql, b.schema...)
	b.sql = append(b.sql, '.')
	b.sql = append(b.sql, function...)
	b.sql = append(b.sql, '(')
	return b
}

// asText casts the value returned.
func (b *call) asText() *call {
	b.tail += "::text"
	return b
}

// arg adds `name => $n::cast`.
func (b *call) arg(name, cast string, value any) *call {
	b.name(name)
	b.placeholder(cast, value)
	return b
}

// receipt adds one receipt, built in SQL from its four numbers.
func (b *call) receipt(r Receipt) *call {
	b.name("receipt")
	b.sql = append(b.sql, "row("...)
	b.placeholder("smallint", r.ReadySlot)
	b.sql = append(b.sql, ',')
	b.placeholder("bigint", r.BatchID)
	b.sql = append(b.sql, ',')
	b.placeholder("bigint", r.JobID)
	b.sql = append(b.sql, ',')
	b.placeholder("bigint", r.RunLease)
	b.sql = append(b.sql, ")::"...)
	b.sql = append(b.sql, b.schema...)
	b.sql = append(b.sql, ".receipt"...)
	return b
}

// receipts adds an array of receipts as one text literal: the server reads it
// faster than it builds the array from four, and no connection needs to know the
// composite type.
func (b *call) receipts(name string, receipts []Receipt) *call {
	return b.arg(name, "text::"+b.schema+".receipt[]", receiptArray(receipts))
}

func (b *call) name(name string) {
	if !b.first {
		b.sql = append(b.sql, ", "...)
	}
	b.first = false
	b.sql = append(b.sql, name...)
	b.sql = append(b.sql, " => "...)
}

func (b *call) placeholder(cast string, value any) {
	b.args = append(b.args, value)
	b.sql = append(b.sql, '$')
	b.sql = strconv.AppendInt(b.sql, int64(len(b.args)), 10)
	b.sql = append(b.sql, "::"...)
	b.sql = append(b.sql, cast...)
}

// text adds a string unless it is empty.
func (b *call) text(name, value string) *call {
	if value == "" {
		return b
	}
	return b.arg(name, "text", value)
}

// integer adds a number unless it is zero.
func (b *call) integer(name string, value int) *call {
	if value == 0 {
		return b
	}
	return b.number(name, value)
}

// number adds a number, zero as well.
func (b *call) number(name string, value int) *call {
	// As text, for the server to refuse: the driver's own error tells of encodings.
	if value < math.MinInt32 || value > math.MaxInt32 {
		return b.arg(name, "text::integer", strconv.Itoa(value))
	}
	return b.arg(name, "integer", value)
}

// interval adds a duration unless it is zero.
func (b *call) interval(name string, value time.Duration) *call {
	if value == 0 {
		return b
	}
	return b.duration(name, value)
}

// duration adds a duration, zero as well.
func (b *call) duration(name string, value time.Duration) *call {
	return b.arg(name, "interval", signed(value))
}

// signed keeps a duration below zero, for the server to refuse: it counts microseconds.
func signed(d time.Duration) time.Duration {
	if d < 0 {
		return min(d, -time.Microsecond)
	}
	return d
}

// timestamp adds an instant unless it is the zero time.
func (b *call) timestamp(name string, value time.Time) *call {
	if value.IsZero() {
		return b
	}
	// As text, for the server to refuse: in microseconds it may overflow to a time that is due.
	if year := value.Year(); year > 294276 || year < -4713 {
		return b.arg(name, "timestamptz", value.UTC().String())
	}
	return b.arg(name, "timestamptz", value)
}

// texts adds an array of strings unless it is empty.
func (b *call) texts(name string, values []string) *call {
	if len(values) == 0 {
		return b
	}
	return b.arg(name, "text[]", values)
}

// bigints adds an array of numbers unless it is empty.
func (b *call) bigints(name string, values []int64) *call {
	if len(values) == 0 {
		return b
	}
	return b.arg(name, "bigint[]", values)
}

// document adds a JSON document unless it is nil.
func (b *call) document(name string, value json.RawMessage) *call {
	if value == nil {
		return b
	}
	return b.arg(name, "jsonb", string(value))
}

// build completes the statement.
func (b *call) build() string {
	return string(append(b.sql, b.tail...))
}

// exec runs the statement for its effect.
func (b *call) exec(ctx context.Context, db DBTX) error {
	_, err := db.Exec(ctx, b.build(), b.args...)
	return err
}

// row runs the statement for exactly one row.
func (b *call) row(ctx context.Context, db DBTX) pgx.Row {
	return db.QueryRow(ctx, b.build(), b.args...)
}

// rows runs the statement. As with pgx, the error of Query is also the error of
// the rows, so callers hand both to a collecting function.
func (b *call) rows(ctx context.Context, db DBTX) pgx.Rows {
	rows, _ := db.Query(ctx, b.build(), b.args...)
	return rows
}
