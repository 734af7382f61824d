package cli

import "github.com/spf13/cobra"

func (a *app) jobCommand() *cobra.Command {
	return family("job", "Look at jobs, and cancel, retry or delete them",
		a.jobGetCommand(),
		a.jobListCommand(),
		a.jobCancelCommand(),
		a.jobRetryCommand(),
		a.jobDeleteCommand(),
		a.jobDiscardCommand(),
	)
}

func (a *app) jobGetCommand() *cobra.Command {
	return a.statement(statement{
		use:   "get JOB_ID",
		short: "Show everything about one job, or one dead letter",
		long:  "Show everything about one job, or one dead letter. Exits with 2 when there is no\nsuch job.",
		args:  cobra.ExactArgs(1),
		sql: always(`select j.*, null::text as dlq_reason, null::timestamptz as dlq_at
from %[1]s.jobs as j where j.id = $1::bigint
union all
select d.id, d.kind, d.queue, d.args, d.state, d.priority, d.attempt, d.max_attempts, d.run_at, d.heartbeat_at,
  d.deadline_at, d.attempted_at, d.finalized_at, d.created_at, d.errors, d.metadata, d.tags, d.unique_key,
  d.unique_states, d.callback_id, d.callback_timeout_at, d.run_lease, d.progress, d.dlq_reason, d.dlq_at
from %[1]s.dlq_entries as d where d.id = $1::bigint`),
		params:  firstArg,
		none:    "no such job",
		verdict: unlessAbsent,
	})
}

// states are those of job_state.
const states = "scheduled, available, running, waiting_external, retryable, completed, failed or cancelled"

func (a *app) jobListCommand() *cobra.Command {
	var queue, kind, state *optional[string]
	var page page
	cmd := a.statement(statement{
		use:   "list",
		short: "List jobs, newest first",
		sql: always(`select j.id, j.kind, j.queue, j.state, j.priority, j.attempt, j.max_attempts, j.run_at, j.created_at,
  j.finalized_at, left(j.errors[cardinality(j.errors)] ->> 'error', 200) as last_error
from %[1]s.list_jobs(queue => $1::text, kind => $2::text, state => $3::text::%[1]s.job_state,
  before => $4::bigint, max_jobs => $5::integer) as j`),
		params: func([]string) []any {
			return []any{queue.value, kind.value, state.value, page.before.value, page.limit}
		},
		none: "no jobs",
	})
	queue = optionalText(cmd, "queue", filterUsage["queue"])
	kind = optionalText(cmd, "kind", filterUsage["kind"])
	state = optionalText(cmd, "state", "jobs in this state only: "+states)
	page.flags(cmd)
	return cmd
}
