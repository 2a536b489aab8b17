package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/status"
	"github.com/lockstep-cdc/lockstep/web"
)

// estate is a group of three members and twenty tables.
type estate struct {
	shop
	waits bool // its group is still being opened
	bare  bool // no table is watched
}

func (e estate) Status() *status.Group {
	at := time.Now()
	g := &status.Group{Name: "shop", Reference: "eu-1", At: at}
	for i, name := range []string{"eu-1", "us-1", "us-2"} {
		m := status.Member{Name: name, Role: "replica", Position: fmt.Sprintf("0/6F46DD%d", i), ProvenAt: status.Time{Time: at}, Behind: status.Seconds(time.Duration(i) * 100 * time.Millisecond)}
		if i == 0 {
			m.Role = "reference"
		}
		for n := range 20 {
			t := status.Table{Table: fmt.Sprintf("public.table_%02d", n), Verdict: status.InStep, Rows: int64(1000 * n), VerifiedAt: status.Time{Time: at.Add(-time.Duration(i+1) * time.Hour)}}
			switch {
			case i == 1 && n == 7:
				t.Verdict, t.DivergentKeys = status.Diverged, 6
			case i == 1 && n == 8:
				t.Verdict, t.DivergentKeys = status.Lagging, 1
			case i == 2 && n > 14:
				t.Verdict, t.Reason, t.VerifiedAt = status.Unverified, "being read", status.Time{}
			}
			m.Tables = append(m.Tables, t)
		}
		if e.bare {
			m.Tables = nil
		}
		if e.waits {
			m.Tables, m.Trouble, m.ProvenAt = nil, "which member is the reference is not known", status.Time{}
		}
		g.Members = append(g.Members, m)
	}
	g.Complete()
	return g
}

func serveGroups(t *testing.T, groups ...web.Group) string {
	t.Helper()
	api := httptest.NewServer(web.New(groups, nil, web.Rules{}, "test", slog.New(slog.DiscardHandler)))
	t.Cleanup(api.Close)
	return api.URL
}

func TestStatusSaysThatNoTableIsWatched(t *testing.T) {
	_, out, _ := lockstep(t, "status", "--url", serveGroups(t, estate{bare: true}))
	if want := "shop is unverified: 0 tables on 3 members: none of the reference's is watched; tables.include and lockstep check say why\n"; !strings.HasPrefix(out, want) {
		t.Errorf("%s, want %s", out, want)
	}
}

// Commands look for lockstep where the configuration in their folder says that it listens.
func TestStatusTakesTheAddressFromTheConfiguration(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile(defaultConfig, []byte("listen: "+strings.TrimPrefix(serveGroups(t, estate{}), "http://")+"\ndata_dir: data\ngroups:\n  - {name: shop, engine: postgres, tables: {include: [public.*]}, members: [{name: a, dsn: \"host=127.0.0.1 dbname=shop user=a\"}, {name: b, dsn: \"host=127.0.0.1 dbname=shop user=b\"}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, out, stderr := lockstep(t, "status"); !strings.HasPrefix(out, "shop is diverged") {
		t.Errorf("%s%s", out, stderr)
	}
}

// At three in the morning twenty tables on three members are one screen, of which the first line is the answer.
func TestStatusFitsAScreen(t *testing.T) {
	code, out, stderr := lockstep(t, "status", "--url", serveGroups(t, estate{}))
	var rest []string
	for n := range 20 {
		us1, us2, verified := "in_step       ", "in_step", "3h"
		switch {
		case n == 7:
			us1 = "diverged (6)  "
		case n == 8:
			us1 = "lagging (1)   "
		case n > 14:
			us2, verified = "unverified", "never"
		}
		rest = append(rest, fmt.Sprintf("public.table_%02d   %-5d   %-8s   in_step   %s %s", n, 1000*n, verified, us1, us2))
	}
	want := `shop is diverged: 20 tables on 3 members: 1 diverged, 5 unverified, 1 lagging, 53 in_step; 7 divergent keys

MEMBER   ROLE        STATE        LAG    POSITION    NOTE
eu-1     reference   in_step      0.0s   0/6F46DD0   
us-1     replica     diverged     0.1s   0/6F46DD1   
us-2     replica     unverified   0.2s   0/6F46DD2   

TABLE             ROWS    VERIFIED   EU-1      US-1           US-2
` + strings.Join(rest, "\n") + `

public.table_15, public.table_16, public.table_17, and 2 others on us-2: unverified: being read
`
	if diff := cmp.Diff(want, out); diff != "" || code != exitDiverged || stderr != "" {
		t.Errorf("exit code %d, %q\n%s", code, stderr, diff)
	}
	if lines := strings.Count(out, "\n"); lines > 30 {
		t.Errorf("%d lines", lines)
	}
}

// Of what was resolved the list had the age alone, which goes on.
func TestDivergencesSayWhenTheyEnded(t *testing.T) {
	list := `{"id":"01A","state":"open","member":"us-1","table":"public.a"}`
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "[%s]", list)
	}))
	defer api.Close()
	ask := func() string {
		_, stdout, _ := lockstep(t, "divergences", "--state", "all", "--url", api.URL)
		return stdout
	}
	if said := ask(); strings.Contains(said, "RESOLVED") {
		t.Errorf("of open ones alone it says %s", said)
	}
	list += `,{"id":"01B","state":"resolved","outcome":"healed","member":"us-1","table":"public.a","first_seen":"2026-11-23T11:59:00Z","resolved_at":"2026-11-23T12:00:01Z"}`
	lines := strings.Split(ask(), "\n")
	if !regexp.MustCompile(`AGE +RESOLVED +RANGES$`).MatchString(lines[0]) || !regexp.MustCompile(`^01A .* - +$`).MatchString(lines[1]) || !regexp.MustCompile(`^01B .* 1m1s +2026-11-23T12:00:01Z +$`).MatchString(lines[2]) {
		t.Errorf("it says %q", lines)
	}
}

