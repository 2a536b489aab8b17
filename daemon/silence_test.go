package daemon_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/config"
	"github.com/lockstep-cdc/lockstep/daemon"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/internal/cluster"
	"github.com/lockstep-cdc/lockstep/store"
)

const quietConfig = `
data_dir: /nowhere
alerts:
  slack: [{name: ops, url_file: /run/secrets/slack}]
  webhook: [{name: hook, url: "https://user:hunter2@hooks.example/T0KEN/path?key=s3cret", secret_file: /run/secrets/hook}]
  alertmanager: [{url: "https://alertmanager:9093", username: lockstep, password_file: /run/secrets/am}]
groups:
  - name: shop
    engine: postgres
    members:
      - {name: eu, dsn: "postgres://u@eu/shop"}
      - {name: us, dsn: "postgres://u@us/shop"}
    tables:
      include: ["public.*"]
    expected_writes:
      - {tables: ["public.local"], members: [us], kinds: [extra], first_key: '"K3Y"'}
    canary: {table: public.canary, every: 1h}
`

func parsed(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Whatever has less told, or later, or to fewer, is an entry of its own, as it was and as it is, and holds no secret.
func TestWhoSilencedWhatIsAnEntryOfItsOwn(t *testing.T) {
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	settings := func(text string) []evidence.Setting { return daemon.Settings(parsed(t, text), s) }
	before := settings(quietConfig)
	for name, c := range map[string]struct{ old, new, what, was, is string }{
		"nothing":                 {"", "", "", "", ""},
		"an expected write less":  {"    expected_writes:\n      - {tables: [\"public.local\"], members: [us], kinds: [extra], first_key: '\"K3Y\"'}\n", "", "expected_writes", "public.local on us: extra from hmac-sha256:", ""},
		"an expected write wider": {`tables: ["public.local"], members: [us], kinds: [extra], first_key: '"K3Y"'`, `tables: ["public.*"]`, "expected_writes", "public.local on us", "public.*"},
		"other keys":              {`'"K3Y"'`, `'"K4Y"'`, "expected_writes", "from hmac-sha256:", "from hmac-sha256:"},
		"no canary":               {"    canary: {table: public.canary, every: 1h}\n", "", "canary", "public.canary every 1h0m0s", ""},
		"a rarer canary":          {"every: 1h}", "every: 24h}", "canary", "every 1h0m0s", "every 24h0m0s"},
		"a higher budget":         {"    engine:", "    lag_budget: 1h\n    engine:", "lag_budget", "30s", "1h0m0s"},
		"a higher one for all":    {"data_dir:", "lag_budget: 1h\ndata_dir:", "lag_budget", "30s", "1h0m0s"},
		"a higher one of a table": {`["public.*"]`, "[\"public.*\"]\n      overrides: [{table: public.a, lag_budget: 2h}]", "overrides", "", "public.a: lag_budget 2h0m0s"},
		"a column less":           {`["public.*"]`, "[\"public.*\"]\n      overrides: [{table: public.a, exclude_columns: [price]}]", "overrides", "", "public.a: exclude_columns price"},
		"a table excluded":        {`["public.*"]`, "[\"public.*\"]\n      exclude: [\"public.log\"]", "tables", "include public.*", "include public.*; exclude public.log"},
		"no scrubs":               {"    engine:", "    scrub: {every: off}\n    engine:", "scrub", "every 24h0m0s", "every off"},
		"a receiver less":         {"  slack: [{name: ops, url_file: /run/secrets/slack}]\n", "", "receivers", "slack ops", "webhook hook"},
		"a receiver of less":      {"url_file: /run/secrets/slack", "url_file: /run/secrets/slack, match: {severity: [critical], tables: [\"public.a\"]}", "receivers", "slack ops", "slack ops of severity critical of tables public.a"},
		"a receiver elsewhere":    {"T0KEN/path", "T0KEN/nowhere", "receivers", "https://hooks.example", "https://hooks.example"},
		"another Alertmanager":    {"alertmanager:9093", "localhost:9", "receivers", "https://alertmanager:9093", "https://localhost:9"},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(quietConfig, c.old) {
				t.Fatalf("the file does not hold %q", c.old)
			}
			text := quietConfig
			if c.old != "" {
				text = strings.Replace(text, c.old, c.new, 1)
			}
			events := evidence.SilenceChanges(before, settings(text), false, time.Now())
			if c.what == "" {
				if len(events) != 0 {
					t.Errorf("told is %+v", events)
				}
				return
			}
			if len(events) != 1 || events[0].Type != evidence.SilenceChange {
				t.Fatalf("told is %+v", events)
			}
			d := events[0].Data.(evidence.SilenceChangeData)
			was, is := strings.Join(d.Old, "; "), strings.Join(d.New, "; ")
			if d.What != c.what || was == is || !strings.Contains(was, c.was) || !strings.Contains(is, c.is) || (c.is == "") != (is == "") {
				t.Errorf("told is %v", d)
			}
			holdsNoSecret(t, events)
			if back := evidence.SilenceChanges(settings(text), before, false, time.Now()); len(back) != 1 || strings.Join(back[0].Data.(evidence.SilenceChangeData).New, "; ") != was {
				t.Errorf("back, told is %+v", back)
			}
		})
	}
	all := evidence.SilenceChanges(nil, before, true, time.Now())
	var what []string
	for _, e := range all {
		what = append(what, e.Data.(evidence.SilenceChangeData).What)
	}
	if got := strings.Join(what, " "); got != "scrub expected_writes canary receivers" {
		t.Errorf("at the first start is told of %s", got)
	}
	holdsNoSecret(t, all)
}

