package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
)

// Values with many rows are written in a binary form of their own; strings and byte strings have their length before
// them as a varint.
//
//	in-flight transaction, each part:
//	  ┌ source ┬ seq ┬ end ┬ commit time µs ┬ seen µs ┬ changes ┬ then for each change ─────────────────┐
//	  │ string │ uv  │ uv  │ varint         │ varint  │ uv      │ table uv │ key │ before 16 │ after 16 │
//
//	divergent key:  finding uv │ kind(1) │ expected 16 │ actual 16
//
//	waiting change: commit uv │ op(1) │ epoch uv │ key │ old key │ partial(1) │ row: AppendRow, or encoding and holes
type encoder []byte

func (e *encoder) uvarint(n uint64)       { *e = binary.AppendUvarint(*e, n) }
func (e *encoder) varint(n int64)         { *e = binary.AppendVarint(*e, n) }
func (e *encoder) bytes(b []byte)         { e.uvarint(uint64(len(b))); *e = append(*e, b...) }
func (e *encoder) byte(b byte)            { *e = append(*e, b) }
func (e *encoder) digest(d digest.Digest) { *e = append(*e, d[:]...) }

// decoder reads what encoder wrote; after the first short read everything reads as zero and err is set.
type decoder struct {
	b   []byte
	err error
}

var (
	errShort = errors.New("record is cut short")
	errLong  = errors.New("record is too long")
)

func (d *decoder) fail() { d.b, d.err = nil, errShort }

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) varint() int64 {
	n, size := binary.Varint(d.b)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	b := d.b[:n:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) bytes() []byte { return d.take(d.uvarint()) }

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) digest() (g digest.Digest) {
	copy(g[:], d.take(uint64(len(g))))
	return g
}

// end returns what was wrong with the record, of which nothing may be left.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		return errLong
	}
	return d.err
}

// partChanges is the number of row changes in one part of an in-flight transaction.
const partChanges = 4096

func appendInFlight(dst []byte, f *align.InFlight, changes []align.RowChange) []byte {
	e := encoder(dst)
	e.bytes([]byte(f.ID.Source))
	e.uvarint(f.ID.Seq)
	e.uvarint(uint64(f.End))
	e.varint(f.CommitTime.UnixMicro())
	e.varint(f.Seen.UnixMicro())
	e.uvarint(uint64(len(changes)))
	for i := range changes {
		c := &changes[i]
		e.uvarint(uint64(c.Table))
		e.bytes(c.Key)
		e.digest(c.Before)
		e.digest(c.After)
	}
	return e
}

func parseInFlight(b []byte) (*align.InFlight, error) {
	d := decoder{b: append([]byte(nil), b...)}
	f := &align.InFlight{ID: cdc.TxID{Source: string(d.bytes())}}
	f.ID.Seq = d.uvarint()
	f.End = cdc.LSN(d.uvarint())
	f.CommitTime = time.UnixMicro(d.varint()).UTC()
	f.Seen = time.UnixMicro(d.varint()).UTC()
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		f.Changes = append(f.Changes, align.RowChange{
			Table: cdc.TableID(d.uvarint()), Key: d.bytes(), Before: d.digest(), After: d.digest(),
		})
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("in-flight transaction: %w", err)
	}
	return f, nil
}

var kinds = map[finding.Kind]byte{finding.Changed: 'c', finding.Missing: 'm', finding.Extra: 'x'}

func appendDivergentKey(dst []byte, k *align.DivergentKey) []byte {
	e := encoder(dst)
	e.uvarint(k.Finding)
	e.byte(kinds[k.Kind])
	e.digest(k.Expected)
	e.digest(k.Actual)
	if !k.Seen.IsZero() {
		e.uvarint(uint64(k.Seen.UnixMicro()))
	}
	return e
}

func parseDivergentKey(b []byte) (*align.DivergentKey, error) {
	d := decoder{b: b}
	k := &align.DivergentKey{Finding: d.uvarint()}
	code := d.byte()
	for kind, c := range kinds {
		if c == code {
			k.Kind = kind
		}
	}
	k.Expected, k.Actual = d.digest(), d.digest()
	err := d.end()
	if errors.Is(err, errLong) { // it was kept when it came to differ
		if seen := d.uvarint(); seen > 0 {
			k.Seen, err = time.UnixMicro(int64(seen)), d.end()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("divergent key: %w", err)
	}
	if k.Kind == "" {
		return nil, fmt.Errorf("divergent key: unknown kind %q", code)
	}
	return k, nil
}

func appendPending(dst []byte, p *align.Pending) []byte {
	e := encoder(dst)
	c := &p.Change
	e.uvarint(uint64(p.Commit))
	e.byte(byte(c.Op))
	e.uvarint(uint64(c.Epoch))
	e.bytes(c.Key)
	e.bytes(c.OldKey)
	if c.Row.Partial == nil {
		e.byte(0)
		return digest.AppendRow(e, &c.Row)
	}
	e.byte(1)
	e.bytes(c.Row.Partial.Encoding)
	for _, h := range c.Row.Partial.Holes {
		e.uvarint(uint64(h.Column))
		e.bytes([]byte(h.Name))
		e.uvarint(uint64(h.Offset))
	}
	return appendColumns(e, c.Row.Partial.Columns)
}

// appendColumns ends a partial row with the digests of the wide columns that it does carry, after a marker that is no
// column's number.
func appendColumns(e encoder, columns []digest.ColumnDigest) []byte {
	e.uvarint(columnsMarker)
	for _, c := range columns {
		e.uvarint(uint64(c.Column))
		e.digest(c.Digest)
	}
	return e
}

const columnsMarker = 1 << 16

func parsePending(b []byte, table cdc.TableID) (*align.Pending, error) {
	d := decoder{b: append([]byte(nil), b...)}
	p := &align.Pending{Commit: cdc.LSN(d.uvarint())}
	c := &p.Change
	c.Table, c.Op, c.Epoch = table, cdc.Op(d.byte()), uint32(d.uvarint())
	c.Key = d.bytes()
	if old := d.bytes(); len(old) > 0 {
		c.OldKey = old
	}
	if d.byte() == 0 && d.err == nil {
		if c.Op == cdc.Delete || c.Op == cdc.Truncate {
			return p, nil
		}
		return p, digest.ParseRow(d.b, &c.Row)
	}
	c.Row.Partial = &digest.Partial{Encoding: d.bytes()}
	for d.err == nil {
		column := d.uvarint()
		if column == columnsMarker {
			break
		}
		c.Row.Partial.Holes = append(c.Row.Partial.Holes, digest.Hole{Column: uint16(column), Name: string(d.bytes()), Offset: int(d.uvarint())})
	}
	for len(d.b) > 0 && d.err == nil {
		c.Row.Partial.Columns = append(c.Row.Partial.Columns, digest.ColumnDigest{Column: uint16(d.uvarint()), Digest: d.digest()})
	}
	if d.err != nil {
		return nil, fmt.Errorf("waiting change: %w", d.err)
	}
	return p, nil
}
