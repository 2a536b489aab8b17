package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/diff"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/status"
)

// partlyJSON is a table on a member of which not everything was compared.
type partlyJSON struct {
	Group       string         `json:"group"`
	Table       string         `json:"table"`
	Member      string         `json:"member"`
	Reference   string         `json:"reference"`
	State       status.Verdict `json:"state"`
	Reason      string         `json:"reason"`
	NotCompared []string       `json:"columns_not_compared,omitempty"`
}

// print shows what a comparison found. With -o json the divergences and what was not compared are on stdout, and nothing else.
func (o diffOptions) print(stdout, stderr io.Writer, r *diff.Report) error {
	if o.output.value == "json" {
		for _, x := range r.Results {
			for _, d := range x.Divergences {
				if err := printJSON(stdout, d); err != nil {
					return err
				}
			}
			if n := note(x); n != "" {
				if err := printJSON(stdout, partlyJSON{r.Group, x.Table, x.Member, r.Reference, x.Verdict, n, x.NotCompared}); err != nil {
					return err
				}
			}
		}
		return printDiffRead(stderr, r, "lockstep: ")
	}
	if err := printResults(stdout, r); err != nil {
		return err
	}
	if err := printKeys(stdout, r); err != nil {
		return err
	}
	if _, err := io.WriteString(stdout, "\nRead:\n"); err != nil {
		return err
	}
	return printDiffRead(stdout, r, "  ")
}

// printResults prints a line for each table on each member.
func printResults(w io.Writer, r *diff.Report) error {
	var rows [][]string
	for _, x := range r.Results {
		rows = append(rows, []string{
			x.Member, x.Table, string(x.Verdict), fmt.Sprint(x.MemberRows), fmt.Sprint(x.ReferenceRows), fmt.Sprint(x.Parts), fmt.Sprint(x.Keys), note(x),
		})
	}
	header := []string{"MEMBER", "TABLE", "STATE", "ROWS", strings.ToUpper(r.Reference), "PARTS", "DIFFERENT", "NOTE"}
	return printTable(w, header, rows, func(column int, cell, padded string) string {
		if column != 2 || !colourful(w) {
			return padded
		}
		return coloured(cmp.Or(map[string]string{string(status.InStep): green, string(status.Unverified): yellow}[cell], red), padded)
	})
}

func note(x diff.Result) string {
	var notes []string
	for _, n := range []string{x.Reason, x.Note} {
		if n != "" {
			notes = append(notes, n)
		}
	}
	return strings.Join(notes, "; ")
}

// printKeys prints the ranges of all keys that differ.
func printKeys(w io.Writer, r *diff.Report) error {
	var b strings.Builder
	for _, x := range r.Results {
		for _, d := range x.Divergences {
			fmt.Fprintf(&b, "\n%s %s: %s %s", d.Member, printable(d.Table), counted(d.Keys, "key"), d.Kind)
			if d.Detail != "" {
				fmt.Fprintf(&b, " (%s)", printable(d.Detail))
			}
			b.WriteString(":\n")
			for _, g := range d.Ranges {
				b.WriteString("  " + printable(rangeText(g)) + "\n")
			}
			if d.Truncated {
				b.WriteString("  and more that are not listed\n")
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func rangeText(g finding.Range) string {
	if string(g.First) == string(g.Last) {
		return bounds(g)
	}
	return fmt.Sprintf("%s (%s)", bounds(g), counted(g.Changed+g.Missing+g.Extra, "key"))
}

// bounds are the first and the last key of a range, or the only one.
func bounds(g finding.Range) string {
	if string(g.First) == string(g.Last) {
		return string(g.First)
	}
	return string(g.First) + ".." + string(g.Last)
}

// printDiffRead tells auditors what was read, when and where, and sums it up in the last line.
func printDiffRead(w io.Writer, r *diff.Report, before string) error {
	var b strings.Builder
	for _, x := range r.Results {
		fmt.Fprintf(&b, "%s%s %s: %s: %s against %d of %s, parts: %d", before, x.Member, x.Table, x.Verdict, counted(x.MemberRows, "row"), x.ReferenceRows, r.Reference, x.Parts)
		if x.Suspects > 0 {
			fmt.Fprintf(&b, "; %s read again, and judged in %s", counted(x.Suspects, "key"), counted(x.Rounds, "round"))
		}
		for _, name := range []string{r.Reference, x.Member} {
			if x.From[name] != "" {
				fmt.Fprintf(&b, "; %s from %s to %s", name, x.From[name], x.To[name])
			}
		}
		if n := note(x); n != "" {
			fmt.Fprintf(&b, "; %s", n)
		}
		b.WriteByte('\n')
	}
	b.WriteString(before + diffSummary(r) + "\n")
	_, err := io.WriteString(w, printableLines(b.String()))
	return err
}

// printableLines is printable for a text of several lines.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = printable(l)
	}
	return strings.Join(lines, "\n")
}

func diffSummary(r *diff.Report) string {
	count := map[status.Verdict]int{}
	var rows, keys int64
	for _, x := range r.Results {
		count[x.Verdict]++
		rows, keys = rows+x.MemberRows, keys+x.Keys
	}
	return fmt.Sprintf("group %s against %s, %s, in %v: %s compared; %d in step, %d diverged, %d stale, %d unverified; %s",
		r.Group, r.Reference, r.Began.UTC().Format(time.RFC3339), r.Ended.Sub(r.Began).Round(time.Millisecond), counted(rows, "row"),
		count[status.InStep], count[status.Diverged], count[status.Stale], len(r.Results)-count[status.InStep]-count[status.Diverged]-count[status.Stale], counted(keys, "divergent key"))
}
