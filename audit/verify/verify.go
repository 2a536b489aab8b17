// Package verify checks an audit log with nothing but its files and its public key: no configuration, no database, no
// network.
package verify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"

	"github.com/lockstep-cdc/lockstep/audit/witness"
	"github.com/lockstep-cdc/lockstep/evidence"
)

// Check is one thing that was looked at.
type Check struct {
	Name   string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // what was found; if not OK, what is wrong and where
}

// Result is what became of all checks of a log.
type Result struct {
	Origin string                 `json:"origin"`
	Size   uint64                 `json:"size"` // entries that the checkpoint covers
	Root   string                 `json:"root"`
	From   time.Time              `json:"from"` // of the first entry
	To     time.Time              `json:"to"`   // of the last one
	Counts map[evidence.Type]uint `json:"counts"`
	Checks []Check                `json:"checks"`

	hashes [][]byte // of the leaves
	first  uint64   // of the entries that follow on one another
	times  []time.Time
	steps  []clockStep
}

// clockStep is a step of the clock that an entry tells of.
type clockStep struct {
	seq uint64
	evidence.ClockData
}

// OK reports whether nothing is wrong.
func (r *Result) OK() bool {
	for _, c := range r.Checks {
		if !c.OK {
			return false
		}
	}
	return len(r.Checks) > 0
}

// Err is what is wrong with a log first; nil: nothing is.
func (r *Result) Err() error {
	for _, c := range r.Checks {
		if !c.OK {
			return fmt.Errorf("the audit log does not pass verification: %s: %s", c.Name, c.Detail)
		}
	}
	return nil
}

// Entries names those that follow on one another.
func (r *Result) Entries() string {
	return evidence.Span(r.first, r.first+uint64(len(r.times)))
}

// check notes what one check has found. A nil error is what was looked for.
func (r *Result) check(name, found string, err error) bool {
	if err != nil {
		found = err.Error()
	}
	r.Checks = append(r.Checks, Check{name, err == nil, printable(found)})
	return err == nil
}

// printable takes away what a terminal would obey: what is wrong with a file may have come out of it.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// Options say what a log is held against.
type Options struct {
	Key     string // verifier key of the log, as in log.vkey
	Version string // of lockstep, which words the files of reports
	// Seen is a checkpoint of the same log that somebody has kept; the log must still hold all that it covers.
	Seen []byte
	// Log is the folder of the log that a report must be of; empty: that is not looked at.
	Log string
	// Checkpoint is by which the log is read; nil: by its last one.
	Checkpoint []byte
	// Authorities are those by whom checkpoints were time-stamped; nil: time-stamps are not looked at.
	Authorities *x509.CertPool
	// Witnesses are those who have cosigned it.
	Witnesses []*witness.Key
	// Each, if set, is given every entry that follows on the one before.
	Each func(e *evidence.Entry, sealed []byte)
}

// Log checks the log in a folder. The error is for a key that is none; all that is wrong with the log is in the result.
func Log(ctx context.Context, dir string, o Options) (*Result, error) {
	verifier, err := o.verifier()
	if err != nil {
		return nil, err
	}
	v := &walk{
		Result: newResult(verifier), files: folder{dir}, keys: keys{trusted: verifier}, each: o.Each,
	}
	v.all(ctx, o)
	return v.Result, nil
}

func (o Options) verifier() (note.Verifier, error) {
	v, err := note.NewVerifier(strings.TrimSpace(o.Key))
	if err != nil {
		return nil, fmt.Errorf("the key is no verifier key: give the content of log.vkey: %w", err)
	}
	return v, nil
}

// walk is a log that is read.
type walk struct {
	*Result
	files folder
	keys  keys
	story story
	each  func(*evidence.Entry, []byte)
}

