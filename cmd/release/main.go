// Command release makes the archives of a release: for each platform a program without C, with a list of what is in it. The same
// source, version and Go make the same bytes, wherever and whenever that is.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/internal/sbom"
)

// release is what is to be made.
type release struct {
	version, commit string
	at              time.Time // of the commit: nothing in a release is younger
	into            string    // a folder
	program         string    // the host's own, by which manual pages and completions are written
}

func main() {
	var r release
	flag.StringVar(&r.version, "version", "devel", "what `lockstep version` is to say")
	flag.StringVar(&r.commit, "commit", "unknown", "the commit that is built")
	flag.StringVar(&r.into, "into", "dist", "the folder to write to")
	at := flag.Int64("time", 0, "when the commit was made, in seconds of Unix time")
	platforms := flag.String("platforms", "linux/amd64 linux/arm64 darwin/amd64 darwin/arm64", "what to build for")
	flag.Parse()
	r.at = time.Unix(*at, 0).UTC()
	if err := r.make(context.Background(), strings.Fields(*platforms)); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// make builds all, from the module in the current folder.
func (r *release) make(ctx context.Context, platforms []string) error {
	work, err := os.MkdirTemp("", "lockstep-release-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := r.clean(); err != nil {
		return err
	}
	r.program = filepath.Join(work, "lockstep")
	if err := r.build(ctx, runtime.GOOS+"/"+runtime.GOARCH, r.program); err != nil {
		return err
	}
	if said, err := exec.CommandContext(ctx, r.program, "version").Output(); err != nil || !strings.HasPrefix(string(said), "lockstep "+r.version+", commit "+r.commit+", ") {
		return fmt.Errorf("the program calls itself %q (%v)", said, err)
	}
	docs, err := r.docs(ctx, work)
	if err != nil {
		return err
	}
	var made []string
	for _, platform := range platforms {
		files, err := r.pack(ctx, platform, filepath.Join(work, strings.ReplaceAll(platform, "/", "-")), docs)
		if err != nil {
			return fmt.Errorf("%s: %w", platform, err)
		}
		made = append(made, files...)
	}
	return r.sums(made)
}

// clean takes an earlier release away, so that none of it is taken for a part of this one.
func (r *release) clean() error {
	for _, pattern := range []string{"*.tar.gz", "*.cdx.json", sumsFile} {
		old, err := filepath.Glob(filepath.Join(r.into, pattern))
		if err != nil {
			return err
		}
		for _, name := range old {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	return os.MkdirAll(r.into, 0o755)
}

// build makes the program. All that shapes it is said here, and not taken from the environment.
func (r *release) build(ctx context.Context, platform, out string) error {
	goos, arch, ok := strings.Cut(platform, "/")
	if !ok {
		return fmt.Errorf("platform %q: want one like linux/amd64", platform)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-tags=pebblegozstd",
		"-ldflags=-s -w -X main.version="+r.version+" -X main.commit="+r.commit, "-o", out, "./cmd/lockstep")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off")
	return run(cmd)
}

// docs are what comes with every program, by their names in the archive.
func (r *release) docs(ctx context.Context, work string) (map[string]string, error) {
	docs := map[string]string{}
	for _, name := range []string{"README.md", "LICENSE", "CHANGELOG.md"} {
		docs[name] = name
	}
	man := filepath.Join(work, "man")
	cmd := exec.CommandContext(ctx, r.program, "man", man)
	cmd.Env = append(os.Environ(), fmt.Sprint("SOURCE_DATE_EPOCH=", r.at.Unix()))
	if err := run(cmd); err != nil {
		return nil, err
	}
	pages, err := os.ReadDir(man)
	if err != nil {
		return nil, err
	}
	for _, page := range pages {
		docs["man/"+page.Name()] = filepath.Join(man, page.Name())
	}
	for shell, name := range map[string]string{"bash": "lockstep.bash", "zsh": "_lockstep", "fish": "lockstep.fish"} {
		text, err := exec.CommandContext(ctx, r.program, "completion", shell).Output()
		if err != nil {
			return nil, fmt.Errorf("completion for %s: %w", shell, err)
		}
		file := filepath.Join(work, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return nil, err
		}
		docs["completions/"+name] = file
	}
	return docs, nil
}

// pack makes one platform's archive and list, and returns their names.
func (r *release) pack(ctx context.Context, platform, program string, docs map[string]string) ([]string, error) {
	name := fmt.Sprintf("lockstep_%s_%s", r.version, strings.ReplaceAll(platform, "/", "_"))
	if err := r.build(ctx, platform, program); err != nil {
		return nil, err
	}
	list, err := sbom.Of(program, r.version, r.at)
	if err != nil {
		return nil, err
	}
	archive, inside := name+".tar.gz", name+".cdx.json"
	if err := os.WriteFile(filepath.Join(r.into, inside), list, 0o644); err != nil {
		return nil, err
	}
	return []string{archive, inside}, writeArchive(filepath.Join(r.into, archive), name, program, docs, r.at)
}

// sumsFile is as sha256sum writes and checks it.
const sumsFile = "SHA256SUMS"

func (r *release) sums(names []string) error {
	slices.Sort(names)
	var text strings.Builder
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(r.into, name))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		fmt.Fprintf(&text, "%s  %s\n", hex.EncodeToString(sum[:]), name)
	}
	return os.WriteFile(filepath.Join(r.into, sumsFile), []byte(text.String()), 0o644)
}

func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", filepath.Base(cmd.Path), err), errors.New(string(out)))
	}
	return nil
}
