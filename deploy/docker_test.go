package deploy_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ignored are the patterns of .dockerignore: of a file's own path, or after **/ of its name or a folder's.
func ignored(t *testing.T) func(file string) bool {
	t.Helper()
	text, err := os.ReadFile("../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	var patterns []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			patterns = append(patterns, line)
		}
	}
	return func(file string) bool {
		parts := strings.Split(file, "/")
		return slices.ContainsFunc(patterns, func(pattern string) bool {
			name, anywhere := strings.CutPrefix(pattern, "**/")
			if !anywhere {
				ok, _ := path.Match(pattern, parts[0])
				return ok
			}
			return slices.ContainsFunc(parts, func(part string) bool { ok, _ := path.Match(name, part); return ok })
		})
	}
}

func TestTheImageIsBuiltFromAllThatItNeedsAndNothingOfTheMachine(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=Dir,Module,GoFiles,EmbedFiles", "../cmd/lockstep").Output()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	needed := []string{"go.mod", "go.sum"}
	for in := json.NewDecoder(strings.NewReader(string(out))); in.More(); {
		var p struct {
			Dir                 string
			Module              *struct{ Main bool }
			GoFiles, EmbedFiles []string
		}
		if err := in.Decode(&p); err != nil {
			t.Fatal(err)
		}
		if p.Module == nil || !p.Module.Main {
			continue
		}
		folder, err := filepath.Rel(root, p.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range slices.Concat(p.GoFiles, p.EmbedFiles) {
			needed = append(needed, path.Join(filepath.ToSlash(folder), file))
		}
	}
	if len(needed) < 100 {
		t.Fatalf("only %d files are needed", len(needed))
	}
	match := ignored(t)
	for _, file := range needed {
		if match(file) {
			t.Errorf("%s is not there when the image is built", file)
		}
	}
	for _, file := range []string{".git/config", "lockstep-data/digest.key", "audit/log.key", "server.pem", "bin/lockstep", "dist/SHA256SUMS", "web/web_test.go", "cdc/mysql/testdata/jsonb.txt"} {
		if !match(file) {
			t.Errorf("%s gets into a layer", file)
		}
	}
}
