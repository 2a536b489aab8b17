package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/lockstep-cdc/lockstep/audit/witness"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/web"
)

// witnessFlags are those of lockstep audit witness.
type witnessFlags struct {
	dir, name, listen, webConfig string
	logs                         []string
}

func newAuditWitnessCommand() *cobra.Command {
	f := &witnessFlags{}
	cmd := &cobra.Command{
		Use:   "witness --dir DIR --log FILE",
		Short: "Cosign the audit logs of others",
		Long: `Cosign checkpoints of audit logs, each only if it continues the one that was cosigned before: then nobody can show another
history of the log later, not even who holds its key. Run it on another host, in other hands, until stopped by SIGINT or SIGTERM.

At its first start it makes a key and prints the public half: it belongs into audit.witnesses of lockstep's configuration, with
the address, and to auditors. It keeps in DIR its key and the last checkpoint of each log; without the latter it would have
forgotten what it must hold logs against, so back both up. It speaks https://c2sp.org/tlog-witness, to logs of other programs too.

--web.config.file is a file of Prometheus' exporter-toolkit, for TLS:
https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md`,
		Example: `  lockstep audit witness --dir /var/lib/lockstep-witness --name example.org/witness --listen :9641 --log log.vkey`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&f.dir, "dir", "", "folder for the key and the checkpoints; made if it is missing")
	cmd.Flags().StringVar(&f.name, "name", "", "name of the witness, part of its key, without a scheme; only needed at its first start")
	cmd.Flags().StringVar(&f.listen, "listen", "127.0.0.1:9641", "`HOST:PORT` to listen on")
	cmd.Flags().StringArrayVar(&f.logs, "log", nil, "`FILE` with the key of a log that it cosigns, as lockstep audit key prints it (repeatable; after a rotation, the old and the new)")
	cmd.Flags().StringVar(&f.webConfig, "web.config.file", "", "`FILE` with TLS and passwords (default: plain HTTP, open to all who reach it)")
	return cmd
}

func (f *witnessFlags) run(ctx context.Context, stdout, stderr io.Writer) error {
	if f.dir == "" || len(f.logs) == 0 {
		return usageError(errors.New("--dir and --log are needed: name a folder for the witness, and a file with what lockstep audit key prints"))
	}
	var keys []string
	for _, path := range f.logs {
		key, err := config.ReadFile(path)
		if err != nil {
			return undeterminedError(fmt.Errorf("--log: %w", err))
		}
		keys = append(keys, string(key))
	}
	log, err := newLogger(stderr, "info", "logfmt")
	if err != nil {
		return err
	}
	w, err := witness.Open(f.dir, f.name, keys, log)
	if err != nil {
		return undeterminedError(err)
	}
	socket, err := web.Bind(ctx, f.listen, f.webConfig, log)
	if err != nil {
		return errors.Join(usageError(err), w.Close())
	}
	fmt.Fprintln(stdout, w.PublicKey())
	log.Info("the witness listens", "listen", socket.Addr(), "logs", len(keys))
	err = socket.Serve(ctx, w)
	log.Info("the witness stopped")
	return errors.Join(err, w.Close())
}
