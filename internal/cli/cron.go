package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) cronCommand() *cobra.Command {
	return family("cron", "Look at schedules and change them",
		a.statement(statement{
			use:   "list",
			short: "List schedules with their next and last fire",
			sql: always(`select s.name, s.cron, s.timezone, s.kind, s.queue, s.missed_fire, s.paused, s.next_fire_at, s.last_fire_at
from %[1]s.cron_schedules as s
order by s.name`),
			none: "no schedules",
		}),
		a.cronSetCommand(),
		a.scheduleSwitch("remove", "Remove a schedule; its jobs stay", "remove_schedule", "removed"),
		a.scheduleSwitch("pause", "Keep a schedule from firing", "pause_schedule", "paused"),
		a.scheduleSwitch("resume", "Let a paused schedule fire again; fires missed meanwhile are not made up for", "resume_schedule", "resumed"),
		a.cronNextCommand(),
	)
}

// scheduleSwitch is a command that calls a function of a schedule's name.
func (a *app) scheduleSwitch(use, short, function, outcome string) *cobra.Command {
	return a.rehearsed(statement{
		use:     use + " NAME",
		short:   short,
		long:    short + ".\nExits with 2 when there is no such schedule.",
		args:    cobra.ExactArgs(1),
		sql:     ofName("name", "schedule", function, outcome),
		params:  firstArg,
		verdict: unlessIdle,
	})
}

func (a *app) cronNextCommand() *cobra.Command {
	var timezone *optional[string]
	var count int32
	cmd := a.statement(statement{
		use:   "next CRON",
		short: "Show when an expression fires next",
		args:  cobra.ExactArgs(1),
		sql: always(`with recursive fires as (
  select 1 as n, %[1]s.cron_next(cron => $1::text, timezone => coalesce($2::text, 'UTC')) as fires_at
  union all
  select f.n + 1, %[1]s.cron_next(cron => $1::text, timezone => coalesce($2::text, 'UTC'), after => f.fires_at)
  from fires as f
  where f.n < $3::integer and f.fires_at is not null
)
select to_char(f.fires_at at time zone coalesce($2::text, 'UTC'), 'Dy YYYY-MM-DD HH24:MI:SS') as local, f.fires_at
from fires as f
where f.fires_at is not null
order by f.n`),
		params: func(args []string) []any { return []any{args[0], timezone.value, count} },
		none:   "never",
	})
	cmd.Example = "  awa-admin cron next '30 7 * * MON-FRI' --timezone Europe/Berlin"
	timezone = optionalText(cmd, "timezone", "zone whose clock the expression is read on (default UTC)")
	cmd.Flags().Int32Var(&count, "count", 5, "how many fires to show")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if count < 1 {
			return fmt.Errorf("--count %d: want a number above zero", count)
		}
		return nil
	}
	return cmd
}
