package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/preflight"
)

// initFlags are those of lockstep init.
type initFlags struct{ out, name, password, data string }

func newInitCommand() *cobra.Command {
	f := &initFlags{}
	c := &cobra.Command{
		Use:   "init [NAME=]DSN [NAME=]DSN...",
		Short: "Write a configuration for servers from what is found on them",
		Long: `Write a configuration for the servers of one group: a primary, or publisher, and those that replicate it. They are asked who they are
and which tables they have, and nothing is changed. What is found is in the file as comments. A file that is there is not overwritten.

What keeps lockstep from watching them is listed for all at once, with the SQL that mends it, as lockstep check says it of the file.
Tables that may not be read yet are in the file; one that cannot be watched as it is, whatever is granted, is excluded with the reason.

Members are called by their host, unless a NAME is given. Passwords belong into a file.

Exit codes: 0 the file was written and all is well, 2 wrong command line, 3 something has to be mended (the file was written unless a
server turned lockstep down), 4 a server could not be reached (nothing was written).`,
		Example: `  lockstep init postgres://lockstep@10.0.0.1/shop postgres://lockstep@10.0.1.1/shop --password-file /etc/lockstep/password
  lockstep init eu-1=mysql://lockstep@10.0.0.1/shop us-1=mysql://lockstep@10.0.1.1/shop --output -`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args)
		},
	}
	c.Flags().StringVar(&f.out, "output", defaultConfig, "`FILE` to write; - for standard output")
	c.Flags().StringVar(&f.name, "name", "", "`NAME` of the group (default: that of the database)")
	c.Flags().StringVar(&f.password, "password-file", "", "`FILE` with the password on all servers")
	c.Flags().StringVar(&f.data, "data-dir", "/var/lib/lockstep", "`DIR` where lockstep keeps its store")
	return c
}

func (f *initFlags) run(ctx context.Context, stdout, stderr io.Writer, args []string) error {
	d := &draft{initFlags: f}
	var err error
	for _, path := range []*string{&f.password, &f.data} { // lockstep may be started elsewhere
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return usageError(err)
		}
	}
	if err := d.meant(args); err != nil {
		return usageError(err)
	}
	c, err := config.Parse("lockstep init", d.yaml())
	if err != nil {
		return usageError(err)
	}
	_, answered, proofs := checkGroup(ctx, c.Groups[0], checkTimeout, false)
	if err := d.learn(answered, proofs); err != nil {
		return err
	}
	text := d.yaml()
	if c, err = config.Parse(f.out, text); err != nil {
		return err // a bug: it was just made
	}
	// What has to be mended is what lockstep check says of the file.
	lines, reports, _ := checkGroup(ctx, c.Groups[0], checkTimeout, true)
	if len(d.unasked) > 0 {
		if err := printMissing(stderr, lines, reports); err != nil {
			return err
		}
		return exit(max(worstOf(lines), exitUnknown), fmt.Errorf("nothing was written, since it is not known what is on %s: mend that, then run lockstep init again", strings.Join(d.unasked, ", ")))
	}
	next := "lockstep check -c " + f.out
	if f.out == "-" {
		next = "lockstep check"
		_, err = stdout.Write(text)
	} else if err = writeNew(f.out, text); err != nil {
		err = usageError(err)
	}
	if err != nil {
		return err
	}
	return f.conclude(stderr, lines, reports, next)
}

// conclude says what comes next, and what has to be mended before it.
func (f *initFlags) conclude(stderr io.Writer, lines []checkLine, reports []*preflight.Report, next string) error {
	written := f.out + " was written"
	if f.out == "-" {
		written = "The configuration is complete"
	}
	worst := worstOf(lines)
	if worst == exitInStep {
		_, err := fmt.Fprintf(stderr, "%s: read it, then run %s\n", written, next)
		return err
	}
	fmt.Fprintf(stderr, "%s. Before lockstep can watch, this has to be mended:\n\n", written)
	if err := printMissing(stderr, lines, reports); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "\n%s: read it, run the SQL above, then run %s\n", written, next)
	return exit(worst, nil)
}

func writeNew(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: name another file with --output, or remove it", path)
	}
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Close())
}
