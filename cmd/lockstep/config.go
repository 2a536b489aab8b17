package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lockstep-cdc/lockstep/config"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Help with writing a configuration",
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration, for editors",
		Long: `Print the JSON Schema of the configuration, for editors that complete keys and mark mistakes. With the YAML language server, write it
to a file and name that in the first line of the configuration:

  # yaml-language-server: $schema=lockstep.schema.json`,
		Example: `  lockstep config schema > lockstep.schema.json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := json.MarshalIndent(config.Describe(), "", "  ")
			if err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), string(text))
			}
			return err
		},
	})
	return cmd
}
