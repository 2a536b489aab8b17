package cdc

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// TxSet is a set of transaction ids. The zero TxSet is empty. Of a source whose transactions are replayed in order
// (PostgreSQL, MariaDB) it holds all up to one of them; of a MySQL source any.
//
// Its text is the one that the engine's users know: 0/15261D0, or 0-101-11,0-102-10, or the GTID set
// 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7.
type TxSet struct {
	// spans holds, by source, what is in the set: ascending, apart from each other, never empty.
	spans map[string][]span
}

// span is all numbers from first to last, both included.
type span struct{ first, last uint64 }

// Everything returns the set of all transactions of a log in which seq is the last, such as all up to an LSN.
func Everything(seq LSN) TxSet {
	var s TxSet
	s.Add(TxID{Seq: uint64(seq)})
	return s
}

// Add puts id into the set: of a source whose transactions are replayed in order, with all before it.
func (s *TxSet) Add(id TxID) {
	first := id.Seq
	if id.sequential() {
		first = min(1, id.Seq)
	}
	s.add(id.Source, span{first, id.Seq})
}

// AddRange puts the numbers from first to last of a source into the set.
func (s *TxSet) AddRange(source string, first, last uint64) { s.add(source, span{first, last}) }

func (s *TxSet) add(source string, x span) {
	if x.last == 0 || x.first > x.last {
		return
	}
	if s.spans == nil {
		s.spans = make(map[string][]span)
	}
	spans := s.spans[source]
	if n := len(spans); n > 0 && x.first >= spans[n-1].first && x.first <= spans[n-1].last+1 { // the usual case
		spans[n-1].last = max(spans[n-1].last, x.last)
		return
	}
	// Those from i up to, not including, j touch x and become one with it.
	i, _ := slices.BinarySearchFunc(spans, x, func(e, x span) int {
		if e.last+1 < x.first {
			return -1
		}
		return 1
	})
	j := i
	for ; j < len(spans) && spans[j].first <= x.last+1; j++ {
		x.first, x.last = min(x.first, spans[j].first), max(x.last, spans[j].last)
	}
	s.spans[source] = slices.Replace(spans, i, j, x)
}

// AddSet puts all of o into the set.
func (s *TxSet) AddSet(o TxSet) {
	for source, spans := range o.spans {
		for _, x := range spans {
			s.add(source, x)
		}
	}
}

// Supersede puts id, if it is one of MariaDB's and the set holds ids of other servers of its domain, in the place of these,
// and reports whether it did: of a domain who has replayed id has replayed, or passed over, all that is before it in the log.
func (s *TxSet) Supersede(id TxID) bool {
	domain, had := id.Domain(), len(s.spans)
	if domain == "" {
		return false
	}
	for source := range s.spans {
		if source != id.Source && domainOf(source) == domain {
			delete(s.spans, source)
		}
	}
	if len(s.spans) == had {
		return false
	}
	s.Add(id)
	return true
}

// Contains reports whether id is in the set.
func (s TxSet) Contains(id TxID) bool { return holds(s.spans[id.Source], span{id.Seq, id.Seq}) }

// holds reports whether all of x is in spans.
func holds(spans []span, x span) bool {
	if n := len(spans); n > 0 && x.first >= spans[n-1].first {
		return x.last <= spans[n-1].last
	}
	i, _ := slices.BinarySearchFunc(spans, x, func(e, x span) int {
		if e.last < x.first {
			return -1
		}
		return 1
	})
	return i < len(spans) && spans[i].first <= x.first && x.last <= spans[i].last
}

// Covers reports whether all of o is in the set.
func (s TxSet) Covers(o TxSet) bool {
	for source, spans := range o.spans {
		for _, x := range spans {
			if !holds(s.spans[source], x) {
				return false
			}
		}
	}
	return true
}

// Behind reports whether the set, which a member says now, is of an earlier state of it than before, which it said then. A
// position of MariaDB's names only the last server that wrote to a domain: of one that it does not name nothing is said.
func (s TxSet) Behind(before TxSet) bool {
	for source, spans := range before.spans {
		if _, named := s.spans[source]; !named && source != "" && (TxID{Source: source}).sequential() {
			continue
		}
		for _, x := range spans {
			if !holds(s.spans[source], x) {
				return true
			}
		}
	}
	return false
}

