package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-cdc/lockstep/audit"
	auditreport "github.com/lockstep-cdc/lockstep/audit/report"
	"github.com/lockstep-cdc/lockstep/audit/tsa"
	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/audit/witness"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/names"
)

func newAuditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Check the record of what was watched and found, and hand it to auditors",
	}
	cmd.AddCommand(newAuditKeyCommand(), newAuditProveCommand(), newAuditReportCommand(), newAuditRotateCommand(), newAuditVerifyCommand(), newAuditWitnessCommand())
	return cmd
}

func newAuditKeyCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Print the public key of the audit log",
		Long:  "Print the public key that verifies the audit log. Give it to auditors by another way than the log itself.",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return printKey(cmd, path, audit.PublicKey) },
	}
	configFlag(cmd, &path)
	return cmd
}

func newAuditRotateCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "rotate-key",
		Short: "Make the key that the audit log is signed with from now on",
		Long: `Make another key for the audit log and print its public half for auditors. lockstep takes it up when it is reloaded or started
the next time: it records a statement that is signed by both keys, and destroys the old one. The log is then verified with the
new public key, or with the old one as far as that vouches for the new.

Run it where lockstep runs, as its user.`,
		Example: `  lockstep audit rotate-key -c lockstep.yaml && systemctl reload lockstep`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return printKey(cmd, path, audit.RotateKey) },
	}
	configFlag(cmd, &path)
	return cmd
}

// printKey prints a public key of the log whose folder a configuration names.
func printKey(cmd *cobra.Command, path string, of func(dir string) (string, error)) error {
	c, err := loadConfig(path)
	if err != nil {
		return err
	}
	key, err := of(daemon.AuditDir(c))
	if err != nil {
		return undeterminedError(err)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), key)
	return err
}