func (v *walk) all(ctx context.Context, o Options) {
	const signed = "checkpoint is signed by the key"
	others, err := v.others(o) // before the checkpoint, so that all of them are over entries that it covers
	if err != nil {
		v.check("files of the log can be read", "", err)
		return
	}
	raw := o.Checkpoint
	if raw == nil {
		if raw, err = v.checkpoint(ctx, earlier(others)); err != nil {
			v.check(signed, "", err)
			return
		}
	}
	// Which key must have signed it is known when the entries are read, as many as it says that there are.
	chain, missing := v.read(ctx, Claimed(raw))
	at, err := v.parse(raw)
	if err == nil {
		v.Size, v.Root = at.Size, fmt.Sprintf("%x", at.Hash)
	}
	v.check(signed, fmt.Sprintf("%d entries of %s", v.Size, v.Origin), err)
	if len(v.keys.chain) > 1 || v.keys.wrong != nil {
		v.check("key rotations are signed by both keys", v.keys.rotations(), v.keys.wrong)
	}
	if err != nil {
		return
	}
	if !v.check("entries are all there", fmt.Sprintf("%d", at.Size), missing) {
		return
	}
	tiles := v.tiles(ctx)
	if root := rootOf(v.hashes); bytes.Equal(root, at.Hash) {
		v.check("entries are the ones that were signed", "root "+v.Root, nil)
	} else {
		v.check("entries are the ones that were signed", "", v.culprit(tiles))
	}
	v.check("tiles are those of the entries", "on all levels", tiles)
	if o.Seen != nil {
		found, err := v.holds(o.Seen)
		v.check(seenCheck, found, err)
	}
	if list := earlier(others); len(list) > 0 {
		found, err := v.holds(list...)
		v.check("log holds its earlier checkpoints", found, err)
	}
	v.check("entries follow on one another", fmt.Sprintf("0 to %d, each with the hash of the one before", at.Size-1), chain)
	v.story.checks(v.Result, chain)
	v.clock()
	if chain == nil {
		v.anchors(o, others, func(string) (*anchored, error) { return v.anchored(), nil })
	}
}

// anchored are the entries, all that there are.
func (v *walk) anchored() *anchored {
	return &anchored{tree: trees.NewEmptyRange(0), hashes: v.hashes, times: v.times, settled: v.settled()}
}

const seenCheck = "log holds what was seen before"

// holds checks that the log still has what earlier checkpoints of it cover, of which the last is returned by its size.
func (v *walk) holds(checkpoints ...[]byte) (string, error) {
	slices.SortFunc(checkpoints, func(a, b []byte) int { return cmp.Compare(Claimed(a), Claimed(b)) })
	size, entries := uint64(0), v.anchored()
	for _, raw := range checkpoints {
		seen, err := v.parse(raw)
		if err != nil {
			return "", err
		}
		if size = seen.Size; size > v.Size {
			return "", fmt.Errorf("the log has %d entries; the checkpoint that was kept covers %d: entries %d to %d are gone", v.Size, size, v.Size, size-1)
		}
		root, err := entries.root(size)
		if err == nil && !bytes.Equal(root, seen.Hash) {
			err = fmt.Errorf("the first %d entries are other ones than in the checkpoint that was kept: the log has forked", size)
		}
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d over up to %d entries", len(checkpoints), size), nil
}

// culprit names the first entry that its tile tells to be another.
func (v *walk) culprit(tiles error) error {
	if tiles != nil {
		return fmt.Errorf("the entries give another root: %w", tiles)
	}
	return errors.New("the entries give another root than the signed one, and their tiles go with them: entries were exchanged or taken out")
}

// EarlierDir is the folder in which a copy of the log has its checkpoints of before, by their sizes.
const EarlierDir = "checkpoints"

// others reads what is beside the tiles and will be looked at: what others have said of the log, and what it has said before.
func (v *walk) others(o Options) (map[string][]byte, error) {
	all := make(map[string][]byte)
	for dir, wanted := range map[string]bool{StampsDir: o.Authorities != nil, WitnessesDir: len(o.Witnesses) > 0, EarlierDir: o.Checkpoint == nil} {
		if !wanted {
			continue
		}
		files, err := v.files.within(dir)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, files)
	}
	return all, nil
}

func earlier(files map[string][]byte) (list [][]byte) {
	for name, raw := range files {
		if path.Dir(name) == EarlierDir {
			list = append(list, raw)
		}
	}
	return list
}

