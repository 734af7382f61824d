package cli

import "github.com/spf13/cobra"

func (a *app) queueCommand() *cobra.Command {
	return family("queue", "Look at queues and change their settings",
		a.queueCountsCommand(),
		a.queueConfigureCommand(),
		a.queueSwitch("pause", "Stop claims of a queue", "pause_queue", "paused"),
		a.queueSwitch("resume", "Let claims of a paused queue go on", "resume_queue", "resumed"),
		a.queueRemoveCommand(),
	)
}

func (a *app) queueCountsCommand() *cobra.Command {
	return a.statement(statement{
		use:   "counts [QUEUE]",
		short: "Count the jobs of a queue, or of every queue, by state",
		args:  cobra.MaximumNArgs(1),
		sql: func(args []string) string {
			if len(args) == 0 {
				return `select * from %[1]s.queue_overview()`
			}
			return `select * from %[1]s.queue_counts(queue => $1)`
		},
		params: func(args []string) []any {
			if len(args) == 0 {
				return nil
			}
			return []any{args[0]}
		},
		none: "no queues",
	})
}
