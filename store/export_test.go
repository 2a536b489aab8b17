package store

import (
	"encoding/binary"

	"github.com/lockstep-cdc/lockstep/align"
	"github.com/lockstep-cdc/lockstep/cdc"
)

// What the tests of this package reach inside for: the parsers of stored bytes.
var (
	AppendInFlight     = appendInFlight
	ParseInFlight      = parseInFlight
	AppendDivergentKey = appendDivergentKey
	ParseDivergentKey  = parseDivergentKey
	AppendPending      = appendPending
	ParsePending       = parsePending
)

const (
	KeepResolved = keepResolved
	PartChanges  = partChanges
)

// SetFormat writes a format version as another lockstep would.
func (s *Store) SetFormat(b []byte) error { return s.db.Set([]byte{kindFormat}, b, nil) }

// ToDisk makes Pebble write its tables, which tests damage.
func (s *Store) ToDisk() error { return s.db.Flush() }

// KeyKinds are the first bytes of all keys.
func KeyKinds() (list []byte) {
	for _, k := range keyKinds {
		list = append(list, k.first)
	}
	return list
}

// Key makes a key of the kind that begins with a byte, as it belongs to what is given of its scope.
func Key(first byte, group uint16, m cdc.MemberID, t cdc.TableID, generation uint32) []byte {
	for _, k := range keyKinds {
		if k.first != first {
			continue
		}
		switch k.scope {
		case ofStore:
			return []byte{first}
		case ofGroup:
			return groupKey(nil, first, group)
		case ofMember:
			return memberKey(nil, first, group, m)
		case ofTable:
			return tableKey(nil, first, group, t)
		case ofCoverage:
			return coverageKey(nil, first, group, m, t)
		case ofSpace:
			return spaceKey(nil, first, group, align.Space{Member: m, Table: t, Generation: generation})
		}
	}
	panic("no such kind of keys")
}

// SetKey sets a key to nothing.
func (s *Store) SetKey(key []byte) error { return s.db.Set(key, nil, nil) }

// SetGroup gives a group's name a number, whoever else has it.
func (s *Store) SetGroup(name string, number uint32) error {
	key := append(groupKey([]byte{kindName}, nameOfGroup, 0), name...)
	return s.db.Set(key, binary.BigEndian.AppendUint32(nil, number), nil)
}

// Keys are all keys, in order.
func (s *Store) Keys() (list []string, err error) {
	err = s.each(nil, func(key, _ []byte) error {
		list = append(list, string(key))
		return nil
	})
	return list, err
}

// Number is that of the group.
func (g *Group) Number() uint16 { return g.id }