// checkpoint is the last one that there is: of a copy that was cut off, it may still lie among those of before.
func (v *walk) checkpoint(ctx context.Context, earlier [][]byte) ([]byte, error) {
	last, err := v.files.ReadCheckpoint(ctx)
	if err != nil {
		return nil, fmt.Errorf("there is none: %w", err)
	}
	for _, raw := range earlier {
		if Claimed(raw) > Claimed(last) {
			last = raw
		}
	}
	return last, nil
}

// Claimed is of how many entries a checkpoint is that was not verified yet; 0: it says nothing of it.
func Claimed(raw []byte) uint64 {
	var at log.Checkpoint
	if _, err := at.Unmarshal(raw); err != nil {
		return 0
	}
	return at.Size
}

// parse verifies a checkpoint by the key that is to have signed it.
func (v *walk) parse(raw []byte) (*log.Checkpoint, error) {
	var at *log.Checkpoint
	err := errors.New("there is no key")
	for _, key := range v.keys.at(Claimed(raw)) {
		if at, _, _, err = log.ParseCheckpoint(raw, v.Origin, key); err == nil {
			break
		}
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("no checkpoint that %s has signed: %w", v.Origin, err)
	case at.Size == 0:
		return nil, errors.New("it covers no entries")
	}
	return at, nil
}

// read reads all entries. Its first result is what is wrong with their chain.
func (v *walk) read(ctx context.Context, size uint64) (chain, err error) {
	var head evidence.Head
	for i := uint64(0); i*layout.EntryBundleWidth < size; i++ {
		b, err := client.GetEntryBundle(ctx, v.files.ReadEntryBundle, i, size)
		if err != nil {
			return chain, fmt.Errorf("entries from %d on cannot be read: %w", i*layout.EntryBundleWidth, err)
		}
		if want := min(layout.EntryBundleWidth, size-i*layout.EntryBundleWidth); uint64(len(b.Entries)) < want {
			return chain, fmt.Errorf("entry %d is missing: its file holds %d entries of %d", i*layout.EntryBundleWidth+uint64(len(b.Entries)), len(b.Entries), want)
		}
		for _, sealed := range b.Entries[:min(layout.EntryBundleWidth, size-i*layout.EntryBundleWidth)] {
			v.hashes = append(v.hashes, rfc6962.DefaultHasher.HashLeaf(sealed))
			if chain != nil {
				continue
			}
			var e *evidence.Entry
			if e, head, chain = head.Follow(sealed); chain == nil {
				v.take(e, &v.story)
				v.keys.take(e)
				if v.each != nil {
					v.each(e, sealed)
				}
			}
		}
	}
	return chain, nil
}

// take notes what an entry tells.
func (r *Result) take(e *evidence.Entry, tells *story) {
	if len(r.times) == 0 {
		r.first, r.From = e.Seq, e.Time
	}
	r.To, r.times = e.Time, append(r.times, e.Time)
	r.Counts[e.Type]++
	if step, err := e.ClockStep(); e.Type == evidence.ClockState && err == nil {
		r.steps = append(r.steps, clockStep{e.Seq, step})
	}
	tells.take(e)
}

// settled are the times of the entries by the clock as it was at the end, after all of its steps.
func (r *Result) settled() []time.Time {
	times, by := slices.Clone(r.times), time.Duration(0)
	for i, n := len(times)-1, len(r.steps); i >= 0; i-- {
		times[i] = times[i].Add(by)
		for ; n > 0 && r.steps[n-1].seq == r.first+uint64(i); n-- {
			by += r.steps[n-1].By()
		}
	}
	return times
}

// mostSteps is how many steps of the clock are listed.
const mostSteps = 5

// clock tells of the steps of the clock. They explain times; whether the clock had to be set is for who reads it to say.
func (r *Result) clock() {
	if len(r.steps) == 0 {
		return
	}
	var list []string
	for _, s := range r.steps[:min(len(r.steps), mostSteps)] {
		list = append(list, fmt.Sprintf("entry %d: %s", s.seq, s))
	}
	if more := len(r.steps) - len(list); more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	r.check("steps of the clock are recorded", strings.Join(list, "; "), nil)
}

