package demo_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"testing"
	"time"

	"lockstep/internal/dbtest"
	"lockstep/internal/demo"
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
		if !json.Valid(l) {
			t.Errorf("not a JSON object: %s", l)
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

// Mixed load and pauses raise no alarm; then everything that is injected is found with exactly its keys.
func TestLoadRaisesNoAlarmAndInjectionsAreFoundExactly(t *testing.T) {
	for _, v := range []dbtest.Version{dbtest.PG15, dbtest.PG18} {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			play(t, demo.Options{Install: dbtest.Need(t, v), Pauses: true, Warmup: 12 * time.Second, LagBudget: 3 * time.Second})
		})
	}
}

// The long form of it, with transactions of up to 100,000 rows.
func TestSoakLoadRaisesNoAlarm(t *testing.T) {
	if os.Getenv("LOCKSTEP_SOAK") == "" {
		t.Skip("takes over 10 minutes: make soak runs it")
	}
	play(t, demo.Options{Install: dbtest.Need(t, dbtest.PG15), Pauses: true, Warmup: 10 * time.Minute, LagBudget: 20 * time.Second, LargeRows: 100_000})
}