// A change of the configuration in the middle of a run is told of as one at a start is. Nobody of the group answers.
func TestWhoIsSilencedByAReloadIsRecorded(t *testing.T) {
	const text = `
data_dir: %s
listen: 127.0.0.1:0
audit: {every: 1m, origin: example.org/lockstep}
groups:
  - name: shop
    engine: postgres
    members:
      - {name: eu, dsn: "postgres://u@127.0.0.1:1/a?sslmode=disable"}
      - {name: us, dsn: "postgres://u@127.0.0.1:1/b?sslmode=disable"}
    tables: {include: ["public.*"]}
`
	before := parsed(t, fmt.Sprintf(text, t.TempDir()))
	next := parsed(t, fmt.Sprintf(text, before.DataDir)+"    expected_writes: [{tables: [\"public.local\"]}]\n")
	d, err := daemon.Start(t.Context(), before, daemon.Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	if !d.Changes(next) {
		t.Error("what is expected cannot be changed in place")
	}
	if err := d.Change(t.Context(), next); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	_, entries := verifyLog(t, &cluster.Watched{Config: next})
	var told []string
	for _, e := range entries {
		if e.Type == evidence.SilenceChange {
			var c evidence.SilenceChangeData
			decode(t, e, &c)
			told = append(told, c.String())
		}
	}
	if want := []string{"scrub: was none; is every 24h0m0s", "expected_writes: was none; is public.local"}; !slices.Equal(told, want) {
		t.Errorf("told is %q, want %q", told, want)
	}
}

func holdsNoSecret(t *testing.T, events []evidence.Event) {
	t.Helper()
	text, err := json.Marshal(events)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"hunter2", "T0KEN", "s3cret", "K3Y", "K4Y", "user"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("%s is in %s", secret, text)
		}
	}
}

// As many as there may be: an entry has room for them, so that lockstep starts.
func TestLongSettingsHaveRoomInAnEntry(t *testing.T) {
	long := []evidence.Setting{{Group: "shop", What: "expected_writes"}}
	for range 50_000 {
		long[0].Values = append(long[0].Values, strings.Repeat("x", 100))
	}
	other := []evidence.Setting{{Group: "shop", What: "expected_writes", Values: append(long[0].Values[1:], "y")}}
	events := evidence.SilenceChanges(long, other, false, time.Now())
	if len(events) != 1 {
		t.Fatalf("%d are told", len(events))
	}
	sealed, _, err := evidence.Head{}.Seal(events[0])
	if d := events[0].Data.(evidence.SilenceChangeData); err != nil || d.Old[len(d.Old)-1] == d.New[len(d.New)-1] {
		t.Errorf("%d bytes, %v", len(sealed), err)
	}
}
