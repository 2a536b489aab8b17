package main

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/daemon"
)

func newAuditProveCommand() *cobra.Command {
	var path, table, number, key string
	var at uint64
	cmd := &cobra.Command{
		Use:   "prove --table NAME --at ENTRY [--range N | --key KEY]",
		Short: "Prove what a member held of a range of a table",
		Long: `Print the proof that a member held a range of a table with a digest at a position: from the range over the root of the table's
Merkle tree, and the entry of coverage that records it, up to the signed checkpoint of the audit log. lockstep audit verify checks it
with the public key. Ranges of members whose rows are the same have the same digest.

--at names the entry of coverage, which is about one member; coverage.csv of a report lists them. Without --range and --key the
ranges that it can be asked for are listed. What is printed holds the keys at the bounds of the range.`,
		Example: `  lockstep audit prove -c lockstep.yaml --table public.orders --at 57
  lockstep audit prove -c lockstep.yaml --table public.orders --at 57 --key '{"id":500}' > proof.json
  lockstep audit verify proof.json --key log.vkey`,
		Args: cobra.NoArgs,
	}
	configFlag(cmd, &path)
	cmd.Flags().StringVar(&table, "table", "", "`NAME` of the table with its schema")
	numberFlag(cmd, &at, 0, "at", 0, "number of the `ENTRY` of coverage")
	cmd.Flags().StringVar(&number, "range", "", "the range with this `NUMBER`, from 0")
	cmd.Flags().StringVar(&key, "key", "", "the range in which this `KEY` lies, as JSON, such as {\"id\":500}")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if table == "" {
			return usageError(fmt.Errorf("--table is missing: name a table with its schema, such as public.orders"))
		}
		if !cmd.Flags().Changed("at") {
			return usageError(fmt.Errorf("--at is missing: name an entry of coverage, as coverage.csv of a report lists them"))
		}
		if number != "" && key != "" {
			return usageError(fmt.Errorf("--range and --key are both given: name the range by one of them"))
		}
		c, err := loadConfig(path)
		if err != nil {
			return err
		}
		covered, err := audit.ReadCovered(cmd.Context(), daemon.AuditDir(c), at, table)
		if err != nil {
			return undeterminedError(err)
		}
		var i int
		switch {
		case key != "":
			i, err = covered.Find(json.RawMessage(key))
		case number != "":
			if i, err = strconv.Atoi(number); err != nil {
				err = fmt.Errorf("%q is no number", number)
			}
		default:
			return listRanges(cmd, covered)
		}
		if err != nil {
			return usageError(fmt.Errorf("--range or --key: %w", err))
		}
		proof, err := covered.Prove(i)
		if err != nil {
			return usageError(err)
		}
		return printJSON(cmd.OutOrStdout(), proof)
	}
	return cmd
}

func listRanges(cmd *cobra.Command, c *audit.Covered) error {
	var rows [][]string
	for i := range c.Ranges() {
		first, end, err := c.Bounds(i)
		if err != nil {
			return undeterminedError(err)
		}
		sum := c.Sum(i)
		rows = append(rows, []string{strconv.Itoa(i), string(first), string(end), strconv.FormatInt(sum.Rows, 10), sum.Digest()})
	}
	return printTable(cmd.OutOrStdout(), []string{"RANGE", "FROM", "BEFORE", "ROWS", "DIGEST"}, rows, nil)
}
