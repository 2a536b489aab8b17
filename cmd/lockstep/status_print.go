package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/status"
)

// print shows groups as -o says.
func (o statusOptions) print(w io.Writer, groups []status.Group, colours bool) error {
	switch o.output.value {
	case "json":
		for _, g := range groups {
			if err := printJSON(w, o.inStates(g)); err != nil {
				return err
			}
		}
		return nil
	case "wide":
		return o.printWide(w, groups, colours)
	}
	for i, g := range groups {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := o.printGroup(w, g, colours); err != nil {
			return err
		}
	}
	return nil
}

// inStates leaves the tables of members that --state asks for. The states of member and group stay what they are.
func (o statusOptions) inStates(g status.Group) status.Group {
	if len(o.states) == 0 {
		return g
	}
	g.Members = slices.Clone(g.Members)
	for i := range g.Members {
		m := &g.Members[i]
		m.Tables = slices.DeleteFunc(slices.Clone(m.Tables), func(t status.Table) bool { return !among(o.states, string(t.Verdict)) })
	}
	return g
}

// printGroup sums a group up in a line, and shows a line for each member and one for each table.
func (o statusOptions) printGroup(w io.Writer, g status.Group, colours bool) error {
	if _, err := fmt.Fprintf(w, "%s\n\n", printable(summary(g))); err != nil {
		return err
	}
	rows := [][]string{}
	for _, m := range g.Members {
		rows = append(rows, []string{m.Name, m.Role, string(m.State), lag(g, m), shortPosition(m.Position), memberNote(m)})
	}
	if err := printTable(w, []string{"MEMBER", "ROLE", stateHeader, "LAG", "POSITION", "NOTE"}, rows, paintStates(colours)); err != nil {
		return err
	}
	if rows = o.tableRows(g); len(rows) > 0 {
		header := []string{"TABLE", "ROWS", "VERIFIED"}
		for _, m := range g.Members {
			header = append(header, strings.ToUpper(m.Name))
		}
		fmt.Fprintln(w)
		if err := printTable(w, header, rows, paintStates(colours)); err != nil {
			return err
		}
	}
	notes := reasons(o.inStates(g))
	if len(notes) > 0 {
		notes = append([]string{""}, notes...)
	}
	for _, n := range notes {
		if _, err := fmt.Fprintln(w, printable(n)); err != nil {
			return err
		}
	}
	return nil
}

// summary is what can be said of a group in one line.
func summary(g status.Group) string {
	count := make(map[status.Verdict]int)
	tables := make(map[string]bool)
	keys := int64(0)
	for _, m := range g.Members {
		for _, t := range m.Tables {
			count[t.Verdict]++
			tables[t.Table] = true
			keys += t.DivergentKeys
		}
	}
	text := fmt.Sprintf("%s is %s: %s on %s", g.Name, g.State, counted(len(tables), "table"), counted(len(g.Members), "member"))
	var states []string
	for _, v := range slices.Backward(status.Verdicts) {
		if count[v] > 0 {
			states = append(states, fmt.Sprintf("%d %s", count[v], v))
		}
	}
	if len(states) > 0 {
		text += ": " + strings.Join(states, ", ")
	}
	if keys > 0 {
		text += fmt.Sprintf("; %s", counted(keys, "divergent key"))
	}
	known := slices.ContainsFunc(g.Members, func(m status.Member) bool { return m.Role == "reference" && !m.ProvenAt.IsZero() })
	if len(tables) == 0 && known {
		text += ": none of the reference's is watched; tables.include and lockstep check say why"
	}
	return text
}

