package cli

import "github.com/spf13/cobra"

func (a *app) dlqCommand() *cobra.Command {
	return family("dlq", "Look at the dead letters, and move, retry or purge them",
		a.statement(statement{
			use:   "depth [QUEUE]",
			short: "Count the dead letters of a queue, or of every queue",
			args:  cobra.MaximumNArgs(1),
			sql:   always(`select * from %[1]s.dlq_depth(queue => $1::text)`),
			params: func(args []string) []any {
				if len(args) == 0 {
					return []any{nil}
				}
				return []any{args[0]}
			},
			none: "no dead letters",
		}),
		a.dlqListCommand(),
		a.dlqMoveCommand(),
		a.dlqRetryCommand(),
		a.dlqPurgeCommand(),
	)
}

func (a *app) dlqListCommand() *cobra.Command {
	var queue, kind, tag *optional[string]
	var page page
	cmd := a.statement(statement{
		use:   "list",
		short: "List dead letters, newest job first",
		sql: always(`select d.id, d.kind, d.queue, d.attempt, d.max_attempts, d.dlq_at, d.dlq_reason, d.tags,
  left(d.errors[cardinality(d.errors)] ->> 'error', 200) as last_error
from %[1]s.dlq_entries as d
where ($1::text is null or d.queue = $1)
  and ($2::text is null or d.kind = $2)
  and ($3::text is null or $3 = any (d.tags))
  and ($4::bigint is null or d.id < $4)
order by d.id desc
limit $5::bigint`),
		params: func([]string) []any { return []any{queue.value, kind.value, tag.value, page.before.value, page.limit} },
		none:   "no dead letters",
	})
	queue = optionalText(cmd, "queue", filterUsage["queue"])
	kind = optionalText(cmd, "kind", filterUsage["kind"])
	tag = optionalText(cmd, "tag", filterUsage["tag"])
	page.flags(cmd)
	return cmd
}
