package cli

import "github.com/spf13/cobra"

func (a *app) workerCommand() *cobra.Command {
	return family("worker", "Look at the workers that send heartbeats",
		a.statement(statement{
			use:   "list",
			short: "List workers with their last heartbeat",
			long: `List the workers that have sent a heartbeat, with the last one and what they told
of themselves. One that stays silent for worker_silence counts as gone; see storage
configure.`,
			sql:  always(`select w.worker, w.heartbeat_at, w.info from %[1]s.list_workers() as w`),
			none: "no workers",
		}),
	)
}
