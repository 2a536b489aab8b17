// Package deploy_test holds the files of this folder against the real programs that read them.
package deploy_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/lockstep-cdc/lockstep/alerts"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// run runs a program that is to succeed.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// load reads a file of YAML or JSON.
func load[T any](t *testing.T, path string) (v T) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(data, &v)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return v
}

type rules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Record, Expr string
			Labels, Annotations map[string]string
		}
	}
}

type ruleTests struct {
	Tests []struct {
		Alerts []struct {
			Alert    string `yaml:"alertname"`
			Expected []any  `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

func TestRulesAreSoundAndEachAlertIsTestedAndHasARunbook(t *testing.T) {
	promtool := dbtest.PrometheusT(t, "promtool")
	run(t, promtool, "check", "rules", "prometheus/lockstep.rules.yaml")
	tests := []string{"prometheus/lockstep.rules.test.yaml", "prometheus/lockstep.rules.days.test.yaml"}
	run(t, promtool, append([]string{"test", "rules"}, tests...)...)
	run(t, promtool, "check", "config", "prometheus/prometheus.yaml")
	run(t, dbtest.PrometheusT(t, "amtool"), "check-config", "alertmanager/alertmanager.yaml")
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, path := range tests {
		for _, test := range load[ruleTests](t, path).Tests {
			for _, a := range test.Alerts {
				fires[a.Alert] = fires[a.Alert] || len(a.Expected) > 0
				quiet[a.Alert] = quiet[a.Alert] || len(a.Expected) == 0
			}
		}
	}
	var pages []string
	for _, g := range load[rules](t, "prometheus/lockstep.rules.yaml").Groups {
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			if !fires[r.Alert] || !quiet[r.Alert] {
				t.Errorf("%s: tested are firing %v and quiet %v", r.Alert, fires[r.Alert], quiet[r.Alert])
			}
			if s := r.Labels["severity"]; s != "critical" && s != "warning" {
				t.Errorf("%s has severity %q", r.Alert, s)
			}
			page := filepath.FromSlash(strings.Replace(r.Annotations["runbook_url"], alerts.Runbooks, "../docs/runbooks", 1))
			text, err := os.ReadFile(page)
			if err != nil || filepath.Base(page) != r.Alert+".md" {
				t.Errorf("%s: runbook %s: %v", r.Alert, page, err)
			}
			for _, part := range []string{"# " + r.Alert, "## Meaning", "## Impact", "## Diagnosis", "## Mitigation"} {
				if !strings.Contains(string(text), part+"\n") {
					t.Errorf("%s lacks %q", page, part)
				}
			}
			pages = append(pages, r.Alert+".md")
		}
	}
	entries, err := os.ReadDir("../docs/runbooks")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(pages, e.Name()) {
			t.Errorf("docs/runbooks/%s is of no alert", e.Name())
		}
	}
}

// A rule on a metric that may be absent never fires while it is: some rule looks at its absence.
func TestWhatMayBeAbsentHasARuleForItsAbsence(t *testing.T) {
	text, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, g := range load[rules](t, "prometheus/lockstep.rules.yaml").Groups {
		for _, r := range g.Rules {
			if r.Alert != "" {
				all = append(all, r.Expr)
			}
		}
	}
	exprs, twins := strings.Join(all, "\n"), 0
	for _, row := range regexp.MustCompile("(?m)^\\| (`lockstep_.*?) \\|.*[aA]bsent .*$|^\\| (`lockstep_.*?) \\|.*Absent:.*$").FindAllStringSubmatch(string(text), -1) {
		for _, name := range regexp.MustCompile("lockstep_[a-z_]+").FindAllString(row[1]+row[2], -1) {
			if !regexp.MustCompile(name + `\b`).MatchString(exprs) {
				continue
			}
			if twins++; !regexp.MustCompile(`unless (on \([a-z, ]+\) )?` + name + `\b`).MatchString(exprs) {
				t.Errorf("%s may be absent, and no rule looks whether it is", name)
			}
		}
	}
	if twins < 8 {
		t.Errorf("only %d metrics may be absent", twins)
	}
}

// Links of runbooks lead somewhere.
func TestLinksOfRunbooksLeadSomewhere(t *testing.T) {
	files, err := filepath.Glob("../docs/runbooks/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	link := regexp.MustCompile(`\]\(([^)#]+)(?:#([^)]*))?\)`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target, err := os.ReadFile(filepath.Join(filepath.Dir(file), m[1]))
			if err != nil || m[2] != "" && !slices.Contains(anchors(string(target)), m[2]) {
				t.Errorf("%s: %s leads nowhere (%v)", file, m[0], err)
			}
		}
	}
}

// anchors are those of the headings of a page.
func anchors(text string) (list []string) {
	for line := range strings.Lines(text) {
		if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			name := regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			list = append(list, strings.ReplaceAll(name, " ", "-"))
		}
	}
	return list
}

type dashboard struct {
	UID, Title string
	Panels     []struct {
		Title, Description, Type string
		Datasource               struct{ Type, UID string }
		FieldConfig              struct{ Defaults struct{ Unit string } }
		Targets                  []struct {
			Expr, URL string
			Columns   []struct{ Selector string }
		}
	}
	Annotations struct{ List []struct{ Expr string } }
}

func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob("grafana/dashboards/*.json")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	all := map[string]dashboard{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(data, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[file] = d
	}
	return all
}

// What Grafana's own linter of dashboards asks for.
func TestPanelsAreTitledDescribedAndHaveUnits(t *testing.T) {
	uids := map[string]bool{}
	for file, d := range dashboards(t) {
		if d.UID == "" || uids[d.UID] || d.Title == "" {
			t.Errorf("%s: uid %q, title %q", file, d.UID, d.Title)
		}
		uids[d.UID] = true
		for _, p := range d.Panels {
			if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
				t.Errorf("%s: panel %q lacks a description, a unit or a query", file, p.Title)
			}
			if p.Datasource.Type == "prometheus" && p.Datasource.UID != "${datasource}" {
				t.Errorf("%s: panel %q always asks %s", file, p.Title, p.Datasource.UID)
			}
			for _, target := range p.Targets {
				if strings.Contains(target.Expr, "rate(") && !strings.Contains(target.Expr, "$__rate_interval") && !strings.Contains(target.Expr, "[1d]") {
					t.Errorf("%s: panel %q: %s does not follow the resolution", file, p.Title, target.Expr)
				}
			}
		}
	}
}

func TestServiceIsSoundAndHardened(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not here")
	}
	unit, err := os.ReadFile("systemd/lockstep.service")
	if err != nil {
		t.Fatal(err)
	}
	// The program need not be installed for the rest to be checked.
	path := filepath.Join(t.TempDir(), "lockstep.service")
	if err := os.WriteFile(path, []byte(strings.Replace(string(unit), "/usr/bin/lockstep", "/bin/true", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(t, analyze, "verify", path); out != "" {
		t.Errorf("systemd-analyze verify says: %s", out)
	}
	run(t, analyze, "security", "--offline=true", "--threshold=25", path)
}
