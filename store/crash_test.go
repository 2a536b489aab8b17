package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/store"
)

// advance writes one batch: rows, and the position that they stand for.
func advance(g *store.Group, to int) error {
	if err := g.SetMember(1, memberAt(cdc.LSN(to))); err != nil {
		return err
	}
	for n := range 3 {
		if err := g.SetRow(space, key(10*to+n), row(to)); err != nil {
			return err
		}
	}
	if err := g.DeleteRow(space, key(10*(to-1))); err != nil {
		return err
	}
	return g.SetInFlight(transaction(cdc.LSN(to), 2))
}

// held checks that a group holds all of its batches up to some position and nothing of a later one; it returns which.
func held(t testing.TB, g *store.Group) int {
	t.Helper()
	saved, err := g.Load()
	must(t, err)
	position, flaw := check(saved, g)
	if flaw != "" {
		t.Fatal(flaw)
	}
	return position
}

func check(saved align.Saved, g *store.Group) (position int, flaw string) {
	if m := saved.Members[1]; m != nil {
		position = int(m.Position.LSN)
	}
	var want, got []string
	for to := 1; to <= position; to++ {
		for n := range 3 {
			if n > 0 || to == position {
				want = append(want, fmt.Sprintf("%s=%x", key(10*to+n), row(to)))
			}
		}
	}
	err := g.Rows(space, nil, nil, func(k digest.Key, v []byte) (bool, error) {
		got = append(got, fmt.Sprintf("%s=%x", k, v))
		return true, nil
	})
	if err != nil || !slices.Equal(got, want) {
		return position, fmt.Sprintf("at position %d the rows are %q, %v, want %q", position, got, err, want)
	}
	if len(saved.InFlight) != position {
		return position, fmt.Sprintf("at position %d there are %d transactions in flight", position, len(saved.InFlight))
	}
	return position, ""
}

// reopenedAt returns the position at which a store goes on.
func reopenedAt(t testing.TB, fs vfs.FS) int {
	t.Helper()
	s := open(t, fs)
	g := group(t, s, "shop")
	defer end(t, g, s)
	return held(t, g)
}

func TestCommittedBatchesSurviveACrashAndOthersDoNot(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s := open(t, mem)
	g := group(t, s, "shop")
	defer end(t, g, s)
	for to := range 10 {
		if got := reopenedAt(t, mem.CrashClone(vfs.CrashCloneCfg{})); got != to {
			t.Fatalf("after %d commits the crash leaves %d", to, got)
		}
		must(t, advance(g, to+1))
		if g.Uncommitted() == 0 {
			t.Error("nothing seems to wait for the commit")
		}
		if got := reopenedAt(t, mem.CrashClone(vfs.CrashCloneCfg{})); got != to {
			t.Fatalf("a batch that was not committed is there after the crash: %d, want %d", got, to)
		}
		must(t, g.Commit())
	}
}

// However much of what was not synced reaches the disk, and in whatever order, a batch is there as a whole or not at all.
func TestBatchIsWholeOrAbsentAfterACrashAtAnyWrite(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		mem := vfs.NewCrashableMem()
		at := int64(rapid.IntRange(0, 60).Draw(rt, "write"))
		cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: rapid.IntRange(0, 100).Draw(rt, "percent"), RNG: rand.New(rand.NewPCG(1, 1))}
		var count, acknowledged, least atomic.Int64
		var crashed atomic.Pointer[vfs.MemFS]
		var opened atomic.Bool // before, see TestCrashDuringTheFirstStartIsNoObstacle
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && opened.Load() && count.Add(1) == at {
				least.Store(acknowledged.Load())
				crashed.Store(mem.CrashClone(cfg))
			}
			return nil
		}))
		s := open(t, fs)
		opened.Store(true)
		g := group(t, s, "shop")
		begun := 0
		for to := 1; to <= 6 && crashed.Load() == nil; to++ {
			begun = to
			must(t, advance(g, to))
			must(t, g.Commit())
			acknowledged.Store(int64(to))
			if to == 3 {
				must(t, s.ToDisk())
			}
		}
		end(t, g, s)
		if fs := crashed.Load(); fs != nil {
			if got := reopenedAt(t, fs); got < int(least.Load()) || got > begun {
				rt.Fatalf("the crash leaves %d of %d to %d commits", got, least.Load(), begun)
			}
		}
	})
}

// work commits up to four batches on fs, flushing in between, and returns once it is through or something failed. A
// Fatal stops the goroutine that meets it, as it would end the process: such a store can never be closed.
func work(fs vfs.FS) (acknowledged int, err error) {
	var committed atomic.Int64
	failed := make(chan error, 10)
	fatal := func(err error) {
		failed <- err
		select {}
	}
	go func() {
		failed <- func() error {
			s, err := store.Open(dir, store.Options{FS: fs, Cache: 1 << 20, Fatal: fatal})
			if err != nil {
				return err
			}
			g, err := s.Group("shop")
			for to := 1; to <= 4 && err == nil; to++ {
				if err = advance(g, to); err == nil {
					err = g.Commit()
				}
				if err == nil {
					committed.Store(int64(to))
				}
				if err == nil && to == 2 {
					err = s.ToDisk()
				}
			}
			return err
		}()
	}()
	err = <-failed
	return int(committed.Load()), err
}

