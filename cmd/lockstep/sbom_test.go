package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/internal/sbom"
)

// modulesOf is what `go version -m` says of a program: of each module the version and the hash.
func modulesOf(t *testing.T, program string) map[string][2]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "version", "-m", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string][2]string{}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 4 && f[0] == "dep" {
			modules[f[1]] = [2]string{f[2], f[3]}
		} else if len(f) > 0 && f[0] == "=>" {
			t.Errorf("%s: a release is made of no replaced modules", line)
		}
	}
	return modules
}

// The program is this test, which has the modules of lockstep.
func TestEveryModuleOfTheProgramIsListed(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	text, err := sbom.Of(program, "v1.2.3+x", at)
	if err != nil {
		t.Fatal(err)
	}
	again, err := sbom.Of(program, "v1.2.3+x", at)
	if err != nil || !bytes.Equal(text, again) {
		t.Errorf("one program has two lists: %v", err)
	}
	var b sbom.List
	in := json.NewDecoder(bytes.NewReader(text))
	in.DisallowUnknownFields()
	if err := in.Decode(&b); err != nil {
		t.Fatal(err)
	}
	serial := regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	if b.BOMFormat != "CycloneDX" || b.SpecVersion != "1.6" || b.Version != 1 || !serial.MatchString(b.SerialNumber) || !b.Metadata.Timestamp.Equal(at) {
		t.Errorf("the list begins with %+v", b)
	}
	if m := b.Metadata.Component; m.Type != "application" || m.PURL != "pkg:golang/github.com/lockstep-cdc/lockstep@v1.2.3%2Bx" || m.Version != "v1.2.3+x" {
		t.Errorf("it is of %+v", m)
	}
	goSum, err := os.ReadFile("../../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	want := modulesOf(t, program)
	if len(want) < 30 {
		t.Fatalf("the program has only %d modules", len(want))
	}
	refs := map[string]bool{b.Metadata.Component.Ref: true}
	for _, c := range b.Components {
		if refs[c.Ref] || c.Ref != c.PURL || c.Type != "library" {
			t.Errorf("%+v", c)
		}
		refs[c.Ref] = true
		if c.Name == "std" {
			if v := strings.TrimPrefix(runtime.Version(), "go"); c.Version != v || c.PURL != "pkg:golang/std@"+v {
				t.Errorf("the library of Go is %+v", c)
			}
			continue
		}
		m, known := want[c.Name]
		delete(want, c.Name)
		if !known || m[0] != c.Version || c.PURL != "pkg:golang/"+strings.ToLower(c.Name)+"@"+strings.ReplaceAll(c.Version, "+", "%2B") {
			t.Errorf("the program has %s %v, the list %+v", c.Name, m, c)
		}
		if len(c.Hashes) != 1 || c.Hashes[0].Algorithm != "SHA-256" {
			t.Errorf("%s: hashes are %v", c.Name, c.Hashes)
			continue
		}
		content, err := hex.DecodeString(c.Hashes[0].Content)
		line := c.Name + " " + c.Version + " h1:" + base64.StdEncoding.EncodeToString(content) + "\n"
		if err != nil || !bytes.Contains(goSum, []byte(line)) {
			t.Errorf("go.sum has no %s (%v)", line, err)
		}
	}
	if len(want) > 0 {
		t.Errorf("the list lacks %v", slices.Sorted(maps.Keys(want)))
	}
}
