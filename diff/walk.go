package diff

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// A table is walked in the reference's order of its keys: a part of the reference's rows is read, and then, on every
// member, the rows between the key before the first of them and the last of them. The last part of the reference has no
// end, and neither have the members' then. So the intervals are a chain from before all keys to after all keys, and
// whatever order a member has its keys in, each of its rows is in one of the intervals at least: in the one after the last
// bound that comes before the row. A row that is in another interval than on the reference is suspected on both sides and
// found to be equal when it is read by its key.

// part is what was read of the reference at once, in its order.
type part struct {
	after, through digest.Key // through is nil at the end of the table
	keys           []byte     // one after the other
	ends           []int      // of each key in keys
	digests        []digest.Digest
	first          int64 // number of the first row among all that were read

	once  sync.Once
	index map[string]int // made when a member's rows do not come in the same order
}

func (p *part) len() int { return len(p.ends) }

func (p *part) add(k digest.Key, d digest.Digest) {
	p.keys = append(p.keys, k...)
	p.ends, p.digests = append(p.ends, len(p.keys)), append(p.digests, d)
}

func (p *part) key(i int) digest.Key {
	begin := 0
	if i > 0 {
		begin = p.ends[i-1]
	}
	return p.keys[begin:p.ends[i]]
}

// find returns the row's place, or -1. guess is tried first.
func (p *part) find(k digest.Key, guess int) int {
	if guess < p.len() && bytes.Equal(p.key(guess), k) {
		return guess
	}
	p.once.Do(func() {
		p.index = make(map[string]int, p.len())
		for i := range p.len() {
			p.index[string(p.key(i))] = i
		}
	})
	if i, found := p.index[string(k)]; found {
		return i
	}
	return -1
}

// walk compares a table part by part on all pairs at once, so that the reference is read once only: its next part while
// the members read theirs. What fails is in the pairs.
func (c *Comparison) walk(ctx context.Context, pairs []*pair) {
	for _, p := range pairs {
		defer c.begin(p.member, p.table, "")()
	}
	defer c.begin(c.ref, pairs[0].refTable, "")()
	parts := make(chan *part)
	work, walking := errgroup.WithContext(ctx)
	enough := errors.New("no member is left to compare with")
	work.Go(func() error {
		defer close(parts)
		return c.readParts(walking, pairs[0], parts)
	})
	work.Go(func() error {
		for x := range parts {
			each(pairs, func(p *pair) { p.comparePart(walking, x) })
			if !slices.ContainsFunc(pairs, (*pair).walks) {
				return enough
			}
		}
		return nil
	})
	if err := work.Wait(); err != nil && !errors.Is(err, enough) {
		for _, p := range pairs {
			if p.walks() {
				p.fail(ctx, err)
			}
		}
	}
}

// walks reports whether there is more to compare.
func (p *pair) walks() bool { return p.failed == nil && !p.stopped }

// readParts reads the reference's rows.
func (c *Comparison) readParts(ctx context.Context, p *pair, parts chan<- *part) error {
	var after digest.Key
	first := int64(1)
	for {
		x := &part{after: after, first: first}
		err := c.ref.read(ctx, p.refTable, p.epoch, cdc.Part{After: after, Limit: c.opt.PartRows}, func(k digest.Key, d digest.Digest) error {
			x.add(k, d)
			return nil
		})
		if err != nil {
			return err
		}
		whole := x.len() < c.opt.PartRows
		if !whole {
			x.through = x.key(x.len() - 1)
		}
		select {
		case parts <- x:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if whole {
			return nil
		}
		after, first = x.through, first+int64(x.len())
	}
}

// errFull ends the reading of a part that the member has more rows of than can be looked at.
var errFull = errors.New("too many rows differ")

// comparePart reads the member's rows of a part.
func (p *pair) comparePart(ctx context.Context, x *part) {
	if !p.walks() {
		return
	}
	p.parts++
	p.refRows += int64(x.len())
	seen := make([]bool, x.len())
	next := 0
	// The limit is none, but keeps a whole table from being read in any order.
	interval := cdc.Part{After: x.after, Through: x.through, Limit: math.MaxInt32}
	err := p.member.read(ctx, p.table, p.epoch, interval, func(k digest.Key, d digest.Digest) error {
		p.memRows++
		i := x.find(k, next)
		if i < 0 {
			p.suspect(k, 0, p.memRows)
			return p.full()
		}
		seen[i], next = true, i+1
		if x.digests[i] != d {
			p.suspect(k, x.first+int64(i), p.memRows)
		}
		return nil
	})
	if errors.Is(err, errFull) {
		p.stopped = true
		return
	}
	for i := range seen {
		if err == nil && !seen[i] {
			p.suspect(x.key(i), x.first+int64(i), 0)
		}
	}
	if err == nil {
		_, err = p.bound(ctx)
	}
	if ctx.Err() == nil { // else the walk has ended, and says why
		p.fail(ctx, err)
	}
}

func (p *pair) full() error {
	if len(p.suspects) > p.c.opt.MaxSuspects+p.c.opt.PartRows {
		return errFull
	}
	return nil
}
