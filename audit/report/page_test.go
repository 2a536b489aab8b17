package report_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/audit/report"
	"github.com/lockstep-cdc/lockstep/evidence"
)

// found is a divergence that is open for a minute.
func found(m float64, id string, expected bool) (events []evidence.Event) {
	resolved := at(m + 1)
	d := evidence.DivergenceData{ID: id, Table: "public.t", Member: "us", Kind: "extra", Cause: id, Expected: expected, Keys: 1, FirstSeen: at(m), ConfirmedAt: at(m)}
	events = append(events, evidence.Event{Type: evidence.DivergenceOpen, Group: "shop", Time: at(m), Data: d})
	d.ResolvedAt = &resolved
	return append(events, evidence.Event{Type: evidence.DivergenceResolve, Group: "shop", Time: resolved, Data: d})
}

// 34 of 36 rows were canaries.
func TestWhatWasExpectedIsInTheAppendix(t *testing.T) {
	events := []evidence.Event{begins(0)}
	for i := range 300 {
		events = append(events, found(float64(i)/10, fmt.Sprintf("canary%d", i), true)...)
		if i == 150 {
			events = append(events, found(15, "true_finding", false)...)
		}
	}
	page := string(filesOf(t, derived(t, report.Period{}, append(events, stops(60))...))["report.html"])
	main, appendix, _ := strings.Cut(page, "<h2>Appendix: differences that were expected</h2>")
	if strings.Contains(main, "canary1") || !strings.Contains(main, "true_finding") || !strings.Contains(main, "300 differences that were expected") {
		t.Errorf("the page begins with %s", main)
	}
	if strings.Contains(appendix, "true_finding") || strings.Count(appendix, ": canary") != 100 || !strings.Contains(appendix, "200 more are in divergences.csv") {
		t.Errorf("the appendix has %d: %s", strings.Count(appendix, ": canary"), appendix)
	}
	if page := string(filesOf(t, derived(t, report.Period{}, begins(0), stops(60)))["report.html"]); strings.Contains(page, "Appendix") || strings.Contains(page, "expected, as those") {
		t.Error("there is an appendix of nothing")
	}
}

// A table that differs as was expected is neither in step nor broken.
func TestRecordsOfWhatDiffersAsExpectedAreCounted(t *testing.T) {
	page := string(filesOf(t, derived(t, report.Period{}, hour(all("in_step", "expected"))...))["report.html"])
	if row := regexp.MustCompile(`>0 of \d+<br>(\d+) as expected<td>expected<`).FindString(page); row == "" {
		t.Error(page)
	}
}

// Columns were cut off on A4 and on narrow screens. A table of fixed layout is as wide as the page, if every column says which part
// of it that is, and words that are too long for theirs are broken.
func TestTablesFitThePage(t *testing.T) {
	page := string(filesOf(t, derived(t, report.Period{}, append(append(hour(all("in_step", "in_step")), found(5, "a", true)...), found(6, "b", false)...)...))["report.html"])
	for _, rule := range []string{"table-layout:fixed", "overflow-wrap:anywhere", "width:100%", "size:A4 portrait"} {
		if !strings.Contains(page, rule) {
			t.Errorf("the page does not say %s", rule)
		}
	}
	if strings.Contains(page, "nowrap") || strings.Contains(page, "min-width") {
		t.Error("something cannot be broken")
	}
	tables := strings.Split(page, "<table>")[1:]
	if len(tables) < 4 {
		t.Fatalf("it has %d tables", len(tables))
	}
	width := regexp.MustCompile(`<col style="width:(\d+)%">`)
	for _, table := range tables {
		head, _, _ := strings.Cut(table, "</tr>")
		sum, columns := 0, 0
		for _, col := range width.FindAllStringSubmatch(head, -1) {
			n := 0
			if _, err := fmt.Sscan(col[1], &n); err != nil {
				t.Fatal(err)
			}
			sum, columns = sum+n, columns+1
		}
		if headings := len(regexp.MustCompile(`<th[ >]`).FindAllString(head, -1)); sum != 100 || columns != headings || columns > 6 {
			t.Errorf("%d columns of %d headings take %d %% of the page: %s", columns, headings, sum, head)
		}
	}
}
