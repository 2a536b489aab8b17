package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/lockstep-cdc/lockstep/store"
)

// refused opens the store in dir, which must fail with one line that holds all of parts.
func refused(t *testing.T, dir string, o store.Options, parts ...string) {
	t.Helper()
	s, err := store.Open(dir, o)
	if err == nil {
		must(t, s.Close())
		t.Fatal("the store opens")
	}
	for _, part := range append(parts, dir) {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error is %q, without %q", err, part)
		}
	}
	for _, flaw := range []string{"\n", "%!", "<nil>", "pebble: "} {
		if strings.Contains(err.Error(), flaw) {
			t.Errorf("the error is %q, with %q", err, flaw)
		}
	}
}

func TestSecretStaysAndIsTheOwnersOnly(t *testing.T) {
	at := filepath.Join(t.TempDir(), "made", "here")
	old := syscall.Umask(0)
	first, err := store.Open(at, store.Options{})
	syscall.Umask(old)
	must(t, err)
	must(t, first.Close())
	second, err := store.Open(at, store.Options{})
	must(t, err)
	must(t, second.Close())
	if first.Secret() != second.Secret() || first.Secret() == [32]byte{} {
		t.Error("the secret changed over a restart, or is none")
	}
	for name, want := range map[string]fs.FileMode{"digest.key": 0o600, ".": 0o700} {
		info, err := os.Stat(filepath.Join(at, name))
		must(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("the mode of %s is %v, want %v", name, info.Mode().Perm(), want)
		}
	}
	left, err := filepath.Glob(filepath.Join(at, "*.new"))
	if err != nil || len(left) != 0 {
		t.Errorf("%q is left behind", left)
	}
}

func TestStoresHaveSecretsOfTheirOwn(t *testing.T) {
	a, b := open(t, vfs.NewMem()), open(t, vfs.NewMem())
	if a.Secret() == b.Secret() {
		t.Error("two stores have one secret")
	}
	must(t, a.Close())
	must(t, b.Close())
}

func TestStoreWithoutItsSecretIsRefused(t *testing.T) {
	at := t.TempDir()
	s, err := store.Open(at, store.Options{})
	must(t, err)
	end(t, group(t, s, "shop"), s)
	must(t, os.Rename(filepath.Join(at, "digest.key"), filepath.Join(at, "kept")))
	refused(t, at, store.Options{}, "digest.key is missing", "restore it", "move the directory away")
	must(t, os.Rename(filepath.Join(at, "kept"), filepath.Join(at, "digest.key")))
	s, err = store.Open(at, store.Options{})
	must(t, err)
	must(t, s.Close())
}

// One bit of the key flipped, and the next scrub counted nearly all rows as changed without a trace.
func TestAnotherSecretIsRefused(t *testing.T) {
	at := t.TempDir()
	s, err := store.Open(at, store.Options{})
	must(t, err)
	must(t, s.Close())
	path := filepath.Join(at, "digest.key")
	key, err := os.ReadFile(path)
	must(t, err)
	key[7] ^= 1
	must(t, os.WriteFile(path, key, 0o600))
	refused(t, at, store.Options{}, "digest.key is not the key that its digests were made with", "restore it", "move the directory away")
	key[7] ^= 1
	must(t, os.WriteFile(path, key, 0o600))
	s, err = store.Open(at, store.Options{})
	must(t, err)
	must(t, s.Close())
}

func TestSecretOfAnotherSizeIsRefused(t *testing.T) {
	for _, size := range []int{0, 31, 33} {
		at := t.TempDir()
		must(t, os.WriteFile(filepath.Join(at, "digest.key"), make([]byte, size), 0o600))
		refused(t, at, store.Options{}, "digest.key has", "not 32", "restore it")
	}
}

// At every moment of the first start a crash leaves a directory that the next start makes do with.
func TestCrashDuringTheFirstStartIsNoObstacle(t *testing.T) {
	for n := range 200 {
		mem := vfs.NewCrashableMem()
		crashed := (*vfs.MemFS)(nil)
		count := 0
		injector := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
				if count == n && crashed == nil {
					crashed = mem.CrashClone(vfs.CrashCloneCfg{})
				}
				count++
			}
			return nil
		})
		s := open(t, errorfs.Wrap(mem, injector))
		must(t, s.Close())
		if crashed == nil {
			return
		}
		after := open(t, crashed)
		must(t, after.Close())
	}
	t.Error("the first start takes more than 200 writes")
}

