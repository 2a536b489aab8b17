// Package evidence defines the entries of the audit log: their canonical form, and the chain that orders them.
//
// An entry is one line of canonical JSON (RFC 8785) under 64 KiB. It holds its own sequence number, which is its index in
// the log, and the hash of the entry before, so that entries which are missing, added or moved show even without the
// log's tree.
package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gowebpki/jcs"
)

// Version is that of the entries' form.
const Version = 1

// MaxSize is less than what an entry may take: bundles of the tiled log have lengths of 16 bits
// (https://c2sp.org/tlog-tiles).
const MaxSize = 1<<16 - 1

// Type says what an entry records.
type Type string

// The types. What each one's data holds is in docs/audit.md.
const (
	LogStart          Type = "log_start"
	Start             Type = "start"
	Stop              Type = "stop"
	Coverage          Type = "coverage"
	GapOpen           Type = "gap_open"
	GapClose          Type = "gap_close"
	DivergenceOpen    Type = "divergence_open"
	DivergenceUpdate  Type = "divergence_update"
	DivergenceResolve Type = "divergence_resolve"
	AlertDelivered    Type = "alert_delivered"
	Acknowledge       Type = "acknowledge"
	Export            Type = "export"
	ConfigChange      Type = "config_change"
	ScopeChange       Type = "scope_change"
	SilenceChange     Type = "silence_change"
	KeyRotation       Type = "key_rotation"
	ClockState        Type = "clock_state"
)

// Types are all of them, in the order of reports.
var Types = []Type{LogStart, Start, Stop, ConfigChange, ScopeChange, SilenceChange, KeyRotation, ClockState, Coverage, GapOpen, GapClose, DivergenceOpen, DivergenceUpdate, DivergenceResolve, AlertDelivered, Acknowledge, Export}

// Hash is the SHA-256 of an entry's bytes. The zero Hash stands before the first entry.
type Hash [sha256.Size]byte

// String spells a hash as entries do.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Event is what is to be recorded, before it has its place in the log.
type Event struct {
	Type  Type
	Group string // empty: of lockstep as a whole
	Time  time.Time
	Data  any // becomes a JSON object
	Files []File
}

// File is what an entry names and has no room for. It is kept beside the log.
type File struct {
	Name    string // with the folder in front, by what is in it: the same name is the same content
	Content []byte // nil: it is there already, and needed still
}

// The folders of files.
const (
	TreesDir  = "trees"  // Merkle trees of tables, by what entries have of them; see [Tree]
	RangesDir = "ranges" // of divergences, by their SHA-256
)

// Entry is an entry of the log.
type Entry struct {
	Version int             `json:"v"`
	Type    Type            `json:"type"`
	Seq     uint64          `json:"seq"`
	Time    time.Time       `json:"time"`
	Group   string          `json:"group,omitempty"`
	Prev    string          `json:"prev"`
	Data    json.RawMessage `json:"data"`
}

// Head is the end of a chain: where the next entry goes.
type Head struct {
	Next uint64
	Prev Hash
	Time time.Time // of the last entry
	// Paused says that since then things have happened that were not recorded.
	Paused bool `json:",omitempty"`
}

// Skew is how far the clock may step back between two entries without that being recorded.
const Skew = time.Second

// Seal gives an event its place and returns the entry's bytes and the head behind it.
func (h Head) Seal(e Event) ([]byte, Head, error) {
	data, err := json.Marshal(e.Data)
	if err != nil {
		return nil, h, fmt.Errorf("%s entry: %w", e.Type, err)
	}
	entry := Entry{Version: Version, Type: e.Type, Seq: h.Next, Time: e.Time.UTC().Truncate(time.Microsecond), Group: e.Group, Prev: h.Prev.String(), Data: data}
	plain, err := json.Marshal(entry)
	if err != nil {
		return nil, h, fmt.Errorf("%s entry: %w", e.Type, err)
	}
	sealed, err := jcs.Transform(plain)
	if err != nil {
		return nil, h, fmt.Errorf("%s entry: %w", e.Type, err)
	}
	if len(sealed) > MaxSize {
		return nil, h, fmt.Errorf("%s entry has %d bytes, more than %d", e.Type, len(sealed), MaxSize)
	}
	return sealed, Head{Next: h.Next + 1, Prev: sha256.Sum256(sealed), Time: entry.Time}, nil
}