func counted[N int | int64](n N, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func memberNote(m status.Member) string {
	var notes []string
	if m.Trouble != "" {
		notes = append(notes, trouble(m))
	}
	if m.Errant != "" {
		notes = append(notes, "errant: "+shortPosition(m.Errant))
	}
	if m.ScrubWaits != "" {
		notes = append(notes, "scrubs wait: "+m.ScrubWaits)
	}
	for i := range len(notes) - 1 { // a remedy in SQL ends with one
		notes[i] = strings.TrimSuffix(notes[i], ";")
	}
	return strings.Join(notes, "; ")
}

// trouble is what keeps a member from being read, in a line that names it.
func trouble(m status.Member) string { return strings.TrimPrefix(m.Trouble, "member "+m.Name+": ") }

// tableRows has a row for each table, with its state on each member, and the keys that differ.
func (o statusOptions) tableRows(g status.Group) (rows [][]string) {
	for _, name := range slices.Compact(slices.Sorted(slices.Values(g.Names().Tables))) {
		row := []string{name, "", ""}
		shown, oldest := false, status.Time{}
		for i, m := range g.Members {
			at := slices.IndexFunc(m.Tables, func(t status.Table) bool { return t.Table == name })
			if at < 0 {
				row = append(row, "-")
				continue
			}
			t := m.Tables[at]
			shown = shown || among(o.states, string(t.Verdict))
			if i == 0 || m.Role == "reference" {
				row[1] = fmt.Sprint(t.Rows)
			}
			if i == 0 || t.VerifiedAt.Before(oldest.Time) {
				oldest = t.VerifiedAt
			}
			cell := string(t.Verdict)
			if t.DivergentKeys > 0 {
				cell += fmt.Sprintf(" (%d)", t.DivergentKeys)
			}
			row = append(row, cell)
		}
		row[2] = age(g.At, oldest)
		if shown {
			rows = append(rows, row)
		}
	}
	return rows
}

// mostNamed is how many tables a note names.
const mostNamed = 3

// reasons says why nothing, or not all, can be said of tables: a line for each reason on each member.
func reasons(g status.Group) (notes []string) {
	for _, m := range g.Members {
		var order []string
		tables := make(map[string][]string)
		for _, t := range m.Tables {
			if t.Reason == "" {
				continue
			}
			why := fmt.Sprintf("%s: %s", t.Verdict, t.Reason)
			if tables[why] == nil {
				order = append(order, why)
			}
			tables[why] = append(tables[why], t.Table)
		}
		for _, why := range order {
			list := tables[why]
			if more := len(list) - mostNamed; more > 0 {
				list = append(slices.Clone(list[:mostNamed]), fmt.Sprintf("and %s", counted(more, "other")))
			}
			notes = append(notes, fmt.Sprintf("%s on %s: %s", strings.Join(list, ", "), m.Name, why))
		}
	}
	return notes
}

// shortPosition leaves of a GTID set what fits a column: the first characters of a UUID tell servers apart, and of many
// sources the first stands for all. The whole set is in -o json.
func shortPosition(set string) string {
	entries := strings.Split(set, ",")
	if uuid, numbers, ok := strings.Cut(entries[0], ":"); ok && len(uuid) == 36 {
		entries[0] = uuid[:8] + "…:" + numbers
	}
	if more := len(entries) - 1; more > 0 {
		return fmt.Sprintf("%s +%d", entries[0], more)
	}
	return entries[0]
}

// lag is not known of a member that was not heard from since the start, nor while nothing is.
func lag(g status.Group, m status.Member) string {
	if m.ProvenAt.IsZero() || g.Stale != "" {
		return "-"
	}
	return fmt.Sprintf("%.1fs", m.Behind.Seconds())
}

// age is how long ago something was, in the largest unit that says enough.
func age(now time.Time, at status.Time) string {
	if at.IsZero() {
		return "never"
	}
	d := max(now.Sub(at.Time), 0)
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

const stateHeader = "STATE"

// wideHeader is that of -o wide, which has a line for each table on each member.
var wideHeader = []string{"GROUP", "MEMBER", "ROLE", "TABLE", stateHeader, "ROWS", "DIVERGENT", "LAG", "VERIFIED", "FRESH", "SILENT", "POSITION", "AGE", "NOTE"}

func (o statusOptions) printWide(w io.Writer, groups []status.Group, colours bool) error {
	var rows [][]string
	for _, g := range groups {
		for i, m := range o.inStates(g).Members {
			for _, t := range m.Tables {
				rows = append(rows, []string{
					g.Name, m.Name, m.Role, t.Table, string(t.Verdict), fmt.Sprint(t.Rows), fmt.Sprint(t.DivergentKeys), lag(g, m), age(g.At, t.VerifiedAt),
					fmt.Sprintf("%.0f%%", 100*t.Fresh), fmt.Sprint(t.Silent), m.Position, howOld(g), cmp.Or(t.Reason, trouble(m)),
				})
			}
			if len(g.Members[i].Tables) == 0 && among(o.states, string(m.State)) {
				rows = append(rows, []string{g.Name, m.Name, m.Role, "-", string(m.State), "-", "-", lag(g, m), "never", "-", "-", m.Position, howOld(g), trouble(m)})
			}
		}
	}
	return printTable(w, wideHeader, rows, paintStates(colours))
}

// howOld is how old all is that is said of a group.
func howOld(g status.Group) string { return fmt.Sprintf("%.1fs", g.Age.Seconds()) }

// paintStates colours the cells that begin with a state.
func paintStates(colours bool) func(int, string, string) string {
	if !colours {
		return nil
	}
	return func(_ int, cell, padded string) string {
		state, _, _ := strings.Cut(cell, " ")
		switch v := status.Verdict(state); {
		case v == status.InStep || v == status.Lagging:
			return coloured(green, padded)
		case v == status.Unverified || v == status.Expected:
			return coloured(yellow, padded)
		case slices.Contains(status.Verdicts, v):
			return coloured(red, padded)
		}
		return padded
	}
}
