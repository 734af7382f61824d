// Package cli is the command line of awa-admin: one file per command family.
//
// A command is one SQL statement that calls one awa function; no rule of the
// queue lives here.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/awaqueue/awa/internal/install"
)

// Exit codes.
const (
	exitOK       = 0
	exitError    = 1
	exitViolated = 2 // a check found something, the work is blocked, or there is no such job
)

// app is what the commands share: the persistent flags and the output.
type app struct {
	databaseURL string
	schema      string
	output      string
	timeout     time.Duration
	verbose     bool

	log *slog.Logger
}

// Run runs one command line and returns its exit code.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return report(stderr, root.ExecuteContext(ctx))
}

func newRoot() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:   "awa-admin",
		Short: "Install and operate awa, a job queue inside PostgreSQL",
		Long: `Install and operate awa, a job queue inside PostgreSQL.

The database is that of --database-url, else of DATABASE_URL, else of the PG*
variables. Exit codes: 0 for done, 1 for an error, 2 if a check found something,
the work is blocked or there is no such job.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.prepare(cmd.ErrOrStderr())
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.databaseURL, "database-url", "", "database to work on (default DATABASE_URL, then the PG* variables)")
	flags.StringVar(&a.schema, "schema", install.DefaultSchema, "storage schema")
	flags.StringVarP(&a.output, "output", "o", "table", "output format: table or json")
	flags.DurationVar(&a.timeout, "timeout", 0, "time to connect, and time that each statement may take (default no limit)")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "report each step")

	root.AddCommand(
		a.migrateCommand(),
		a.demoCommand(),
		a.queueCommand(),
		a.workerCommand(),
		a.jobCommand(),
		a.dlqCommand(),
		a.cronCommand(),
		a.batchCommand(),
		a.storageCommand(),
		a.maintainCommand(),
		a.serverCommand(),
		a.versionCommand(),
	)
	tellUsage(root)
	return root
}

// tellUsage has an error about arguments or flags say how the command is called.
func tellUsage(cmd *cobra.Command) {
	usage := func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w\nusage: %s", err, cmd.UseLine())
	}
	cmd.SetFlagErrorFunc(usage)
	for _, sub := range cmd.Commands() {
		tellUsage(sub)
	}
	if args := cmd.Args; args != nil && !cmd.HasSubCommands() {
		cmd.Args = func(cmd *cobra.Command, given []string) error {
			if err := args(cmd, given); err != nil {
				return usage(cmd, err)
			}
			return nil
		}
	}
}

// prepare checks the persistent flags.
func (a *app) prepare(stderr io.Writer) error {
	if a.output != "table" && a.output != "json" {
		return fmt.Errorf("--output %q: want table or json", a.output)
	}
	if a.timeout < 0 {
		return fmt.Errorf("--timeout %s: want a duration above zero, or none", a.timeout)
	}
	if a.schema == "" {
		return errors.New("--schema is empty: want the name of a schema")
	}
	level := slog.LevelWarn
	if a.verbose {
		level = slog.LevelInfo
	}
	a.log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	return nil
}

// family is a command that only groups others.
func family(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.NoArgs,
		// Runnable, so that cobra refuses an unknown command below it.
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}