func TestNewerFormatIsRefused(t *testing.T) {
	mem := vfs.NewMem()
	s := open(t, mem)
	must(t, s.SetFormat([]byte{0, 0, 0, store.Format + 1}))
	must(t, s.Close())
	refused(t, dir, store.Options{FS: mem}, "written by a newer lockstep", "format 3", "run that version")
}

func TestFormatThatIsNoneIsRefused(t *testing.T) {
	for _, b := range [][]byte{{}, {1}, {0, 0, 0, 0}, []byte("newer")} {
		mem := vfs.NewMem()
		s := open(t, mem)
		must(t, s.SetFormat(b))
		must(t, s.Close())
		refused(t, dir, store.Options{FS: mem}, "is damaged", "move it away")
	}
}

func TestDirectoryThatCannotBeMadeIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	refused(t, filepath.Join(file, "data"), store.Options{}, "choose a directory that lockstep may write to")
}

// Once this was taken for a directory that is in use.
func TestDirectoryOfSomebodyElseIsRefused(t *testing.T) {
	denied := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpLock {
			return &fs.PathError{Op: "open", Path: op.Path, Err: syscall.EACCES}
		}
		return nil
	})
	refused(t, dir, store.Options{FS: errorfs.Wrap(vfs.NewMem(), denied)}, "permission denied", "choose a directory that lockstep may write to")
}

const holdVariable = "LOCKSTEP_TEST_HOLD"

// lockHolder makes this process one that holds a data directory until its input ends, if the environment says so.
func lockHolder() bool {
	at := os.Getenv(holdVariable)
	if at == "" {
		return false
	}
	s, err := store.Open(at, store.Options{})
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString("held\n")
	_, err = io.Copy(io.Discard, os.Stdin)
	if err := errors.Join(err, s.Close()); err != nil {
		panic(err)
	}
	return true
}

func TestDirectoryInUseIsRefused(t *testing.T) {
	at := t.TempDir()
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), holdVariable+"="+at)
	holder.Stderr = os.Stderr
	in, err := holder.StdinPipe()
	must(t, err)
	out, err := holder.StdoutPipe()
	must(t, err)
	must(t, holder.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		t.Errorf("the other process says %q, %v", line, err)
	}
	refused(t, at, store.Options{}, "is in use by another lockstep", "stop that one")
	must(t, in.Close())
	must(t, holder.Wait())
	s, err := store.Open(at, store.Options{})
	must(t, err)
	must(t, s.Close())
}

// Groups that started side by side at a first start were given the same number now and then. Those that had members and tables of equal
// names wrote over each other's rows: differences were told that there were none of, and others would not have been found.
func TestGroupsThatStartSideBySideAreNotKeptAsOne(t *testing.T) {
	for range 20 {
		s := open(t, vfs.NewMem())
		groups := make([]*store.Group, 8)
		var starting sync.WaitGroup
		for i := range groups {
			starting.Go(func() {
				g, err := s.Group(fmt.Sprintf("group %d", i))
				if err != nil {
					t.Error(err)
				}
				groups[i] = g
			})
		}
		starting.Wait()
		numbers := make(map[uint16]bool)
		for _, g := range groups {
			numbers[g.Number()] = true
			must(t, g.Close())
		}
		if len(numbers) != len(groups) {
			t.Errorf("%d groups have %d numbers", len(groups), len(numbers))
		}
		must(t, s.Close())
	}
}

// What an earlier lockstep has mixed up so cannot be told apart any more.
func TestGroupsThatAreKeptAsOneAreRefused(t *testing.T) {
	at := t.TempDir()
	s, err := store.Open(at, store.Options{})
	must(t, err)
	must(t, s.SetGroup("north", 1))
	must(t, s.SetGroup("south", 1))
	must(t, s.Close())
	refused(t, at, store.Options{}, "is damaged", "north", "south", "are kept as one", "move it away")
}
