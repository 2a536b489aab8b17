package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"lockstep/audit"
	"lockstep/audit/verify"
	"lockstep/config"
	"lockstep/monitor"
)

func newAuditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Check the record of what was watched and found, and hand it to auditors",
	}
	cmd.AddCommand(newAuditKeyCommand(), newAuditVerifyCommand())
	return cmd
}

func newAuditKeyCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Print the public key of the audit log",
		Long:  "Print the public key that verifies the audit log. Give it to auditors by another way than the log itself.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(path)
			if err != nil {
				return usageError(err)
			}
			key, err := audit.PublicKey(monitor.AuditDir(c))
			if err != nil {
				return undeterminedError(err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), key)
			return err
		},
	}
	configFlag(cmd, &path)
	return cmd
}

func newAuditVerifyCommand() *cobra.Command {
	var keyPath, seenPath string
	cmd := &cobra.Command{
		Use:   "verify FOLDER",
		Short: "Check an audit log",
		Long: `Check an audit log with nothing but its files and its public key: that its checkpoint is signed by the key, that every entry
is there, in order and unchanged, that coverage was recorded for as long as lockstep ran, and that the counts agree.

It needs no configuration, no database and no network. The log is the folder audit/log in lockstep's data_dir, or a copy of it.

Exit code 0: all checks pass. 1: one does not, and the table names the entry. 2: the command line is wrong. 3: a file cannot be read.`,
		Example: `  lockstep audit verify /var/lib/lockstep/audit/log --key log.vkey
  lockstep audit verify ./log --key log.vkey --seen checkpoint-of-last-year -o json`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&keyPath, "key", "", "file with the public key, as lockstep audit key prints it")
	cmd.Flags().StringVar(&seenPath, "seen", "", "checkpoint of the log that was kept from before; the log must still hold what it covers")
	output := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if keyPath == "" {
			return usageError(fmt.Errorf("--key is missing: name the file that holds what lockstep audit key prints"))
		}
		r, err := verifyAudit(cmd, args[0], keyPath, seenPath)
		if err != nil {
			return err
		}
		if output.value == "json" {
			err = printJSON(cmd.OutOrStdout(), r)
		} else {
			err = printChecks(cmd, r)
		}
		if err == nil && !r.OK() {
			err = exit(exitDiverged, nil)
		}
		return err
	}
	return cmd
}

func verifyAudit(cmd *cobra.Command, folder, keyPath, seenPath string) (*verify.Result, error) {
	key, err := os.ReadFile(keyPath)
	if err != nil {
		return nil, undeterminedError(fmt.Errorf("read the key: %w", err))
	}
	o := verify.Options{Key: string(key)}
	if seenPath != "" {
		if o.Seen, err = os.ReadFile(seenPath); err != nil {
			return nil, undeterminedError(fmt.Errorf("read the checkpoint that was kept: %w", err))
		}
	}
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return nil, undeterminedError(fmt.Errorf("%s is no folder: name the folder log of an audit log", folder))
	}
	r, err := verify.Log(cmd.Context(), folder, o)
	if err != nil {
		return nil, usageError(fmt.Errorf("%s: %w", keyPath, err))
	}
	return r, nil
}

// printChecks prints what was checked, and what the log is about.
func printChecks(cmd *cobra.Command, r *verify.Result) error {
	out := cmd.OutOrStdout()
	var rows [][]string
	for _, c := range r.Checks {
		rows = append(rows, []string{map[bool]string{true: "PASS", false: "FAIL"}[c.OK], c.Name, c.Detail})
	}
	paint := func(column int, cell, padded string) string {
		if column > 0 || !colourful(out) {
			return padded
		}
		return coloured(map[string]string{"PASS": green}[cell]+map[string]string{"FAIL": red}[cell], padded)
	}
	if err := printTable(out, []string{"RESULT", "CHECK", "DETAIL"}, rows, paint); err != nil {
		return err
	}
	if !r.From.IsZero() {
		fmt.Fprintf(out, "\n%s, entries 0 to %d, %s to %s\n", r.Origin, r.Size-1, r.From.Format("2006-01-02 15:04:05Z"), r.To.Format("2006-01-02 15:04:05Z"))
	}
	return nil
}
