package cli

import "github.com/spf13/cobra"

// stateOfJob tells why nothing was done to job $1.
const stateOfJob = `coalesce(
    (select 'the job is ' || j.state from %[1]s.jobs as j where j.id = $1::bigint),
    (select 'the job is a dead letter' from %[1]s.dlq_entries as d where d.id = $1::bigint),
    'no such job')`

// oneJob calls a boolean function for job $1 and names the outcome; why is an
// expression that tells the reason of a false.
func oneJob(call, done, why string) func([]string) string {
	return always(`select c.job_id, case when c.done then '` + done + `' else 'not ` + done + `' end as outcome,
  case when not c.done then ` + why + ` end as reason
from (select $1::bigint as job_id, %[1]s.` + call + ` as done) as c`)
}

// previewOne shows job $1 of a view, if the change would take it.
func previewOne(view, condition string) statement {
	return statement{
		sql: always(`select j.id, j.kind, j.queue, j.state, j.priority, j.attempt, j.max_attempts, j.run_at
from ` + view + ` as j where j.id = $1::bigint` + condition),
		params:  firstArg,
		none:    "nothing would change",
		verdict: unlessAbsent,
	}
}

func (a *app) jobCancelCommand() *cobra.Command {
	var reason *optional[string]
	cmd := a.mutation(statement{
		use:   "cancel JOB_ID",
		short: "Cancel a job that waits or runs",
		long: `Cancel a job that is not terminal: a waiting one never runs, the finish of a
running one is stale. Exits with 2 when there is no such job, or it is terminal.`,
		args:    cobra.ExactArgs(1),
		sql:     oneJob(`cancel(job_id => $1::bigint, reason => $2::text)`, "cancelled", stateOfJob),
		params:  func(args []string) []any { return []any{args[0], reason.value} },
		verdict: unlessIdle,
	}, previewOne(`%[1]s.jobs`, ` and j.state not in ('completed', 'failed', 'cancelled')`))
	reason = optionalText(cmd, "reason", "kept in the job's errors")
	return cmd
}

func (a *app) jobRetryCommand() *cobra.Command {
	var to overrides
	cmd := a.mutation(statement{
		use:   "retry JOB_ID",
		short: "Run a failed or cancelled job once more",
		long: `Put a failed or cancelled job back into its queue. Its attempts start over, its
errors stay. Exits with 2 when history has no such job. For dead letters see dlq
retry.`,
		args: cobra.ExactArgs(1),
		sql: oneJob(`retry(job_id => $1::bigint, queue => $2::text, priority => $3::integer, run_at => $4::timestamptz)`,
			"retried", stateOfJob),
		params:  func(args []string) []any { return []any{args[0], to.queue.value, to.priority.value, to.runAt.value} },
		verdict: unlessIdle,
	}, previewOne(`%[1]s.jobs`, ` and j.state in ('failed', 'cancelled')`))
	to = overrideFlags(cmd)
	return cmd
}

func (a *app) jobDeleteCommand() *cobra.Command {
	return a.mutation(statement{
		use:   "delete JOB_ID",
		short: "Remove a job, or a dead letter, in whatever state",
		long: `Remove a job wherever it is: waiting, running, terminal or a dead letter. The
finish of a running one is stale. Exits with 2 when there is no such job.`,
		args:    cobra.ExactArgs(1),
		sql:     oneJob(`delete_job_compat(p_id => $1::bigint)`, "deleted", `'no such job'`),
		params:  firstArg,
		verdict: unlessIdle,
	}, previewOne(`(
  select id, kind, queue, state, priority, attempt, max_attempts, run_at from %[1]s.jobs
  union all
  select id, kind, queue, state, priority, attempt, max_attempts, run_at from %[1]s.dlq_entries
)`, ``))
}

func (a *app) jobDiscardCommand() *cobra.Command {
	var f selection
	cmd := a.mutation(statement{
		use:   "discard",
		short: "Remove failed jobs from history",
		long: `Remove failed jobs from history: those of --kind, of --queue, or --all. Dead
letters stay: see dlq purge.`,
		sql: always(`select coalesce(sum(%[1]s.discard_failed_by_kind(kind => k.kind, queue => $2::text)), 0)::bigint as discarded
from (
  select $1::text as kind where $1::text is not null
  union
  select d.kind from %[1]s.done_entries as d
  where $1::text is null and d.state = 'failed' and ($2::text is null or d.queue = $2)
) as k`),
		params: func([]string) []any { return []any{f.kind.value, f.queue.value} },
	}, statement{
		sql: always(`select d.queue, d.kind, count(*) as jobs
from %[1]s.done_entries as d
where d.state = 'failed' and ($1::text is null or d.kind = $1) and ($2::text is null or d.queue = $2)
group by d.queue, d.kind
order by d.queue, d.kind`),
		none: "nothing would change",
	})
	f = selectionFlags(cmd, "kind", "queue")
	return cmd
}