// Follow checks that an entry is the one that belongs at the head, in its canonical form, and returns it and the head
// behind it.
func (h Head) Follow(sealed []byte) (*Entry, Head, error) {
	e, err := Parse(sealed)
	switch {
	case err != nil:
		return nil, h, fmt.Errorf("entry %d: %w", h.Next, err)
	case e.Seq != h.Next:
		return nil, h, outOfOrder("entry %d says that it is number %d", h.Next, e.Seq)
	case e.Prev != h.Prev.String():
		return nil, h, outOfOrder("entry %d follows on one of hash %.16s…, but the one before has %.16s…", h.Next, e.Prev, h.Prev)
	case e.Type == ClockState:
		if err := h.steps(e); err != nil {
			return nil, h, err
		}
	case e.Time.Before(h.Time.Add(-Skew)):
		return nil, h, outOfOrder("entry %d is of %s, %v before the entry that it follows, and no clock_state tells of it",
			h.Next, e.Time.Format(time.RFC3339), h.Time.Sub(e.Time).Round(time.Millisecond))
	}
	return e, Head{Next: h.Next + 1, Prev: sha256.Sum256(sealed), Time: e.Time}, nil
}

// steps checks that a step of the clock is one from where the entry before was, or later, to where this one is. It explains
// that step and no other one.
func (h Head) steps(e *Entry) error {
	step, err := e.ClockStep()
	switch {
	case err != nil:
		return outOfOrder("entry %d tells of no step of the clock: %v", h.Next, err)
	case !step.To.Equal(e.Time):
		return outOfOrder("entry %d is of %s, and tells of a step of the clock to %s", h.Next, e.Time.Format(time.RFC3339), step.To.Format(time.RFC3339))
	case step.From.Before(h.Time.Add(-Skew)):
		return outOfOrder("entry %d tells of a step of the clock from %s, but the entry that it follows is of %s",
			h.Next, step.From.Format(time.RFC3339), h.Time.Format(time.RFC3339))
	}
	return nil
}

// OrderError says that an entry does not belong where it is.
type OrderError struct{ text string }

func (e *OrderError) Error() string { return e.text }

func outOfOrder(format string, args ...any) error {
	return &OrderError{fmt.Sprintf(format, args...)}
}

// Parse reads an entry, which must be in canonical form.
func Parse(sealed []byte) (*Entry, error) {
	var e Entry
	strict := json.NewDecoder(bytes.NewReader(sealed))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&e); err != nil {
		return nil, fmt.Errorf("is no entry: %w", err)
	}
	if e.Version != Version {
		return nil, fmt.Errorf("is of version %d; this lockstep knows %d", e.Version, Version)
	}
	canonical, err := jcs.Transform(sealed)
	if err != nil || !bytes.Equal(canonical, sealed) {
		return nil, fmt.Errorf("is not in canonical form")
	}
	return &e, nil
}

// Before is the head at which an entry belongs, of a chain that is not known before it.
func (e *Entry) Before() (Head, error) {
	h := Head{Next: e.Seq, Time: e.Time}
	prev, err := hex.DecodeString(e.Prev)
	if err != nil || len(prev) != len(h.Prev) {
		return h, fmt.Errorf("entry %d names no hash of the one before", e.Seq)
	}
	copy(h.Prev[:], prev)
	return h, nil
}

// RangesSHA256 names the file with the ranges of a divergence, if they have no room in the entry.
func (e *Entry) RangesSHA256() string {
	switch e.Type {
	case DivergenceOpen, DivergenceUpdate, DivergenceResolve:
	default:
		return ""
	}
	var d struct {
		Sum string `json:"ranges_sha256"`
	}
	if json.Unmarshal(e.Data, &d) != nil {
		return ""
	}
	return d.Sum
}

// Span names the entries from first on, up to but without end.
func Span(first, end uint64) string {
	switch {
	case end <= first:
		return "no entries"
	case end == first+1:
		return fmt.Sprintf("entry %d", first)
	default:
		return fmt.Sprintf("entries %d to %d", first, end-1)
	}
}

// Event returns an entry without its place, to be sealed again elsewhere.
func (e *Entry) Event() Event { return Event{Type: e.Type, Group: e.Group, Time: e.Time, Data: e.Data} }
