package verify

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/transparency-dev/merkle/compact"

	"github.com/lockstep-cdc/lockstep/audit/witness"
)

// anchor is what somebody else has said of a log, with a time: an authority by a time-stamp, or a witness by a cosignature.
type anchor struct {
	name string
	size uint64 // entries that it is over
	root []byte // of these
	at   time.Time
}

// anchors holds what others have said of the log against its entries. All files of it are given; entries returns what they
// are held against, with the proof in a file if there is one.
func (r *Result) anchors(o Options, files map[string][]byte, entries func(proof string) (*anchored, error)) {
	holds := func(name, proof string, list []anchor, err error) {
		found := ""
		if err == nil {
			var a *anchored
			if a, err = entries(proof); err == nil {
				found, err = a.verify(list)
			}
		}
		r.check(name, found, err)
	}
	if o.Authorities != nil {
		list, err := stampAnchors(stampsOf(files), o.Authorities)
		holds(stampsCheck, StampProofFile, list, err)
	}
	cosigned := cosignedOf(files)
	for _, w := range o.Witnesses {
		list, err := cosignatures(cosigned, w)
		holds(cosignedCheck(w), CosignedProofFile(w.ID()), list, err)
	}
}

const stampsCheck = "time-stamps are the authority's"

func cosignedCheck(by *witness.Key) string { return "entries are cosigned by " + by.Name() }

const (
	// ahead is how much later than the anchor over it an entry may say that it is, for clocks that differ.
	ahead = time.Minute
	// anchoredWithin is how much older than the last entry one may be that has no anchor yet. What was switched off, or is away
	// for days, must not look as if it had been there.
	anchoredWithin = 48 * time.Hour
)

// anchored is what anchors are held against: the entries from first on, of a log.
type anchored struct {
	first  uint64
	tree   *compact.Range // of the entries before, and those that were passed
	hashes [][]byte
	times  []time.Time
	// settled are the times by the clock as it was in the end. One that was ahead and was put right does not accuse for ever.
	settled []time.Time
	after   *Proof // for an anchor over more entries than these
}

// verify holds anchors, the smallest first, against the entries, and says what they show: until when which was in the log at
// the latest.
func (a *anchored) verify(anchors []anchor) (string, error) {
	if len(anchors) == 0 {
		return "", errors.New("there are none")
	}
	longest, end := time.Duration(0), a.end()
	for _, by := range anchors {
		if by.size <= a.first || by.size > end && a.after == nil {
			return "", fmt.Errorf("%s is of %d entries, and those here are %d to %d", by.name, by.size, a.first, end-1)
		}
		for i := a.tree.End(); i < min(by.size, end); i++ {
			entry := a.times[i-a.first]
			if latest := by.at.Add(ahead); entry.After(latest) && a.settled[i-a.first].After(latest) {
				return "", fmt.Errorf("entry %d says that it is of %s, but %s is over it, of %s", i, entry.Format(time.RFC3339), by.name, by.at.Format(time.RFC3339))
			}
			longest = max(longest, by.at.Sub(entry))
		}
		root, err := a.root(by.size)
		if err == nil && !bytes.Equal(root, by.root) {
			err = fmt.Errorf("%s is over other entries: it has another root than the first %d", by.name, by.size)
		}
		if err != nil {
			return "", err
		}
	}
	done := a.tree.End()
	detail := fmt.Sprintf("%d over entries %d to %d, each within %v of its time", len(anchors), a.first, done-1, longest.Round(time.Second))
	if done == end {
		return detail, nil
	}
	if late := a.settled[len(a.settled)-1].Sub(a.settled[done-a.first]); late > anchoredWithin {
		return "", fmt.Errorf("none is over entries %d to %d, which go on for %v", done, end-1, late.Round(time.Second))
	}
	return fmt.Sprintf("%s; none yet over %d to %d", detail, done, end-1), nil
}

func (a *anchored) end() uint64 { return a.first + uint64(len(a.hashes)) }

// root is that of the log when it had so many entries, not fewer than when it was asked for last.
func (a *anchored) root(size uint64) ([]byte, error) {
	for a.tree.End() < min(size, a.end()) {
		if err := a.tree.Append(a.hashes[a.tree.End()-a.first], nil); err != nil {
			return nil, err
		}
	}
	if size > a.end() {
		return a.after.rootOver(a.tree)
	}
	return a.tree.GetRootHash(nil)
}