// The list called the cause of what has not arrived unknown, where it was known why.
func TestDivergencesSayWhyNothingArrives(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `[{"id":"01A","state":"open","kind":"stale","cause":"unknown","detail":"subscription \"app\" of us-1 is stopped"},{"id":"01B","state":"open","kind":"changed","cause":"unknown"}]`)
	}))
	defer api.Close()
	_, stdout, _ := lockstep(t, "divergences", "--url", api.URL)
	if lines := strings.Split(stdout, "\n"); len(lines) < 3 || !strings.Contains(lines[1], ` stale     subscription "app" of us-1 is stopped   `) || !strings.Contains(lines[2], " changed   unknown   ") {
		t.Errorf("it says %s", stdout)
	}
}

// Of a row that is not watched any more it said that it is resolved, as of one that is the same again.
func TestADivergenceThatWasForgottenIsToldFromOneThatHealed(t *testing.T) {
	for outcome, want := range map[finding.Outcome]string{finding.Healed: "resolved", finding.Superseded: "resolved (superseded)", finding.Forgotten: "resolved (forgotten)"} {
		if got := stateText(finding.Divergence{State: finding.Resolved, Outcome: outcome}); got != want {
			t.Errorf("%s is shown as %q, want %q", outcome, got, want)
		}
	}
}

// A member that had never answered had a lag of 0.0s.
func TestNoLagIsKnownOfAMemberThatWasNotHeard(t *testing.T) {
	for _, format := range []string{"table", "wide"} {
		if _, out, _ := lockstep(t, "status", "--url", serveGroups(t, estate{waits: true}), "-o", format); strings.Contains(out, "0.1s") || strings.Contains(out, " 0.0s   0/") {
			t.Errorf("%s", out)
		}
	}
}

// A remedy in SQL was followed by two semicolons.
func TestNotesOfAMemberAreToldApart(t *testing.T) {
	m := status.Member{Name: "us-1", Trouble: "member us-1: it was refused: CREATE USER 'u'@'%' IDENTIFIED BY '...';", Errant: "1-2"}
	if got, want := memberNote(m), "it was refused: CREATE USER 'u'@'%' IDENTIFIED BY '...'; errant: 1-2"; got != want {
		t.Errorf("the note is %q, want %q", got, want)
	}
}

func TestStatusIsFiltered(t *testing.T) {
	url := serveGroups(t, estate{}, shop{}, estate{waits: true})
	for _, c := range []struct {
		args  string
		code  int
		has   string
		lacks string
		lines int // 0: any
	}{
		{"--member us-2", exitUnknown, "shop is unverified: 20 tables on 1 member: 5 unverified, 15 in_step\n", "US-1", 0},
		{"--member eu-1 --member us-2 --table public.table_01", exitUnknown, "1 table on 2 members: 2 in_step", "table_02", 0}, // of the one that waits
		{"--state diverged", exitDiverged, "public.table_07", "public.table_01", 0},
		{"--state unverified,stale --member us-2", exitUnknown, "public.table_19", "public.table_07", 0},
		{"-o wide --state lagging", exitDiverged, "public.table_08", "public.table_07", 2},
		{"-o wide --member us-2 --state unverified", exitUnknown, "shop    us-2     replica   -                 unverified", "in_step", 7},
		{"-o json --state stale", exitDiverged, `"tables":[]`, "public.table", 3},
		{"--state gone", exitUsage, "no state gone; there are in_step, lagging, expected, unverified, stale, diverged", "", 0},
		{"--member us-3", exitUsage, "no member us-3; nearest: us-1", "", 0},
		{"--watch=1ms", exitUsage, "--watch=1ms is too often: write 200ms or more", "", 0},
	} {
		code, out, stderr := lockstep(t, append([]string{"status", "--url", url}, strings.Fields(c.args)...)...)
		if out += stderr; code != c.code || !strings.Contains(out, c.has) || c.lacks != "" && strings.Contains(out, c.lacks) || c.lines > 0 && strings.Count(out, "\n") != c.lines {
			t.Errorf("%s: exit code %d, want %d; %q, without %q, in\n%s", c.args, code, c.code, c.has, c.lacks, out)
		}
	}
}