// And returns what is in both sets.
func (s TxSet) And(o TxSet) TxSet {
	var both TxSet
	for source, spans := range s.spans {
		others := o.spans[source]
		for i, j := 0, 0; i < len(spans) && j < len(others); {
			both.add(source, span{max(spans[i].first, others[j].first), min(spans[i].last, others[j].last)})
			if spans[i].last < others[j].last {
				i++
			} else {
				j++
			}
		}
	}
	return both
}

// Without returns what is in s and not in o.
func (s TxSet) Without(o TxSet) TxSet {
	var rest TxSet
	for source, spans := range s.spans {
		others := o.spans[source]
		for _, x := range spans {
			for _, y := range others {
				if y.last < x.first || y.first > x.last {
					continue
				}
				if y.first > x.first {
					rest.add(source, span{x.first, y.first - 1})
				}
				x.first = y.last + 1
			}
			rest.add(source, x)
		}
	}
	return rest
}

// Clone returns a set that shares nothing with s.
func (s TxSet) Clone() TxSet {
	c := TxSet{}
	if s.spans != nil {
		c.spans = make(map[string][]span, len(s.spans))
		for source, spans := range s.spans {
			c.spans[source] = slices.Clone(spans)
		}
	}
	return c
}

// Ends yields the last id of each source, in the order of their names.
func (s TxSet) Ends(yield func(TxID) bool) {
	for _, source := range slices.Sorted(maps.Keys(s.spans)) {
		spans := s.spans[source]
		if !yield(TxID{Source: source, Seq: spans[len(spans)-1].last}) {
			return
		}
	}
}

// IsZero reports whether the set is empty.
func (s TxSet) IsZero() bool { return len(s.spans) == 0 }

// Equal reports whether both sets hold the same.
func (s TxSet) Equal(o TxSet) bool { return s.Covers(o) && o.Covers(s) }

// Count is how many transactions with a GTID are in the set: of MariaDB's, of which only the numbers are known between which they are,
// at most so many; see Ranges.
func (s TxSet) Count() (n uint64) {
	for _, spans := range s.spans {
		for _, x := range spans {
			n += x.last - x.first + 1
		}
	}
	return n
}

// String prints the set as the engine's users write it, sources in order; empty if nothing is in it. Of MariaDB's it says the last of each
// server.
func (s TxSet) String() string {
	return s.text(func(source string, spans []span) string { return TxID{source, spans[len(spans)-1].last}.String() })
}

// Ranges is String, but for sets that do not hold all up to an id: of MariaDB's it says between which numbers those of a server are,
// 0-102-51..57, or 0-102-..57 where it is not known from which on. Each domain numbers all of its transactions, whoever wrote them, so
// not all in between need be of that server.
func (s TxSet) Ranges() string {
	return s.text(func(source string, spans []span) string {
		x := span{spans[0].first, spans[len(spans)-1].last}
		if x.first == x.last {
			return TxID{source, x.last}.String()
		}
		return x.of(source)
	})
}

// of prints a range of numbers of a source; one that begins at 1 begins nowhere that is known.
func (x span) of(source string) string {
	from := ""
	if x.first > 1 {
		from = strconv.FormatUint(x.first, 10)
	}
	return source + "-" + from + ".." + strconv.FormatUint(x.last, 10)
}

// text prints the set; a source whose transactions are replayed in order as shown has it.
func (s TxSet) text(sequential func(source string, spans []span) string) string {
	var b strings.Builder
	for i, source := range slices.Sorted(maps.Keys(s.spans)) {
		if i > 0 {
			b.WriteByte(',')
		}
		spans := s.spans[source]
		if (TxID{Source: source}).sequential() {
			b.WriteString(sequential(source, spans))
			continue
		}
		b.WriteString(source)
		for _, x := range spans {
			b.WriteByte(':')
			b.WriteString(strconv.FormatUint(x.first, 10))
			if x.last > x.first {
				b.WriteByte('-')
				b.WriteString(strconv.FormatUint(x.last, 10))
			}
		}
	}
	return b.String()
}

