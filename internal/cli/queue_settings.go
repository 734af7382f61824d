package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) queueConfigureCommand() *cobra.Command {
	cmd := a.rehearsed(statement{
		use:   "configure QUEUE [NAME=VALUE...]",
		short: "Change settings of a queue, or show them",
		long: `Change settings of a queue. NAME= with no value resets a setting to its default.
Without any setting, show all of them.

  concurrency_limit        how many jobs of one concurrency_key may run at a time
  rate_limit               how many attempts may start per second
  rate_burst               how many of them may start at once after a pause
  max_depth                how many jobs may wait
  on_full                  what enqueueing does beyond max_depth: reject or warn
  dlq_enabled              true: failed jobs become dead letters
  dlq_retention            how long dead letters are kept
  failed_retention         how long failed jobs stay in history, unless dead letters
  priority_aging_interval  after how long a waiting job counts as one step more urgent
  enqueue_shards           lanes per priority
  notify                   false: producers wake nobody`,
		args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.MinimumNArgs(1)(cmd, args); err != nil {
				return err
			}
			_, err := settingsOf(args[1:])
			return err
		},
		sql: func(args []string) string {
			if len(args) == 1 {
				return `select $1::text as queue, s.key as setting, coalesce(s.value, 'default') as value
from %[1]s.queue_settings(queue => $1::text) as q
cross join jsonb_each_text(q) as s
order by s.key`
			}
			return `with done as materialized (
  select %[1]s.configure_queue(queue => $1::text, settings => $2::text::jsonb)
)
select $1::text as queue, s.key as setting, coalesce(s.value, 'default') as value
from done
cross join jsonb_each_text($2::text::jsonb) as s`
		},
		params: func(args []string) []any {
			if len(args) == 1 {
				return firstArg(args)
			}
			doc, _ := settingsOf(args[1:]) // args has seen its error
			return []any{args[0], doc}
		},
	})
	cmd.Example = `  awa-admin queue configure email dlq_enabled=true 'dlq_retention=30 days'
  awa-admin queue configure imports concurrency_limit=1 max_depth=10000 on_full=reject
  awa-admin queue configure calls rate_limit=50 rate_burst=10`
	return cmd
}

// settingsOf turns NAME=VALUE arguments into a JSON object of texts and nulls; the
// server knows their types.
func settingsOf(args []string) (string, error) {
	settings := make(map[string]*string, len(args))
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return "", fmt.Errorf("setting %q: want NAME=VALUE", arg)
		}
		if _, twice := settings[name]; twice {
			return "", fmt.Errorf("setting %q is given twice", name)
		}
		settings[name] = nil
		if value != "" {
			settings[name] = &value
		}
	}
	doc, err := json.Marshal(settings)
	return string(doc), err
}

// queueSwitch is a command that calls a function of a queue's name.
func (a *app) queueSwitch(use, short, function, outcome string) *cobra.Command {
	return a.rehearsed(statement{
		use:    use + " QUEUE",
		short:  short,
		args:   cobra.ExactArgs(1),
		sql:    always(`select $1::text as queue, '` + outcome + `' as outcome from %[1]s.` + function + `(queue => $1::text)`),
		params: firstArg,
	})
}

func (a *app) queueRemoveCommand() *cobra.Command {
	return a.rehearsed(statement{
		use:   "remove QUEUE",
		short: "Forget a queue that holds nothing any more",
		long: `Forget a queue that holds nothing any more: its name, settings and the totals
of what was pruned. It is refused while a schedule, a job, a dead letter or
unpruned history belongs to it.
Exits with 2 when there is no such queue.`,
		args:    cobra.ExactArgs(1),
		sql:     ofName("queue", "queue", "remove_queue", "removed"),
		params:  firstArg,
		verdict: unlessIdle,
	})
}
