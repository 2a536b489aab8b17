package finding

import (
	"cmp"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Finding gathers the keys of one table on one member that came to differ in the same way by the same transaction. It
// is only suspected until it is older than the lag budget; then it is a Divergence that people are told of.
type Finding struct {
	Number     uint64       `json:"number"`
	Member     cdc.MemberID `json:"member_id"`
	Table      cdc.TableID  `json:"table_id"`
	Confirmed  bool         `json:"confirmed"`
	Divergence Divergence   `json:"divergence"`
	// Peak is what the divergence held when it was largest; it is what remains of a resolved one.
	PeakRanges []Range `json:"peak_ranges,omitempty"`
	PeakKeys   int64   `json:"peak_keys,omitempty"`
	// Into are the numbers of the suspicions that keys of a divergence went to, because they differ in another way now. It is
	// not over before those are told, or are over themselves.
	Into []uint64 `json:"into,omitempty"`
	// Began is when the first key came. It may have differed before, in another way: that long it counts for the budget.
	Began time.Time `json:"began,omitzero"`

	// What follows is not in the record.
	Saved   bool      `json:"-"` // there is a record of it
	Live    int64     `json:"-"` // keys that differ now
	Late    int64     `json:"-"` // of a stale one: row changes that are overdue
	Changed bool      `json:"-"` // since the ranges were last found
	Left    bool      `json:"-"` // a key was taken out since FirstSeen was looked at
	Found   time.Time `json:"-"` // when they were
	// Suspected is when the rows of a suspicion were put under suspicion themselves, to be read again before people are told.
	Suspected time.Time `json:"-"`
	key       Key       // by which the book has it
}

// Key is what the keys of one finding have in common.
type Key struct {
	Member cdc.MemberID
	Table  cdc.TableID
	Kind   Kind
	Cause  Cause
	Tx     string // empty: none is known, or it does not matter
}

// keyOf is the key of a finding that was kept.
func keyOf(f *Finding) Key {
	k := Key{Member: f.Member, Table: f.Table, Kind: f.Divergence.Kind, Cause: f.Divergence.Cause}
	if f.Divergence.IntroducedBy != nil && f.Divergence.Kind != Stale {
		k.Tx = f.Divergence.IntroducedBy.Transaction
	}
	if f.Divergence.Detail == AndLater {
		k.Tx = AndLater
	}
	return k
}

// alike is the key with what findings of one cause on one table of a member have in common.
func (k Key) alike() Key { return Key{Member: k.Member, Table: k.Table, Cause: k.Cause} }

// maxAlike bounds the findings of one cause on one table of a member. An application that keeps writing to a replica
// would otherwise open a divergence for each of its transactions; from there on they share one.
const maxAlike = 100

// AndLater is the transaction, and the detail, of the finding that those share which are too many.
const AndLater = "and by later transactions"

// Describe takes in the ranges that were found at that time.
func (f *Finding) Describe(r *Ranges, now time.Time) {
	d := &f.Divergence
	d.Ranges, d.Keys, d.Truncated = r.List, f.Live, r.Full
	if d.Keys >= f.PeakKeys {
		f.PeakRanges, f.PeakKeys = d.Ranges, d.Keys
	}
	f.Changed, f.Found = false, now
}

// DescribedOften is how often the ranges of a divergence that keeps changing are found anew: each second, and less often
// the more there are, since every range costs two looks into the store.
func (f *Finding) DescribedOften() time.Duration {
	return time.Second + time.Duration(len(f.Divergence.Ranges))*10*time.Millisecond
}

// Forget says that nothing is known of its rows any more, and why.
func (f *Finding) Forget(why string) {
	f.Live, f.Divergence.Outcome, f.Divergence.Detail = 0, Forgotten, why
}

// Turn has a finding of a member be one of the reference that it differed from, which is a member now and was the reference before.
func (f *Finding) Turn(to cdc.MemberID, name string) {
	d := &f.Divergence
	f.Member, d.Member, d.Kind, d.Cause = to, name, d.Kind.Turned(), d.Cause.Turned()
	f.PeakRanges, f.PeakKeys, f.Changed = nil, 0, true
}

// Resolve ends the divergence: what it was when it was largest remains of it.
func (f *Finding) Resolve(at time.Time) {
	d := &f.Divergence
	d.State, d.ResolvedAt, d.Ranges, d.Keys = Resolved, &at, f.PeakRanges, f.PeakKeys
	d.Outcome = cmp.Or(d.Outcome, Healed)
}

// Book holds the findings of a group that are not resolved.
type Book struct {
	byKey    map[Key]*Finding
	byNumber map[uint64]*Finding
	alike    map[Key]int         // by what is in common, see Key.alike
	heirs    map[uint64]struct{} // the numbers of the suspicions that a divergence waits for, see Finding.Into
	last     uint64
}

// NewBook returns an empty book.
func NewBook() *Book {
	return &Book{
		byKey: make(map[Key]*Finding), byNumber: make(map[uint64]*Finding),
		alike: make(map[Key]int), heirs: make(map[uint64]struct{}),
	}
}

// Inherit has a divergence wait for a suspicion to which a key of it went, and reports whether it did not before.
func (b *Book) Inherit(f, heir *Finding) bool {
	if f == heir || slices.Contains(f.Into, heir.Number) {
		return false
	}
	gone := func(n uint64) bool { return b.byNumber[n] == nil }
	f.Into = append(slices.DeleteFunc(f.Into, gone), heir.Number)
	b.heirs[heir.Number] = struct{}{}
	return true
}

// Heir reports whether keys of a divergence came to a suspicion.
func (b *Book) Heir(f *Finding) bool {
	_, heir := b.heirs[f.Number]
	return heir
}

// Bequeath lets the divergences whose keys went to one suspicion wait for another, too, to which a key went on from there,
// and returns them.
func (b *Book) Bequeath(from, to *Finding) []*Finding {
	if !b.Heir(from) || from == to {
		return nil
	}
	var changed []*Finding
	for _, f := range b.byNumber {
		if slices.Contains(f.Into, from.Number) && b.Inherit(f, to) {
			changed = append(changed, f)
		}
	}
	return changed
}

// Get returns the finding of a key; nil: there is none.
func (b *Book) Get(k Key) *Finding { return b.byKey[k] }

// Number returns the finding of a number; nil: there is none.
func (b *Book) Number(n uint64) *Finding { return b.byNumber[n] }

// Place returns the finding that a key belongs to or, if there is none, the key under which one is to begin: another one
// where there are so many alike that they share one.
func (b *Book) Place(k Key) (*Finding, Key) {
	if f := b.byKey[k]; f != nil || k.Tx == "" || b.alike[k.alike()] < maxAlike {
		return f, k
	}
	k.Tx = AndLater
	return b.byKey[k], k
}

// Begin adds a finding that is only suspected yet.
func (b *Book) Begin(k Key, d Divergence) *Finding {
	f := &Finding{Number: b.last + 1, Member: k.Member, Table: k.Table, Divergence: d, Changed: true}
	b.add(k, f)
	return f
}

// Keep adds a finding from its record. The number of a suspicion that is gone is not given to another one while there is a
// divergence that waited for it.
func (b *Book) Keep(f *Finding) {
	f.Saved, f.Left = true, !f.Confirmed
	for _, n := range f.Into {
		b.heirs[n], b.last = struct{}{}, max(b.last, n)
	}
	b.add(keyOf(f), f)
}

func (b *Book) add(k Key, f *Finding) {
	f.key = k
	b.last = max(b.last, f.Number)
	b.byKey[k], b.byNumber[f.Number] = f, f
	b.alike[k.alike()]++
}

// Remove takes a finding out.
func (b *Book) Remove(f *Finding) {
	k := f.key
	delete(b.byKey, k)
	delete(b.byNumber, f.Number)
	delete(b.heirs, f.Number)
	if b.alike[k.alike()]--; b.alike[k.alike()] == 0 {
		delete(b.alike, k.alike())
	}
}

// All returns the findings, the oldest first.
func (b *Book) All() []*Finding {
	list := make([]*Finding, 0, len(b.byNumber))
	for _, f := range b.byNumber {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b *Finding) int { return cmp.Compare(a.Number, b.Number) })
	return list
}