// One of two groups was still being opened, and status ended with 0.
func TestAMemberWithoutTablesIsNotInStep(t *testing.T) {
	well := estate{}.Status()
	well.Members = well.Members[:1]
	waits := estate{waits: true}.Status()
	for _, c := range []struct {
		groups []status.Group
		want   int
	}{{[]status.Group{*well}, exitInStep}, {[]status.Group{*well, *waits}, exitUnknown}, {nil, exitUnknown}, {[]status.Group{*waits, *estate{}.Status()}, exitDiverged}} {
		if code := worstCode(c.groups); code != c.want {
			t.Errorf("%d groups: exit code %d, want %d", len(c.groups), code, c.want)
		}
	}
}

// A lockstep that is restarted does not end a watch; Ctrl-C does, without a word, with the code of what was shown last.
func TestStatusIsDrawnAgainUntilItIsStopped(t *testing.T) {
	api := web.New([]web.Group{estate{}}, nil, web.Rules{}, "test", slog.New(slog.DiscardHandler))
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 2 {
			http.Error(w, "lockstep is starting or stopping", http.StatusServiceUnavailable)
			return
		}
		api.ServeHTTP(w, r)
	}))
	defer server.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var out, errs strings.Builder
	ended := make(chan int, 1)
	go func() { ended <- execute(ctx, []string{"status", "--url", server.URL, "--watch=200ms"}, &out, &errs) }()
	err := dbtest.WaitFor(t.Context(), "a few drawings", func(context.Context) (bool, error) { return asked.Load() > 4, nil })
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if code := <-ended; code != exitDiverged || errs.String() != "" {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
	if drawn := strings.Count(out.String(), "shop is diverged"); drawn < 3 || !strings.Contains(out.String(), "503 Service Unavailable") || !strings.Contains(out.String(), ", every 200ms, until Ctrl-C") {
		t.Errorf("drawn %d times:\n%s", drawn, out.String())
	}
}

// A script that stops a rollout on any other code than 0 stopped it for writes that were expected.
func TestStatusExitsByTheWorst(t *testing.T) {
	for _, c := range []struct {
		code   int
		states []status.Verdict
	}{
		{exitInStep, []status.Verdict{status.InStep, status.Lagging, status.Expected}},
		{exitUnknown, []status.Verdict{status.Expected, status.Unverified}},
		{exitDiverged, []status.Verdict{status.Unverified, status.Stale, status.Expected}},
		{exitDiverged, []status.Verdict{status.Diverged}},
		{exitUnknown, nil},
	} {
		g := status.Group{Members: []status.Member{{}}}
		for _, v := range c.states {
			g.Members[0].Tables = append(g.Members[0].Tables, status.Table{Verdict: v})
		}
		if code := worstCode([]status.Group{g}); code != c.code {
			t.Errorf("with %v it exits %d, want %d", c.states, code, c.code)
		}
	}
}

func TestDivergencesExitsByWhatWasNotExpected(t *testing.T) {
	known, other := finding.Divergence{ID: "1", State: finding.Open, Expected: true}, finding.Divergence{ID: "2", State: finding.Open}
	for _, c := range []struct {
		code int
		args string
		list []finding.Divergence
	}{
		{exitInStep, "", nil},
		{exitInStep, "", []finding.Divergence{known}},
		{exitDiverged, "", []finding.Divergence{known, other}},
		{exitUnknown, "--limit=1", []finding.Divergence{known, other}},
		{exitDiverged, "--limit=1", []finding.Divergence{other, known}},
	} {
		api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var answer any = c.list
			if strings.HasSuffix(r.URL.Path, "/groups") {
				answer = []status.Group{{Members: []status.Member{{Tables: []status.Table{{Verdict: status.Expected}}}}}}
			}
			if err := json.NewEncoder(w).Encode(answer); err != nil {
				t.Error(err)
			}
		}))
		var out, errs strings.Builder
		args := append([]string{"divergences", "--url", api.URL}, strings.Fields(c.args)...)
		if code := execute(t.Context(), args, &out, &errs); code != c.code {
			t.Errorf("%s of %d: exit code %d, want %d: %s", c.args, len(c.list), code, c.code, errs.String())
		}
		api.Close()
	}
}

// Of a list that is cut it said that those listed were expected, though they were resolved.
func TestCutListSaysWhatIsNotKnown(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"id":"01B","state":"resolved","outcome":"healed"},{"id":"01A","state":"open"}]`)
	}))
	defer api.Close()
	code, _, stderr := lockstep(t, "divergences", "--url", api.URL, "--state", "all", "--limit", "1")
	if want := "lockstep: none that is listed is open and was not expected, but one that is left out may be: raise --limit\n"; code != exitUnknown || !strings.HasSuffix(stderr, want) {
		t.Errorf("exit code %d, %q, want: %s", code, stderr, want)
	}
}
