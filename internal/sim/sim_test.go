package sim

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/internal/bubble"
)

// What a run is about: SEED and N are the first seed and how many, STEPS how many actions a history has, MINUTES how long
// to go on with fresh seeds; TRACE prints all of a history that fails, as it was.
const (
	fixedSeeds = 3 // that every run of the tests plays
	freshSeeds = 2 // that no run before has had
	stepsEach  = 60
	reported   = 3 // failures that are made as short as they go
)

func setting(name string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}

// one plays a history in a bubble of its own.
func one(t *testing.T, h history, out io.Writer) (r result) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) { r = play(t.Context(), h, out) })
	return r
}

// totals are what many histories came to.
type totals struct {
	mu      sync.Mutex
	n       int
	lived   time.Duration
	crashes int
	steps   int
	drawn   map[string]int
	failed  []uint64
}

func (a *totals) add(seed uint64, r result) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n++
	a.lived += r.lived
	a.crashes += r.crashes
	a.steps += r.steps
	for name, n := range r.drawn {
		a.drawn[name] += n
	}
	if len(r.failed) > 0 {
		a.failed = append(a.failed, seed)
	}
}

func (a *totals) print(t *testing.T, took time.Duration) {
	t.Helper()
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(a.drawn)) {
		if i%3 == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "  %-32s %7d", name, a.drawn[name])
	}
	t.Logf("%d histories, %d steps, %v of virtual time, %d crashes, %d with violations, in %v; drawn:%s",
		a.n, a.steps, a.lived.Round(time.Second), a.crashes, len(a.failed), took.Round(time.Second), b.String())
}

// many plays histories side by side until seeds yields no more.
func many(t *testing.T, length int, seeds func() (uint64, bool)) *totals {
	t.Helper()
	all := &totals{drawn: make(map[string]int)}
	var next sync.Mutex
	t.Run("histories", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("side by side", func(t *testing.T) {
				t.Parallel()
				for {
					next.Lock()
					seed, more := seeds()
					next.Unlock()
					if !more {
						return
					}
					h := draw(seed, length)
					var out bytes.Buffer
					r := one(t, h, tracing(&out))
					all.add(seed, r)
					if len(r.failed) > 0 && out.Len() > 0 {
						t.Errorf("seed %d: %s\n%s", seed, strings.Join(r.failed, "\n"), out.String())
					} else if len(r.failed) > 0 && len(all.failed) <= reported {
						report(t, h, r)
					} else if len(r.failed) > 0 {
						t.Errorf("seed %d: %s", seed, strings.Join(r.failed, "\n"))
					}
				}
			})
		}
	})
	return all
}

// tracing returns out if TRACE is set, and else nil.
func tracing(out *bytes.Buffer) io.Writer {
	if os.Getenv("TRACE") == "" {
		return nil
	}
	return out
}

// report prints a history that failed, made as short as it goes, and where it is kept as a regression.
func report(t *testing.T, h history, r result) {
	t.Helper()
	t.Errorf("seed %d: %s", h.seed, strings.Join(r.failed, "\n"))
	short := minimise(t, h)
	var out bytes.Buffer
	again := one(t, short, &out)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if n := len(lines); n > 60 {
		lines = lines[n-60:]
	}
	t.Logf("seed %d comes down to %d of %d steps (%s):\n%s\n\nTo keep it, put this into testdata/regressions with its story:\n%s",
		h.seed, len(short.steps), len(h.steps), strings.Join(again.failed, "; "), strings.Join(lines, "\n"), short)
}

// minimise takes steps out of a history as long as it fails. What goroutines do at one moment is not in the seed, so each
// attempt has three tries.
func minimise(t *testing.T, h history) history {
	t.Helper()
	fails := func(steps []step) bool {
		for range 3 {
			if len(one(t, history{seed: h.seed, steps: steps}, nil).failed) > 0 {
				return true
			}
		}
		return false
	}
	for size := max(len(h.steps)/2, 1); size > 0; size /= 2 {
		for at := 0; at < len(h.steps); {
			without := slices.Concat(h.steps[:at], h.steps[min(at+size, len(h.steps)):])
			if fails(without) {
				h.steps = without
			} else {
				at += size
			}
		}
	}
	return h
}

func TestHistories(t *testing.T) {
	began := time.Now()
	first, n := setting("SEED", 1), setting("N", fixedSeeds)
	fresh, end := uint64(began.UnixNano()), time.Time{}
	left := setting("FRESH", freshSeeds)
	if m := setting("MINUTES", 0); m > 0 {
		end = began.Add(time.Duration(m) * time.Minute)
	} else if os.Getenv("N") != "" || os.Getenv("SEED") != "" {
		left = 0
	}
	seed, last := first, first
	all := many(t, int(setting("STEPS", stepsEach)), func() (uint64, bool) {
		switch {
		case seed < first+n:
			seed++
			return seed - 1, true
		case left > 0, time.Now().Before(end):
			left = max(left, 1) - 1
			fresh++
			last = fresh
			return fresh, true
		}
		return 0, false
	})
	all.print(t, time.Since(began))
	if all.n < 300 {
		return // too few for the rare ones
	}
	for _, a := range actions {
		if a.weighs(last) > 0 && all.drawn[a.name] == 0 || changesPlan[a.name] && all.drawn[a.name+inPlace] == 0 {
			t.Errorf("action %q was never carried out in %d histories, or never in place", a.name, all.n)
		}
	}
}

func TestRegressions(t *testing.T) {
	for name, h := range regressions(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			r := one(t, h, &out)
			if os.Getenv("TRACE") != "" {
				t.Log(out.String())
			}
			if len(r.failed) > 0 {
				t.Errorf("%s\n%s", strings.Join(r.failed, "\n"), out.String())
			}
		})
	}
}

// regressions are the histories that failed once, by what each is about. Each file has its story.
func regressions(t *testing.T) map[string]history {
	t.Helper()
	files, err := filepath.Glob("testdata/regressions/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no regressions: %v", err)
	}
	all := make(map[string]history)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		h, err := parseHistory(string(text))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".txt")] = h
	}
	return all
}