func newAuditVerifyCommand() *cobra.Command {
	f := &verifyFlags{}
	cmd := &cobra.Command{
		Use:   "verify FOLDER|FILE.zip|FILE.json",
		Short: "Check an audit log, a report or a proof",
		Long: `Check an audit log with nothing but its files and its public key: that its checkpoint is signed by the key, that every entry
is there, in order and unchanged, that coverage was recorded for as long as lockstep ran, and that the counts agree. Of a report,
also that its entries are in the signed log, and that every file is what the entries say. Of a proof of a range, that it leads
from the range to the signed checkpoint.

It needs no configuration, no database and no network. The log is the folder audit/log in lockstep's data_dir, or a copy of it.

Exit code 0: all checks pass. 1: one does not, and the table names the entry. 2: the command line is wrong. 3: a file cannot be read.`,
		Example: `  lockstep audit verify /var/lib/lockstep/audit/log --key log.vkey
  lockstep audit verify q3.zip --key log.vkey --log ./log
  lockstep audit verify ./log --key log.vkey --tsa-ca tsa.pem --witness-key witness.vkey
  lockstep audit verify ./log --key log.vkey --seen checkpoint-of-last-year -o json`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&f.key, "key", "", "file with the public key, as lockstep audit key prints it")
	cmd.Flags().StringVar(&f.seen, "seen", "", "checkpoint of the log that was kept from before; the log must still hold what it covers")
	cmd.Flags().StringVar(&f.log, "log", "", "`FOLDER` of the log that a report must be of")
	cmd.Flags().StringVar(&f.authorities, "tsa-ca", "", "PEM `FILE` with the roots of time-stamping authorities; time-stamps over the log must be theirs")
	cmd.Flags().StringArrayVar(&f.witnesses, "witness-key", nil, "`FILE` with the key of a witness, as lockstep audit witness prints it; the log must be cosigned by it (repeatable)")
	output := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if f.key == "" {
			return usageError(fmt.Errorf("--key is missing: name the file that holds what lockstep audit key prints"))
		}
		r, err := f.verify(cmd.Context(), args[0])
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

// verifyFlags are those of lockstep audit verify.
type verifyFlags struct {
	key, seen, log, authorities string
	witnesses                   []string
}

// options reads the files that the flags name.
func (f *verifyFlags) options() (o verify.Options, err error) {
	key, err := config.ReadFile(f.key)
	if err != nil {
		return o, undeterminedError(fmt.Errorf("read the key: %w", err))
	}
	o = verify.Options{Key: string(key), Log: f.log, Version: version}
	if f.seen != "" {
		if o.Seen, err = config.ReadFile(f.seen); err != nil {
			return o, undeterminedError(fmt.Errorf("read the checkpoint that was kept: %w", err))
		}
	}
	if f.authorities != "" {
		pem, err := config.ReadFile(f.authorities)
		if err != nil {
			return o, undeterminedError(fmt.Errorf("--tsa-ca: %w", err))
		}
		if o.Authorities, err = tsa.Roots(pem); err != nil {
			return o, usageError(fmt.Errorf("--tsa-ca %s: %w", f.authorities, err))
		}
	}
	for _, path := range f.witnesses {
		text, err := config.ReadFile(path)
		if err != nil {
			return o, undeterminedError(fmt.Errorf("--witness-key: %w", err))
		}
		k, err := witness.ParseKey(string(text))
		if err != nil {
			return o, usageError(fmt.Errorf("--witness-key %s: %w", path, err))
		}
		o.Witnesses = append(o.Witnesses, k)
	}
	return o, nil
}

func (f *verifyFlags) verify(ctx context.Context, path string) (*verify.Result, error) {
	o, err := f.options()
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, undeterminedError(fmt.Errorf("%w: name the folder of an audit log, or a report", err))
	}
	isLog, isProof := info.IsDir(), filepath.Ext(path) == ".json"
	if f.log != "" && (isLog || isProof) {
		return nil, usageError(fmt.Errorf("--log is for a report, which %s is not", path))
	}
	var r *verify.Result
	switch {
	case isLog:
		r, err = verify.Log(ctx, path, o)
	case isProof:
		r, err = verify.Range(path, o)
	default:
		r, err = verify.Archive(ctx, path, o)
	}
	if err != nil {
		return nil, usageError(err)
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
	times := ""
	if !r.From.IsZero() {
		times = fmt.Sprintf(", %s to %s", r.From.Format("2006-01-02 15:04:05Z"), r.To.Format("2006-01-02 15:04:05Z"))
	}
	_, err := fmt.Fprintf(out, "\n%s, %s%s\n", r.Origin, r.Entries(), times)
	return err
}

func newAuditReportCommand() *cobra.Command {
	var out string
	var from, to, by string
	var api *apiFlags
	var p auditreport.Period
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Write a report of a period for auditors",
		Long: `Write a report of a period for auditors: what was covered for how much of the time, what was found, how long it lived, when it
could not be known. It is an archive with a page to read and print, tables for sampling, and the signed entries of the log
that all of it is derived from; lockstep audit verify checks it offline.

Run it where lockstep runs, as its user: the report is signed with the log's key. lockstep may go on meanwhile; it then records
in the log who has taken the report.`,
		Example: `  lockstep audit report -c lockstep.yaml --from 2026-07-01 --to 2026-10-01 --output q3.zip`,
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&from, "from", "", "begin of the period: a date, at 0:00 UTC, or a time like 2026-07-01T06:00:00Z")
	cmd.Flags().StringVar(&to, "to", "", "end of the period, exclusive; now if it is left out")
	cmd.Flags().StringVar(&p.Group, "group", "", "only this group")
	cmd.Flags().StringVar(&out, "output", "", "file to write")
	cmd.Flags().StringVar(&by, "by", "", "`WHO` takes it (default: the user of this machine, or of --username)")
	api = addAPIFlags(cmd)
	api.config = defaultConfig
	of := cmd.Flags().Lookup("config")
	of.Usage, of.DefValue = "configuration `FILE`", defaultConfig
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if p.From, p.To, err = period(from, to); err != nil {
			return usageError(err)
		}
		if out == "" {
			return usageError(fmt.Errorf("--output is missing: name the file to write, such as report.zip"))
		}
		c, err := loadConfig(api.config)
		if err == nil {
			_, err = api.base() // which is asked once the report is written
		}
		if err != nil {
			return err
		}
		if err := c.Names().Check(names.Wanted{Group: p.Group}); err != nil {
			return fmt.Errorf("%s: %w", api.config, err)
		}
		r, sum, err := writeReport(cmd, c, p, out)
		if err != nil {
			return undeterminedError(err)
		}
		t := r.Totals()
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: entries %d to %d; lockstep ran for %.2f %% of the period; %s opened, %d resolved, %d open\n",
			out, r.First, r.Last, 100*r.Availability(), counted(t.Opened, "divergence"), t.Resolved, t.Open)
		if err != nil {
			return err
		}
		e := evidence.ExportData{By: by, Group: p.Group, From: p.From, To: p.To, SHA256: sum}
		if api.user == "" {
			e.By = cmp.Or(by, thisUser())
		}
		if err := api.send(cmd.Context(), http.MethodPost, "api/v1/audit/exports", e, &e); err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: the audit log does not say who has taken this report: %v\n", err)
		}
		return nil
	}
	return cmd
}

// writeReport leaves no half of a report behind. It also returns the digest of the archive.
func writeReport(cmd *cobra.Command, c *config.Config, p auditreport.Period, out string) (*auditreport.Report, string, error) {
	f, err := os.CreateTemp(filepath.Dir(out), ".report-*")
	if err != nil {
		return nil, "", err
	}
	defer os.Remove(f.Name()) // gone, if all went well
	sum := sha256.New()
	r, err := audit.Export(cmd.Context(), daemon.AuditDir(c), p, version, io.MultiWriter(f, sum))
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return nil, "", err
	}
	return r, hex.EncodeToString(sum.Sum(nil)), os.Rename(f.Name(), out)
}

func period(from, to string) (begin, end time.Time, err error) {
	if from == "" {
		return begin, end, fmt.Errorf("--from is missing: write a date such as 2026-07-01")
	}
	if begin, err = moment("--from", from); err != nil {
		return begin, end, err
	}
	end = time.Now()
	if to != "" {
		if end, err = moment("--to", to); err != nil {
			return begin, end, err
		}
	}
	if !begin.Before(end) && to == "" {
		return begin, end, fmt.Errorf("--from %s lies in the future", from)
	}
	if !begin.Before(end) {
		return begin, end, fmt.Errorf("--from %s is not before --to: exchange them", from)
	}
	return begin, end, nil
}

func moment(flag, text string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%s %q is no time: write 2026-07-01 or 2026-07-01T06:00:00Z", flag, text)
}
