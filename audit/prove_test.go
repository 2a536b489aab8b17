package audit_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-cdc/lockstep/audit"
	"github.com/lockstep-cdc/lockstep/audit/verify"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// orders is the tree of a table of 130 ranges with a thousand keys each.
func orders(t *testing.T, seed uint64) evidence.Tree {
	t.Helper()
	shape := digest.Shape{Table: "public.orders", Columns: []digest.Column{{Name: "id", Class: digest.Int}}, Key: []int{0}}
	var boundaries []digest.Key
	sums := make([]merkle.Sum, 130)
	for i := range sums {
		sums[i] = merkle.Sum{Hi: seed + uint64(i), Lo: uint64(i) << 7, Rows: 1000}
		if i == 0 {
			continue
		}
		k, err := shape.ParseKey(json.RawMessage(fmt.Sprintf(`{"id":%d}`, i*1000)))
		if err != nil {
			t.Fatal(err)
		}
		boundaries = append(boundaries, k)
	}
	return evidence.Tree{Shape: shape, Merkle: merkle.NewTree(merkle.NewPartition(boundaries), sums)}
}

func rootOf(t *testing.T, tree evidence.Tree) string {
	t.Helper()
	root, err := tree.Root()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// coverage records that us-1 was covered, with the trees of its tables.
func coverage(t *testing.T, at time.Time, trees ...evidence.Tree) evidence.Event {
	t.Helper()
	e := evidence.Event{Type: evidence.Coverage, Group: "shop", Time: at}
	data := evidence.CoverageData{Member: "us-1", Role: "replica", Position: "0/1A2B", Every: 3600}
	for _, tree := range trees {
		root := rootOf(t, tree)
		content, err := tree.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		data.Tables = append(data.Tables, evidence.TableData{Table: tree.Shape.Table, Verdict: "in_step", Rows: tree.Merkle.Total().Rows, Ranges: map[string]int{"in_step": 130}, Root: root})
		e.Files = append(e.Files, evidence.File{Name: path.Join(evidence.TreesDir, root), Content: content})
	}
	e.Data = data
	return e
}

// covered is a log in which entry 2 covers a table.
func covered(t *testing.T) *desk {
	d := newDesk(t)
	d.record(evidence.Event{Type: evidence.Start, Time: time.Now(), Data: evidence.StartData{Groups: []evidence.GroupData{{Name: "shop", Every: 3600}}}})
	d.record(coverage(t, time.Now(), orders(t, 7)))
	for range 300 {
		d.record(evidence.Event{Type: evidence.Acknowledge, Group: "shop", Time: time.Now(), Data: evidence.AcknowledgeData{ID: "x"}})
	}
	d.close()
	return d
}

func (d *desk) verifyRange(proof any) (*verify.Result, error) {
	d.t.Helper()
	b, err := json.Marshal(proof)
	if err != nil {
		d.t.Fatal(err)
	}
	file := filepath.Join(d.t.TempDir(), "proof.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		d.t.Fatal(err)
	}
	return verify.Range(file, verify.Options{Key: d.public()})
}

func TestARangeIsProvenUpToTheSignedCheckpoint(t *testing.T) {
	d := covered(t)
	c, err := audit.ReadCovered(t.Context(), d.folder(), 2, "public.orders")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]struct {
		i          int
		first, end string
	}{
		`{"id":-5}`:     {0, "null", `{"id":1000}`},
		`{"id":64000}`:  {64, `{"id":64000}`, `{"id":65000}`},
		`{"id":999999}`: {129, `{"id":129000}`, "null"},
	} {
		i, err := c.Find(json.RawMessage(key))
		if err != nil || i != want.i {
			t.Fatalf("%s lies in range %d, %v", key, i, err)
		}
		p, err := c.Prove(i)
		if err != nil {
			t.Fatal(err)
		}
		if string(p.First) != want.first || string(p.End) != want.end || p.Rows != 1000 || p.Digest != fmt.Sprintf("%016x%016x", 7+i, i<<7) {
			t.Errorf("%s is proven to be in %s to %s: %d rows, %s", key, p.First, p.End, p.Rows, p.Digest)
		}
		r, err := d.verifyRange(p)
		if err != nil || !r.OK() || len(r.Checks) != 5 {
			t.Errorf("the proof of %s: %v %v", key, err, r)
		}
	}
	if _, err := c.Find(json.RawMessage(`{"no":1}`)); err == nil {
		t.Error("a key of another table is found")
	}
	if _, err := c.Prove(130); err == nil || !strings.Contains(err.Error(), "public.orders has ranges 0 to 129") {
		t.Errorf("a range that there is not: %v", err)
	}
}