// tiles holds the log's tiles against the hashes of its entries, level by level.
func (v *walk) tiles(ctx context.Context) error {
	const width = layout.TileWidth
	size := uint64(len(v.hashes))
	for level, hashes := uint64(0), v.hashes; len(hashes) > 0; level++ {
		var above [][]byte
		for n := 0; n*width < len(hashes); n++ {
			want := hashes[n*width : min((n+1)*width, len(hashes))]
			raw, err := v.files.ReadTile(ctx, level, uint64(n), layout.PartialTileSize(level, uint64(n), size))
			if err != nil {
				return fmt.Errorf("tile %d of level %d cannot be read: %w", n, level, err)
			}
			for i, h := range want {
				if at := i * len(h); at+len(h) > len(raw) || !bytes.Equal(raw[at:at+len(h)], h) {
					first := uint64(n*width+i) << (8 * level)
					return fmt.Errorf("entry %d is not the one that tile %d of level %d is about", first, n, level)
				}
			}
			if len(raw) > len(want)*rfc6962.DefaultHasher.Size() && len(want) < width {
				return fmt.Errorf("tile %d of level %d is longer than it may be", n, level)
			}
			if len(want) == width {
				above = append(above, rootOf(want))
			}
		}
		hashes = above
	}
	return nil
}

// Proof shows that entries which follow on one another are in a log: the hashes that, with theirs, give its root.
type Proof struct {
	First uint64   `json:"first"`
	Size  uint64   `json:"size"`  // of the log
	Left  [][]byte `json:"left"`  // subtrees before the entries, from the left
	Right [][]byte `json:"right"` // and after them
}

var trees = compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

func treeOver(first uint64, hashes [][]byte) (*compact.Range, error) {
	tree := trees.NewEmptyRange(first)
	for _, h := range hashes {
		if err := tree.Append(h, nil); err != nil {
			return nil, err
		}
	}
	return tree, nil
}

// Prove returns the proof of the entries from first on, up to but without end.
func (r *Result) Prove(first, end uint64) (*Proof, error) {
	return r.ProveAt(first, end, uint64(len(r.hashes)))
}

// ProveAt is Prove for the log as it was when it had size entries.
func (r *Result) ProveAt(first, end, size uint64) (*Proof, error) {
	left, err := treeOver(0, r.hashes[:first])
	if err != nil {
		return nil, err
	}
	right, err := treeOver(end, r.hashes[end:size])
	if err != nil {
		return nil, err
	}
	return &Proof{First: first, Size: size, Left: left.Hashes(), Right: right.Hashes()}, nil
}

// Root is that of the log in which the entries are.
func (p *Proof) Root(entries [][]byte) ([]byte, error) {
	tree, err := trees.NewRange(0, p.First, p.Left)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if err := tree.Append(rfc6962.DefaultHasher.HashLeaf(e), nil); err != nil {
			return nil, err
		}
	}
	return p.rootOver(tree)
}

// rootOver is the root of the log of which tree is over the entries up to those that come after the proven ones.
func (p *Proof) rootOver(tree *compact.Range) ([]byte, error) {
	if tree.End() > p.Size {
		return nil, fmt.Errorf("there are entries up to %d, and the log has %d", tree.End(), p.Size)
	}
	right, err := trees.NewRange(tree.End(), p.Size, p.Right)
	if err != nil {
		return nil, err
	}
	if err := tree.AppendRange(right, nil); err != nil {
		return nil, err
	}
	return tree.GetRootHash(nil)
}

// rootOf is the root of a tree over leaves (RFC 6962, section 2.1).
func rootOf(hashes [][]byte) []byte {
	tree, err := treeOver(0, hashes)
	if err != nil {
		return nil // which no root is
	}
	root, err := tree.GetRootHash(nil)
	if err != nil || root == nil {
		return rfc6962.DefaultHasher.EmptyRoot()
	}
	return root
}
