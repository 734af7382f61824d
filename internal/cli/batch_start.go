package cli

import (
	"time"

	"github.com/spf13/cobra"
)

// batchFilters are the flags that say which jobs an operation takes, in the order
// of the parameters from $2 on.
var batchFilters = []string{"queue", "kind", "tag", "state", "ids", "min-id", "max-id", "created-after", "created-before"}

const batchArguments = `operation => $1::text,
  filter => jsonb_strip_nulls(jsonb_build_object('queue', $2::text, 'kind', $3::text, 'tag', $4::text,
    'state', $5::text[], 'ids', $6::bigint[], 'min_id', $7::bigint, 'max_id', $8::bigint,
    'created_after', $9::timestamptz, 'created_before', $10::timestamptz)),
  settings => jsonb_strip_nulls(jsonb_build_object('queue', $11::text, 'priority', $12::integer, 'reason', $13::text))`

func (a *app) batchStartCommand() *cobra.Command {
	var (
		f             selection
		states        []string
		ids           []int64
		minID, maxID  *optional[int]
		after, before *optional[time.Time]
		queue, reason *optional[string]
		priority      *optional[int32]
		all           bool
		params        = func(args []string) []any {
			return []any{args[0], f.queue.value, f.kind.value, f.tag.value, states, ids, minID.value, maxID.value,
				after.value, before.value, queue.value, priority.value, reason.value}
		}
	)
	cmd := a.mutation(statement{
		use:   "start OPERATION",
		short: "Start a batch operation",
		long: `Start a batch operation: retry, cancel, reprioritize, move, discard or delete all
jobs that match the filters and exist now, or --all. maintain does the work, in
bites; batch show tells how far it is. A dry run counts the jobs.

  retry         failed and cancelled jobs; --to-queue, --to-priority
  cancel        jobs that are not terminal; --reason
  reprioritize  waiting and deferred jobs; --to-priority
  move          waiting and deferred jobs; --to-queue, --to-priority
  discard       failed jobs
  delete        jobs in any state`,
		args:   cobra.ExactArgs(1),
		sql:    always(`select %[1]s.start_batch_operation(` + batchArguments + `, all_jobs => $14::boolean) as operation_id`),
		params: func(args []string) []any { return append(params(args), all) },
	}, statement{
		sql:    always(`select %[1]s.count_batch_jobs(` + batchArguments + `) as jobs`),
		params: params,
	})
	f = selectionFlags(cmd, "queue", "kind", "tag")
	flags := cmd.Flags()
	flags.StringSliceVar(&states, "state", nil, "jobs in this state only, or one of several")
	flags.Int64SliceVar(&ids, "ids", nil, "these jobs only")
	minID = optionalInt(cmd, "min-id", "jobs with this id or a higher one only")
	maxID = optionalInt(cmd, "max-id", "jobs with this id or a lower one only")
	after = optionalTime(cmd, "created-after", "jobs created then or later only, as 2006-01-02T15:04:05Z")
	before = optionalTime(cmd, "created-before", "jobs created before only")
	queue = optionalText(cmd, "to-queue", "put the jobs into this queue")
	priority = optionalInt32(cmd, "to-priority", "give the jobs this priority")
	reason = optionalText(cmd, "reason", "kept in the errors of cancelled jobs")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		all, _ = flags.GetBool("all")
		return bounded(cmd, nil, batchFilters)
	}
	return cmd
}
