package store

import (
	"encoding/binary"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
)

// Keys begin with one byte that says what they hold, then what they belong to, which is their scope, then what tells them
// apart within it. All numbers are big endian.
//
//	scope       ┌──────┬───────────┬────────────┬────────────┬─────────────────┬ ─ ─
//	 store      │ kind │ …
//	 group      │ kind │ group (2) │ …
//	 member     │ kind │ group (2) │ member (2) │ …
//	 table      │ kind │ group (2) │ table (4)  │ …
//	 coverage   │ kind │ group (2) │ member (2) │ table (4)  │ …
//	 space      │ kind │ group (2) │ member (2) │ table (4)  │ generation (4)  │ …
//	            └──────┴───────────┴────────────┴────────────┴─────────────────┴ ─ ─
type scope uint8

const (
	ofStore    scope = iota
	ofGroup          // [groupKey]
	ofMember         // [memberKey]
	ofTable          // [tableKey]
	ofCoverage       // [coverageKey]: of a table on a member
	ofSpace          // [spaceKey]: of one reading of it
)

// keyKind is what is true of all keys with the same first byte. Whatever forgets or drops goes by this table, so that no list
// of kinds is kept anywhere else.
type keyKind struct {
	first byte
	scope scope
	rest  string // of the key, behind its scope
	value string
}

var keyKinds = []keyKind{
	{first: kindFormat, scope: ofStore, value: "format version (4)"},
	{first: kindSecret, scope: ofStore, value: "fingerprint of digest.key (32)"},
	{first: kindName, scope: ofStore, rest: "kind (1): g group, m member, t table; group (2), name", value: "number given to the name (4)"},
	{first: kindTold, scope: ofStore, rest: "length (2), receiver, alert", value: "what the receiver was told of it, JSON"},
	{first: kindEntry, scope: ofStore, rest: "number (8)", value: "entry that the audit log has still to get"},
	{first: kindFile, scope: ofStore, rest: "name", value: "file that belongs to entries, until it is beside the log"},
	{first: kindChain, scope: ofStore, value: "where the next entry goes, JSON; with rest s: what the last start recorded"},
	{first: kindGroup, scope: ofGroup, value: "name of the reference"},
	{first: kindFinding, scope: ofGroup, rest: "id, in the order of time", value: "finding, JSON"},
	{first: kindInFlight, scope: ofGroup, rest: "end (8), part (4)", value: "transaction in flight, see journal.go"},
	{first: kindMember, scope: ofMember, value: "position, lanes, JSON"},
	{first: kindTable, scope: ofTable, value: "epoch, coverage, JSON"},
	{first: kindBoundary, scope: ofTable, rest: "start", value: "boundary of a range: nothing"},
	{first: kindKey, scope: ofCoverage, rest: "key", value: "key that differs, see journal.go"},
	{first: kindVerified, scope: ofCoverage, rest: "after", value: "when the rows behind were verified: time (8), position (8)"},
	{first: kindSeen, scope: ofCoverage, rest: "which (1), key", value: "key that a running scrub has met: nothing"},
	{first: kindRow, scope: ofSpace, rest: "key", value: "row, see digest.AppendRow"},
	{first: kindSum, scope: ofSpace, rest: "start", value: "sum of a range, see merkle.Sum"},
	{first: kindPending, scope: ofSpace, rest: "number (8)", value: "change that waits for a scan, see journal.go"},
}

const (
	kindFormat   = 'F'
	kindSecret   = 'K'
	kindName     = 'N'
	kindTold     = 'A'
	kindEntry    = 'E'
	kindFile     = 'X'
	kindChain    = 'H'
	kindGroup    = 'G'
	kindFinding  = 'V'
	kindInFlight = 'J'
	kindMember   = 'M'
	kindTable    = 'T'
	kindBoundary = 'B'
	kindKey      = 'D'
	kindVerified = 'Z'
	kindSeen     = 'Y'
	kindRow      = 'R'
	kindSum      = 'S'
	kindPending  = 'Q'

	lastStart = 's' // the rest of a kindChain

	nameOfGroup  = 'g' // the rest of a kindName begins with one of them
	nameOfMember = 'm'
	nameOfTable  = 't'
)

func groupKey(dst []byte, kind byte, group uint16) []byte {
	return binary.BigEndian.AppendUint16(append(dst, kind), group)
}

func tableKey(dst []byte, kind byte, group uint16, t cdc.TableID) []byte {
	return binary.BigEndian.AppendUint32(groupKey(dst, kind, group), uint32(t))
}

func memberKey(dst []byte, kind byte, group uint16, m cdc.MemberID) []byte {
	return binary.BigEndian.AppendUint16(groupKey(dst, kind, group), uint16(m))
}

func coverageKey(dst []byte, kind byte, group uint16, m cdc.MemberID, t cdc.TableID) []byte {
	return binary.BigEndian.AppendUint32(memberKey(dst, kind, group, m), uint32(t))
}

func spaceKey(dst []byte, kind byte, group uint16, at align.Space) []byte {
	return binary.BigEndian.AppendUint32(coverageKey(dst, kind, group, at.Member, at.Table), at.Generation)
}

// after returns the first key that does not begin with prefix, which must not be all 0xff.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
