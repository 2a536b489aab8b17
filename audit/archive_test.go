package audit_test

import (
	"archive/zip"
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/audit/archive"
	"github.com/lockstep-cdc/lockstep/audit/report"
	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/evidence"
)

// export writes a report of the period and returns its files.
func (d *desk) export(from, to time.Time) (*report.Report, map[string][]byte) {
	d.t.Helper()
	var b bytes.Buffer
	r, err := audit.Export(d.t.Context(), d.folder(), report.Period{From: from, To: to}, "1.0", &b)
	if err != nil {
		d.t.Fatal(err)
	}
	return r, unzipped(d.t, b.Bytes())
}

// unzipped are the files of an archive as another program unpacks it.
func unzipped(t testing.TB, b []byte) map[string][]byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for _, f := range z.File {
		content, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if files[f.Name], err = io.ReadAll(content); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// pack packs files as a report has them.
func pack(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var contents []archive.Content
	for _, name := range append([]string{verify.StatementFile}, slices.Sorted(maps.Keys(files))...) {
		if content, there := files[name]; there && (name != verify.StatementFile || len(contents) == 0) {
			contents = append(contents, archive.Content{Name: name, Bytes: content})
		}
	}
	var b bytes.Buffer
	if err := archive.Write(&b, contents); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// verifyArchive packs files and checks them.
func (d *desk) verifyArchive(files map[string][]byte) *verify.Result {
	d.t.Helper()
	return d.verifyArchiveBy(files, verify.Options{})
}

func (d *desk) verifyArchiveBy(files map[string][]byte, o verify.Options) *verify.Result {
	d.t.Helper()
	o.Version = cmp.Or(o.Version, "1.0")
	path := filepath.Join(d.t.TempDir(), "report.zip")
	write(d.t, path, pack(d.t, files))
	o.Key = d.public()
	r, err := verify.Archive(d.t.Context(), path, o)
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

// A report of a part of a log stands for itself, and its figures are those of the entries.
func TestAReportIsVerifiedByItselfAndSaysWhatTheEntriesSay(t *testing.T) {
	d := newDesk(t)
	begin := time.Now().UTC().Truncate(time.Hour).Add(time.Hour)
	for n := range 5 {
		d.record(day(begin.Add(time.Duration(n) * 24 * time.Hour))...)
	}
	d.close()
	for name, c := range map[string]struct {
		from, to               time.Time
		opened, carried, count int
		ran                    time.Duration
	}{
		"all of it":           {begin, begin.Add(5 * 24 * time.Hour), 5, 0, 140, 5 * (23*time.Hour + 30*time.Minute)},
		"two days":            {begin.Add(24 * time.Hour), begin.Add(3 * 24 * time.Hour), 2, 0, 56, 2 * (23*time.Hour + 30*time.Minute)},
		"inside of a day":     {begin.Add(7*time.Hour + 15*time.Minute), begin.Add(12 * time.Hour), 0, 1, 5, 3*time.Hour + 41*time.Minute},
		"without the finding": {begin.Add(8 * time.Hour), begin.Add(12 * time.Hour), 0, 0, 4, 3 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			r, files := d.export(c.from, c.to)
			totals := r.Totals()
			if totals.Opened != c.opened || totals.Carried != c.carried || totals.Opened+totals.Carried != totals.Resolved+totals.Open || r.Size() != c.count || r.Ran() != c.ran {
				t.Errorf("report says %+v, %d entries, ran for %v", totals, r.Size(), r.Ran())
			}
			for _, m := range r.Members {
				if m.Expected != m.Intervals {
					t.Errorf("%d records of coverage, %d are said to have been expected", m.Intervals, m.Expected)
				}
			}
			if v := d.verifyArchive(files); !v.OK() {
				t.Errorf("verification says %q", failures(v))
			}
			if lines := bytes.Count(files["coverage.csv"], []byte("\n")) - 1; lines != r.Members[0].Intervals {
				t.Errorf("coverage.csv has %d rows, want %d", lines, r.Members[0].Intervals)
			}
		})
	}
	if _, err := audit.Export(t.Context(), d.folder(), report.Period{From: begin.Add(-48 * time.Hour), To: begin.Add(-24 * time.Hour)}, "1.0", io.Discard); err == nil || !strings.Contains(err.Error(), "has no entries from") {
		t.Errorf("a report of nothing: %v", err)
	}
}

func TestAReportTellsOfChangesGapsAndWhoTookItOn(t *testing.T) {
	d := newDesk(t)
	begin := time.Now().UTC().Truncate(time.Second).Add(time.Minute)
	at := func(m int) time.Time { return begin.Add(time.Duration(m) * time.Minute) }
	before := evidence.StartData{Groups: []evidence.GroupData{{Name: "shop", Members: []evidence.MemberData{{Name: "us-1"}}}}}
	now := evidence.StartData{Config: "cafe", Groups: []evidence.GroupData{{Name: "shop", Members: []evidence.MemberData{{Name: "us-1"}, {Name: "us-2", ScanOnly: true}}}}}
	gap := evidence.GapData{Member: "us-1", Table: "public.orders", Reason: "us-1 was last heard from 13s ago", Since: at(5)}
	found := evidence.DivergenceData{ID: "01J", Table: "public.orders", Member: "us-1", Kind: "extra", Cause: "errant_transaction", Keys: 1, FirstSeen: at(20), ConfirmedAt: at(21)}
	closed := gap
	closed.Until = at(15)
	covered := []evidence.TableData{{Table: "public.orders", Verdict: "in_step"}}
	events := []evidence.Event{
		{Type: evidence.ConfigChange, Time: at(0), Data: evidence.ConfigChangeData{From: "beef", To: "cafe"}},
		{Type: evidence.ScopeChange, Time: at(0), Data: evidence.ScopeChanges(&before, &now)},
		{Type: evidence.Start, Time: at(0), Data: now},
		{Type: evidence.Coverage, Group: "shop", Time: at(1), Data: evidence.CoverageData{Member: "eu", Role: "reference", Every: 3600, Tables: covered}},
		{Type: evidence.Coverage, Group: "shop", Time: at(1), Data: evidence.CoverageData{Member: "us-1", Role: "replica", Every: 3600, Tables: covered}},
		{Type: evidence.GapOpen, Group: "shop", Time: at(6), Data: gap},
		{Type: evidence.GapClose, Group: "shop", Time: at(15), Data: closed},
		{Type: evidence.DivergenceOpen, Group: "shop", Time: at(21), Data: found},
		{Type: evidence.Acknowledge, Group: "shop", Time: at(25), Data: evidence.AcknowledgeData{ID: "01J", By: "ann", Ticket: "OPS-1"}},
		{Type: evidence.GapOpen, Group: "shop", Time: at(50), Data: evidence.GapData{Member: "us-1", Table: "public.orders", Reason: "gone", Since: at(45)}},
		// Another reference had the group opened anew.
		{Type: evidence.GapOpen, Group: "shop", Time: at(55), Data: evidence.GapData{Member: "us-1", Table: "public.orders", Reason: "gone", Since: at(54)}},
		{Type: evidence.Stop, Time: at(60), Data: struct{}{}},
	}
	d.record(events...)
	d.close()
	r, files := d.export(at(0), at(100))
	if v := d.verifyArchive(files); !v.OK() {
		t.Errorf("verification says %q", failures(v))
	}
	for name, wants := range map[string][]string{
		"changes.csv":     {"configuration file of SHA-256 cafe in place of beef", "\"new: group shop: member us-2, scanned only\""},
		"gaps.csv":        {",closed,us-1 was last heard from 13s ago\n", ",with the run,gone\n"},
		"divergences.csv": {",ann,OPS-1,"},
		"report.html":     {"60.00 %", "35.00 %", "not resolved", "ann OPS-1", "us-2, scanned only"},
	} {
		for _, want := range wants {
			if !strings.Contains(string(files[name]), want) {
				t.Errorf("%s does not say %q:\n%s", name, want, files[name])
			}
		}
	}
	if unknown := r.Members[0].Tables["public.orders"].Unknown; unknown != 25*time.Minute || r.Totals().Open != 1 {
		t.Errorf("unknown for %v, %+v", unknown, r.Totals())
	}
}

func TestEveryAttackOnAReportIsFound(t *testing.T) {
	d := newDesk(t)
	begin := time.Now().UTC()
	d.record(day(begin)...)
	d.record(day(begin.Add(24 * time.Hour))...)
	d.close()
	_, files := d.export(begin.Add(24*time.Hour), begin.Add(48*time.Hour))
	_, earlier := d.export(begin, begin.Add(24*time.Hour))
	lines := func(files map[string][]byte, name string, change func([][]byte) [][]byte) {
		files[name] = bytes.Join(change(bytes.Split(files[name], []byte("\n"))), []byte("\n"))
	}
	for _, attack := range []struct {
		name   string
		change func(files map[string][]byte)
		// want is what verification says, and signed what it says if who holds the key has signed the change; empty: he may do so.
		want, signed string
	}{
		{"a row of a table", func(f map[string][]byte) {
			f["divergences.csv"] = bytes.Replace(f["divergences.csv"], []byte("public.orders"), []byte("public.others"), 1)
		}, "divergences.csv was changed", "divergences.csv differs from what the entries say at line 2"},
		{"a row less", func(f map[string][]byte) {
			lines(f, "coverage.csv", func(l [][]byte) [][]byte { return slices.Delete(l, 7, 8) })
		}, "coverage.csv was changed", "coverage.csv differs from what the entries say at line 8"},
		{"a figure in the page", func(f map[string][]byte) {
			f["report.html"] = bytes.Replace(f["report.html"], []byte("<b>1</b>"), []byte("<b>0</b>"), 1)
		}, "report.html was changed", "report.html differs from what the entries say"},
		{"an interval of coverage", func(f map[string][]byte) {
			lines(f, verify.EntriesFile, func(l [][]byte) [][]byte { return slices.Delete(l, 9, 10) })
		}, "entries.jsonl was changed", "proof.json does not fit the entries"},
		{"the last entries", func(f map[string][]byte) {
			lines(f, verify.EntriesFile, func(l [][]byte) [][]byte { return append(l[:20:20], nil) })
		}, "entries.jsonl was changed", "proof.json does not fit the entries"},
		{"all entries", func(f map[string][]byte) { f[verify.EntriesFile] = nil }, "entries.jsonl was changed", "proof.json does not fit the entries"},
		{"an entry", func(f map[string][]byte) {
			f[verify.EntriesFile] = bytes.Replace(f[verify.EntriesFile], []byte(`"verdict":"in_step"`), []byte(`"verdict":"in_stop"`), 1)
		}, "entries.jsonl was changed", "give another root than the signed one"},
		{"entries of another time", func(f map[string][]byte) {
			f[verify.EntriesFile] = earlier[verify.EntriesFile]
		}, "entries.jsonl was changed", "give another root than the signed one"},
		{"a file more", func(f map[string][]byte) { f["more.csv"] = []byte("x") }, "more.csv is not of this report", "more.csv is no file of a report"},
		{"a file more at the end", func(f map[string][]byte) { f["zoo.csv"] = []byte("x") }, "zoo.csv is not of this report", "zoo.csv is no file of a report"},
		{"a file less", func(f map[string][]byte) { delete(f, "gaps.csv") }, "gaps.csv is missing", "gaps.csv differs from what the entries say at line 1"},
		{"the statement", func(f map[string][]byte) {
			var e map[string]any
			if err := json.Unmarshal(f[verify.StatementFile], &e); err != nil {
				t.Fatal(err)
			}
			e["payload"] = "e30="
			f[verify.StatementFile], _ = json.Marshal(e)
		}, "statement.dsse.json has no signature of example.org/lockstep", ""},
		{"the checkpoint", func(f map[string][]byte) {
			f[verify.CheckpointFile] = bytes.Replace(f[verify.CheckpointFile], []byte("\n57\n"), []byte("\n58\n"), 1)
		}, "checkpoint was changed", "no checkpoint that example.org/lockstep has signed"},
	} {
		t.Run(attack.name, func(t *testing.T) {
			changed := maps.Clone(files)
			attack.change(changed)
			got := d.verifyArchive(changed)
			if said := failures(got); !strings.Contains(said, attack.want) || failed(got) != 1 {
				t.Errorf("verification says %q in %d lines, want %q in one", said, failed(got), attack.want)
			}
			if attack.signed == "" {
				return
			}
			var err error
			if changed[verify.StatementFile], err = audit.Sign(d.folder(), changed); err != nil {
				t.Fatal(err)
			}
			if got := failures(d.verifyArchive(changed)); !strings.Contains(got, attack.signed) {
				t.Errorf("of a change that is signed, verification says %q, want %q", got, attack.signed)
			}
		})
	}
}

func failed(r *verify.Result) (n int) {
	for _, c := range r.Checks {
		if !c.OK {
			n++
		}
	}
	return n
}

// A log that somebody has changed is not reported on.
// What another version words differently is no forgery, and is told apart.
func TestAReportNamesTheVersionToVerifyItWith(t *testing.T) {
	d := newDesk(t)
	d.note(time.Now())
	d.close()
	_, files := d.export(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if r := d.verifyArchiveBy(files, verify.Options{Version: "2.0"}); !r.OK() {
		t.Errorf("of another version that words it the same: %v", r.Checks)
	}
	files["README.md"] = []byte("as it was in 1.0")
	var err error
	if files[verify.StatementFile], err = audit.Sign(d.folder(), files); err != nil {
		t.Fatal(err)
	}
	if r := d.verifyArchiveBy(files, verify.Options{Version: "2.0"}); r.OK() || !strings.Contains(failures(r), "README.md differs at line 1 from what lockstep 2.0 makes of the entries; it was made by 1.0: verify it with that version") {
		t.Errorf("verification says %v", r.Checks)
	}
}

// A report passes by itself for ever; whether the log still is the one that it was taken from is another question.
func TestAReportIsHeldAgainstTheLog(t *testing.T) {
	d := newDesk(t)
	d.note(time.Now())
	d.close()
	before := filepath.Join(t.TempDir(), "before")
	if err := os.CopyFS(before, os.DirFS(d.folder())); err != nil {
		t.Fatal(err)
	}
	d.open()
	d.note(time.Now())
	d.close()
	_, files := d.export(noon.Add(-1000*time.Hour), time.Now().Add(time.Hour))
	log := filepath.Join(d.folder(), "log")
	holds := func(log, want string) {
		t.Helper()
		r := d.verifyArchiveBy(files, verify.Options{Key: d.public(), Log: log})
		if r.OK() != (want == "") || !strings.Contains(failures(r), want) {
			t.Errorf("verification says %v", r.Checks)
		}
	}
	holds(log, "")
	d.open()
	d.note(time.Now())
	d.close()
	holds(log, "")
	holds(filepath.Join(before, "log"), "the log has 2 entries; the checkpoint that was kept covers 3: entries 2 to 2 are gone")
	holds(t.TempDir(), "there is none")
	d.forge()
	d.passes()
	holds(log, "the log has forked")
}

// A copy of the log has its checkpoints of before.
func TestALogIsHeldAgainstItsEarlierCheckpoints(t *testing.T) {
	d := newDesk(t)
	d.note(time.Now())
	d.close()
	log := filepath.Join(d.folder(), "log")
	second := d.checkpoint()
	whole := filepath.Join(t.TempDir(), "whole")
	if err := os.CopyFS(whole, os.DirFS(log)); err != nil {
		t.Fatal(err)
	}
	d.open()
	d.note(time.Now())
	d.close()
	earlier := filepath.Join(log, verify.EarlierDir)
	keep := func(dir string) {
		t.Helper()
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "00000000000000000002"), second)
		write(t, filepath.Join(dir, "00000000000000000003"), d.checkpoint())
	}
	third := d.checkpoint()
	keep(earlier)
	r := d.passes()
	if !slices.ContainsFunc(r.Checks, func(c verify.Check) bool {
		return c.Name == "log holds its earlier checkpoints" && c.Detail == "2 over up to 3 entries"
	}) {
		t.Errorf("verification says %v", r.Checks)
	}
	// A copy that was cut off before its last object is whole all the same.
	write(t, filepath.Join(log, "checkpoint"), second)
	if r := d.passes(); r.Size != 3 {
		t.Errorf("verified were %d entries", r.Size)
	}
	// Not so one of which entries are gone.
	if err := os.RemoveAll(log); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(log, os.DirFS(whole)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(earlier, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(earlier, "00000000000000000003"), third)
	if r := d.verify(verify.Options{}); r.OK() || !strings.Contains(failures(r), "entries from 0 on cannot be read") {
		t.Errorf("verification says %v", r.Checks)
	}
	d.forge()
	if err := os.MkdirAll(earlier, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(earlier, "00000000000000000003"), third)
	if r := d.verify(verify.Options{}); r.OK() || !strings.Contains(failures(r), "the log has forked") {
		t.Errorf("verification says %v", r.Checks)
	}
	edit(t, filepath.Join(earlier, "00000000000000000003"), "\n3\n", "\n2\n")
	if r := d.verify(verify.Options{}); r.OK() || !strings.Contains(failures(r), "no checkpoint that example.org/lockstep has signed") {
		t.Errorf("verification says %v", r.Checks)
	}
}

func TestNoReportOfAChangedLog(t *testing.T) {
	d := newDesk(t)
	d.record(day(time.Now())...)
	d.close()
	edit(t, entryFile(t, d), `"us-1"`, `"us-2"`)
	_, err := audit.Export(t.Context(), d.folder(), report.Period{From: time.Now().Add(-time.Hour), To: time.Now().Add(48 * time.Hour)}, "1.0", io.Discard)
	if err == nil || !strings.Contains(err.Error(), "does not pass verification") {
		t.Errorf("the report: %v", err)
	}
}
