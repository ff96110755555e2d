package main

import (
	"fmt"
	"strings"

	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version and how it was built",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), versionText()); err != nil {
				return workError(err)
			}
			return nil
		},
	}
}

// versionText is what programs of Prometheus print, without what is not known of this build.
func versionText() string {
	var text strings.Builder
	fmt.Fprintf(&text, "inferprobe, version %s (revision: %s)", version.Version, version.GetRevision())
	for _, line := range []struct{ what, value string }{
		{"build date:", version.BuildDate}, {"go version:", version.GoVersion},
		{"platform:", version.GoOS + "/" + version.GoArch}, {"tags:", version.GetTags()},
	} {
		if line.value != "" {
			fmt.Fprintf(&text, "\n  %-17s %s", line.what, line.value)
		}
	}
	return text.String()
}
