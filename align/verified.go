package align

import (
	"bytes"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// Verified says when the rows of a span of keys were last read from the server and held against what is kept of them.
type Verified struct {
	After    digest.Key // the span begins behind it and ends with the After of the next one
	At       time.Time  // zero: never
	Position cdc.LSN    // of the member's log, about; 0: of no log
}

// verifiedSpans cover all keys: the first begins behind nil.
type verifiedSpans []Verified

// neverVerified is what is known of a table that was not read yet.
func neverVerified() verifiedSpans { return verifiedSpans{{}} }

// loadVerified takes spans that were verified by a clock that was ahead for ones that never were: when it was nobody knows.
func (l *Ledger) loadVerified(saved Saved, m cdc.MemberID, t cdc.TableID) (verifiedSpans, error) {
	spans, err := saved.Verified(m, t)
	if len(spans) == 0 {
		return neverVerified(), err
	}
	for i := range spans {
		if l.notAhead(spans[i].At) != spans[i].At {
			spans[i].At = time.Time{}
		}
	}
	return spans, err
}

// find returns the span that holds the keys right behind k.
func (s verifiedSpans) find(k digest.Key) int {
	i, found := slices.BinarySearchFunc(s, k, func(v Verified, k digest.Key) int { return bytes.Compare(v.After, k) })
	if !found {
		i--
	}
	return max(i, 0)
}

// alike is how far apart verifications may be to be kept as one, with the older time.
const alike = 5 * time.Second

// set says that all keys behind v.After up to through, or to the end if that is nil, were verified. It returns the new
// spans and which ones of s they replace, from i up to, not including, j. asked is when a scrub was last asked for.
func (s verifiedSpans) set(v Verified, through digest.Key, asked time.Time) (fresh verifiedSpans, i, j int) {
	i = s.find(v.After)
	first := s[i]
	j = len(s)
	if through != nil {
		j = s.find(through) + 1
	}
	if !bytes.Equal(first.After, v.After) {
		fresh = append(fresh, first)
	}
	fresh = append(fresh, v)
	if last := s[j-1]; through != nil {
		last.After = through
		fresh = append(fresh, last)
	}
	if i > 0 {
		i--
		fresh = slices.Insert(fresh, 0, s[i])
	}
	return fresh.joined(asked), i, j
}

// joined makes one span of neighbours that were verified at about the same time, and all of them before a scrub was asked for,
// or none: one that took the older time would not be what was asked for, and be read again and again.
func (s verifiedSpans) joined(asked time.Time) verifiedSpans {
	out := s[:1]
	for _, v := range s[1:] {
		last := &out[len(out)-1]
		apart := v.At.Sub(last.At)
		if v.At.IsZero() != last.At.IsZero() || apart > alike || apart < -alike || v.At.Before(asked) != last.At.Before(asked) {
			out = append(out, v)
			continue
		}
		if v.At.Before(last.At) {
			last.At, last.Position = v.At, v.Position
		}
	}
	return out
}

// oldest returns the span that was verified longest ago.
func (s verifiedSpans) oldest() Verified {
	return slices.MinFunc(s, func(a, b Verified) int { return a.At.Compare(b.At) })
}

// Verified takes note that rows of a member were read and held against what is kept, at the time v.At: all behind v.After
// up to through, or to the end if that is nil.
func (l *Ledger) Verified(id cdc.TableID, on cdc.MemberID, v Verified, through digest.Key) error {
	t := l.tables[id]
	if t == nil {
		return nil
	}
	c := t.coverage[on]
	fresh, i, j := c.verified.set(v, through, l.asked)
	for _, old := range c.verified[i:j] {
		if err := l.state.DeleteVerified(on, id, old.After); err != nil {
			return err
		}
	}
	for _, now := range fresh {
		if err := l.state.SetVerified(on, id, now); err != nil {
			return err
		}
	}
	c.verified = slices.Replace(c.verified, i, j, fresh...)
	return nil
}

// forgetVerified forgets all verifications of a coverage.
func (l *Ledger) forgetVerified(c *coverage) error {
	c.verified = neverVerified()
	return l.state.DropVerified(c.space.Member, c.space.Table)
}

// Stalest returns the span of a table on a member that was verified longest ago.
func (l *Ledger) Stalest(id cdc.TableID, on cdc.MemberID) Verified {
	if t := l.tables[id]; t != nil {
		return t.coverage[on].verified.oldest()
	}
	return Verified{}
}

// FreshShare returns which share of a table's ranges on a member, about, was verified since the time.
func (l *Ledger) FreshShare(id cdc.TableID, on cdc.MemberID, since time.Time) float64 {
	t := l.tables[id]
	if t == nil {
		return 0
	}
	return t.freshShare(t.coverage[on].verified, nil, since)
}

// within returns the spans that hold keys behind after up to through, or to the end if that is nil.
func (s verifiedSpans) within(after, through digest.Key) verifiedSpans {
	i, j := s.find(after), len(s)
	if through != nil {
		if j = s.find(through); j == i || !bytes.Equal(s[j].After, through) {
			j++
		}
	}
	inside := slices.Clone(s[i:j])
	inside[0].After = after
	return inside
}

// freshShare returns which share of a table's ranges, about, was verified since the time: of those that the spans cover, up
// to through, or to the end if that is nil.
func (t *table) freshShare(spans verifiedSpans, through digest.Key, since time.Time) float64 {
	if t.ranges == nil {
		return 0
	}
	fresh, all := 0, 0
	for i, v := range spans {
		end := t.ranges.Len()
		switch {
		case i+1 < len(spans):
			end = t.ranges.Find(spans[i+1].After)
		case through != nil:
			end = t.ranges.Find(through) + 1
		}
		weight := max(end-t.ranges.Find(v.After), 1)
		all += weight
		if !v.At.Before(since) {
			fresh += weight
		}
	}
	return float64(fresh) / float64(all)
}