func TestEveryAttackOnAProofIsFound(t *testing.T) {
	outer, d := t, covered(t)
	c, err := audit.ReadCovered(t.Context(), d.folder(), 2, "public.orders")
	if err != nil {
		t.Fatal(err)
	}
	other, err := c.Prove(65)
	if err != nil {
		t.Fatal(err)
	}
	for name, attack := range map[string]struct {
		change func(*verify.RangeProof)
		want   string
	}{
		"rows":               {func(p *verify.RangeProof) { p.Rows++ }, "rows and digest are not those that are proven"},
		"digest":             {func(p *verify.RangeProof) { p.Digest = other.Digest }, "rows and digest are not those that are proven"},
		"digest and sum":     {func(p *verify.RangeProof) { p.Merkle.Sum.Lo++; p.Digest = p.Merkle.Sum.Digest() }, "leads to root"},
		"rows and sum":       {func(p *verify.RangeProof) { p.Merkle.Sum.Rows++; p.Rows++ }, "leads to root"},
		"first":              {func(p *verify.RangeProof) { p.First = json.RawMessage(`{"id":1}`) }, "first is not the bound that is proven"},
		"end":                {func(p *verify.RangeProof) { p.End = json.RawMessage("null") }, "end: table public.orders: key"},
		"bound":              {func(p *verify.RangeProof) { p.Merkle.Start, p.First = other.Merkle.Start, other.First }, "leads to root"},
		"number":             {func(p *verify.RangeProof) { p.Range = 3 }, "the proof is of range 64"},
		"table":              {func(p *verify.RangeProof) { p.Table = "public.items" }, "entry 2 does not cover public.items"},
		"position":           {func(p *verify.RangeProof) { p.Entry = strings.Replace(p.Entry, "0/1A2B", "0/1A2C", 1) }, "it is not in the log"},
		"another entry":      {func(p *verify.RangeProof) { p.Inclusion.First = 3 }, "entry 3 is coverage 2"},
		"size":               {func(p *verify.RangeProof) { p.Inclusion.Size-- }, "the proof is of a log of 302 entries, the checkpoint of one of 303"},
		"checkpoint":         {func(p *verify.RangeProof) { p.Checkpoint = strings.Replace(p.Checkpoint, "303", "304", 1) }, "invalid signature"},
		"how many there are": {func(p *verify.RangeProof) { p.Ranges++ }, "the table had 130 ranges"},
		"name of a column": {func(p *verify.RangeProof) {
			p.Shape.Columns = []digest.Column{{Name: "no", Class: digest.Int}}
			p.First, p.End = bytes.ReplaceAll(p.First, []byte("id"), []byte("no")), bytes.ReplaceAll(p.End, []byte("id"), []byte("no"))
		}, "leads to root"},
		"ranges it is of": {func(p *verify.RangeProof) { p.Merkle.Path = other.Merkle.Path }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := c.Prove(64)
			if err != nil {
				t.Fatal(err)
			}
			attack.change(p)
			d.t = t
			defer func() { d.t = outer }()
			r, err := d.verifyRange(p)
			if err != nil {
				t.Fatal(err)
			}
			if r.OK() || !strings.Contains(failures(r), attack.want) {
				t.Errorf("verification says %v", r.Checks)
			}
		})
	}
	for name, file := range map[string]any{"nothing": map[string]string{}, "text": "proof"} {
		if _, err := d.verifyRange(file); err == nil || !strings.Contains(err.Error(), "is no proof of a range") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatCannotBeProvenIsSaid(t *testing.T) {
	d := covered(t)
	tree := filepath.Join(d.folder(), evidence.TreesDir, rootOf(t, orders(t, 7)))
	good := content(t, tree)
	for _, c := range []struct {
		at     uint64
		table  string
		before func()
		want   string
	}{
		{303, "public.orders", nil, "the audit log has no entry 303; the last is 302"},
		{1, "public.orders", nil, "entry 1 is start: name one of coverage"},
		{2, "public.items", nil, "no table public.items in entry 2, of us-1; there is only public.orders"},
		{2, "public.orders", func() { write(t, tree, append(good[:len(good)-1:len(good)-1], good[len(good)-1]^1)) }, "is damaged"},
		{2, "public.orders", func() { write(t, tree, good[:50]) }, "parse tree"},
		{2, "public.orders", func() {
			if err := os.Remove(tree); err != nil {
				t.Fatal(err)
			}
		}, "the tree of entry 2 is not kept any more, or was not: see audit.provable_for"},
	} {
		if c.before != nil {
			c.before()
		}
		if _, err := audit.ReadCovered(t.Context(), d.folder(), c.at, c.table); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("entry %d of %s: %v, want %q", c.at, c.table, err, c.want)
		}
	}
}

