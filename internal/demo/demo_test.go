package demo_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/internal/demo"
)

// play runs the demo and requires that lockstep did as it promises.
func play(t *testing.T, o demo.Options) {
	t.Helper()
	var out bytes.Buffer
	o.JSON, o.Out = true, &out
	o.Logger = slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := demo.Run(t.Context(), o)
	if err != nil || !s.OK() {
		t.Fatalf("%+v\n%v\n%s", s, err, out.String())
	}
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	for _, l := range lines {
		var line struct{ Event, Engine string }
		if err := json.Unmarshal(l, &line); err != nil || line.Event == "" || line.Engine != o.Engine.Name {
			t.Errorf("not an event of %s: %s (%v)", o.Engine.Name, l, err)
		}
	}
	var last demo.Summary
	if err := json.Unmarshal(lines[len(lines)-1], &last); err != nil || last != s {
		t.Errorf("the last line is %s (%v), want the summary %+v", lines[len(lines)-1], err, s)
	}
	t.Logf("%+v", s)
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(string(bytes.TrimSpace(b)))
	return len(b), nil
}

// onEachEngine runs a test on all that are installed here.
func onEachEngine(t *testing.T, test func(*testing.T, demo.Engine)) {
	for _, v := range []dbtest.Version{dbtest.PG15, dbtest.PG18} {
		t.Run(v.String(), func(t *testing.T) { test(t, demo.Postgres(dbtest.Need(t, v))) })
	}
	for _, f := range []dbtest.Flavour{dbtest.MariaDB1011, dbtest.MySQL97} {
		t.Run(f.String(), func(t *testing.T) { test(t, demo.MySQL(dbtest.NeedMySQL(t, f))) })
	}
}

// Mixed load and pauses raise no alarm; then everything that is injected is found with exactly its keys. One engine is
// enough to see that the demo plays: TestSoakLoadRaisesNoAlarm plays it on each, and the daemon's tests compare each.
func TestLoadRaisesNoAlarmAndInjectionsAreFoundExactly(t *testing.T) {
	play(t, demo.Options{
		Engine: demo.Postgres(dbtest.Need(t, dbtest.PG18)), Pauses: true, Warmup: 3 * time.Second, LagBudget: 4 * time.Second,
		LargeRows: 500, Breath: 120 * time.Millisecond,
	})
}

// The long form of it, with transactions of up to 100,000 rows.
func TestSoakLoadRaisesNoAlarm(t *testing.T) {
	if !dbtest.Soaking() {
		t.Skip("takes over 10 minutes on each engine: make soak runs it")
	}
	onEachEngine(t, func(t *testing.T, engine demo.Engine) {
		play(t, demo.Options{Engine: engine, Pauses: true, Warmup: 10 * time.Minute, LagBudget: 20 * time.Second, LargeRows: 100_000})
	})
}

func TestDemoWithoutAnEngineIsAnError(t *testing.T) {
	if _, err := demo.Run(t.Context(), demo.Options{}); err == nil {
		t.Error("a demo of nothing was played")
	}
}
