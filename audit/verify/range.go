package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/transparency-dev/formats/log"

	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/evidence"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// RangeProofType marks a file that holds a [RangeProof].
const RangeProofType = "urn:lockstep:range-proof:v1"

// RangeProof shows that a member held a range of a table with a digest at a position: from the range over the root of the
// table's Merkle tree and the entry that records it up to the signed checkpoint.
type RangeProof struct {
	Type       string          `json:"type"`
	Table      string          `json:"table"`
	Range      int             `json:"range"`  // its number, from 0
	Ranges     int             `json:"ranges"` // of the table
	First      json.RawMessage `json:"first"`  // the first key that may be in it; null: there is no bound
	End        json.RawMessage `json:"end"`    // the key that ends it, itself outside; null: there is no bound
	Rows       int64           `json:"rows"`
	Digest     string          `json:"digest"` // sum of the digests of its rows
	Shape      digest.Shape    `json:"shape"`  // by which keys are read
	Merkle     merkle.Proof    `json:"merkle"`
	Entry      string          `json:"entry"`
	Inclusion  *Proof          `json:"inclusion"`
	Checkpoint string          `json:"checkpoint"`
	covered    evidence.CoverageData
	entry      *evidence.Entry
}

const coversCheck = "entry covers the table"

// Range checks a proof of a range. The error is for what is no proof, and for a key that is none.
func Range(path string, o Options) (*Result, error) {
	verifier, err := o.verifier()
	if err != nil {
		return nil, err
	}
	raw, err := readFile(path, mostProof)
	if err != nil {
		return nil, err
	}
	var p RangeProof
	if err := json.Unmarshal(raw, &p); err != nil || p.Type != RangeProofType || p.Inclusion == nil {
		return nil, fmt.Errorf("%s is no proof of a range: write one with lockstep audit prove", path)
	}
	r := newResult(verifier)
	at, _, _, err := log.ParseCheckpoint([]byte(p.Checkpoint), verifier.Name(), verifier)
	if err == nil {
		r.Size, r.Root = at.Size, fmt.Sprintf("%x", at.Hash)
	}
	if !r.check("checkpoint is signed by the key", fmt.Sprintf("%d entries of %s", r.Size, r.Origin), err) {
		return r, nil
	}
	r.check("entry is in the signed log", fmt.Sprintf("entry %d", p.Inclusion.First), p.included(at))
	table, err := p.table()
	if err != nil {
		r.check(coversCheck, "", err)
		return r, nil
	}
	r.check(coversCheck, fmt.Sprintf("%s on %s at %s, root %s", p.Table, p.covered.Member, p.covered.Position, table.Root), nil)
	r.first, r.times, r.From, r.To = p.entry.Seq, []time.Time{p.entry.Time}, p.entry.Time, p.entry.Time
	r.check("range is under the root", fmt.Sprintf("range %d of %d: %d rows of digest %s", p.Range, p.Ranges, p.Rows, p.Digest), p.under(table))
	r.check("bounds are the range's", fmt.Sprintf("from %s to before %s", p.First, p.End), p.bounds())
	elsewhere := errors.New("a proof of a range cannot show it: verify the log itself")
	if o.Seen != nil {
		r.check(seenCheck, "", elsewhere)
	}
	if o.Authorities != nil {
		r.check(stampsCheck, "", elsewhere)
	}
	for _, w := range o.Witnesses {
		r.check(cosignedCheck(w), "", elsewhere)
	}
	return r, nil
}

func (p *RangeProof) included(at *log.Checkpoint) error {
	if p.Inclusion.Size != at.Size {
		return fmt.Errorf("the proof is of a log of %d entries, the checkpoint of one of %d", p.Inclusion.Size, at.Size)
	}
	root, err := p.Inclusion.Root([][]byte{[]byte(p.Entry)})
	if err == nil && !bytes.Equal(root, at.Hash) {
		err = errors.New("with the proof, the entry gives another root than the signed one: it is not in the log")
	}
	return err
}

// table is what the entry has of the table.
func (p *RangeProof) table() (t *evidence.TableData, err error) {
	if p.entry, err = evidence.Parse([]byte(p.Entry)); err != nil {
		return nil, fmt.Errorf("the entry %w", err)
	}
	if p.entry.Type != evidence.Coverage || p.entry.Seq != p.Inclusion.First {
		return nil, fmt.Errorf("entry %d is %s %d", p.Inclusion.First, p.entry.Type, p.entry.Seq)
	}
	if err := json.Unmarshal(p.entry.Data, &p.covered); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(p.covered.Tables, func(t evidence.TableData) bool { return t.Table == p.Table })
	if i < 0 {
		return nil, fmt.Errorf("entry %d does not cover %s", p.entry.Seq, p.Table)
	}
	return &p.covered.Tables[i], nil
}

func (p *RangeProof) under(covered *evidence.TableData) error {
	if p.Rows != p.Merkle.Sum.Rows || p.Digest != p.Merkle.Sum.Digest() {
		return errors.New("rows and digest are not those that are proven")
	}
	if p.Range != p.Merkle.Index() {
		return fmt.Errorf("the proof is of range %d", p.Merkle.Index())
	}
	all := 0
	for _, n := range covered.Ranges {
		all += n
	}
	if p.Ranges != all {
		return fmt.Errorf("the table had %d ranges", all)
	}
	tree, err := p.Merkle.Root()
	if err != nil {
		return err
	}
	leads, err := evidence.TableRoot(p.Shape, tree)
	if err == nil && leads != covered.Root {
		err = fmt.Errorf("it leads to root %s, and the entry has another", leads)
	}
	return err
}

// bounds holds the spelling of the bounds against the bytes that are proven.
func (p *RangeProof) bounds() error {
	for _, b := range []struct {
		name    string
		spelled json.RawMessage
		proven  []byte
	}{{"first", p.First, p.Merkle.Start}, {"end", p.End, p.Merkle.End}} {
		if bytes.Equal(b.spelled, []byte("null")) && len(b.proven) == 0 {
			continue
		}
		key, err := p.Shape.ParseKey(b.spelled)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		if !bytes.Equal(key, b.proven) {
			return fmt.Errorf("%s is not the bound that is proven", b.name)
		}
	}
	return nil
}
