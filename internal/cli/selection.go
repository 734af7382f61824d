package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// selection is what a command that takes many jobs is told about them. A null
// filter matches all.
type selection struct {
	queue, kind, tag, olderThan *optional[string]
	maxJobs                     *optional[int32]
}

var filterUsage = map[string]string{
	"queue":      "jobs of this queue only",
	"kind":       "jobs of this kind only",
	"tag":        "jobs that carry this tag only",
	"older-than": "letters older than this only, as '30 days'",
}

// selectionFlags adds the filters named, and --all: the command refuses to run
// without any of them. A dry run is free to.
func selectionFlags(cmd *cobra.Command, filters ...string) selection {
	flags := cmd.Flags()
	text := make(map[string]*optional[string], len(filters))
	for _, name := range filters {
		text[name] = optionalText(cmd, name, filterUsage[name])
	}
	flags.Bool("all", false, "all of them")
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error { return bounded(cmd, args, filters) }
	return selection{queue: text["queue"], kind: text["kind"], tag: text["tag"], olderThan: text["older-than"]}
}

// bounded demands to be told which jobs: one id, a filter, or --all.
func bounded(cmd *cobra.Command, args, filters []string) error {
	flags := cmd.Flags()
	command := strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
	var given []string
	for _, name := range filters {
		if flags.Changed(name) {
			given = append(given, "--"+name)
		}
	}
	if all, _ := flags.GetBool("all"); all {
		given = append(given, "--all")
		if len(given) > 1 {
			return fmt.Errorf("%s: %s and --all contradict each other", command, given[0])
		}
	}
	if flags.Changed("max-jobs") && len(args) > 0 {
		given = append(given, "--max-jobs")
	}
	dryRun, _ := flags.GetBool("dry-run")
	switch {
	case len(args) > 0 && len(given) > 0:
		return fmt.Errorf("%s: a job id and %s contradict each other", command, given[0])
	case len(args) == 0 && len(given) == 0 && !dryRun:
		return fmt.Errorf("%s would take all there are: say which with --%s, or repeat with --all",
			command, strings.Join(filters, ", --"))
	}
	return nil
}
