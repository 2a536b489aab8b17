package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a mutant is given: so many histories with seeds that are the same in every run, then fresh ones, until it is dead or a
// minute of a processor's time is over.
const (
	mutantSeeds = 20
	mutantTime  = time.Minute
	mutantWait  = 10 * time.Minute // on the wall, for one that hangs
)

// root is the module's folder.
const root = "../.."

// mutate returns a file with the fault in it.
func (m *mutant) mutate() ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return nil, err
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		return nil, fmt.Errorf("%s has %q %d times: say what it is now", m.file, m.old, n)
	}
	return []byte(strings.Replace(string(text), m.old, m.text, 1)), nil
}

func TestMutantsCanBePlanted(t *testing.T) {
	names := make(map[string]bool)
	for _, m := range mutants {
		text, err := m.mutate()
		if err == nil {
			_, err = parser.ParseFile(token.NewFileSet(), m.file, text, parser.SkipObjectResolution)
		}
		if err != nil || names[m.name] || m.effect == "" {
			t.Errorf("mutant %q: its name or effect, or: %v", m.name, err)
		}
		names[m.name] = true
	}
}

// violations plays the history of a seed and returns what lockstep did that it must not.
func violations(t *testing.T, seed uint64) []string {
	t.Helper()
	return one(t, draw(seed, int(setting("STEPS", stepsEach))), nil).failed
}

// TestUntilViolation is what [TestMutants] runs of a binary with a fault in it: what was kept, then other histories, until there
// is a violation or the time is over. With SEED it plays that one only.
func TestUntilViolation(t *testing.T) {
	if os.Getenv("UNTIL_VIOLATION") == "" {
		t.Skip("it is run by TestMutants")
	}
	if setting("FROM", 1) == 1 && setting("SEED", 0) == 0 {
		for name, h := range regressions(t) {
			fmt.Printf("history 0 seed 0\n")
			if failed := one(t, h, nil).failed; len(failed) > 0 {
				fmt.Printf("violation: %s: %s\n", name, strings.Join(strings.Fields(failed[0]), " "))
				return
			}
		}
	}
	fresh := uint64(time.Now().UnixNano())
	for n := setting("FROM", 1); processorTime() < mutantTime; n++ {
		seed := n
		if only := setting("SEED", 0); only > 0 {
			seed = only
		} else if n > mutantSeeds {
			seed = fresh + n
		}
		fmt.Printf("history %d seed %d\n", n, seed)
		if failed := violations(t, seed); len(failed) > 0 {
			fmt.Printf("violation: %s\n", strings.Join(strings.Fields(failed[0]), " "))
			return
		}
		if os.Getenv("SEED") != "" {
			return
		}
	}
}

// processorTime is what this process has used. A machine that does other things beside gives a mutant no less of a chance.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fate is what became of a mutant.
type fate struct {
	killed    string // by what; empty: it survived
	histories int
	seed      uint64
	took      time.Duration
}

// TestMutants plants the faults, one after another in a simulation of its own, and sees each killed. MUTANTS=all, or a part of
// the names.
func TestMutants(t *testing.T) {
	which := os.Getenv("MUTANTS")
	if which == "" {
		t.Skip("it takes a while: make mutants")
	}
	sound := filepath.Join(t.TempDir(), "sound")
	if err := build(t.Context(), sound, nil); err != nil {
		t.Fatal(err)
	}
	fates := make([]*fate, len(mutants))
	t.Run("planted", func(t *testing.T) {
		for i, m := range mutants {
			if which != "all" && !strings.Contains(m.name, which) {
				continue
			}
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				f, err := m.hunt(t.Context(), t.TempDir(), sound)
				if err != nil {
					t.Fatal(err)
				}
				fates[i] = f
				t.Log(row(m, f))
			})
		}
	})
	report := table(fates)
	t.Log(report)
	for i, f := range fates {
		if f != nil && f.killed == "" && mutants[i].lives == "" {
			t.Errorf("%q survived: %s", mutants[i].name, mutants[i].effect)
		}
	}
}

