// Package sbom lists what is in a program, for those who look for modules with known faults.
package sbom

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"
)

// The parts of CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/) that are written.
type (
	// List is the list of one program.
	List struct {
		BOMFormat    string        `json:"bomFormat"`
		SpecVersion  string        `json:"specVersion"`
		SerialNumber string        `json:"serialNumber"`
		Version      int           `json:"version"`
		Metadata     metadata      `json:"metadata"`
		Components   []component   `json:"components"`
		Compositions []composition `json:"compositions"`
	}
	metadata struct {
		Timestamp time.Time `json:"timestamp"`
		Component component `json:"component"`
	}
	component struct {
		Type     string    `json:"type"`
		Ref      string    `json:"bom-ref"`
		Name     string    `json:"name"`
		Version  string    `json:"version"`
		PURL     string    `json:"purl"`
		Hashes   []hash    `json:"hashes,omitempty"`
		Licenses []license `json:"licenses,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	license struct {
		License struct {
			ID string `json:"id"`
		} `json:"license"`
	}
	composition struct {
		Aggregate  string   `json:"aggregate"`
		Assemblies []string `json:"assemblies"`
	}
)

// Of lists what is in a program of a version: the modules that the linker put into it, as it says itself (go version -m), and Go's own library.
// The hash of a module is that of go.sum, which proves its files by a list of theirs (https://pkg.go.dev/golang.org/x/mod/sumdb/dirhash).
func Of(program, version string, at time.Time) ([]byte, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	main := componentOf("application", info.Main.Path, version)
	main.Name = "lockstep"
	main.Hashes = []hash{{"SHA-256", hex.EncodeToString(sum[:])}}
	main.Licenses = make([]license, 1)
	main.Licenses[0].License.ID = "Apache-2.0"
	b := List{
		BOMFormat: "CycloneDX", SpecVersion: "1.6", SerialNumber: "urn:uuid:" + uuidOf(sum), Version: 1,
		Metadata:     metadata{at, main},
		Components:   []component{componentOf("library", "std", strings.TrimPrefix(info.GoVersion, "go"))},
		Compositions: []composition{{"complete", []string{main.Ref}}},
	}
	for _, m := range info.Deps {
		c, err := moduleOf(m)
		if err != nil {
			return nil, err
		}
		b.Components = append(b.Components, c)
	}
	text, err := json.MarshalIndent(b, "", "  ")
	return append(text, '\n'), err
}

// moduleOf describes a module. One that stands in for another is the one that was built.
func moduleOf(m *debug.Module) (component, error) {
	if m.Replace != nil {
		m = m.Replace
	}
	c := componentOf("library", m.Path, m.Version)
	sum, ok := strings.CutPrefix(m.Sum, "h1:")
	content, err := base64.StdEncoding.DecodeString(sum)
	if !ok || err != nil || len(content) != sha256.Size {
		return c, fmt.Errorf("module %s %s has no hash in go.sum (%q): a release is made of published modules only", m.Path, m.Version, m.Sum)
	}
	c.Hashes = []hash{{"SHA-256", hex.EncodeToString(content)}}
	return c, nil
}

// componentOf names a module as others do: https://github.com/package-url/purl-spec, where those of Go are written in small letters.
func componentOf(kind, path, version string) component {
	purl := "pkg:golang/" + strings.ToLower(path) + "@" + strings.ReplaceAll(version, "+", "%2B")
	return component{Type: kind, Ref: purl, Name: path, Version: version, PURL: purl}
}

// uuidOf is a UUID of version 8 (RFC 9562, section 5.8), which is that of this program and no other.
func uuidOf(sum [sha256.Size]byte) string {
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	x := hex.EncodeToString(sum[:16])
	return strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")
}
