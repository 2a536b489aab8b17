package deploy_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"golang.org/x/mod/sumdb/note"

	"github.com/lockstep-cdc/lockstep/audit/witness"
	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
)

// pages are what Alertmanager sends: to which address, and which alerts.
type pages struct {
	*httptest.Server
	mu   sync.Mutex
	list []string // guarded by mu
}

func newPages(t *testing.T) *pages {
	p := &pages{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m struct {
			Alerts []struct {
				Status              string
				Labels, Annotations map[string]string
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, a := range m.Alerts {
			p.list = append(p.list, strings.TrimSpace(strings.Join([]string{r.URL.Path, a.Status, a.Labels["alertname"], a.Labels["member"], a.Annotations["key_ranges"]}, " ")))
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *pages) got(page string) bool { return slices.Contains(p.all(), page) }

func (p *pages) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.list)
}

// read returns a file of this folder with texts replaced, each of which has to be there.
func read(t *testing.T, path string, replace ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(text, replace[i]) {
			t.Fatalf("%s does not say %q", path, replace[i])
		}
		text = strings.ReplaceAll(text, replace[i], replace[i+1])
	}
	return []byte(text)
}

// answer asks for JSON.
func answer(t *testing.T, url string, into any) error {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", url, resp.Status, body)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// estate is lockstep beside the Prometheus and the Alertmanager that this folder sets up, all of them real.
type estate struct {
	*testing.T
	cluster              *cluster.Cluster
	pages                *pages
	lockstep, prometheus string
	alertmanager         string
}

func newEstate(t *testing.T) *estate {
	data := filepath.Join(t.TempDir(), "data")
	witnesses := witnessOf(t, filepath.Join(data, "audit"))
	c, err := cluster.Start(t.Context(), cluster.Options{
		Install: dbtest.Need(t, dbtest.PG15), Schema: "CREATE TABLE items (id int PRIMARY KEY, name text); CREATE TABLE lockstep_canary (id bigint PRIMARY KEY, note text);",
		Extra: "    canary: {table: public.lockstep_canary}\naudit: {timestamps: {url: \"" + dbtest.NewAuthority(t, "good", "sha256").Serve() + "\"}, copy: {endpoint: \"" + bucket(t) + "\", bucket: evidence, region: us-east-1, retain: off, access_key: a, secret_key_file: \"" + secretFile(t) + "\"}, witnesses: [" + witnesses + "]}\n", DataDir: data,
		Subscribers: 1, LagBudget: time.Second, Server: dbtest.Options{Below: dbtest.MemoryDir()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Logf("close: %v", err)
		}
	})
	if err := c.Exec(t.Context(), "us-1", "GRANT INSERT, DELETE ON lockstep_canary TO "+dbtest.LockstepUser); err != nil {
		t.Fatal(err)
	}
	e := &estate{T: t, cluster: c, pages: newPages(t)}
	am := dbtest.AlertmanagerT(t, string(read(t, "alertmanager/alertmanager.yaml", "http://127.0.0.1:8080", e.pages.URL, "  receiver: nobody\n", "  receiver: nobody\n  group_wait: 1s\n  group_interval: 1s\n")))
	e.alertmanager = am.URL
	e.start(c.Config)
	p := dbtest.PrometheusServerT(t, map[string][]byte{
		"prometheus.yaml":     read(t, "prometheus/prometheus.yaml", "15s", "1s", "lockstep:9640", strings.TrimPrefix(e.lockstep, "http://"), "alertmanager:9093", strings.TrimPrefix(am.URL, "http://")),
		"lockstep.rules.yaml": read(t, "prometheus/lockstep.rules.yaml"),
	})
	e.prometheus = p.URL
	return e
}

// start runs lockstep until the test ends.
func (e *estate) start(c *config.Config) {
	e.Helper()
	own := *c
	own.Alerts = config.Alerts{Alertmanager: []config.Alertmanager{{URL: e.alertmanager}}, Watchdog: true}
	log := slog.New(slog.DiscardHandler)
	d, err := daemon.Start(e.Context(), &own, daemon.Options{Version: "test", Logger: log})
	if err != nil {
		e.Fatal(err)
	}
	e.lockstep = serve(e.T, d)
	ctx, stop := context.WithCancel(context.WithoutCancel(e.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	e.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			e.Errorf("lockstep ends with %v", err)
		}
	})
}

// serve has lockstep answer HTTP, as long as it runs, and returns where.
func serve(t *testing.T, d *daemon.Daemon) string {
	s := httptest.NewServer(d.API())
	t.Cleanup(s.Close)
	return s.URL
}

func (e *estate) until(what string, reached func() (bool, error)) {
	e.Helper()
	if err := dbtest.WaitFor(e.Context(), what, func(context.Context) (bool, error) { return reached() }); err != nil {
		var groups, open any
		unsaid := errors.Join(answer(e.T, e.lockstep+"/api/v1/groups", &groups), answer(e.T, e.lockstep+"/api/v1/divergences?state=open", &open))
		e.Fatalf("%v; pages are %q, groups %v, open divergences %v (%v)", err, e.pages.all(), groups, open, unsaid)
	}
}

// firing lists the alerts that fire in Prometheus.
func (e *estate) firing() ([]string, error) {
	var said struct {
		Data struct {
			Alerts []struct {
				State  string
				Labels map[string]string
			}
		}
	}
	err := answer(e.T, e.prometheus+"/api/v1/alerts", &said)
	var list []string
	for _, a := range said.Data.Alerts {
		if a.State == "firing" {
			list = append(list, a.Labels["alertname"])
		}
	}
	return list, err
}

// bucket is an S3 server with a bucket called evidence.
func bucket(t *testing.T) string {
	t.Helper()
	s3 := s3mem.New()
	if err := s3.CreateBucket("evidence"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(s3).Server())
	t.Cleanup(server.Close)
	return server.URL
}

// witnessOf has a witness know the log that will be in dir, and returns what the configuration names it by.
func witnessOf(t *testing.T, dir string) string {
	t.Helper()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	private, public, err := note.GenerateKey(rand.Reader, host+"/lockstep")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "log.key"), []byte(private+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := witness.Open(t.TempDir(), "example.org/witness", []string{public}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(w)
	t.Cleanup(func() {
		server.Close()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return fmt.Sprintf("{url: %q, key: %q}", server.URL, w.PublicKey())
}

func secretFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A row that is changed on a subscriber: from lockstep with its exact keys to whoever is on call, once, although Prometheus
// notices too, and back. Then all that the dashboards show is asked of the same Prometheus.
func TestADifferencePagesThroughARealEstateAndTheDashboardsShowIt(t *testing.T) {
	e := newEstate(t)
	e.until("the watchdog", func() (bool, error) { return e.pages.got("/switch firing LockstepWatchdog"), nil })
	exec := func(member string, sql ...string) { t.Helper(); dbtest.ExecT(t, e.cluster.Member(member), sql...) }
	exec("eu-1", "INSERT INTO items SELECT i, 'item' FROM generate_series(1, 1000) i")
	if err := e.cluster.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.until("all to be in step", func() (bool, error) {
		var groups []struct{ State string }
		err := answer(t, e.lockstep+"/api/v1/groups", &groups)
		return err == nil && groups[0].State == "in_step", err
	})
	exec("us-1", "UPDATE items SET name = 'other' WHERE id BETWEEN 10 AND 12")
	e.until("the page", func() (bool, error) {
		return e.pages.got(`/page firing LockstepDiverged us-1 changed {"id":10}..{"id":12}`), nil
	})
	e.until("Prometheus to notice", func() (bool, error) {
		list, err := e.firing()
		return slices.Contains(list, "LockstepRowsDiffer"), err
	})
	e.until("Alertmanager to hold that back", func() (bool, error) {
		var list []struct {
			Labels map[string]string
			Status struct{ InhibitedBy []string }
		}
		err := answer(t, e.alertmanager+"/api/v2/alerts", &list)
		for _, a := range list {
			if a.Labels["alertname"] == "LockstepRowsDiffer" && len(a.Status.InhibitedBy) > 0 {
				return true, nil
			}
		}
		return false, err
	})
	e.until("a canary to be found", func() (bool, error) {
		var names struct{ Data []string }
		err := answer(t, e.prometheus+"/api/v1/label/__name__/values", &names)
		return slices.Contains(names.Data, "lockstep_canary_last_found_timestamp_seconds"), err
	})
	e.checkDashboards()
	exec("us-1", "UPDATE items SET name = 'item' WHERE id BETWEEN 10 AND 12")
	e.until("the end", func() (bool, error) {
		return e.pages.got(`/page resolved LockstepDiverged us-1 changed {"id":10}..{"id":12}`), nil
	})
	e.until("Prometheus to be quiet", func() (bool, error) {
		list, err := e.firing()
		return len(list) == 0, err
	})
	for _, p := range e.pages.all() {
		if strings.HasPrefix(p, "/page") && strings.Contains(p, "LockstepRowsDiffer") {
			t.Errorf("somebody is paged a second time: %s", p)
		}
	}
}

var metricName = regexp.MustCompile(`\b(?:lockstep|process|go)_[a-z_]+\b`)

// checkDashboards asks Prometheus and lockstep all that the dashboards ask.
func (e *estate) checkDashboards() {
	e.Helper()
	var names struct{ Data []string }
	if err := answer(e.T, e.prometheus+"/api/v1/label/__name__/values", &names); err != nil {
		e.Fatal(err)
	}
	variables := strings.NewReplacer("$job", "lockstep", "$group", "shop", "${group}", "shop", "$__rate_interval", "1m")
	ask := func(where, expr string) {
		e.Helper()
		var said struct{ Status string }
		if err := answer(e.T, e.prometheus+"/api/v1/query?query="+url.QueryEscape(variables.Replace(expr)), &said); err != nil || said.Status != "success" {
			e.Errorf("%s: %v", where, err)
		}
		for _, name := range metricName.FindAllString(expr, -1) {
			if !slices.Contains(names.Data, name) {
				e.Errorf("%s: lockstep exports no %s", where, name)
			}
		}
	}
	for file, d := range dashboards(e.T) {
		for _, a := range d.Annotations.List {
			ask(file, a.Expr)
		}
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				if target.URL == "" {
					ask(file+" "+p.Title, target.Expr)
					continue
				}
				var rows []map[string]any
				if err := answer(e.T, e.lockstep+variables.Replace(target.URL), &rows); err != nil || len(rows) != 1 {
					e.Errorf("%s: %s: %d rows, %v", file, p.Title, len(rows), err)
					continue
				}
				for _, c := range target.Columns {
					if first, _, _ := strings.Cut(c.Selector, "."); rows[0][first] == nil {
						e.Errorf("%s: %s: there is no %s", file, p.Title, c.Selector)
					}
				}
			}
		}
	}
	const takesADay = "lockstep_audit_log_expected_bytes"
	const ofGTIDs = "lockstep_member_errant_transactions" // PostgreSQL has none; package web's tests hold on to its name
	for _, g := range load[rules](e.T, "prometheus/lockstep.rules.yaml").Groups {
		for _, r := range g.Rules {
			for _, name := range metricName.FindAllString(r.Expr, -1) {
				if !slices.Contains(names.Data, name) && name != takesADay && name != ofGTIDs {
					e.Errorf("%s%s: lockstep exports no %s", r.Alert, r.Record, name)
				}
			}
		}
	}
}
