// Command lockstep watches replicated databases and says whether every replica holds the same rows.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/names"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// newRootCommand puts the commands together. Each has a file of its own, and only wires.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "lockstep",
		Version:       version,
		Short:         "Says whether every replica holds the same rows, and which rows do not",
		SilenceUsage:  true,
		SilenceErrors: true, // execute prints them
	}
	audit, configuration := newAuditCommand(), newConfigCommand()
	root.AddCommand(
		newAcknowledgeCommand(),
		audit,
		newCheckCommand(),
		configuration,
		newDemoCommand(),
		newDiffCommand(),
		newDivergencesCommand(),
		newInitCommand(),
		newRunCommand(),
		newScrubCommand(),
		newStatusCommand(),
		newVersionCommand(), newManCommand(),
	)
	root.SetFlagErrorFunc(wrongFlag)
	for _, c := range []*cobra.Command{root, audit, configuration} {
		c.Args, c.RunE = cobra.ArbitraryArgs, below
	}
	return root
}

// below is what a command does that only has others below it: it shows them, unless one is named that is none of them.
func below(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	var known []string
	for _, one := range c.Commands() {
		if !one.Hidden {
			known = append(known, one.Name())
		}
	}
	where := ""
	if c.HasParent() {
		where = c.CommandPath()
	}
	return names.Check("command", args[0], where, known)
}

// execute runs one command line and returns the exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	understood := false // what fails before is the command line's fault
	root.PersistentPreRunE = func(c *cobra.Command, args []string) error {
		if slices.Contains(args, "") { // as of a variable of a script that is not set
			return fmt.Errorf("an argument of %s is empty: it is called as %s", c.CommandPath(), c.UseLine())
		}
		if err := emptyFlag(c); err != nil {
			return err
		}
		understood = true
		return nil
	}
	err := root.ExecuteContext(ctx)
	if err != nil && !understood {
		err = usageError(err)
	}
	return report(stderr, err)
}

// configFlag adds -c to a command.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", defaultConfig, "configuration `FILE`")
}

// defaultConfig is the configuration file of commands that need one.
const defaultConfig = "lockstep.yaml"

// loadConfig reads the file that -c names.
func loadConfig(path string) (*config.Config, error) {
	c, err := config.Load(path)
	if err != nil {
		return nil, usageError(err)
	}
	return c, nil
}
