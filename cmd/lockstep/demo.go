package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"lockstep/internal/dbtest"
	"lockstep/internal/demo"
)

func newDemoCommand() *cobra.Command {
	var once bool
	var level string
	var version int
	var budget, warmup time.Duration
	var output *format
	c := &cobra.Command{
		Use:   "demo",
		Short: "Start real servers, make them differ under load, and find it",
		Long: `Start a PostgreSQL publisher and two subscribers in a temporary folder, write to the publisher
with several clients, make rows differ on purpose, and show what lockstep says of each.

Everything is on this machine's loopback interface and is gone afterwards.
Exits 0 only if each difference was found with exactly its keys, and nothing else was reported.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger(cmd.ErrOrStderr(), level, "logfmt")
			if err != nil {
				return usageError(err)
			}
			install, err := dbtest.Find(dbtest.Version(version))
			if err != nil {
				return usageError(err)
			}
			out := cmd.OutOrStdout()
			return runDemo(cmd.Context(), demo.Options{
				Install: install, LagBudget: budget, Warmup: warmup, JSON: output.value == "json", Color: colourful(out), Out: out, Logger: log,
				Linger: !once,
			})
		},
	}
	c.Flags().BoolVar(&once, "once", true, "end after the last step; false keeps everything running until Ctrl-C, to look around")
	output = formatFlag(c, "text", "json")
	c.Flags().IntVar(&version, "postgres", int(dbtest.PG15), "major version of PostgreSQL")
	c.Flags().DurationVar(&budget, "lag-budget", 2*time.Second, "how long a difference may last before it is a divergence")
	c.Flags().DurationVar(&warmup, "warmup", 5*time.Second, "load before the first difference is made")
	c.Flags().StringVar(&level, "log.level", "error", "of lockstep's own log on standard error: debug, info, warn or error")
	return c
}

func runDemo(ctx context.Context, o demo.Options) error {
	summary, err := demo.Run(ctx, o)
	switch {
	case err != nil && ctx.Err() != nil:
		return undeterminedError(errors.New("the demo was stopped before its end"))
	case err != nil:
		return undeterminedError(err)
	case !summary.OK():
		return exit(exitDiverged, nil) // the summary has said why
	}
	return nil
}
