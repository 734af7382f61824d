package cli

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
)

// mutation adds --dry-run to a command that changes something: preview shows what
// it would change, from the same parameters unless it has its own.
func (a *app) mutation(s, preview statement) *cobra.Command {
	if preview.params == nil {
		preview.params = s.params
	}
	return a.dryRunnable(s, func(cmd *cobra.Command, conn *pgx.Conn, args []string) error {
		return a.runStatement(cmd, conn, preview, args)
	})
}

// rehearsed adds --dry-run to a command whose statement shows its own effect: a
// dry run is the statement, rolled back.
func (a *app) rehearsed(s statement) *cobra.Command {
	return a.dryRunnable(s, func(cmd *cobra.Command, conn *pgx.Conn, args []string) (err error) {
		ctx := cmd.Context()
		tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
		if err != nil {
			return err
		}
		defer func() {
			if failed := tx.Rollback(context.WithoutCancel(ctx)); err == nil {
				err = failed
			}
		}()
		return a.runStatement(cmd, conn, s, args)
	})
}

func (a *app) dryRunnable(s statement, dry func(*cobra.Command, *pgx.Conn, []string) error) *cobra.Command {
	cmd := a.statement(s)
	cmd.Flags().Bool("dry-run", false, "show what would change, change nothing")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if dryRun, _ := cmd.Flags().GetBool("dry-run"); !dryRun {
			return run(cmd, args)
		}
		return a.withConn(cmd.Context(), func(conn *pgx.Conn) error { return dry(cmd, conn, args) })
	}
	return cmd
}

// oneOrMany is a command that changes the job whose id is its argument, or else
// those of a selection. It has the flags of many.
func oneOrMany(one, many *cobra.Command) *cobra.Command {
	run := many.RunE
	many.Args = cobra.MaximumNArgs(1)
	many.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return one.RunE(cmd, args)
		}
		return run(cmd, args)
	}
	return many
}

// unlessIdle is the verdict on a change of one job: its outcome says what was
// done, or starts with "not".
func unlessIdle(t table) error {
	for row := range t.rows {
		if strings.HasPrefix(t.value(row, "outcome"), "not ") {
			return errViolated
		}
	}
	return nil
}

// unlessAbsent is the verdict on a search for one job.
func unlessAbsent(t table) error {
	if len(t.rows) == 0 {
		return errViolated
	}
	return nil
}

// firstArg passes the first argument as $1.
func firstArg(args []string) []any { return []any{args[0]} }
