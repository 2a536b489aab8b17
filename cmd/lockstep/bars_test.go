package main

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/vbauerster/mpb/v8"

	"github.com/lockstep-cdc/lockstep/internal/dbtest"
	"github.com/lockstep-cdc/lockstep/status"
)

// screen is what a terminal was sent.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) shows(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text)
}

// await waits until it shows what the pattern says, and returns its first group.
func (s *screen) await(t *testing.T, pattern string) (found string) {
	t.Helper()
	err := dbtest.WaitFor(t.Context(), pattern, func(context.Context) (bool, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		m := regexp.MustCompile(pattern).FindStringSubmatch(s.text.String())
		if m != nil {
			found = m[1]
		}
		return m != nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A server's estimate may be far too low; the bar stays until the table is read.
func TestBarOutlastsAWrongEstimate(t *testing.T) {
	out := &screen{}
	b := newScanBars(mpb.WithOutput(out), mpb.WithAutoRefresh())
	for _, rows := range []int64{10, 5000, 90_000} {
		b.draw([]status.ScanProgress{{Member: "us-1", Table: "public.orders", Rows: rows, OfRows: 100}})
		want := map[int64]string{10: "10 rows 10 %", 5000: "5000 rows", 90_000: "90000 rows"}[rows]
		err := dbtest.WaitFor(t.Context(), want, func(context.Context) (bool, error) { return out.shows(want), nil })
		if err != nil {
			t.Fatalf("%v in %q", err, out.text.String())
		}
	}
	b.draw(nil)
	b.progress.Wait()
	if !out.shows("us-1 public.orders") {
		t.Errorf("no name in %q", out.text.String())
	}
}
