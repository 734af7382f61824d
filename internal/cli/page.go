package cli

import "github.com/spf13/cobra"

// page is the part of a list that a command prints.
type page struct {
	before *optional[int]
	limit  int32
}

func (p *page) flags(cmd *cobra.Command) {
	p.before = optionalInt(cmd, "before", "jobs with a lower id only: the last one of the page before")
	cmd.Flags().Int32Var(&p.limit, "limit", 50, "the most jobs to list")
}
