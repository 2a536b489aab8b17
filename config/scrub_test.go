package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/scan"
)

// withScrub is the minimal file with one more key of the group and lines under tables.
func withScrub(scrub, tables string) string {
	text := strings.Replace(minimal, "    engine: postgres\n", "    engine: postgres\n"+scrub, 1)
	return text + tables
}

func group(t *testing.T, text string) Group {
	t.Helper()
	c, err := Parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c.Groups[0]
}

func TestScrubHasDefaults(t *testing.T) {
	want := Scrub{Every: 24 * time.Hour, MaxRowsPerSecond: 50_000, ChunkTime: 500 * time.Millisecond, MaxReplicaLag: 10 * time.Second}
	if diff := cmp.Diff(want, group(t, minimal).Scrub); diff != "" {
		t.Error(diff)
	}
	if got := group(t, withScrub("    lag_budget: 2s\n", "")).Scrub.MaxReplicaLag; got >= 2*time.Second || got <= 0 {
		t.Errorf("a scan may use up the lag budget of 2s: %s", got)
	}
	if got := (Group{}).ScrubEvery("public.x"); got != DefaultScrubEvery {
		t.Errorf("a group that says nothing is scrubbed every %s", got)
	}
}

func TestScrubIsRead(t *testing.T) {
	g := group(t, withScrub(`    scrub:
      every: 168h
      windows: ["22:00-06:00", Sat-Sun 00:00-24:00]
      max_rows_per_second: 20_000
      chunk_time: 200ms
      max_replica_lag: 3s
`, ""))
	night, err := scan.ParseWindow("22:00-06:00")
	if err != nil {
		t.Fatal(err)
	}
	weekend, err := scan.ParseWindow("Sat-Sun 00:00-24:00")
	if err != nil {
		t.Fatal(err)
	}
	want := Scrub{Every: 168 * time.Hour, Windows: scan.Windows{night, weekend}, MaxRowsPerSecond: 20_000, ChunkTime: 200 * time.Millisecond, MaxReplicaLag: 3 * time.Second}
	if diff := cmp.Diff(want, g.Scrub); diff != "" {
		t.Error(diff)
	}
	settings := scan.Settings{Windows: want.Windows, MaxRowsPerSecond: 20_000, MaxReplicaLag: 3 * time.Second}
	if diff := cmp.Diff(settings, g.Scrub.Settings()); diff != "" {
		t.Error(diff)
	}
}

func TestTablesAreScrubbedAsOftenAsTheySay(t *testing.T) {
	const tables = `      overrides:
        - {table: public.often, scrub_every: 1h}
        - {table: public.never, scrub_every: off}
        - {table: public.other, lag_budget: 1m}
`
	tests := []struct {
		scrub string
		want  map[string]time.Duration
	}{
		{"", map[string]time.Duration{"public.x": 24 * time.Hour, "public.often": time.Hour, "public.never": 0, "public.other": 24 * time.Hour}},
		{"    scrub: {every: \"off\"}\n", map[string]time.Duration{"public.x": 0, "public.often": time.Hour, "public.never": 0, "public.other": 0}},
		{"    scrub: {every: 2h}\n", map[string]time.Duration{"public.x": 2 * time.Hour, "public.often": time.Hour, "public.never": 0, "public.other": 2 * time.Hour}},
	}
	for _, test := range tests {
		g := group(t, withScrub(test.scrub, tables))
		for table, want := range test.want {
			if got := g.ScrubEvery(table); got != want {
				t.Errorf("%q: %s every %s, want %s", test.scrub, table, got, want)
			}
		}
	}
}

func TestMemberCanBeScannedOnly(t *testing.T) {
	g := group(t, strings.Replace(minimal, "u@h2/db\n", "u@h2/db\n        scan_only: true\n", 1))
	if g.Member("a").ScanOnly || !g.Member("b").ScanOnly {
		t.Errorf("%+v", g.Members)
	}
}

