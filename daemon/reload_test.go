package daemon_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/internal/load"
	"github.com/lockstep-cdc/lockstep/status"
)

// The configuration is read anew again and again under load, with members, tables, passwords, receivers and settings in and out, half of
// them wrong. What stays the same is watched all the time: its streams are never opened anew, its rows never read again, and it is
// never in doubt.
func TestReloadsUnderLoadTouchOnlyWhatChangedOnPostgreSQL(t *testing.T) {
	c := startCluster(t, cluster.Options{Schema: load.Schema, LagBudget: 10 * time.Second, Extra: audited})
	reloadsUnderLoad(t, c, "public", c.DSN("eu-1"))
}

func TestReloadsUnderLoadTouchOnlyWhatChanged(t *testing.T) {
	o := cluster.Options{Schema: load.MySQLSchema, LagBudget: 10 * time.Second, Extra: audited}
	onMySQL(t, o, func(t *testing.T, _ *watch, c *cluster.MySQLCluster) { reloadsUnderLoad(t, c, "app", c.DSN("eu-1")) })
}

// drawn is a configuration that has something changed at random, of which much cannot be used: the last member, a table, receivers and
// settings.
func (s *supervised) drawn(r *rand.Rand, schema string, receivers []string) (c *config.Config, what string) {
	folder := s.t.TempDir()
	return s.changed(func(c *config.Config) {
		g := &c.Groups[0]
		g.Members = slices.Clone(g.Members)
		last := &g.Members[len(g.Members)-1]
		switch n := r.IntN(6); n {
		case 0:
			what = "out"
			g.Members = g.Members[:len(g.Members)-1]
		case 1:
			what = "no such password"
			last.PasswordFile = filepath.Join(folder, "missing")
		case 2:
			what = "a password"
			last.PasswordFile = filepath.Join(folder, "password")
			if err := os.WriteFile(last.PasswordFile, []byte("secret"), 0o600); err != nil {
				s.t.Fatal(err)
			}
		case 3:
			what = "scan only"
			last.ScanOnly = true
		case 4:
			what = "not there"
			last.DSN = nowhere(last.DSN)
		default:
			what = "as it was"
		}
		if r.IntN(2) == 0 {
			what += ", without stock"
			g.Tables.Exclude = []string{schema + ".stock"}
		}
		if r.IntN(2) == 0 {
			g.Budget += time.Duration(1+r.IntN(9)) * time.Second
			g.Scrub.Every = time.Duration(1+r.IntN(5)) * time.Minute
			what += fmt.Sprintf(", budget %v, scrub every %v", g.Budget, g.Scrub.Every)
		}
		if n := r.IntN(1 + len(receivers)); n > 0 {
			c.Alerts.Receivers = []config.Receiver{{Kind: config.WebhookKind, Name: "people", URL: config.Secret(receivers[n-1])}}
			what += ", receiver " + receivers[n-1]
		}
	}), what
}

// nowhere is an address at which nobody listens.
func nowhere(dsn string) string {
	if before, _, postgres := strings.Cut(dsn, "host="); postgres {
		return before + "host=/nonexistent"
	}
	scheme, rest, _ := strings.Cut(dsn, "://")
	user, rest, _ := strings.Cut(rest, "@")
	_, rest, _ = strings.Cut(rest, "/")
	return scheme + "://" + user + "@127.0.0.1:1/" + rest
}

func reloadsUnderLoad(t *testing.T, c servers, schema, dsn string) {
	if err := load.FillShare(t.Context(), dsn, 20); err != nil {
		t.Fatal(err)
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	s := supervise(t, c)
	s.inStep()
	began := time.Now()
	writing := load.Start(t.Context(), dsn, load.Options{Clients: 2, Pause: 10 * time.Millisecond, Seed: 3})
	opens, reads := s.opens.now(), s.reads.now()
	compared := s.table("us-1", schema+".accounts").ComparedAt
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	rounds := 8
	if dbtest.Soaking() {
		rounds = 200
	}
	for round := range rounds {
		next, what := s.drawn(r, schema, []string{receiver.URL, "http://127.0.0.1:1/"})
		t.Logf("seed %d, round %d: %s", seed, round, what)
		if err := s.reload(next); err != nil {
			t.Fatal(err)
		}
		for wait := time.Duration(r.IntN(1000)) * time.Millisecond; wait > 0; wait -= 100 * time.Millisecond {
			for _, table := range []string{"accounts", "orders"} {
				if now := s.table("us-1", schema+"."+table); now.Reason != "" || now.Verdict != status.InStep && now.Verdict != status.Lagging {
					t.Errorf("%s is %s: %s", table, now.Verdict, now.Reason)
				}
			}
			<-time.After(100 * time.Millisecond)
		}
	}
	if err := s.reload(s.changed(func(*config.Config) {})); err != nil {
		t.Fatal(err)
	}
	s.until("everything to be compared", s.compared)
	if err := writing.Stop(); err != nil {
		t.Fatal(err)
	}
	s.replayed()
	s.inStep()
	for _, member := range []string{"eu-1", "us-1"} {
		if now := s.opens.now()[member]; now != opens[member] {
			t.Errorf("the stream of %s was opened %d times more", member, now-opens[member])
		}
		for _, table := range []string{"accounts", "orders"} {
			at := member + " " + schema + "." + table
			if now := s.reads.now()[at]; now != reads[at] {
				t.Errorf("%s was read %d times more", at, now-reads[at])
			}
		}
	}
	if now := s.table("us-1", schema+".accounts").ComparedAt; now != compared {
		t.Errorf("what stays is compared since %v, and was since %v", now, compared)
	}
	s.neverDiverged()
	s.exec("us-2", "UPDATE accounts SET balance = 77 WHERE id = 3")
	s.finds(fmt.Sprintf(`us-2 %s.accounts changed errant_transaction {"id":3}..{"id":3}`, schema))
	s.stop()
	_, entries := verifyLog(t, c)
	for _, e := range entries {
		var gap evidence.GapData
		if e.Type != evidence.GapOpen || json.Unmarshal(e.Data, &gap) != nil || gap.Since.Before(began) { // before, it was not read yet
			continue
		}
		if gap.Member == "us-1" && !strings.HasSuffix(gap.Table, "stock") {
			t.Errorf("a hole of what stays: %s", e.Data)
		}
	}
}
