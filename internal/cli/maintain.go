package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
)

const maintainSQL = `select * from %[1]s.maintain()`

// longestRound is how long a loop waits for the answer to a round, which takes seconds at
// most: beyond it the connection may be dead, or a pooler's. So is one that is not made by then.
const longestRound = 5 * time.Minute

func (a *app) maintainCommand() *cobra.Command {
	var loop bool
	var interval time.Duration
	var address string
	cmd := &cobra.Command{
		Use:   "maintain",
		Short: "Run the maintenance that is due, once or in a loop",
		Long: `Run the maintenance that is due: promotion, rescue, checkpoints, rotation and
pruning, one row per task. Exits with 1 when a task failed.

With --loop it goes on until it is told to stop, and prints the tasks that did
something, and those that could not: once, then once a minute for as long as they
say the same.

With --listen it also serves /metrics, the figures of every queue and of the storage
for Prometheus, and /healthz, which is 200 while rounds succeed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if address != "" && !loop {
				return errors.New("--listen without --loop: want both")
			}
			if !loop {
				return a.withConn(cmd.Context(), func(conn *pgx.Conn) error {
					return a.runStatement(cmd, conn, statement{sql: always(maintainSQL), verdict: unlessFailed}, nil)
				})
			}
			if interval <= 0 {
				return fmt.Errorf("--interval %s: want a duration above zero", interval)
			}
			m := a.newMeter()
			if address != "" {
				stop, err := a.listen(address, m)
				if err != nil {
					return err
				}
				defer stop()
			}
			return a.maintainLoop(cmd, interval, longestRound, m)
		},
	}
	cmd.Flags().BoolVar(&loop, "loop", false, "go on until told to stop")
	cmd.Flags().DurationVar(&interval, "interval", 100*time.Millisecond, "pause between two rounds of --loop")
	cmd.Flags().StringVar(&address, "listen", "", "with --loop, address to serve /metrics and /healthz on, as :9187")
	return cmd
}

// unlessFailed is the verdict on a round: a task that failed kept no other from being done.
func unlessFailed(t table) error {
	var failed []error
	for row := range t.rows {
		if t.value(row, "outcome") == "failed" {
			failed = append(failed, fmt.Errorf("%s: %s", t.value(row, "task"), t.value(row, "detail")))
		}
	}
	return errors.Join(failed...)
}

// maintainLoop runs rounds until the context is done. A fault of the first round
// ends it; a later one is told, and the next round tries again on a new
// connection. It also ends when nobody reads what it prints.
func (a *app) maintainLoop(cmd *cobra.Command, interval, longest time.Duration, m *meter) error {
	ctx := cmd.Context()
	config, err := a.config()
	if err != nil {
		return err
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = longest
	}
	rounds := 0
	told := told{}
	for pause := interval; ; pause = min(2*pause, max(interval, 10*time.Second)) {
		before := rounds
		err := connected(ctx, config, func(conn *pgx.Conn) error {
			return a.maintainRounds(cmd, conn, interval, longest, &rounds, told, m)
		})
		switch {
		case ctx.Err() != nil:
			return nil // told to stop
		case rounds == 0 || unread(err):
			return err
		case rounds > before:
			pause = interval
		}
		m.rounds.WithLabelValues("failed").Inc()
		a.log.WarnContext(ctx, "maintain: Round failed; will try again", "error", err, "in", pause)
		if !sleep(ctx, pause) {
			return nil
		}
	}
}

// maintainRounds runs rounds on one connection until one fails or gets no answer, and
// counts the good ones. A full disk that takes no output keeps none from being done.
func (a *app) maintainRounds(cmd *cobra.Command, conn *pgx.Conn, interval, longest time.Duration, rounds *int, told told, m *meter) error {
	ctx := cmd.Context()
	for {
		start := time.Now()
		round, cancel := context.WithTimeout(ctx, longest)
		t, err := query(round, conn, a.sql(maintainSQL+` as m where m.affected > 0 or m.outcome <> 'idle' or m.detail is not null`))
		cancel()
		if err != nil {
			return err
		}
		*rounds++
		m.round(t, time.Since(start))
		err = a.printRound(cmd.OutOrStdout(), t, told)
		switch {
		case unread(err):
			return err
		case err != nil && told.news("print", "0", err.Error(), time.Now()):
			a.log.WarnContext(ctx, "maintain: Cannot print what was done", "error", err)
		}
		if !sleep(ctx, interval) {
			return ctx.Err()
		}
	}
}

// told is what each task last said that it could not do, and when that was printed.
// A loop runs many rounds a second and would say nothing else.
type told map[string]struct {
	trouble string
	at      time.Time
}

// news reports whether to print this row now. What a task did always is.
func (last told) news(task, affected, trouble string, now time.Time) bool {
	before := last[task]
	if affected != "0" {
		delete(last, task)
		return true
	}
	if before.trouble == trouble && now.Sub(before.at) < time.Minute {
		return false
	}
	before.trouble, before.at = trouble, now
	last[task] = before
	return true
}

// printRound writes one line per task, as text or as a JSON object: a stream
// has neither a header nor an end.
func (a *app) printRound(w io.Writer, t table, told told) error {
	for i, row := range t.rows {
		trouble := t.value(i, "outcome") + " " + t.value(i, "detail")
		if !told.news(t.value(i, "task"), t.value(i, "affected"), trouble, time.Now()) {
			continue
		}
		line := time.Now().Format(time.TimeOnly) + " " + strings.TrimSpace(strings.Join(row, " "))
		if a.output == "json" {
			line = string(t.objects[i])
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// sleep reports whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
