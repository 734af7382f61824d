package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// scheduleOptions are the arguments of upsert_schedule that have a default, with
// their types: a flag each.
var scheduleOptions = []struct{ argument, cast, usage string }{
	{"args", "jsonb", "arguments of the jobs, as JSON"},
	{"queue", "text", "queue of the jobs (default \"default\")"},
	{"timezone", "text", "zone whose clock the expression is read on (default UTC)"},
	{"priority", "integer", "1 (first) to 4 (default 2)"},
	{"max_attempts", "integer", "the most attempts of a job (default 25)"},
	{"tags", "text[]", "tags of the jobs, as {a,b}"},
	{"metadata", "jsonb", "metadata of the jobs, as a JSON object"},
	{"ordering_key", "text", "equal keys share a lane of the queue"},
	{"deadline", "interval", "the longest an attempt may take"},
	{"missed_fire", "text", "what to do about missed fires: skip, coalesce or catch_up (default coalesce)"},
}

func (a *app) cronSetCommand() *cobra.Command {
	given := map[string]*optional[string]{}
	cmd := a.rehearsed(statement{
		use:   "set NAME CRON KIND",
		short: "Add a schedule, or replace the one of that name",
		long: `Add a schedule, or replace all of the one of that name but its pause. CRON is
minute hour day month weekday, or has seconds first, or is @hourly, @daily,
@weekly, @monthly, @yearly or @every with a delay.`,
		args: cobra.ExactArgs(3),
		sql: func([]string) string {
			call := `name => $1::text, cron => $2::text, kind => $3::text`
			n := 3
			for _, o := range scheduleOptions {
				if given[o.argument].value != nil {
					n++
					call += fmt.Sprintf(", %s => $%d::text::%s", o.argument, n, o.cast)
				}
			}
			return `select $1::text as name, f.next_fire_at from %[1]s.upsert_schedule(` + call + `) as f (next_fire_at)`
		},
		params: func(args []string) []any {
			params := []any{args[0], args[1], args[2]}
			for _, o := range scheduleOptions {
				if value := given[o.argument].value; value != nil {
					params = append(params, *value)
				}
			}
			return params
		},
	})
	cmd.Example = `  awa-admin cron set report '30 7 * * MON-FRI' send_report --timezone Europe/Berlin --args '{"to": "all"}'`
	for _, o := range scheduleOptions {
		given[o.argument] = optionalText(cmd, strings.ReplaceAll(o.argument, "_", "-"), o.usage)
	}
	return cmd
}