// MarshalText prints the set to be read as just that: a server of MariaDB's of which not all up to the last is in it with the ranges of
// numbers that are.
func (s TxSet) MarshalText() ([]byte, error) {
	return []byte(s.text(func(source string, spans []span) string {
		if source == "" || len(spans) == 1 && spans[0].first == 1 {
			return TxID{source, spans[len(spans)-1].last}.String()
		}
		ranges := make([]string, len(spans))
		for i, x := range spans {
			ranges[i] = x.of(source)
		}
		return strings.Join(ranges, ",")
	})), nil
}

// UnmarshalText parses the set.
func (s *TxSet) UnmarshalText(b []byte) error {
	p, err := ParseTxSet(string(b))
	if err != nil {
		return err
	}
	*s = p
	return nil
}

// ParseTxSet reads the text form of a set: an LSN, MariaDB's GTID position, what MarshalText makes of a set of its, or MySQL's GTID set, in which white space
// between entries is passed over and a tag applies to what follows it.
func ParseTxSet(text string) (TxSet, error) {
	var s TxSet
	for entry := range strings.SplitSeq(text, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		var err error
		switch {
		case strings.Contains(entry, "/"):
			var p LSN
			p, err = ParseLSN(entry)
			s.Add(TxID{Seq: uint64(p)})
		case strings.Contains(entry, ":"):
			err = s.parseMySQL(entry)
		default:
			err = s.parseMariaDB(entry)
		}
		if err != nil {
			return TxSet{}, fmt.Errorf("parse transaction set: %w", err)
		}
	}
	return s, nil
}

// parseMySQL reads UUID[:tag]:interval[:interval]...[:tag:interval...].
func (s *TxSet) parseMySQL(entry string) error {
	parts := strings.Split(entry, ":")
	uuid := strings.ToLower(strings.TrimSpace(parts[0]))
	if len(uuid) != uuidLength {
		return fmt.Errorf("%q does not begin with a UUID", entry)
	}
	source, any := uuid, false
	for _, part := range parts[1:] {
		part = strings.TrimSpace(part)
		if part == "" {
			return fmt.Errorf("%q has an empty part", entry)
		}
		if part[0] < '0' || part[0] > '9' {
			source = uuid + ":" + strings.ToLower(part)
			continue
		}
		from, to, isRange := strings.Cut(part, "-")
		first, err := strconv.ParseUint(from, 10, 64)
		last := first
		if err == nil && isRange {
			last, err = strconv.ParseUint(to, 10, 64)
		}
		if err != nil || first == 0 || last < first {
			return fmt.Errorf("%q: %q is no range of numbers", entry, part)
		}
		s.add(source, span{first, last})
		any = true
	}
	if !any {
		return fmt.Errorf("%q has no numbers", entry)
	}
	return nil
}

// parseMariaDB reads domain-server-sequence, which stands for all up to it, or domain-server-first..last.
func (s *TxSet) parseMariaDB(entry string) error {
	parts := strings.Split(entry, "-")
	if len(parts) != 3 {
		return fmt.Errorf("%q is no LSN, no GTID set of MySQL and no GTID of MariaDB", entry)
	}
	domain, err1 := strconv.ParseUint(parts[0], 10, 32)
	server, err2 := strconv.ParseUint(parts[1], 10, 32)
	from, to, isRange := strings.Cut(parts[2], "..")
	if !isRange {
		to = from
	}
	last, err3 := strconv.ParseUint(to, 10, 64)
	first := min(1, last)
	if isRange && from != "" && err3 == nil {
		first, err3 = strconv.ParseUint(from, 10, 64)
	}
	if err1 != nil || err2 != nil || err3 != nil || first > last {
		return fmt.Errorf("%q is no GTID of MariaDB", entry)
	}
	s.AddRange(MariaDBTxID(uint32(domain), uint32(server), 0).Source, first, last)
	return nil
}
