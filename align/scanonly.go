package align

import (
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
)

// A member that is only scanned shows no stream: a physical standby, a replica without a log of its own. What of the
// reference's it has replayed is known from its Progress, so lateness is judged as on every member. Its rows are not kept:
// parts of them are read again and again and held against what the reference's rows were from a time on that the member
// had reached before the read, to a time that the reference had not passed before its end.

// ScanOnly reports whether a member is only scanned.
func (l *Ledger) ScanOnly(id cdc.MemberID) bool { return l.members[id].scanOnly }

// Scannable reports whether the rows of a table on a member that is only scanned can be held against the reference's.
func (l *Ledger) Scannable(id cdc.TableID, on cdc.MemberID) bool {
	t := l.tables[id]
	return t != nil && l.scannable(t, l.members[on])
}

func (l *Ledger) scannable(t *table, m *member) bool {
	return m.scanOnly && !t.record.Sparse && t.coverage[l.ref.id].Phase == Live && l.hold(t, m) == ""
}

// beginScanned begins to count what is in flight to a member that is only scanned.
func (l *Ledger) beginScanned(t *table, m *member, c *coverage) error {
	c.Compared, c.ComparedAt, c.Reason, t.dirty = true, l.now, "", true
	l.countInFlight(t, m, c)
	return l.recountDivergent(t, m, c)
}

// countInFlight makes the shares of what is in flight anew.
func (l *Ledger) countInFlight(t *table, m *member, c *coverage) {
	c.clearInFlight()
	for f := range m.lanes[c.Lane].awaited {
		for _, ch := range f.changes {
			if ch.Table == c.space.Table {
				c.addInFlight(t.startOf(ch.Key), share{ch.delta(), 1})
			}
		}
	}
}

// Compare holds rows that were read of a member that is only scanned, while w watched the reference's table, against the
// reference's rows. The member must have replayed, before the read, what the reference had shown when w was made; and the
// reference's stream must have been applied up to where its log ended after the read.
//
// Of a scan by keys the rows are judged, those of other scans are only suspected, unless they are held to differ already
// as they do: they are returned, to be read again.
func (l *Ledger) Compare(w *Watch, on cdc.MemberID, s *Scan) (suspects []digest.Key, err error) {
	t, m := l.tables[w.at.Table], l.members[on]
	c := t.coverage[on]
	seen := *s
	seen.View = anyTime
	found, err := l.Mismatches(w, &seen)
	if err != nil {
		return nil, err
	}
	if s.Keys == nil {
		for _, r := range found {
			known, err := l.held(c, on, r)
			if err != nil {
				return nil, err
			}
			if !known {
				suspects = append(suspects, r.Key)
			}
		}
		return suspects, nil
	}
	differ := make(map[string]bool, len(found))
	for _, r := range found {
		if differ[string(r.Key)] = true; r.Moved {
			suspects = append(suspects, r.Key)
			continue
		}
		if err := l.judgeScanned(t, m, c, r); err != nil {
			return nil, err
		}
	}
	for _, r := range seen.withAbsent() {
		if differ[string(r.Key)] || c.keys == 0 {
			continue
		}
		if w.moved(seen.View, r.Key) { // it may be as it will be; how much of that was replayed is not known
			d, err := l.state.DivergentKey(on, c.space.Table, r.Key)
			if err != nil {
				return nil, err
			}
			if d != nil {
				suspects = append(suspects, r.Key)
			}
			continue
		}
		if err := l.heal(m, t, c, r.Key); err != nil {
			return nil, err
		}
	}
	return suspects, nil
}

// held reports whether a row is held to differ as it was read now.
func (l *Ledger) held(c *coverage, on cdc.MemberID, r Mismatch) (bool, error) {
	d, err := l.state.DivergentKey(on, c.space.Table, r.Key)
	if err != nil || d == nil {
		return false, err
	}
	actual, err := r.digest()
	return actual == d.Actual, err
}

func (l *Ledger) judgeScanned(t *table, m *member, c *coverage, r Mismatch) error {
	expected, err := l.rowDigest(t.coverage[l.ref.id].space, r.Key)
	if err != nil {
		return err
	}
	actual, err := r.digest()
	if err != nil {
		return err
	}
	why := blame{cause: finding.CauseSilent, detail: fmt.Sprintf("found by reading %s, of which no log is read", m.name)}
	if at := c.verified[c.verified.find(r.Key)].At; at.IsZero() {
		why.cause = finding.CausePreexisting
	} else {
		c.Silent++
		t.dirty = true
	}
	if known, err := l.state.DivergentKey(m.id, c.space.Table, r.Key); err != nil {
		return err
	} else if known == nil {
		l.Suspect(c.space.Table, l.ref.id, []digest.Key{r.Key})
	}
	return l.judge(m, t, c, r.Key, expected, actual, why)
}

// Recheck returns keys of a table on a member that is only scanned which are held to differ, up to limit: only another
// read tells when they no longer do.
func (l *Ledger) Recheck(id cdc.TableID, on cdc.MemberID, limit int) ([]digest.Key, error) {
	var keys []digest.Key
	err := l.state.DivergentKeys(on, id, nil, nil, func(k digest.Key, _ *DivergentKey) (bool, error) {
		keys = append(keys, slices.Clone(k))
		return len(keys) < limit, nil
	})
	return keys, err
}

// Rechecked says that the rows which [Ledger.Recheck] named were read again, and judged; the reading began at that time.
func (l *Ledger) Rechecked(id cdc.TableID, on cdc.MemberID, began time.Time) {
	if t := l.tables[id]; t != nil {
		t.coverage[on].recheckedAt = began
	}
}

// Live reports whether the rows of a table on a member follow its stream.
func (l *Ledger) Live(id cdc.TableID, on cdc.MemberID) bool {
	t := l.tables[id]
	return t != nil && t.coverage[on].Phase == Live
}

// Unseen looks at up to limit kept rows behind after and returns the keys of those that has does not know, the last key
// that it looked at, and whether there are more.
func (l *Ledger) Unseen(id cdc.TableID, on cdc.MemberID, after digest.Key, limit int, has func(digest.Key) (bool, error)) (unseen []digest.Key, last digest.Key, more bool, err error) {
	t := l.tables[id]
	if t == nil {
		return nil, nil, false, nil
	}
	n := 0
	err = l.state.Rows(t.coverage[on].space, behind(after), nil, func(k digest.Key, _ []byte) (bool, error) {
		if n == limit {
			more = true
			return false, nil
		}
		n++
		last = append(last[:0], k...)
		known, err := has(k)
		if err == nil && !known {
			unseen = append(unseen, slices.Clone(k))
		}
		return true, err
	})
	return unseen, last, more, err
}
