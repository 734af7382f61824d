package cli

import "github.com/spf13/cobra"

func (a *app) batchCommand() *cobra.Command {
	return family("batch", "Change many jobs at once, and follow or cancel that",
		a.batchStartCommand(),
		a.batchListCommand(),
		a.batchShowCommand(),
		a.batchCancelCommand(),
	)
}

func (a *app) batchListCommand() *cobra.Command {
	var state *optional[string]
	limit := int32(100)
	cmd := a.statement(statement{
		use:   "list",
		short: "List batch operations, newest first",
		sql: always(`select b.id, b.operation, b.state, b.matched, b.affected, b.skipped, b.failed, b.cursor_id, b.last_id,
  b.created_at, b.finished_at, left(b.last_error, 200) as last_error
from %[1]s.list_batch_operations(state => $1::text, max_operations => $2::integer) as b`),
		params: func([]string) []any { return []any{state.value, limit} },
		none:   "no batch operations",
	})
	state = optionalText(cmd, "state", "those in this state only: pending, running, done, cancelled or failed")
	cmd.Flags().Int32Var(&limit, "limit", limit, "the most operations to list")
	return cmd
}

func (a *app) batchShowCommand() *cobra.Command {
	return a.statement(statement{
		use:   "show OPERATION_ID",
		short: "Show everything about one batch operation",
		long: `Show everything about one batch operation. Jobs up to cursor_id are done, last_id
is the last one to do. Exits with 2 when there is no such operation.`,
		args:    cobra.ExactArgs(1),
		sql:     always(`select b.* from %[1]s.get_batch_operation(id => $1::bigint) as b`),
		params:  firstArg,
		none:    "no such operation",
		verdict: unlessAbsent,
	})
}

func (a *app) batchCancelCommand() *cobra.Command {
	return a.mutation(statement{
		use:   "cancel OPERATION_ID",
		short: "End a batch operation where it is",
		long: `End a batch operation where it is: what it has done stays done. Exits with 2 when
it is finished, or there is no such operation.`,
		args: cobra.ExactArgs(1),
		sql: always(`select c.id, case when c.done then 'cancelled' else 'not cancelled' end as outcome,
  case when not c.done then coalesce(
    (select 'the operation is ' || b.state from %[1]s.get_batch_operation(id => $1::bigint) as b),
    'no such operation') end as reason
from (select $1::bigint as id, %[1]s.cancel_batch_operation(id => $1::bigint) as done) as c`),
		params:  firstArg,
		verdict: unlessIdle,
	}, statement{
		sql: always(`select b.id, b.operation, b.state, b.matched, b.affected, b.skipped, b.failed
from %[1]s.get_batch_operation(id => $1::bigint) as b where b.finished_at is null`),
		none:    "nothing would change",
		verdict: unlessAbsent,
	})
}
