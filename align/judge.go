package align

import (
	"time"

	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/finding"
	"github.com/lockstep-cdc/lockstep/merkle"
)

// blame says which transaction is held responsible for a difference, and how.
type blame struct {
	cause  finding.Cause
	tx     string // empty: none is known
	at     time.Time
	detail string
}

// judge holds a row of a member against what it must be and keeps the set of divergent keys true.
func (l *Ledger) judge(m *member, t *table, c *coverage, key digest.Key, expected, actual digest.Digest, why blame) error {
	if expected == actual {
		if c.keys == 0 {
			return nil
		}
		return l.heal(m, t, c, key)
	}
	return l.differ(m, t, c, key, expected, actual, why)
}

// heal takes a key out of the divergent set, if it is in it.
func (l *Ledger) heal(m *member, t *table, c *coverage, key digest.Key) error {
	d, err := l.state.DivergentKey(m.id, c.space.Table, key)
	if err != nil || d == nil {
		return err
	}
	if err := l.state.DeleteDivergentKey(m.id, c.space.Table, key); err != nil {
		return err
	}
	c.keys--
	if t.ranges != nil {
		c.addDivergent(t.startOf(key), d.share().negative())
	}
	l.leave(d.Finding)
	return nil
}

// differ puts a key into the divergent set. A key that differed already in the same way keeps the transaction that was
// blamed first.
func (l *Ledger) differ(m *member, t *table, c *coverage, key digest.Key, expected, actual digest.Digest, why blame) error {
	d := &DivergentKey{Kind: kindOf(expected, actual), Expected: expected, Actual: actual, Seen: l.now}
	var before *DivergentKey
	if c.keys > 0 {
		var err error
		if before, err = l.state.DivergentKey(m.id, c.space.Table, key); err != nil {
			return err
		}
	}
	start := t.startOf(key)
	switch {
	case before != nil && before.Kind == d.Kind:
		d.Finding, d.Seen = before.Finding, before.Seen
		c.addDivergent(start, before.share().negative())
	case before != nil:
		c.addDivergent(start, before.share().negative())
		if err := l.become(m, t, before, d, why); err != nil {
			return err
		}
	default:
		c.keys++
		d.Finding = l.join(m, t, d.Kind, why, d.Seen).Number
	}
	c.addDivergent(start, d.share())
	return l.state.SetDivergentKey(m.id, c.space.Table, key, d)
}

func kindOf(expected, actual digest.Digest) finding.Kind {
	switch {
	case actual.IsZero():
		return finding.Missing
	case expected.IsZero():
		return finding.Extra
	}
	return finding.Changed
}

// share returns what a divergent key adds to the residual of its range: expected - actual.
func (d *DivergentKey) share() share { return share{merkle.Delta(d.Actual, d.Expected), 1} }
