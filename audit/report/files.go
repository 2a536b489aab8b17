package report

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"html/template"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/lockstep-cdc/lockstep/evidence"
)

//go:embed report.html.tmpl readme.md controls.md
var assets embed.FS

// Files are the report in all its forms, by name.
func (r *Report) Files() (map[string][]byte, error) {
	files := map[string][]byte{
		"coverage.csv":    r.coverageCSV(),
		"divergences.csv": r.divergencesCSV(),
		"gaps.csv":        r.gapsCSV(),
		"runs.csv":        r.runsCSV(),
		"changes.csv":     r.changesCSV(),
	}
	var err error
	if files["summary.json"], err = json.MarshalIndent(r, "", " "); err != nil {
		return nil, err
	}
	for name, asset := range map[string]string{"README.md": "readme.md", "controls.md": "controls.md"} {
		if files[name], err = assets.ReadFile(asset); err != nil {
			return nil, err
		}
	}
	if files["report.html"], err = r.html(); err != nil {
		return nil, err
	}
	return files, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func stampOf(t *time.Time) string {
	if t == nil {
		return ""
	}
	return stamp(*t)
}

func entryOf(seq uint64) string {
	if seq == 0 { // entry 0 is a log_start
		return ""
	}
	return strconv.FormatUint(seq, 10)
}

func table(header []string, rows func(add func(...string))) []byte {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write(header) // a buffer takes everything
	rows(func(cells ...string) {
		for i := range cells {
			cells[i] = inert(cells[i])
		}
		_ = w.Write(cells)
	})
	w.Flush()
	return b.Bytes()
}

// figure is what we write for a number.
var figure = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?(e[+-][0-9]+)?$`)

// inert puts an apostrophe before what a spreadsheet would take for a formula: at the begin of a cell, and behind what splits
// cells elsewhere, as a semicolon does where the comma is that of decimals. Names, notes and keys come from others
// (https://owasp.org/www-community/attacks/CSV_Injection).
func inert(cell string) string {
	if figure.MatchString(cell) || !strings.ContainsAny(cell, formulas) {
		return cell
	}
	var b strings.Builder
	begins := true
	for _, r := range cell {
		if begins && strings.ContainsRune(formulas, r) {
			b.WriteByte('\'')
		}
		b.WriteRune(r)
		begins = strings.ContainsRune(";\t\r\n", r) || begins && (r == '"' || unicode.IsSpace(r))
	}
	return b.String()
}

const formulas = "=+-@\t\r＝＋－＠"

func (r *Report) coverageCSV() []byte {
	return table([]string{"entry", "time", "group", "member", "role", "position", "lag_seconds", "table", "verdict", "reason", "rows", "ranges_in_step", "ranges", "root", "verified_at"},
		func(add func(...string)) {
			for _, c := range r.Coverage {
				all := 0
				for _, n := range c.Table.Ranges {
					all += n
				}
				add(strconv.FormatUint(c.Seq, 10), stamp(c.Time), c.Group, c.Member.Member, c.Member.Role, c.Member.Position, fmt.Sprint(c.Member.Lag), c.Table.Table,
					c.Table.Verdict, c.Table.Reason, fmt.Sprint(c.Table.Rows), strconv.Itoa(c.Table.Ranges["in_step"]), strconv.Itoa(all), c.Table.Root, stampOf(c.Table.VerifiedAt))
			}
		})
}

func (r *Report) divergencesCSV() []byte {
	return table([]string{"opened_entry", "resolved_entry", "id", "group", "member", "table", "kind", "cause", "expected", "keys", "transaction", "committed_at", "first_seen", "confirmed_at", "resolved_at", "outcome", "told_entry", "told_at", "acknowledged_entry", "acknowledged_by", "ticket", "ranges"},
		func(add func(...string)) {
			for _, d := range r.Divergences {
				var ranges []string
				for _, k := range d.Ranges {
					ranges = append(ranges, k.First+".."+k.Last)
				}
				a := evidence.AcknowledgeData{}
				if d.Acknowledged != nil {
					a = *d.Acknowledged
				}
				add(entryOf(d.Opened), entryOf(d.Resolved), d.ID, d.Group, d.Member, d.Table, d.Kind, d.Cause, fmt.Sprint(d.Expected), fmt.Sprint(d.Keys), d.Transaction,
					stampOf(d.CommittedAt), stamp(d.FirstSeen), stamp(d.ConfirmedAt), stampOf(d.ResolvedAt), d.Outcome, entryOf(d.Told), stampOf(d.ToldAt), entryOf(d.AcknowledgedEntry), a.By, a.Ticket, strings.Join(ranges, " "))
			}
		})
}

func (r *Report) gapsCSV() []byte {
	return table([]string{"opened_entry", "closed_entry", "group", "member", "table", "since", "until", "ended", "reason"}, func(add func(...string)) {
		for _, g := range r.Gaps {
			add(entryOf(g.Opened), entryOf(g.Closed), g.Group, g.Member, g.Table, stamp(g.Since), stamp(g.Until), g.Ended, g.Reason)
		}
	})
}

func (r *Report) runsCSV() []byte {
	return table([]string{"entry", "from", "to", "ended", "lockstep", "config_sha256"}, func(add func(...string)) {
		for _, run := range r.Runs {
			add(strconv.FormatUint(run.Seq, 10), stamp(run.From), stamp(run.To), run.Ended, run.Version, run.Config)
		}
	})
}

func (r *Report) changesCSV() []byte {
	return table([]string{"entry", "time", "what"}, func(add func(...string)) {
		for _, c := range r.Changes {
			add(strconv.FormatUint(c.Seq, 10), stamp(c.Time), c.What)
		}
	})
}

// page is what the HTML shows beside the report.
type page struct {
	*Report
	Rows    []tableRow
	Types   []typeCount
	Missing int // records of coverage that are not there

	Shown, ShownExpected         []*Divergence
	ShownGaps                    []*Gap
	More, MoreExpected, MoreGaps int // than are shown
	Expected                     int
}

// show splits a list at what is shown of it.
func show[T any](list []T, most int) ([]T, int) {
	n := min(len(list), most)
	return list[:n], len(list) - n
}

// tableRow is a table on all replicas.
type tableRow struct {
	Group, Member, Table   string
	Share                  float64 // of the period, for which it was known whether it is the same
	InStep, Expected, Seen int
	Last                   string
	Rows                   int64
}

type typeCount struct {
	Type evidence.Type
	N    int
}

// maxShown bounds the divergences, and the gaps, in the HTML, and maxExpected those that were expected, of which a canary alone
// makes one an hour; the CSV has all.
const (
	maxShown    = 500
	maxExpected = 100
)

func (r *Report) html() ([]byte, error) {
	p := page{Report: r}
	var found, expected []*Divergence
	for _, d := range r.Divergences {
		if d.Expected {
			expected = append(expected, d)
		} else {
			found = append(found, d)
		}
	}
	p.Expected = len(expected)
	p.Shown, p.More = show(found, maxShown)
	p.ShownExpected, p.MoreExpected = show(expected, maxExpected)
	p.ShownGaps, p.MoreGaps = show(r.Gaps, maxShown)
	for _, m := range r.Members {
		p.Missing += max(m.Expected-m.Intervals, 0)
		if m.Role == "reference" {
			continue
		}
		for name, t := range m.Tables {
			p.Rows = append(p.Rows, tableRow{m.Group, m.Name, name, r.share(t.Known), t.InStep, t.AsExpected, t.Seen, t.Last, t.Rows})
		}
		if len(m.Tables) == 0 {
			p.Rows = append(p.Rows, tableRow{Group: m.Group, Member: m.Name})
		}
	}
	slices.SortFunc(p.Rows, func(a, b tableRow) int {
		return cmp.Or(cmp.Compare(a.Share, b.Share), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Table, b.Table), cmp.Compare(a.Member, b.Member))
	})
	for _, t := range evidence.Types {
		if n := r.Counts[t]; n > 0 {
			p.Types = append(p.Types, typeCount{t, n})
		}
	}
	text, err := assets.ReadFile("report.html.tmpl")
	if err != nil {
		return nil, err
	}
	t, err := template.New("report").Funcs(template.FuncMap{
		"day":     func(t time.Time) string { return t.UTC().Format("2 January 2006 15:04") },
		"when":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
		"percent": percent,
		"span":    span,
		"bar":     func(share float64) template.CSS { return template.CSS(fmt.Sprintf("width:%.2f%%", 100*min(share, 1))) },
	}).Parse(string(text))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// percent never rounds up to all.
func percent(share float64) string {
	if share >= 1 {
		return "100 %"
	}
	return fmt.Sprintf("%.2f %%", float64(int(share*10000))/100)
}

func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.1f days", d.Hours()/24)
	case d >= time.Minute:
		return d.Round(time.Second).String()
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}

// Availability is the share of the period for which lockstep ran.
func (r *Report) Availability() float64 { return r.share(r.Ran()) }

// share is the part of the period that a time is.
func (r *Report) share(d time.Duration) float64 {
	if length := r.length(); length > 0 {
		return float64(d) / float64(length)
	}
	return 0
}

// Scope says in a sentence what was monitored.
func (p page) Scope() string {
	groups, tables, replicas := map[string]bool{}, map[[2]string]bool{}, map[[2]string]bool{}
	for _, t := range p.Rows {
		groups[t.Group], tables[[2]string{t.Group, t.Table}], replicas[[2]string{t.Group, t.Member}] = true, true, true
	}
	return fmt.Sprintf("Monitored: %s on %s of %s, each compared with its source at the same transaction.",
		count(len(tables), "table"), count(len(replicas), "replica"), count(len(groups), "replication group"))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Known is the share of the period for which it was known of the tables of replicas, on average, whether they are the same.
func (p page) Known() float64 {
	sum := 0.0
	for _, t := range p.Rows {
		sum += t.Share
	}
	if len(p.Rows) == 0 {
		return 0
	}
	return sum / float64(len(p.Rows))
}

// Size is the number of entries.
func (r *Report) Size() int {
	n := 0
	for _, c := range r.Counts {
		n += c
	}
	return n
}
