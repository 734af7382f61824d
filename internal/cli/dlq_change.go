package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

const maxJobsUsage = "the most jobs to take, oldest first; with a filter or --all"

func (a *app) dlqMoveCommand() *cobra.Command {
	var f selection
	var reason *optional[string]
	one := a.mutation(statement{
		sql: oneJob(`move_failed_to_dlq(job_id => $1::bigint, reason => $2::text)`, "moved", stateOfJob),
		params: func(args []string) []any {
			return []any{args[0], reason.value}
		},
		verdict: unlessIdle,
	}, previewOne(`%[1]s.jobs`, ` and j.state = 'failed'`))
	many := a.mutation(statement{
		use:   "move [JOB_ID]",
		short: "Move failed jobs from history to the dead letters",
		long: `Move failed jobs from history to the dead letters: one job, or those of --queue
and --kind, or --all. Exits with 2 when the single job is not there.`,
		sql: always(`select %[1]s.bulk_move_failed_to_dlq(queue => $1::text, kind => $2::text, reason => $3::text,
  max_jobs => $4::integer) as moved`),
		params: func([]string) []any {
			return []any{f.queue.value, f.kind.value, reason.value, f.maxJobs.value}
		},
	}, statement{
		sql: always(`select d.queue, d.kind, count(*) as jobs
from (
  select e.queue, e.kind from %[1]s.done_entries as e
  where e.state = 'failed' and ($1::text is null or e.queue = $1) and ($2::text is null or e.kind = $2)
  order by e.id
  limit $3::bigint
) as d
group by d.queue, d.kind
order by d.queue, d.kind`),
		params: func([]string) []any { return []any{f.queue.value, f.kind.value, f.maxJobs.value} },
		none:   "nothing would change",
	})
	f = selectionFlags(many, "queue", "kind")
	f.maxJobs = optionalInt32(many, "max-jobs", maxJobsUsage)
	reason = optionalText(many, "reason", "kept with the dead letters")
	return oneOrMany(one, many)
}

// previewLetters counts the dead letters that a bulk change would take: $1 queue,
// $2 kind, $3 tag, $4 the most, $5 their age.
func previewLetters() statement {
	return statement{
		sql: always(`select d.queue, d.kind, count(*) as jobs
from (
  select e.queue, e.kind from %[1]s.dlq_entries as e
  where ($1::text is null or e.queue = $1)
    and ($2::text is null or e.kind = $2)
    and ($3::text is null or $3 = any (e.tags))
    and ($5::text is null or e.dlq_at < clock_timestamp() - $5::text::interval)
  order by e.id
  limit $4::bigint
) as d
group by d.queue, d.kind
order by d.queue, d.kind`),
		none: "nothing would change",
	}
}

func (a *app) dlqRetryCommand() *cobra.Command {
	var f selection
	var to overrides
	one := a.mutation(statement{
		sql: oneJob(`retry_from_dlq(job_id => $1::bigint, queue => $2::text, priority => $3::integer, run_at => $4::timestamptz)`,
			"retried", `'no such dead letter'`),
		params:  func(args []string) []any { return []any{args[0], to.queue.value, to.priority.value, to.runAt.value} },
		verdict: unlessIdle,
	}, previewOne(`%[1]s.dlq_entries`, ``))
	preview := previewLetters()
	preview.params = func([]string) []any {
		return []any{f.queue.value, f.kind.value, f.tag.value, f.maxJobs.value, nil}
	}
	many := a.mutation(statement{
		use:   "retry [JOB_ID]",
		short: "Put dead letters back into their queues",
		long: `Put dead letters back into their queues: one, or those of --queue, --kind and
--tag, or --all. Their attempts start over, their errors stay. One whose unique
key another job holds by now stays a dead letter. Exits with 2 when the single
one is not there.`,
		sql: always(`select %[1]s.bulk_retry_from_dlq(queue => $1::text, kind => $2::text, tag => $3::text,
  max_jobs => $4::integer) as retried`),
		params: func([]string) []any {
			return []any{f.queue.value, f.kind.value, f.tag.value, f.maxJobs.value}
		},
	}, preview)
	f = selectionFlags(many, "queue", "kind", "tag")
	f.maxJobs = optionalInt32(many, "max-jobs", maxJobsUsage)
	to = overrideFlags(many)
	bounded := many.PreRunE
	many.PreRunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && (to.queue.value != nil || to.priority.value != nil || to.runAt.value != nil) {
			return errors.New("--to-queue, --to-priority and --run-at are for one job: give its id")
		}
		return bounded(cmd, args)
	}
	return oneOrMany(one, many)
}

func (a *app) dlqPurgeCommand() *cobra.Command {
	var f selection
	cmd := a.mutation(statement{
		use:   "purge",
		short: "Delete dead letters for good",
		long: `Delete dead letters for good: those of --queue, --kind, --tag and --older-than,
or --all. Letters that another session holds are skipped. For a single one see
job delete.`,
		sql: always(`select %[1]s.purge_dlq(queue => $1::text, kind => $2::text, tag => $3::text, max_jobs => $4::integer,
  older_than => $5::text::interval) as purged`),
		params: func([]string) []any {
			return []any{f.queue.value, f.kind.value, f.tag.value, f.maxJobs.value, f.olderThan.value}
		},
	}, previewLetters())
	f = selectionFlags(cmd, "queue", "kind", "tag", "older-than")
	f.maxJobs = optionalInt32(cmd, "max-jobs", maxJobsUsage)
	return cmd
}