func row(m mutant, f *fate) string {
	by := f.killed
	if by == "" {
		by = "SURVIVED"
	}
	return fmt.Sprintf("%-72s %4d %6.1fs  %s", m.name, f.histories, f.took.Seconds(), by)
}

// table lists the mutants with the violation that killed each, after how many histories and how many seconds of a processor;
// survivors at the end.
func table(fates []*fate) string {
	var dead, alive []string
	for i, f := range fates {
		switch {
		case f == nil:
		case f.killed != "":
			dead = append(dead, row(mutants[i], f))
		default:
			text := row(mutants[i], f)
			if mutants[i].lives != "" {
				text += ": " + mutants[i].lives
			}
			alive = append(alive, text)
		}
	}
	return fmt.Sprintf("%d killed, %d alive\n%s", len(dead), len(alive), strings.Join(slices.Concat(dead, alive), "\n"))
}

// build makes the simulation, with other texts in the place of files.
func build(ctx context.Context, to string, overlay map[string]string) error {
	list, err := json.Marshal(map[string]any{"Replace": overlay})
	if err == nil {
		err = os.WriteFile(to+".json", list, 0o600)
	}
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "go", "test", "-c", "-ldflags=-s -w", "-overlay", to+".json", "-o", to, ".").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// hunt plants a mutant and plays histories until it is dead. What the sound simulation does as well kills nobody.
func (m *mutant) hunt(ctx context.Context, dir, sound string) (*fate, error) {
	text, err := m.mutate()
	if err != nil {
		return nil, err
	}
	file, err := filepath.Abs(filepath.Join(root, m.file))
	if err != nil {
		return nil, err
	}
	planted, sick := filepath.Join(dir, "planted.go"), filepath.Join(dir, "sick")
	if err := os.WriteFile(planted, text, 0o600); err != nil {
		return nil, err
	}
	if err := build(ctx, sick, map[string]string{file: planted}); err != nil {
		return nil, err
	}
	var before time.Duration
	for from := 1; ; {
		f, err := run(ctx, sick, fmt.Sprintf("FROM=%d", from))
		if err != nil {
			return nil, err
		}
		f.took += before
		if f.killed == "" || f.took > mutantTime {
			f.killed = ""
			return f, nil
		}
		if f.seed == 0 {
			return f, nil // a history that was kept: TestRegressions sees that the sound one passes it
		}
		same, err := run(ctx, sound, fmt.Sprintf("SEED=%d", f.seed))
		if err != nil || same.killed == "" {
			return f, err
		}
		from, before = f.histories+1, f.took
	}
}

var (
	began = regexp.MustCompile(`(?m)^history (\d+) seed (\d+)$`)
	ended = regexp.MustCompile(`(?m)^(?:violation|panic|fatal error): (.*)$`)
)

// run plays histories by a simulation, those that env says.
func run(ctx context.Context, binary, env string) (*fate, error) {
	ctx, cancel := context.WithTimeout(ctx, mutantWait)
	defer cancel()
	c := exec.CommandContext(ctx, binary, "-test.run", "^TestUntilViolation$", "-test.timeout", "0")
	c.Env = append(os.Environ(), "UNTIL_VIOLATION=1", "GOMAXPROCS=1", "MUTANTS=", env)
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	f := &fate{took: c.ProcessState.UserTime() + c.ProcessState.SystemTime()}
	if all := began.FindAllSubmatch(out, -1); len(all) > 0 {
		last := all[len(all)-1]
		f.histories, _ = strconv.Atoi(string(last[1]))
		f.seed, _ = strconv.ParseUint(string(last[2]), 10, 64)
	}
	said := ended.FindSubmatch(out)
	switch {
	case said != nil:
		f.killed = string(said[1])
	case ctx.Err() != nil:
		f.killed = "it does not come to an end"
	case err != nil:
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	return f, nil
}
