package store

import (
	"encoding/binary"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
)

// Keys begin with one byte that says what they hold, then what it belongs to, all numbers big endian:
//
//	F                                               format version
//	N  kind(1) group(2) name…                       number given to a name: g group, m member, t table
//	G  group(2)                                     name of the reference                  text
//	                ┌────────── of a group ──────────┐
//	M  group(2) member(2)                           position, lanes                        JSON
//	T  group(2) table(4)                            epoch, coverage                        JSON
//	B  group(2) table(4) start…                     boundary of a range                    empty
//	J  group(2) end(8) part(4)                      in-flight transaction                  layout in journal.go
//	D  group(2) member(2) table(4) key…             divergent key                          layout in journal.go
//	Z  group(2) member(2) table(4) after…           when rows were verified                time(8) position(8)
//	V  group(2) id…                                 finding, in the order of time          JSON
//	                ┌──────── of a space ────────────┐
//	R  group(2) member(2) table(4) generation(4) key…    row                               digest.AppendRow
//	S  group(2) member(2) table(4) generation(4) start…  range digest                      merkle.Sum
//	Q  group(2) member(2) table(4) generation(4) seq(8)  change that waits for a scan      layout in journal.go
//	Y  group(2) member(2) table(4) which(1) key…    key seen by a running scrub            empty
//	A  length(2) receiver… alert…                   what a receiver was told of an alert   JSON
//	E  seq(8)                                       entry that the audit log has still to get      evidence.Entry
//	X  name…                                        file that belongs to entries, until it is beside the log
//	H                                               where the next one goes                        JSON
//	H  s                                            what the last start recorded                   JSON
const (
	kindFormat   = 'F'
	kindName     = 'N'
	kindGroup    = 'G'
	kindMember   = 'M'
	kindTable    = 'T'
	kindBoundary = 'B'
	kindInFlight = 'J'
	kindKey      = 'D'
	kindVerified = 'Z'
	kindFinding  = 'V'
	kindRow      = 'R'
	kindSum      = 'S'
	kindPending  = 'Q'
	kindSeen     = 'Y'
	kindTold     = 'A'
	kindEntry    = 'E'
	kindFile     = 'X'
	kindChain    = 'H'
	lastStart    = 's'

	kindGroupName  = 'g'
	kindMemberName = 'm'
	kindTableName  = 't'
)

func groupKey(dst []byte, kind byte, group uint16) []byte {
	return binary.BigEndian.AppendUint16(append(dst, kind), group)
}

func tableKey(dst []byte, kind byte, group uint16, t cdc.TableID) []byte {
	return binary.BigEndian.AppendUint32(groupKey(dst, kind, group), uint32(t))
}

func memberKey(dst []byte, kind byte, group uint16, m align.MemberID) []byte {
	return binary.BigEndian.AppendUint16(groupKey(dst, kind, group), uint16(m))
}

func coverageKey(dst []byte, kind byte, group uint16, m align.MemberID, t cdc.TableID) []byte {
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
