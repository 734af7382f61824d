package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/jackc/pgx/v5"

	"github.com/awaqueue/awa/internal/txn"
)

// table is what a query returned, each row once as text and once as JSON.
type table struct {
	columns []string
	rows    [][]string
	objects []json.RawMessage
}

// query runs one statement. The server writes the JSON, so that arrays,
// documents and timestamps come out as JSON has them, in the order of the
// columns.
//
// Housekeeping asks for READ COMMITTED, and the default of the database may be another: then
// the statement is in a transaction that is. Else it is one of its own, for this program may
// vanish without a word.
func query(ctx context.Context, conn *pgx.Conn, sql string, args ...any) (t table, err error) {
	var level string
	if err := conn.QueryRow(ctx, "select current_setting('transaction_isolation')").Scan(&level); err != nil {
		return table{}, err
	}
	if level != "read committed" && conn.PgConn().TxStatus() == 'I' {
		err = txn.ReadCommitted(ctx, conn, func(pgx.Tx) error {
			t, err = queryOnce(ctx, conn, sql, args...)
			return err
		})
		return t, err
	}
	return queryOnce(ctx, conn, sql, args...)
}

func queryOnce(ctx context.Context, conn *pgx.Conn, sql string, args ...any) (t table, err error) {
	sql = "select q.*, row_to_json(q)::text from (\n" + sql + "\n) as q"
	all := append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)
	rows, err := conn.Query(ctx, sql, all...)
	if err != nil {
		return table{}, err
	}
	defer rows.Close()
	for rows.Next() {
		raw := rows.RawValues()
		last := len(raw) - 1
		row := make([]string, last)
		for i := range row {
			row[i] = string(raw[i])
		}
		t.rows = append(t.rows, row)
		t.objects = append(t.objects, json.RawMessage(string(raw[last])))
	}
	fields := rows.FieldDescriptions()
	for _, f := range fields[:max(0, len(fields)-1)] {
		t.columns = append(t.columns, f.Name)
	}
	return t, rows.Err()
}

// value is the text of a column of a row; empty for null and for a column that
// does not exist.
func (t table) value(row int, column string) string {
	for i, name := range t.columns {
		if name == column {
			return t.rows[row][i]
		}
	}
	return ""
}

// print writes the rows: aligned, or as a JSON array of one object a line.
func (a *app) print(w io.Writer, t table) error {
	if a.output == "json" {
		return printJSON(w, t)
	}
	return printTable(w, t)
}

func printJSON(w io.Writer, t table) error {
	var b strings.Builder
	b.WriteString("[")
	for i, object := range t.objects {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n  ")
		b.Write(object)
	}
	if len(t.objects) > 0 {
		b.WriteString("\n")
	}
	b.WriteString("]\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// wide is the number of columns from which a single row reads better as a
// list.
const wide = 9

func printTable(w io.Writer, t table) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(t.rows) == 1 && len(t.columns) > wide {
		for i, name := range t.columns {
			fmt.Fprintf(tw, "%s\t%s\n", name, oneLine(t.rows[0][i]))
		}
		return tw.Flush()
	}
	writeRow(tw, t.columns)
	for _, row := range t.rows {
		writeRow(tw, row)
	}
	return tw.Flush()
}

// writeRow leaves out trailing cells that are empty, so that no line ends in
// spaces.
func writeRow(w io.Writer, cells []string) {
	end := len(cells)
	for end > 1 && cells[end-1] == "" {
		end--
	}
	line := make([]string, end)
	for i := range line {
		line[i] = oneLine(cells[i])
	}
	fmt.Fprintln(w, strings.Join(line, "\t"))
}

// oneLine keeps a value from breaking the table, and from steering the terminal:
// names come from whoever enqueues.
func oneLine(value string) string { return plain(value, "") }

// plain leaves out what a terminal obeys, or writes in another order than it reads,
// but for some.
func plain(text, but string) string {
	return strings.Map(func(r rune) rune {
		if (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) && !strings.ContainsRune(but, r) {
			return ' '
		}
		return r
	}, text)
}
