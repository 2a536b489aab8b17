package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestArchiveIsTheSameWhereverItIsMade(t *testing.T) {
	var made [2][]byte
	for i := range made {
		dir := t.TempDir()
		write := func(name, content string) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(content), []os.FileMode{0o600, 0o777}[i]); err != nil {
				t.Fatal(err)
			}
			at := noon.AddDate(i, 0, 0)
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
			return path
		}
		docs := map[string]string{"README.md": write("x", "read me"), "man/lockstep.1": write("y", ".TH"), "completions/_lockstep": write("z", "#compdef")}
		path := filepath.Join(dir, "a.tar.gz")
		if err := writeArchive(path, "lockstep_v1", write("p", "program"), docs, noon); err != nil {
			t.Fatal(err)
		}
		var err error
		if made[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(made[0], made[1]) {
		t.Error("they differ")
	}
	z, err := gzip.NewReader(bytes.NewReader(made[0]))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if want := map[bool]int64{true: 0o755, false: 0o644}[h.Name == "lockstep_v1/lockstep"]; h.Mode != want || !h.ModTime.Equal(noon) || h.Uid+h.Gid != 0 || h.Uname+h.Gname != "" {
			t.Errorf("%+v", h)
		}
	}
	if want := []string{"lockstep_v1/lockstep", "lockstep_v1/README.md", "lockstep_v1/completions/_lockstep", "lockstep_v1/man/lockstep.1"}; !slices.Equal(names, want) {
		t.Errorf("it has %v", names)
	}
}
