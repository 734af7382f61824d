package cli

import (
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
)

// statement is the shape of most commands: one SQL statement, its rows.
type statement struct {
	use, short, long string
	args             cobra.PositionalArgs // default: none; they become $1, $2, …
	sql              func(args []string) string
	params           func(args []string) []any // default: none
	verdict          func(table) error         // default: always well
	none             string                    // printed instead of an empty table
}

func (a *app) statement(s statement) *cobra.Command {
	if s.args == nil {
		s.args = cobra.NoArgs
	}
	return &cobra.Command{
		Use:   s.use,
		Short: s.short,
		Long:  s.long,
		Args:  s.args,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withConn(cmd.Context(), func(conn *pgx.Conn) error {
				return a.runStatement(cmd, conn, s, args)
			})
		},
	}
}

func (a *app) runStatement(cmd *cobra.Command, conn *pgx.Conn, s statement, args []string) error {
	var params []any
	if s.params != nil {
		params = s.params(args)
	}
	t, err := query(cmd.Context(), conn, a.sql(s.sql(args)), params...)
	if err != nil {
		return err
	}
	if len(t.rows) == 0 && s.none != "" && a.output == "table" {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), s.none)
	} else {
		err = a.print(cmd.OutOrStdout(), t)
	}
	if err != nil {
		return err
	}
	if s.verdict != nil {
		return s.verdict(t)
	}
	return nil
}

// always is a statement that does not depend on the arguments.
func always(sql string) func([]string) string {
	return func([]string) string { return sql }
}

// ofName calls a function of the name in $1, by the argument's own name, that says
// whether it knows any such thing.
func ofName(argument, thing, function, outcome string) func([]string) string {
	return always(`select $1::text as ` + argument + `, case when f.found then '` + outcome + `' else 'not ` + outcome + `: no such ` + thing + `' end as outcome
from %[1]s.` + function + `(` + argument + ` => $1::text) as f (found)`)
}
