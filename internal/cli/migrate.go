package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/awaqueue/awa/internal/install"
)

func (a *app) migrateCommand() *cobra.Command {
	var segments int
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Install awa, or upgrade it to this version",
		Long: `Install awa, or upgrade it to this version: pending migrations, then the
functions, in one transaction. Does nothing when all is current.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withConn(cmd.Context(), func(conn *pgx.Conn) error {
				res, err := install.Migrate(cmd.Context(), conn, a.installOptions(segments))
				if err != nil {
					return err
				}
				return a.printMigrated(cmd.OutOrStdout(), res)
			})
		},
	}
	cmd.PersistentFlags().IntVar(&segments, "segments", 0,
		fmt.Sprintf("segments of the ring, %d to %d, fixed by the first install (default %d)",
			install.MinSegments, install.MaxSegments, install.DefaultSegments))
	cmd.AddCommand(a.migrateStatusCommand(&segments), a.migratePrintCommand(&segments))
	return cmd
}

func (a *app) installOptions(segments int) install.Options {
	return install.Options{Schema: a.schema, Segments: segments, Logger: a.log}
}

func (a *app) printMigrated(w io.Writer, res install.Result) error {
	if a.output == "json" {
		return printObject(w, struct {
			Schema        string   `json:"schema"`
			From          int      `json:"from"`
			To            int      `json:"to"`
			Applied       []string `json:"applied"`
			CodeInstalled bool     `json:"code_installed"`
			Segments      int      `json:"segments"`
		}{res.Schema, res.From, res.To, orEmpty(res.Applied), res.CodeInstalled, res.Segments})
	}
	var err error
	switch {
	case !res.Changed():
		_, err = fmt.Fprintf(w, "schema %s is current: version %d, %d segments\n", res.Schema, res.To, res.Segments)
	case res.From == 0:
		_, err = fmt.Fprintf(w, "installed awa in schema %s: version %d, %d segments\n", res.Schema, res.To, res.Segments)
	case res.From == res.To:
		_, err = fmt.Fprintf(w, "installed the functions of schema %s anew: version %d\n", res.Schema, res.To)
	default:
		_, err = fmt.Fprintf(w, "upgraded schema %s from version %d to %d\n", res.Schema, res.From, res.To)
	}
	return err
}

func (a *app) migrateStatusCommand(segments *int) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Tell what is installed and what is pending",
		Long:  "Tell what is installed and what is pending. Exits with 2 when migrate would do\nsomething.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withConn(cmd.Context(), func(conn *pgx.Conn) error {
				state, err := install.Status(cmd.Context(), conn, a.installOptions(*segments))
				if err != nil {
					return err
				}
				if err := a.printState(cmd.OutOrStdout(), state); err != nil {
					return err
				}
				if !state.Current() {
					return errViolated
				}
				return nil
			})
		},
	}
}

func (a *app) printState(w io.Writer, s install.State) error {
	if a.output == "json" {
		return printObject(w, struct {
			Schema      string   `json:"schema"`
			Version     int      `json:"version"`
			Latest      int      `json:"latest"`
			Pending     []string `json:"pending"`
			CodeCurrent bool     `json:"code_current"`
			Segments    int      `json:"segments"`
			Current     bool     `json:"current"`
		}{s.Schema, s.Version, s.Latest, orEmpty(s.Pending), s.CodeCurrent, s.Segments, s.Current()})
	}
	code := "current"
	if !s.CodeCurrent {
		code = "to be installed"
	}
	pending := "none"
	if n := len(s.Pending); n > 3 {
		pending = fmt.Sprintf("%d, %s to %s", n, s.Pending[0], s.Pending[n-1])
	} else if n > 0 {
		pending = strings.Join(s.Pending, ", ")
	}
	return printTable(w, table{
		columns: []string{"schema", "version", "latest", "pending", "functions", "segments"},
		rows: [][]string{{s.Schema, fmt.Sprint(s.Version), fmt.Sprint(s.Latest), pending, code,
			fmt.Sprint(s.Segments)}},
	})
}

func (a *app) migratePrintCommand(segments *int) *cobra.Command {
	var opts install.PrintOptions
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Print what migrate does as plain SQL",
		Long: `Print what migrate does as plain SQL, for psql -f and for other migration tools.
The script keeps the version as migrate does, and refuses a database that is
not at the version of --from.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.Options = a.installOptions(*segments)
			return install.Print(cmd.OutOrStdout(), opts)
		},
	}
	cmd.Flags().IntVar(&opts.From, "from", 0, "installed version to start from")
	cmd.Flags().BoolVar(&opts.NoTransaction, "no-transaction", false, "leave out begin and commit, for tools with a transaction of their own")
	return cmd
}

func printObject(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// orEmpty keeps null out of the JSON.
func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
