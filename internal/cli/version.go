package cli

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := buildVersion()
			if a.output == "json" {
				return printObject(cmd.OutOrStdout(), struct {
					Version string `json:"version"`
				}{v})
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "awa-admin", v)
			return err
		},
	}
}

// buildVersion is the module's version as the Go toolchain stamped it.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