func TestMistakesOfScrubHavePlaceAndRemedy(t *testing.T) {
	tests := []struct{ name, old, new, want string }{
		{"misspelled key", "    tables:", "    scrub: {evry: 24h}\n    tables:",
			`f:10: groups[0].scrub: unknown key "evry": did you mean "every"?`},
		{"no duration", "    tables:", "    scrub: {every: daily}\n    tables:",
			`f:10: groups[0].scrub.every: "daily" is not a duration: write it like 30s, 2m or 1h30m`},
		{"false for off", "    tables:", "    scrub: {every: false}\n    tables:",
			`f:10: groups[0].scrub.every: a boolean where a duration belongs: write it like 24h, or off`},
		{"all the time", "    tables:", "    scrub: {every: 5s}\n    tables:",
			`f:10: groups[0].scrub.every: 5s is too short to read all rows again: write it like 24h, or off`},
		{"a window that is none", "    tables:", "    scrub:\n      windows:\n        - \"22:00-06:00\"\n        - \"at night\"\n    tables:",
			`f:13: groups[0].scrub.windows[1]: "at night" has no beginning and end: write it like "22:00-06:00" or "Sat-Sun 00:00-24:00"`},
		{"a day that is none", "    tables:", "    scrub: {windows: [\"Sa-So 22:00-06:00\"]}\n    tables:",
			`f:10: groups[0].scrub.windows[0]: "Sa-So" is not a day of the week: write it like "22:00-06:00" or "Sat-Sun 00:00-24:00"`},
		{"one window, no list", "    tables:", "    scrub: {windows: \"22:00-06:00\"}\n    tables:",
			`f:10: groups[0].scrub.windows: text where a list belongs: write it as [...] or as lines that start with -`},
		{"no windows", "    tables:", "    scrub: {windows: []}\n    tables:",
			`f:10: groups[0].scrub.windows: lists no window: leave the key out to scrub at all times, or turn scrubs off with every: off`},
		{"no rows", "    tables:", "    scrub: {max_rows_per_second: 0}\n    tables:",
			`f:10: groups[0].scrub.max_rows_per_second: "0" is not a positive whole number: write it like 50000`},
		{"lag without a unit", "    tables:", "    scrub: {max_replica_lag: 10}\n    tables:",
			`f:10: groups[0].scrub.max_replica_lag: 10 has no unit: write 10s or 10m`},
		{"no mapping", "    tables:", "    scrub: off\n    tables:",
			`f:10: groups[0].scrub: text where a mapping belongs: its keys are every, windows, max_rows_per_second, chunk_time, max_replica_lag`},
		{"table", "        - public.*", "        - public.*\n      overrides: [{table: public.a, scrub_every: on}]",
			`f:13: groups[0].tables.overrides[0].scrub_every: "on" is not a duration: write it like 30s, 2m or 1h30m`},
		{"text for a boolean", "      - name: b", "      - name: b\n        scan_only: yes",
			`f:9: groups[0].members[1].scan_only: text where a boolean belongs: write true or false`},
		{"nothing that is read", "    members:\n      - name: a\n        dsn: postgres://u@h1/db\n      - name: b\n", "    members:\n      - name: a\n        scan_only: true\n        dsn: postgres://u@h1/db\n      - name: b\n        scan_only: true\n",
			`f:5: groups[0].members: are all scan_only: the log of at least one has to be read, for the rows of the others to be held against`},
		{"the reference", "    members:\n      - name: a\n", "    reference: a\n    members:\n      - name: a\n        scan_only: true\n",
			`f:5: groups[0].reference: "a" is scan_only: name a member whose log is read`},
		{"scanned only, and never", "    members:\n      - name: a\n", "    scrub: {every: off}\n    members:\n      - name: a\n        scan_only: true\n",
			`f:5: groups[0].scrub: is off, and the group has members that are scan_only: nothing would be known of them: turn it on, or remove them`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(minimal, test.old) {
				t.Fatalf("the file does not hold %q", test.old)
			}
			_, err := Parse("f", []byte(strings.Replace(minimal, test.old, test.new, 1)))
			if diff := cmp.Diff(test.want, fmt.Sprint(err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
