package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/store"
)

func drawDigest(t *rapid.T) digest.Digest {
	return digest.Digest(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "digest"))
}

// drawSound draws a digest that a row may have.
func drawSound(t *rapid.T) digest.Digest {
	d := drawDigest(t)
	d[15] |= 1
	return d
}

func drawBytes(t *rapid.T) []byte { return rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "bytes") }

func drawTime(t *rapid.T) time.Time {
	return time.UnixMicro(rapid.Int64Range(-62135596800000000, 1<<52).Draw(t, "time")).UTC()
}

func drawColumns(t *rapid.T) []digest.ColumnDigest {
	var list []digest.ColumnDigest
	next := 0
	for range rapid.IntRange(0, 3).Draw(t, "columns") {
		next += rapid.IntRange(0, 20000).Draw(t, "column")
		list = append(list, digest.ColumnDigest{Column: uint16(next), Digest: drawDigest(t)})
		next++
	}
	return list
}

func drawPending(t *rapid.T) *align.Pending {
	p := &align.Pending{Commit: cdc.LSN(rapid.Uint64().Draw(t, "commit")), Change: cdc.Change{
		Table: 7, Op: rapid.SampledFrom([]cdc.Op{cdc.Insert, cdc.Update, cdc.Delete, cdc.Truncate}).Draw(t, "op"),
		Epoch: rapid.Uint32().Draw(t, "epoch"),
	}}
	c := &p.Change
	if c.Op != cdc.Truncate {
		c.Key = drawBytes(t)
	}
	if c.Op == cdc.Update {
		c.OldKey = drawBytes(t)
	}
	switch {
	case c.Op == cdc.Delete || c.Op == cdc.Truncate:
	case rapid.Bool().Draw(t, "whole"):
		c.Row = digest.Row{Digest: drawSound(t), Columns: drawColumns(t)}
	default:
		c.Row.Partial = &digest.Partial{Encoding: drawBytes(t), Columns: drawColumns(t)}
		for i := range rapid.IntRange(1, 3).Draw(t, "holes") {
			c.Row.Partial.Holes = append(c.Row.Partial.Holes, digest.Hole{
				Column: uint16(i * 30000), Name: rapid.String().Draw(t, "name"), Offset: rapid.IntRange(0, 1<<30).Draw(t, "offset"),
			})
		}
	}
	return p
}

func TestWaitingChangeSurvivesItsEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawPending(t)
		got, err := store.ParsePending(store.AppendPending(nil, want), 7)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestInFlightTransactionSurvivesItsEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := &align.InFlight{
			ID:  cdc.TxID{Source: rapid.String().Draw(t, "source"), Seq: rapid.Uint64().Draw(t, "seq")},
			End: cdc.LSN(rapid.Uint64().Draw(t, "end")), CommitTime: drawTime(t), Seen: drawTime(t),
		}
		for range rapid.IntRange(0, 5).Draw(t, "changes") {
			want.Changes = append(want.Changes, align.RowChange{
				Table: cdc.TableID(rapid.Uint32().Draw(t, "table")), Key: drawBytes(t), Before: drawDigest(t), After: drawDigest(t),
			})
		}
		got, err := store.ParseInFlight(store.AppendInFlight(nil, want, want.Changes))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestDivergentKeySurvivesItsEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := &align.DivergentKey{
			Finding: rapid.Uint64().Draw(t, "finding"), Kind: rapid.SampledFrom([]finding.Kind{finding.Changed, finding.Missing, finding.Extra}).Draw(t, "kind"),
			Expected: drawDigest(t), Actual: drawDigest(t),
		}
		got, err := store.ParseDivergentKey(store.AppendDivergentKey(nil, want))
		if err != nil || *got != *want {
			t.Fatalf("%+v, %v, want %+v", got, err, want)
		}
	})
}

// records are one record of each layout and its parser.
func records() map[string]struct {
	bytes []byte
	parse func([]byte) error
} {
	tx := &align.InFlight{ID: cdc.TxID{Source: "s", Seq: 1}, End: 2, Changes: []align.RowChange{{Table: 1, Key: key(1), After: hash(1)}}}
	partial := &align.Pending{Commit: 9, Change: cdc.Change{Op: cdc.Update, Key: key(1), OldKey: key(2), Row: digest.Row{Partial: &digest.Partial{
		Encoding: make([]byte, 20), Holes: []digest.Hole{{Column: 1, Name: "note", Offset: 4}}, Columns: []digest.ColumnDigest{{Column: 2, Digest: hash(2)}},
	}}}}
	return map[string]struct {
		bytes []byte
		parse func([]byte) error
	}{
		"in-flight transaction": {store.AppendInFlight(nil, tx, tx.Changes), parseInFlight},
		"divergent key":         {store.AppendDivergentKey(nil, &align.DivergentKey{Finding: 300, Kind: finding.Extra, Actual: hash(1)}), parseDivergentKey},
		"waiting change":        {store.AppendPending(nil, partial), parsePending},
		"waiting change, whole": {store.AppendPending(nil, &align.Pending{Change: cdc.Change{Op: cdc.Insert, Key: key(1), Row: digest.Row{Digest: hash(1)}}}), parsePending},
	}
}

func parseInFlight(b []byte) error     { _, err := store.ParseInFlight(b); return err }
func parseDivergentKey(b []byte) error { _, err := store.ParseDivergentKey(b); return err }
func parsePending(b []byte) error      { _, err := store.ParsePending(b, 7); return err }

// The last column of a partial row has no end of its own, so a record may be cut before it: Pebble's checksums see that.
func TestRecordCutShortIsRefused(t *testing.T) {
	for name, r := range records() {
		if err := r.parse(r.bytes); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		wholeWithout := len(r.bytes) - 17
		for n := range r.bytes {
			if err := r.parse(r.bytes[:n]); err == nil && (name != "waiting change" || n != wholeWithout) {
				t.Errorf("%s: %d of %d bytes are taken for the whole", name, n, len(r.bytes))
			}
		}
	}
}

func TestRecordWithBytesTooManyIsRefused(t *testing.T) {
	for name, r := range records() {
		if err := r.parse(append(r.bytes, 0)); err == nil {
			t.Errorf("%s: a byte too many is overlooked", name)
		}
	}
}

func fuzz(f *testing.F, parse func([]byte) error) {
	for _, r := range records() {
		f.Add(r.bytes)
	}
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(_ *testing.T, b []byte) { _ = parse(b) }) // must not panic, nor take memory that b does not pay for
}

func FuzzParseInFlight(f *testing.F)     { fuzz(f, parseInFlight) }
func FuzzParseDivergentKey(f *testing.F) { fuzz(f, parseDivergentKey) }
func FuzzParsePending(f *testing.F)      { fuzz(f, parsePending) }

func TestDivergentKeyKeepsWhenItCameToDiffer(t *testing.T) {
	want := align.DivergentKey{Finding: 7, Kind: finding.Extra, Actual: digest.Digest{1}, Seen: time.UnixMicro(1_700_000_000_123_456)}
	got, err := store.ParseDivergentKey(store.AppendDivergentKey(nil, &want))
	if err != nil || *got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}
