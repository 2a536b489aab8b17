package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/store"
)

// written makes a directory whose store holds n batches, some in tables and some in the log.
func written(t *testing.T, n int) string {
	t.Helper()
	at := t.TempDir()
	s, err := store.Open(at, store.Options{})
	must(t, err)
	g := group(t, s, "shop")
	for to := 1; to <= n; to++ {
		must(t, advance(g, to))
		must(t, g.Commit())
		if to == n/2 {
			must(t, s.ToDisk())
		}
	}
	end(t, g, s)
	return at
}

// readAll opens a store and reads what a group keeps; no error says that all of it was once committed as it is.
func readAll(t *testing.T, at string) (position int, err error) {
	t.Helper()
	type result struct {
		position int
		err      error
	}
	done := make(chan result, 2)
	fatal := func(err error) {
		done <- result{0, err}
		select {}
	}
	go func() {
		position, err := readWith(t, at, store.Options{Fatal: fatal})
		done <- result{position, err}
	}()
	r := <-done
	return r.position, r.err
}

func readWith(t *testing.T, at string, o store.Options) (position int, err error) {
	s, err := store.Open(at, o)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	g, err := s.Group("shop")
	if err != nil {
		return 0, err
	}
	defer g.Close()
	saved, err := g.Load()
	if err != nil {
		return 0, err
	}
	if err := g.Rows(space, nil, nil, func(digest.Key, []byte) (bool, error) { return true, nil }); err != nil {
		return 0, err
	}
	position, flaw := check(saved, g)
	if flaw != "" {
		t.Error(flaw)
	}
	return position, nil
}

// A damaged file is an error that names the way out. Only the end of the log, which looks the same as one that a crash
// cut off, reads as the batches before it, and as whole ones.
func TestDamagedFileIsNeverOtherData(t *testing.T) {
	const batches = 12
	at := written(t, batches)
	files, err := filepath.Glob(filepath.Join(at, "db", "*"))
	must(t, err)
	refused := 0
	for _, path := range files {
		whole, err := os.ReadFile(path)
		must(t, err)
		name := filepath.Base(path)
		if strings.HasPrefix(name, "OPTIONS") || strings.HasPrefix(name, "LOCK") {
			continue
		}
		for offset := 0; offset < len(whole); offset += 1 + len(whole)/12 {
			harmed := filepath.Join(t.TempDir(), "data")
			must(t, os.CopyFS(harmed, os.DirFS(at)))
			b := append([]byte(nil), whole...)
			b[offset] ^= 0x40
			must(t, os.WriteFile(filepath.Join(harmed, "db", name), b, 0o600))
			position, err := readAll(t, harmed)
			switch {
			case err != nil:
				refused++
				for _, part := range []string{harmed, "is damaged", "move it away"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%s, byte %d: the error is %q, without %q", name, offset, err, part)
					}
				}
			case position < batches && !strings.HasSuffix(name, ".log"):
				t.Errorf("%s, byte %d: the store goes on at %d of %d without a word", name, offset, position, batches)
			}
		}
	}
	if refused < 10 {
		t.Errorf("only %d damaged files were refused", refused)
	}
}

func TestFileThatIsGoneIsRefused(t *testing.T) {
	for _, pattern := range []string{"*.sst", "MANIFEST-*", "marker.manifest.*"} {
		at := written(t, 12)
		files, err := filepath.Glob(filepath.Join(at, "db", pattern))
		must(t, err)
		if len(files) == 0 {
			t.Fatalf("there is no %s", pattern)
		}
		for _, path := range files {
			must(t, os.Remove(path))
		}
		position, err := readAll(t, at)
		if err == nil && position < 12 {
			t.Errorf("without %s the store goes on at %d", pattern, position)
		}
		if err != nil && !strings.Contains(err.Error(), "move it away") {
			t.Errorf("without %s the error is %q, which names no way out", pattern, err)
		}
	}
}
