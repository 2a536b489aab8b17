package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/audit/witness"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/store"
)

// auditLog writes a small log into a data_dir and returns a configuration of it.
func auditLog(t *testing.T, more ...evidence.Event) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := audit.Open(t.Context(), audit.Options{Dir: filepath.Join(dir, "audit"), Origin: "example.org/lockstep", Interval: 100 * time.Millisecond}, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range append([]evidence.Event{{Type: evidence.Stop, Time: time.Now(), Data: struct{}{}}}, more...) {
		if err := s.Record(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Run(ended()); err != nil {
		t.Fatal(err)
	}
	for _, close := range []func() error{l.Close, s.Close} {
		if err := close(); err != nil {
			t.Fatal(err)
		}
	}
	file = filepath.Join(t.TempDir(), "lockstep.yaml")
	yaml := "data_dir: " + dir + "\naudit: {}\ngroups:\n  - name: shop\n    engine: postgres\n    members:\n" +
		"      - {name: a, dsn: \"postgres://x@a/x\"}\n      - {name: b, dsn: \"postgres://x@b/x\"}\n    tables: {include: [\"public.*\"]}\n"
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

func ended() context.Context {
	ctx, end := context.WithCancel(context.Background())
	end()
	return ctx
}

func TestAuditLogIsVerifiedFromItsFilesAndItsKey(t *testing.T) {
	dir, file := auditLog(t)
	log := filepath.Join(dir, "audit", "log")
	code, key, stderr := lockstep(t, "audit", "key", "-c", file)
	if code != exitInStep || !strings.HasPrefix(key, "example.org/lockstep+") {
		t.Fatalf("exit code %d, %q %q", code, key, stderr)
	}
	vkey := filepath.Join(t.TempDir(), "log.vkey")
	if err := os.WriteFile(vkey, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := lockstep(t, "audit", "verify", log, "--key", vkey, "--seen", filepath.Join(log, "checkpoint"))
	if code != exitInStep || strings.Count(stdout, "PASS") != 8 || !strings.Contains(stdout, "example.org/lockstep, entries 0 to 1, ") {
		t.Errorf("exit code %d, %q %q", code, stdout, stderr)
	}
	zip := filepath.Join(t.TempDir(), "report.zip")
	code, stdout, stderr = lockstep(t, "audit", "report", "-c", file, "--from", time.Now().Add(-24*time.Hour).Format(time.DateOnly), "--output", zip)
	if code != exitInStep || !strings.Contains(stdout, zip+": entries 0 to 1; lockstep ran for 0.00 % of the period; 0 divergences opened, 0 resolved, 0 open\n") {
		t.Errorf("exit code %d, %q %q", code, stdout, stderr)
	}
	if !strings.Contains(stderr, "warning: the audit log does not say who has taken this report: no lockstep answers at") {
		t.Errorf("without a lockstep it says %q", stderr)
	}
	if code, stdout, stderr = lockstep(t, "audit", "verify", zip, "--key", vkey); code != exitInStep || strings.Count(stdout, "PASS") != 8 {
		t.Errorf("exit code %d, %q %q", code, stdout, stderr)
	}
	bundle := filepath.Join(log, "tile/entries/000.p/2")
	b, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bundle, []byte(strings.Replace(string(b), `"stop"`, `"stap"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ = lockstep(t, "audit", "verify", log, "--key", vkey, "-o", "json")
	var r verify.Result
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != exitDiverged || r.OK() {
		t.Errorf("exit code %d, %q %v", code, stdout, err)
	}
	if code, stdout, _ = lockstep(t, "audit", "verify", log, "--key", vkey); code != exitDiverged || !strings.Contains(stdout, "FAIL") || !strings.Contains(stdout, "entry 1 is not the one") {
		t.Errorf("exit code %d, %q", code, stdout)
	}
}

// Of a log that nothing proves it was said that it has entries 0 to 18446744073709551615.
func TestALogOfWhichNothingIsProvenHasNoEntriesThatNobodyHasSeen(t *testing.T) {
	dir, _ := auditLog(t)
	other, _ := auditLog(t)
	log, vkey := filepath.Join(dir, "audit", "log"), filepath.Join(other, "audit", "log.vkey")
	code, stdout, _ := lockstep(t, "audit", "verify", log, "--key", vkey)
	if code != exitDiverged || !strings.Contains(stdout, "\nexample.org/lockstep, entries 0 to 1, ") {
		t.Errorf("by another key: exit code %d, %q", code, stdout)
	}
	for _, gone := range []string{"tile/entries/000.p/2", "checkpoint"} {
		if err := os.Remove(filepath.Join(log, gone)); err != nil {
			t.Fatal(err)
		}
		if code, stdout, _ = lockstep(t, "audit", "verify", log, "--key", vkey); code != exitDiverged || !strings.HasSuffix(stdout, "\nexample.org/lockstep, no entries\n") {
			t.Errorf("without %s: exit code %d, %q", gone, code, stdout)
		}
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A witness, as a command, and a log that it cosigns.
func TestAWitnessCosignsALogAsCommand(t *testing.T) {
	dir, file := auditLog(t)
	log, folder := filepath.Join(dir, "audit", "log"), filepath.Join(t.TempDir(), "witness")
	_, key, _ := lockstep(t, "audit", "key", "-c", file)
	vkey := writeFile(t, "log.vkey", key)
	ctx, end := context.WithCancel(t.Context())
	out, messages, ended := &screen{}, &screen{}, make(chan error, 1)
	f := witnessFlags{dir: folder, name: "example.org/witness", listen: "127.0.0.1:0", logs: []string{vkey}}
	go func() { ended <- f.run(ctx, out, messages) }()
	address := messages.await(t, `msg="the witness listens" listen=(\S+)`)
	witnessKey := writeFile(t, "witness.vkey", out.await(t, `(?m)^(example\.org/witness\+\S+)$`))
	k, err := witness.ParseKey(string(mustRead(t, witnessKey)))
	if err != nil {
		t.Fatal(err)
	}
	c := witness.Client{URL: "http://" + address, Key: k}
	cosigned, err := c.Cosign(t.Context(), mustRead(t, filepath.Join(log, "checkpoint")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if code, stdout, _ := lockstep(t, "audit", "verify", log, "--key", vkey, "--witness-key", witnessKey); code != exitDiverged || !strings.Contains(stdout, "there are none") {
		t.Errorf("before it is kept: exit code %d, %q", code, stdout)
	}
	at := verify.Cosigned{Size: 2, By: k.ID()}
	if err := os.MkdirAll(filepath.Dir(filepath.Join(log, at.Name())), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(log, at.Name()), cosigned, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := lockstep(t, "audit", "verify", log, "--key", vkey, "--witness-key", witnessKey); code != exitInStep || !strings.Contains(stdout, "entries are cosigned by example.org/witness") {
		t.Errorf("exit code %d, %q %q", code, stdout, stderr)
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"audit", "witness", "--dir", folder}, exitUsage, "--dir and --log are needed"},
		{[]string{"audit", "witness", "--dir", folder, "--log", "missing"}, exitUnknown, "--log: open missing"},
		{[]string{"audit", "witness", "--dir", t.TempDir(), "--log", vkey}, exitUnknown, "it has no name yet"},
		{[]string{"audit", "witness", "--dir", folder, "--log", vkey, "--listen", "nowhere"}, exitUsage, "choose another host:port"},
		{[]string{"audit", "verify", log, "--key", vkey, "--witness-key", vkey}, exitUsage, "that is no key of a witness"},
	} {
		if code, _, stderr := lockstep(t, c.args...); code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%q: exit code %d, %q", c.args, code, stderr)
		}
	}
}

// A running lockstep is told who has taken which report.
func TestAReportIsRecordedByTheRunningLockstep(t *testing.T) {
	_, file := auditLog(t)
	var told evidence.ExportData
	var user string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ = r.BasicAuth()
		if err := json.NewDecoder(r.Body).Decode(&told); err != nil || r.URL.Path != "/api/v1/audit/exports" {
			t.Errorf("%s %v", r.URL, err)
		}
		fmt.Fprint(w, "{}")
	}))
	defer api.Close()
	zip, password := filepath.Join(t.TempDir(), "report.zip"), writeFile(t, "password", "secret\n")
	for _, c := range []struct {
		flags    []string
		by, user string
	}{
		{[]string{"--by", "carol"}, "carol", ""},
		{[]string{"--username", "carol", "--password-file", password}, "", "carol"},
	} {
		args := append([]string{"audit", "report", "-c", file, "--url", api.URL, "--from", "2026-01-01", "--output", zip}, c.flags...)
		if code, _, stderr := lockstep(t, args...); code != exitInStep || stderr != "" {
			t.Fatalf("exit code %d, %q", code, stderr)
		}
		b, err := os.ReadFile(zip)
		if err != nil {
			t.Fatal(err)
		}
		if told.By != c.by || user != c.user || told.SHA256 != fmt.Sprintf("%x", sha256.Sum256(b)) || told.From.Format(time.DateOnly) != "2026-01-01" {
			t.Errorf("%v: told was %+v by %q", c.flags, told, user)
		}
	}
}

func TestTheKeyOfTheAuditLogIsRotated(t *testing.T) {
	dir, file := auditLog(t)
	code, next, stderr := lockstep(t, "audit", "rotate-key", "-c", file)
	if code != exitInStep || !strings.HasPrefix(next, "example.org/lockstep+") {
		t.Fatalf("exit code %d, %q", code, stderr)
	}
	if _, key, _ := lockstep(t, "audit", "key", "-c", file); key == next {
		t.Error("the key is in force before lockstep has taken it up")
	}
	if code, _, stderr = lockstep(t, "audit", "rotate-key", "-c", file); code != exitUnknown || !strings.Contains(stderr, "reload or start lockstep, which takes it up") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	if err := os.RemoveAll(filepath.Join(dir, "audit")); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr = lockstep(t, "audit", "rotate-key", "-c", file); code != exitUnknown || !strings.Contains(stderr, "no such file") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}

func TestAuditRefusesWhatItCannotUse(t *testing.T) {
	dir, file := auditLog(t)
	log := filepath.Join(dir, "audit", "log")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"verify", log}, exitUsage, "--key is missing: name the file that holds what lockstep audit key prints"},
		{[]string{"verify", log, "--key", "/nowhere"}, exitUnknown, "read the key: open /nowhere: no such file or directory"},
		{[]string{"verify", log, "--key", file}, exitUsage, "the key is no verifier key: give the content of log.vkey"},
		{[]string{"verify", file, "--key", filepath.Join(dir, "audit", "log.vkey")}, exitUsage, "is no report: it is no ZIP archive"},
		{[]string{"verify", "/nowhere", "--key", filepath.Join(dir, "audit", "log.vkey")}, exitUnknown, "no such file or directory: name the folder of an audit log, or a report"},
		{[]string{"report", "-c", file}, exitUsage, "--from is missing: write a date such as 2026-07-01"},
		{[]string{"report", "-c", file, "--from", "July"}, exitUsage, `--from "July" is no time: write 2026-07-01 or 2026-07-01T06:00:00Z`},
		{[]string{"report", "-c", file, "--from", "2026-07-01", "--to", "2026-06-01"}, exitUsage, "is not before --to: exchange them"},
		{[]string{"report", "-c", file, "--from", "9999-07-01"}, exitUsage, "--from 9999-07-01 lies in the future"},
		{[]string{"report", "-c", file, "--from", "2026-07-01"}, exitUsage, "--output is missing: name the file to write, such as report.zip"},
		{[]string{"report", "-c", file, "--from", "2026-07-01", "--group", "x", "--output", "/tmp/x.zip"}, exitUsage, file + ": no group x; there is only shop"},
		{[]string{"report", "-c", file, "--from", "2020-01-01", "--to", "2020-02-01", "--output", filepath.Join(dir, "x.zip")}, exitUnknown, "has no entries from 2020-01-01T00:00:00Z up to 2020-02-01T00:00:00Z; it has some from"},
		{[]string{"report", "-c", file, "--from", "2020-01-01", "--output", "/nowhere/x.zip"}, exitUnknown, "/nowhere"},
		{[]string{"key", "-c", "/nowhere"}, exitUsage, "no such file"},
	} {
		code, stdout, stderr := lockstep(t, append([]string{"audit"}, c.args...)...)
		if code != c.code || !strings.Contains(stderr, c.says) || stdout != "" || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit code %d, %q, %q", c.args, code, stdout, stderr)
		}
	}
}

func TestProveRefusesWhatItCannotProve(t *testing.T) {
	dir, file := auditLog(t)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--at", "1"}, exitUsage, "--table is missing: name a table with its schema, such as public.orders"},
		{[]string{"--table", "public.orders"}, exitUsage, "--at is missing: name an entry of coverage"},
		{[]string{"--table", "public.orders", "--at", "1"}, exitUnknown, "entry 1 is stop: name one of coverage"},
		{[]string{"--table", "public.orders", "--at", "1", "--range", "1", "--key", "{}"}, exitUsage, "--range and --key are both given: name the range by one of them"},
	} {
		code, stdout, stderr := lockstep(t, append([]string{"audit", "prove", "-c", file}, c.args...)...)
		if code != c.code || !strings.Contains(stderr, c.says) || stdout != "" || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit code %d, %q, %q", c.args, code, stdout, stderr)
		}
	}
	key := filepath.Join(dir, "audit", "log.vkey")
	if code, _, stderr := lockstep(t, "audit", "verify", writeFile(t, "proof.json", "{}"), "--key", key); code != exitUsage || !strings.Contains(stderr, "is no proof of a range: write one with lockstep audit prove") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}