// writes reports whether a full disk may refuse op.
func writes(op errorfs.Op) bool {
	return op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose && op.Kind != errorfs.OpRemove
}

// Whenever the disk becomes full, what Commit said is durable is there after a crash, and as a whole.
func TestDiskThatBecomesFullLosesNothingThatWasCommitted(t *testing.T) {
	noticed := 0
	for n := int64(1); ; n++ {
		mem := vfs.NewCrashableMem()
		var count atomic.Int64
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if writes(op) && count.Add(1) >= n {
				return syscall.ENOSPC
			}
			return nil
		}))
		acknowledged, err := work(fs)
		if err != nil {
			noticed++
		} else if acknowledged != 4 {
			t.Fatalf("write %d: only %d commits, and no error", n, acknowledged)
		}
		if got := reopenedAt(t, mem.CrashClone(vfs.CrashCloneCfg{})); got < acknowledged {
			t.Fatalf("write %d: the crash leaves %d of %d commits (%v)", n, got, acknowledged, err)
		}
		if count.Load() < n {
			break
		}
	}
	if noticed < 20 {
		t.Errorf("only %d refused writes were noticed", noticed)
	}
}

// Pebble writes what is in its log to a table before it is open, and tried that again for ever.
func TestDiskThatIsFullAtAStartLosesNothingEither(t *testing.T) {
	used := vfs.NewCrashableMem()
	commits, err := work(used)
	must(t, err)
	for acknowledged, before := range map[int]*vfs.MemFS{0: vfs.NewCrashableMem(), commits: used} {
		noticed := 0
		for n := int64(1); ; n++ {
			mem := before.CrashClone(vfs.CrashCloneCfg{})
			var count atomic.Int64
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if writes(op) && count.Add(1) >= n {
					return syscall.ENOSPC
				}
				return nil
			}))
			if err := start(fs); err != nil {
				noticed++
				for _, part := range []string{"data_dir " + dir + " cannot be written to", "no space left on device"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("write %d: it says %q, without %q", n, err, part)
					}
				}
			}
			if got := reopenedAt(t, mem.CrashClone(vfs.CrashCloneCfg{})); got != acknowledged {
				t.Fatalf("write %d: of %d commits there are %d after the start", n, acknowledged, got)
			}
			if count.Load() < n {
				break
			}
		}
		if noticed < 20 {
			t.Errorf("only %d refused writes were noticed", noticed)
		}
	}
}

// start opens a store and closes it, or returns what it said when it ended the process.
func start(fs vfs.FS) error {
	failed := make(chan error, 10)
	go func() {
		s, err := store.Open(dir, store.Options{FS: fs, Cache: 1 << 20, Fatal: func(err error) {
			failed <- err
			select {}
		}})
		if err == nil {
			err = s.Close()
		}
		failed <- err
	}()
	return <-failed
}

const brokenVariable = "LOCKSTEP_TEST_BROKEN"

// brokenDisk makes this process one whose disk is full after the first commit, or from its start if it was there before, if the
// environment says so.
func brokenDisk() bool {
	at := os.Getenv(brokenVariable)
	if at == "" {
		return false
	}
	var full atomic.Bool
	if _, err := os.Stat(at); err == nil {
		full.Store(true)
	}
	s, err := store.Open(at, store.Options{FS: errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.ENOSPC
		}
		return nil
	}))})
	if err != nil {
		panic(err)
	}
	g, err := s.Group("shop")
	for to := 1; to <= 2 && err == nil; to++ {
		if err = advance(g, to); err == nil {
			err = g.Commit()
		}
		full.Store(true)
	}
	panic(fmt.Sprint("the disk is full, and Commit returned ", err))
}

func TestFullDiskEndsTheProcessWithOneLine(t *testing.T) {
	at := filepath.Join(t.TempDir(), "data")
	for _, when := range []string{"while it works", "at the start"} {
		process := exec.Command(os.Args[0])
		process.Env = append(os.Environ(), brokenVariable+"="+at)
		var stderr strings.Builder
		process.Stderr = &stderr
		err := process.Run()
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 3 {
			t.Errorf("%s: the process ends with %v, want exit status 3", when, err)
		}
		line := stderr.String()
		for _, part := range []string{"lockstep: data_dir " + at + " cannot be written to", "no space left on device", "start again"} {
			if !strings.Contains(line, part) {
				t.Errorf("%s: it says %q, without %q", when, line, part)
			}
		}
		if strings.Count(line, "\n") != 1 {
			t.Errorf("%s: it says more than one line: %s", when, line)
		}
	}
	s, err := store.Open(at, store.Options{})
	must(t, err)
	g := group(t, s, "shop")
	if got := held(t, g); got < 1 {
		t.Errorf("%d commits are left, want the first", got)
	}
	end(t, g, s)
}

func TestClosedStoreLeavesNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent() // stores that a test broke
	s := open(t, vfs.NewMem())
	g := group(t, s, "shop")
	must(t, advance(g, 1))
	must(t, g.Commit())
	must(t, s.ToDisk())
	end(t, g, s)
	goleak.VerifyNone(t, before)
}
