package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// format is the value of -o.
type format struct {
	value   string
	allowed []string
}

// formatFlag adds -o to a command; the first of the allowed formats is the default.
func formatFlag(cmd *cobra.Command, allowed ...string) *format {
	f := &format{value: allowed[0], allowed: allowed}
	cmd.Flags().VarP(f, "output", "o", "`FORMAT`: "+strings.Join(allowed, ", "))
	return f
}

func (f *format) String() string { return f.value }

// Type is what help calls the value.
func (f *format) Type() string { return "format" }

// Set takes one of the allowed formats.
func (f *format) Set(s string) error {
	if !slices.Contains(f.allowed, s) {
		return fmt.Errorf("use one of %s", strings.Join(f.allowed, ", "))
	}
	f.value = s
	return nil
}

// printJSON prints one object a line.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// printTable prints columns as wide as their widest cell, the last as it comes. paint may colour a padded cell.
func printTable(w io.Writer, header []string, rows [][]string, paint func(column int, cell, padded string) string) error {
	rows = slices.Concat([][]string{header}, rows)
	widths := make([]int, len(header))
	for _, row := range rows {
		for i, cell := range row {
			row[i] = printable(cell)
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			padded := cell
			if i < len(row)-1 {
				padded += strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+3)
			}
			if n > 0 && paint != nil {
				padded = paint(i, cell, padded)
			}
			b.WriteString(padded)
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printable keeps names that come from servers from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// colourful reports whether w is a terminal whose user did not ask for plain text (no-color.org).
func colourful(w io.Writer) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// The colours of states.
const (
	green  = "32"
	yellow = "33"
	red    = "31"
)

func coloured(colour, s string) string { return "\x1b[" + colour + "m" + s + "\x1b[0m" }
