package store

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