// Trees go when no coverage has named them for long enough, and not before; one that is named again stays.
func TestTreesAreKeptAsLongAsTheyAreNeeded(t *testing.T) {
	d := newDesk(t)
	old, again, now := orders(t, 1), orders(t, 2), orders(t, 3)
	d.record(coverage(t, time.Now(), old), coverage(t, time.Now(), again))
	d.close()
	file := func(tree evidence.Tree) string {
		return filepath.Join(d.folder(), evidence.TreesDir, rootOf(t, tree))
	}
	long := time.Now().Add(-32 * 24 * time.Hour)
	for _, tree := range []evidence.Tree{old, again} {
		if err := os.Chtimes(file(tree), long, long); err != nil {
			t.Fatal(err)
		}
	}
	d.open()
	e := coverage(t, time.Now(), now)
	e.Files = append(e.Files, evidence.File{Name: path.Join(evidence.TreesDir, rootOf(t, again))}) // needed still
	d.record(e)
	d.close()
	for name, want := range map[string]bool{file(old): false, file(again): true, file(now): true} {
		if _, err := os.Stat(name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if info, err := os.Stat(file(now)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the tree, which holds keys, has mode %v", info.Mode())
	}
}

// A list of ranges that has no room in its entry goes with the report, where it is held against the entry.
func TestALongListOfRangesIsPartOfTheReport(t *testing.T) {
	d := newDesk(t)
	list := []byte(`{"first":"a","last":"b"}` + "\n" + `{"first":"c","last":"d"}` + "\n")
	sum := fmt.Sprintf("%x", sha256.Sum256(list))
	now := time.Now()
	found := evidence.DivergenceData{ID: "01J", Table: "public.orders", Member: "us-1", Kind: "changed", Keys: 2, Ranges: []evidence.RangeData{{First: "a", Last: "b"}}, RangesTotal: 2, RangesSHA256: sum, FirstSeen: now, ConfirmedAt: now}
	name := path.Join(evidence.RangesDir, sum)
	d.record(evidence.Event{Type: evidence.DivergenceOpen, Group: "shop", Time: now, Data: found, Files: []evidence.File{{Name: name, Content: list}}})
	d.close()
	_, files := d.export(now.Add(-time.Hour), now.Add(time.Hour))
	if r := d.verifyArchive(files); !r.OK() {
		t.Errorf("verification says %q", failures(r))
	}
	if string(files[name]) != string(list) {
		t.Errorf("the report has %q", files[name])
	}
	files[name] = []byte(strings.Replace(string(list), `"d"`, `"e"`, 1))
	if r := d.verifyArchive(files); r.OK() || !strings.Contains(failures(r), name+" was changed") {
		t.Errorf("verification says %v", r.Checks)
	}
	delete(files, name)
	if r := d.verifyArchive(files); r.OK() || !strings.Contains(failures(r), name+" is missing") {
		t.Errorf("verification says %v", r.Checks)
	}
}
