package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) storageCommand() *cobra.Command {
	return family("storage", "Look at the storage and maintain it",
		a.statement(statement{
			use:   "status",
			short: "Show the segments of the ring and what holds the oldest",
			sql:   always(`select * from %[1]s.storage_status()`),
		}),
		a.statement(statement{
			use:     "rotate",
			short:   "Seal the current segment and open the next one",
			long:    "Seal the current segment and open the next one; idle means that it has no jobs.\nExits with 2 when the next slot is not pruned, or another session rotates or prunes.",
			sql:     always(`select %[1]s.rotate() as outcome`),
			verdict: unlessBlocked,
		}),
		a.statement(statement{
			use:     "prune",
			short:   "Reclaim the oldest sealed segment",
			long:    "Reclaim the oldest sealed segment. Exits with 2 when that is blocked or the\nsegment is busy; storage status tells the reason.",
			sql:     always(`select %[1]s.prune() as outcome`),
			verdict: unlessBlocked,
		}),
		a.statement(statement{
			use:     "check",
			short:   "Check every invariant of the storage",
			long:    "Check every invariant of the storage and print those that are violated. Exits\nwith 2 when there are any.",
			sql:     always(`select * from %[1]s.check()`),
			verdict: unlessRows,
			none:    "healthy: no invariant is violated",
		}),
		a.statement(statement{
			use:   "rebuild-terminal-counters",
			short: "Recount the terminal jobs and correct the counters",
			long:  "Recount the terminal jobs and correct the counters. Exact while jobs are being\nworked. Prints the counters that were wrong.",
			sql: always(`select r.ready_slot, r.queue, r.priority, r.enqueue_shard, r.before, r.after,
       coalesce(r.after, 0) - coalesce(r.before, 0) as drift
from %[1]s.rebuild_terminal_counters() as r
where coalesce(r.after, 0) <> coalesce(r.before, 0)
order by r.queue, r.priority, r.enqueue_shard, r.ready_slot`),
			none: "no drift",
		}),
		a.rehearsed(statement{
			use:   "rebase",
			short: "Make a storage usable that was restored into another cluster",
			long: `Make a storage usable that was restored from a dump, or copied logically, into
another cluster: waiting jobs are offered anew, history and counts stay. Locks
everything against other sessions, even for a dry run.`,
			sql: always(`select %[1]s.rebase() as waiting`),
		}),
		a.storageConfigureCommand(),
		a.resetCommand(),
	)
}

func (a *app) storageConfigureCommand() *cobra.Command {
	cmd := a.rehearsed(statement{
		use:   "configure [NAME=VALUE...]",
		short: "Change settings of the storage, or show them",
		long: `Change settings of the storage, effective at once, and show all of them. NAME= with
no value resets a setting to its default.

  segment_max_age    the age at which a segment is sealed
  segment_max_bytes  the size of its jobs, with indexes, at which it is sealed
  history_retention  how long a sealed segment is kept
  straggler_limit    how many jobs prune moves out of its way at most
  worker_silence     after how long without a heartbeat a worker counts as gone`,
		args: func(_ *cobra.Command, args []string) error {
			_, err := settingsOf(args)
			return err
		},
		sql: always(`select s.key as setting, s.value
from %[1]s.configure_storage(settings => $1::text::jsonb) as c
cross join jsonb_each_text(c) as s
order by s.key`),
		params: func(args []string) []any {
			doc, _ := settingsOf(args) // args has seen its error
			return []any{doc}
		},
	})
	cmd.Example = `  awa-admin storage configure 'history_retention=6 hours'`
	return cmd
}

func (a *app) resetCommand() *cobra.Command {
	var yes bool
	cmd := a.statement(statement{
		use:   "reset",
		short: "Empty the storage: every job, every count, every cursor",
		sql:   always(`select 'emptied' as outcome from %[1]s.reset()`),
	})
	cmd.Flags().BoolVar(&yes, "yes", false, "yes, lose every job")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if yes {
			return run(cmd, args)
		}
		config, err := a.config()
		if err != nil {
			return err
		}
		return fmt.Errorf("reset loses every job in schema %s of database %s at %s: repeat with --yes",
			a.schema, config.Database, config.Host)
	}
	return cmd
}

// unlessBlocked is the verdict on a task that says how it went.
func unlessBlocked(t table) error {
	for row := range t.rows {
		switch t.value(row, "outcome") {
		case "blocked", "busy":
			return errViolated
		}
	}
	return nil
}

// unlessRows is the verdict on a list of faults.
func unlessRows(t table) error {
	if len(t.rows) > 0 {
		return errViolated
	}
	return nil
}
