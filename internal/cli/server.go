package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/awaqueue/awa/internal/localpg"
	"github.com/awaqueue/awa/internal/scratch"
)

func (a *app) serverCommand() *cobra.Command {
	return family("server", "Run a command against a throw-away database", a.serverRunCommand())
}

func (a *app) serverRunCommand() *cobra.Command {
	var opts localpg.Options
	var empty bool
	var segments int
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG]...",
		Short: "Run a command against a fresh database with awa installed",
		Long: `Run a command against a fresh database with awa installed, then drop it. The
database is on the server of --database-url or DATABASE_URL, else on a throw-away
server that starts now and is gone afterwards. The command finds the database in
DATABASE_URL and in the PG* variables; its exit code is that of awa-admin. What
Ctrl-C does in a terminal is up to the command.`,
		Example: "  awa-admin server run -- psql\n  awa-admin server run -- pg_prove pgtap/*.sql",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ctx := cmd.Context()
			server, err := scratch.Open(ctx, a.dsn(), opts)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, server.Close()) }()
			db, err := a.createDatabase(ctx, server, empty, segments)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, db.Drop(ctx)) }()
			return runChild(cmd, db, args)
		},
	}
	cmd.Flags().SetInterspersed(false) // flags after COMMAND are its own
	cmd.Flags().BoolVar(&opts.Fsync, "fsync", false, "make commits durable (throw-away server)")
	cmd.Flags().StringToStringVar(&opts.Settings, "set", nil, "server setting, name=value (throw-away server)")
	cmd.Flags().BoolVar(&empty, "empty", false, "leave out awa")
	cmd.Flags().IntVar(&segments, "segments", 0, "segments of the ring")
	return cmd
}

func (a *app) createDatabase(ctx context.Context, server *scratch.Server, empty bool, segments int) (*scratch.Database, error) {
	if empty {
		return server.Create(ctx, scratch.Empty)
	}
	return server.CreateInstalled(ctx, a.installOptions(segments))
}

// runChild runs the command with this program's input and output. Told to stop,
// it passes that on and waits, so that the database outlives the command. An interrupt from
// the terminal the command hears itself, and some go on, as psql does.
func runChild(cmd *cobra.Command, db *scratch.Database, args []string) error {
	env, err := db.Env()
	if err != nil {
		return err
	}
	child := exec.CommandContext(cmd.Context(), args[0], args[1:]...)
	child.Env = env
	child.Stdin, child.Stdout, child.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
	child.WaitDelay = 10 * time.Second
	if err := child.Start(); err != nil {
		return err
	}
	if inForeground(child.Stdin) {
		signal.Ignore(os.Interrupt)
	}
	return child.Wait()
}
