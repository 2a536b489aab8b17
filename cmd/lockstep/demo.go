package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/internal/demo"
)

// allEngines is what --engine calls one after the other.
const allEngines = "all"

// demoEngines are the engines in the order in which they are played on.
var demoEngines = []string{config.Postgres, config.MariaDB, config.MySQL}

type demoOptions struct {
	engine         string
	postgres       int // major version
	once           bool
	budget, warmup time.Duration
	level          string
	output         *format
}

func newDemoCommand() *cobra.Command {
	var o demoOptions
	c := &cobra.Command{
		Use:   "demo",
		Short: "Start real servers, make them differ under load, and find it",
		Long: `Start three real servers of PostgreSQL, MariaDB or MySQL in a temporary folder, one that is written to
and two that replicate it, write with several clients, make rows differ on purpose, and show what
lockstep says of each.

Everything is on this machine's loopback interface and is gone afterwards.
Exits 0 only if each difference was found with exactly its keys, and nothing else was reported.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.Flags().StringVar(&o.engine, "engine", config.Postgres, strings.Join(demoEngines, ", ")+", or "+allEngines+": one after the other")
	c.Flags().BoolVar(&o.once, "once", true, "end after the last step; false keeps everything running until Ctrl-C, to look around")
	o.output = formatFlag(c, "text", "json")
	numberFlag(c, &o.postgres, 1, "postgres", int(dbtest.PG15), "major version of PostgreSQL")
	durationFlag(c, &o.budget, someTime, "lag-budget", 2*time.Second, "how long a difference may last before it is a divergence")
	durationFlag(c, &o.warmup, 0, "warmup", 5*time.Second, "load before the first difference is made")
	c.Flags().StringVar(&o.level, "log.level", "error", "of lockstep's own log on standard error: debug, info, warn or error")
	return c
}

func (o demoOptions) run(ctx context.Context, out, errOut io.Writer) error {
	log, err := newLogger(errOut, o.level, "logfmt")
	if err != nil {
		return usageError(err)
	}
	engines, err := o.engines()
	if err != nil {
		return usageError(err)
	}
	passed := true
	for _, e := range engines {
		summary, err := demo.Run(ctx, demo.Options{
			Engine: e, LagBudget: o.budget, Warmup: o.warmup, JSON: o.output.value == "json", Color: colourful(out), Out: out, Logger: log,
			Linger: !o.once,
		})
		switch {
		case err != nil && ctx.Err() != nil:
			return undeterminedError(errors.New("the demo was stopped before its end"))
		case err != nil:
			return undeterminedError(fmt.Errorf("%s: %w", e.Title, err))
		}
		passed = passed && summary.OK()
	}
	if !passed {
		return exit(exitDiverged, nil) // the summary has said why
	}
	return nil
}

// engines finds the servers of all engines before any is played on.
func (o demoOptions) engines() ([]demo.Engine, error) {
	names := []string{o.engine}
	switch {
	case o.engine == allEngines && !o.once:
		return nil, errors.New("--once=false keeps one engine running: choose it with --engine")
	case o.engine == allEngines:
		names = demoEngines
	case !slices.Contains(demoEngines, o.engine):
		return nil, fmt.Errorf("no engine %q; choose one of %s, %s", o.engine, strings.Join(demoEngines, ", "), allEngines)
	}
	var engines []demo.Engine
	var missing []error
	for _, name := range names {
		e, err := o.find(name)
		engines, missing = append(engines, e), append(missing, err)
	}
	return engines, errors.Join(missing...)
}

func (o demoOptions) find(engine string) (demo.Engine, error) {
	flavour := dbtest.MySQL97
	switch engine {
	case config.Postgres:
		install, err := dbtest.Find(dbtest.Version(o.postgres))
		return demo.Postgres(install), err
	case config.MariaDB:
		flavour = dbtest.MariaDB1011
	}
	install, err := dbtest.FindMySQL(flavour)
	return demo.MySQL(install), err
}
