package audit_test

import (
	"archive/zip"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/audit/report"
	"github.com/lockstep-cdc/lockstep/audit/verify"
)

// reported is a report as it is handed out, with its files.
func (d *desk) reported() (archive []byte, files map[string][]byte) {
	d.t.Helper()
	begin := time.Now().UTC()
	d.record(day(begin)...)
	d.close()
	var b bytes.Buffer
	if _, err := audit.Export(d.t.Context(), d.folder(), report.Period{From: begin, To: begin.Add(48 * time.Hour)}, "1.0", &b); err != nil {
		d.t.Fatal(err)
	}
	_, files = d.export(begin, begin.Add(48*time.Hour))
	return b.Bytes(), files
}

func verifyBytes(t testing.TB, key string, b []byte) (*verify.Result, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report.zip")
	write(t, path, b)
	return verify.Archive(t.Context(), path, verify.Options{Key: key, Version: "1.0"})
}

// zipped packs files as other programs do.
func zipped(t testing.TB, names []string, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range names {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write(files[name])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A report was said to pass all checks with another report.html in front of the true one, which an unpacker then leaves
// behind, or with bytes before or after it, which may be a page or a program of their own; and one of 4 MB took 8.8 GB and 10
// minutes before it was looked at who has signed it.
func TestAReportIsHostileUntilItsStatementIsProven(t *testing.T) {
	d := newDesk(t)
	whole, files := d.reported()
	if r, err := verifyBytes(t, d.public(), whole); err != nil || !r.OK() {
		t.Fatal(err, failures(r))
	}
	names := append([]string{verify.StatementFile}, slices.DeleteFunc(slices.Sorted(maps.Keys(files)), func(name string) bool { return name == verify.StatementFile })...)
	forged := maps.Clone(files)
	forged["report.html"] = []byte("<h1>All is well</h1>")
	one := zipped(t, []string{"report.html"}, forged)
	for name, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"packed by another program":          {zipped(t, names, files), "statement.dsse.json does not say before its content how long that is"},
		"a page in front":                    {zipped(t, append([]string{"report.html"}, names...), forged), "it begins with report.html and not with statement.dsse.json"},
		"an archive in front":                {slices.Concat(one, whole), "it begins with report.html and not with statement.dsse.json"},
		"an archive behind":                  {slices.Concat(whole, one), "other bytes lie behind its end"},
		"a page before it":                   {slices.Concat(forged["report.html"], whole), "other bytes lie before its first file"},
		"a page behind it":                   {slices.Concat(whole, forged["report.html"]), "20 other bytes lie behind its end"},
		"cut off":                            {whole[:len(whole)-1], "the end of the directory: it is cut off"},
		"a byte of a content":                {flipped(whole, len(whole)/2), ""},
		"a byte of the statement's checksum": {flipped(whole, 14), "statement.dsse.json has another checksum than its header says"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := verifyBytes(t, d.public(), c.archive)
			if err != nil {
				t.Fatal(err)
			}
			if got := failures(r); r.OK() || failed(r) != 1 || strings.Contains(got, "\n") || !strings.Contains(got, c.want) {
				t.Errorf("verification says %q, want %q", got, c.want)
			}
		})
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// Neither is a log, of which files are read before it is known whether they are what was signed.
func TestFilesOfALogAreNoLongerThanTheyMayBe(t *testing.T) {
	d := newDesk(t)
	d.note(time.Now())
	d.close()
	huge := func(t *testing.T, path string) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, path, nil)
		if err := os.Truncate(path, 1<<40); err != nil { // without a byte on the disk
			t.Fatal(err)
		}
	}
	for name, attack := range map[string]func(t *testing.T, path string){
		"huge": huge,
		"a pipe": func(t *testing.T, path string) {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			_ = os.Remove(path)
			if err := syscall.Mkfifo(path, 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"endless": func(t *testing.T, path string) {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			_ = os.Remove(path)
			if err := os.Symlink("/dev/zero", path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for _, file := range []string{"checkpoint", "tile/0/000.p/2", "tile/entries/000.p/2", "checkpoints/x"} {
			t.Run(name+" "+file, func(t *testing.T) {
				log := filepath.Join(t.TempDir(), "log")
				if err := os.CopyFS(log, os.DirFS(filepath.Join(d.folder(), "log"))); err != nil {
					t.Fatal(err)
				}
				attack(t, filepath.Join(log, file))
				r, err := verify.Log(t.Context(), log, verify.Options{Key: d.public()})
				if err != nil {
					t.Fatal(err)
				}
				if got := failures(r); r.OK() || !strings.Contains(got, "more than the") && !strings.Contains(got, "is no regular file") {
					t.Errorf("verification says %q", got)
				}
			})
		}
		t.Run(name+" proof", func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "proof.json")
			attack(t, path)
			if r, err := verify.Range(path, verify.Options{Key: d.public()}); err == nil {
				t.Errorf("verification says %q", failures(r))
			}
		})
	}
}

// What comes out of a file that is not proven is printed, and must not be obeyed.
func TestWhatIsWrongIsNothingThatATerminalObeys(t *testing.T) {
	d := newDesk(t)
	d.note(time.Now())
	d.close()
	entries(t, entryFile(t, d), func(list [][]byte) [][]byte {
		list[1] = bytes.Replace(list[1], []byte(`"prev":"`), []byte(`"prev":"\u001b[2J`), 1)
		return list
	})
	r := d.verify(verify.Options{})
	for _, c := range r.Checks {
		if strings.ContainsAny(c.Detail, "\x1b\n") {
			t.Errorf("%q", c.Detail)
		}
	}
	if r.OK() {
		t.Error("it passes")
	}
}

// sameKey has each process of a fuzz run sign with the same key.
func sameKey(t testing.TB, dir string) {
	t.Helper()
	const name, kind = "example.org/lockstep", "\x01" // Ed25519: https://c2sp.org/signed-note
	seed := make([]byte, ed25519.SeedSize)
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	hash := sha256.Sum256([]byte(name + "\n" + kind + string(public)))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	key := fmt.Sprintf("PRIVATE+KEY+%s+%x+%s\n", name, hash[:4], base64.StdEncoding.EncodeToString(append([]byte(kind), seed...)))
	if err := os.WriteFile(filepath.Join(dir, "log.key"), []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
}

// FuzzArchive looks for bytes that pass as a report and hold something else than what was signed.
func FuzzArchive(f *testing.F) {
	d := &desk{t: f, dir: f.TempDir()}
	sameKey(f, d.folder())
	d.open()
	whole, files := d.reported()
	f.Add(whole)
	f.Add(slices.Concat(whole, whole))
	f.Add(zipped(f, slices.Sorted(maps.Keys(files)), files))
	public := d.public()
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := verifyBytes(t, public, b)
		if err != nil || !r.OK() {
			return
		}
		files := unzipped(t, b)
		var e dsse.Envelope
		var s verify.Statement
		if err := json.Unmarshal(files[verify.StatementFile], &e); err != nil {
			t.Fatal(err)
		}
		payload, err := e.DecodeB64Payload()
		if err != nil || json.Unmarshal(payload, &s) != nil || len(s.Subject)+1 != len(files) {
			t.Fatalf("%d files by a statement of %d (%v)", len(files), len(s.Subject), err)
		}
		for _, subject := range s.Subject {
			if verify.Digest(files[subject.Name])["sha256"] != subject.Digest["sha256"] {
				t.Fatalf("%s is another one than was signed", subject.Name)
			}
		}
	})
}
