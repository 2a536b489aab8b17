package diff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

// pair is one table on the reference and on one member.
type pair struct {
	c                *Comparison
	ref, member      *side
	refTable, table  cdc.Table
	epoch            cdc.Epoch
	lacks, surplus   []string // columns that are not compared: that the member lacks, that the reference lacks
	class            string   // those that are compared with the same columns of the reference have the same
	reason           string   // why nothing, or not all, can be said; empty: all can
	failed           error    // why it was given up
	unreachable      bool     // one of the two does not answer any more
	parts            int
	refRows, memRows int64
	from, to         map[string]string // positions by member

	suspects  map[string]*suspect
	judged    int // keys that were suspected at any time
	rounds    int
	siftAt    int // so many suspects are looked at again before more are taken
	stopped   bool
	confirmed []*suspect
	began     time.Time
	late      []*suspect // that a member over its lag budget has otherwise
	lateWhy   string
	errant    cdc.TxSet // that the member has and the reference has not
}

// suspect is a key that was not equal on both sides when it was last read. A zero digest stands for no row.
type suspect struct {
	key      digest.Key
	ref, mem digest.Digest // as they were when it was last voted to differ
	votes    int           // how many times in a row it differed in the same way
	still    int           // how many of those while nothing at all was written
	// refAt and memAt number the row among those that were read of each side, from 1; 0: it was not there. Rows with
	// consecutive numbers are neighbours.
	refAt, memAt int64
}

// siftFirst is how many suspects make it worth to look at them before more are collected.
const siftFirst = 50_000

// define makes the pairs of a table, with what keeps them from being compared. Columns that one side lacks are left out of the
// comparison of these two, and not of others.
func (c *Comparison) define(name string) []*pair {
	ref := cdc.Definition{Member: c.ref.name, Table: c.ref.tables[name]}
	excluded := c.opt.Exclude(name)
	pairs, alike := make([]*pair, len(c.members)), make(map[string][]*pair)
	for i, m := range c.members {
		p := &pair{
			c: c, ref: c.ref, member: m, refTable: ref.Table, table: m.tables[name],
			suspects: map[string]*suspect{}, siftAt: siftFirst,
			began: time.Now().UTC(), from: map[string]string{}, to: map[string]string{},
		}
		p.lacks = lacking(m.tables[name], ref.Table, excluded)
		p.surplus = lacking(ref.Table, m.tables[name], excluded)
		p.class = strings.Join(p.lacks, "\x00")
		pairs[i], alike[p.class] = p, append(alike[p.class], p)
	}
	for _, of := range alike {
		c.shape(name, ref, of, slices.Concat(excluded, of[0].lacks))
	}
	return pairs
}

// shape sets the columns in which pairs of a table are compared, or why they cannot be.
func (c *Comparison) shape(name string, ref cdc.Definition, pairs []*pair, excluded []string) {
	var others []cdc.Definition
	for _, p := range pairs {
		others = append(others, cdc.Definition{Member: p.member.name, Table: p.table})
	}
	shape, problem, problems := cdc.SharedShape(name, ref, others, excluded)
	for i, p := range pairs {
		p.epoch, p.reason = cdc.Epoch{Table: 1, Number: 1, Shape: shape}, cmp.Or(problem, problems[i])
		if p.table.Name == "" {
			p.table.Name = name
		}
		if p.reason != "" {
			p.lacks, p.surplus = nil, nil // nothing of it is compared
		}
	}
}

// lacking lists the columns of one table that another of that name, if it exists, has not got, in the order that they have there.
// Key columns are no part of it: without them nothing can be compared.
func lacking(table, other cdc.Table, excluded []string) (names []string) {
	if table.Name == "" || table.Problem != "" || other.Problem != "" {
		return nil
	}
	for _, c := range other.Columns {
		there := slices.ContainsFunc(table.Columns, func(own digest.Column) bool { return own.Name == c.Name })
		if !there && !slices.Contains(excluded, c.Name) && !slices.Contains(other.Key, c.Name) {
			names = append(names, c.Name)
		}
	}
	return names
}

// byClass sorts pairs that are compared in the same columns together.
func byClass(pairs []*pair) (classes [][]*pair) {
	for _, p := range pairs {
		i := slices.IndexFunc(classes, func(of []*pair) bool { return of[0].class == p.class })
		if i < 0 {
			i, classes = len(classes), append(classes, nil)
		}
		classes[i] = append(classes[i], p)
	}
	return classes
}

// notCompared names the columns that only one of the two has, for people.
func (p *pair) notCompared() string {
	var list []string
	for _, x := range []struct {
		names []string
		on    string
	}{{p.lacks, p.ref.name}, {p.surplus, p.member.name}} {
		for _, name := range x.names {
			list = append(list, fmt.Sprintf("column %q, only on %s", name, x.on))
		}
	}
	if len(list) == 0 {
		return ""
	}
	return "not compared: " + strings.Join(list, "; ")
}

// fail gives the pair up. A nil error changes nothing.
func (p *pair) fail(ctx context.Context, err error) {
	if err == nil || p.failed != nil {
		return
	}
	p.failed = err
	if cdc.IsSetup(err) || errors.Is(err, errTooLarge) || ctx.Err() != nil {
		return
	}
	for _, s := range []*side{p.ref, p.member} {
		if _, err := s.reader.Server(ctx); err != nil {
			p.unreachable = true
		}
	}
}

// suspect takes note of a key that was read differently.
func (p *pair) suspect(k digest.Key, refAt, memAt int64) {
	s := p.suspects[string(k)]
	if s == nil {
		s = &suspect{key: slices.Clone(k)}
		p.suspects[string(k)] = s
		p.judged++
	}
	s.refAt, s.memAt = max(s.refAt, refAt), max(s.memAt, memAt)
}

// keysAtOnce is how many rows are asked for by their keys at once.
const keysAtOnce = 1000

// reread reads the rows of all suspects on one side. What is not in the result is not there.
func (p *pair) reread(ctx context.Context, s *side, t cdc.Table) (map[string]digest.Digest, error) {
	defer p.c.begin(s, cdc.Table{Name: t.Name, Rows: int64(len(p.suspects))}, "")()
	rows := make(map[string]digest.Digest, len(p.suspects))
	take := func(k digest.Key, d digest.Digest) error {
		if _, wanted := p.suspects[string(k)]; wanted {
			rows[string(k)] = d
		}
		return nil
	}
	if t.Order == cdc.Unordered {
		return rows, s.read(ctx, t, p.epoch, cdc.Part{}, take)
	}
	for _, part := range p.again(s == p.ref, t) {
		if err := s.read(ctx, t, p.epoch, part, take); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// dense is of how many rows in a row one must be a suspect for all of them to be read: to ask for a row by its key costs about as
// much as to read several in their order.
const dense = 4

// again is how the suspects' rows are read again on one side: by their keys, or, where enough of the rows between them are suspects
// too, all from one key to another. So a table that differs in every row is read as it was at first.
func (p *pair) again(onRef bool, t cdc.Table) (parts []cdc.Part) {
	list := slices.SortedFunc(maps.Values(p.suspects), func(a, b *suspect) int { return a.key.Compare(b.key) })
	var after digest.Key
	rank := int64(0) // how many rows the side has up to after, about
	for len(list) > 0 {
		n, last := 0, rank
		for n < len(list) && n < p.c.opt.PartRows {
			batch := list[n:min(n+keysAtOnce, len(list))]
			end := last
			for _, x := range batch {
				end = max(end, x.rank(onRef))
			}
			if t.Order != cdc.KeyOrder || end-last > int64(dense*len(batch)) {
				break
			}
			n, last = n+len(batch), end
		}
		if n > 0 {
			// The limit is none, but keeps a whole table from being read in any order.
			parts = append(parts, cdc.Part{After: after, Through: list[n-1].key, Limit: math.MaxInt32})
		} else {
			n = min(keysAtOnce, len(list))
			var keys []digest.Key
			for _, x := range list[:n] {
				keys, last = append(keys, x.key), max(last, x.rank(onRef))
			}
			parts = append(parts, cdc.Part{Keys: keys})
		}
		after, rank, list = list[n-1].key, last, list[n:]
	}
	return parts
}

// rank is how many rows one side has up to the suspect's, about; 0 if it is not known.
func (s *suspect) rank(onRef bool) int64 {
	if onRef {
		return s.refAt
	}
	return s.memAt
}

// sift drops suspects that are equal now: most are rows that were on their way when they were first read.
func (p *pair) sift(ctx context.Context) error {
	if len(p.suspects) == 0 {
		return nil
	}
	ref, err := p.reread(ctx, p.ref, p.refTable)
	if err != nil {
		return err
	}
	member, err := p.reread(ctx, p.member, p.table)
	if err != nil {
		return err
	}
	for k := range p.suspects {
		if ref[k] == member[k] {
			delete(p.suspects, k)
		}
	}
	return nil
}

// bound keeps the suspects from growing without end; it reports whether more can be taken.
func (p *pair) bound(ctx context.Context) (bool, error) {
	if len(p.suspects) < min(p.siftAt, p.c.opt.MaxSuspects) {
		return true, nil
	}
	if err := p.sift(ctx); err != nil {
		return false, err
	}
	p.siftAt = max(siftFirst, 2*len(p.suspects))
	p.stopped = 4*len(p.suspects) > 3*p.c.opt.MaxSuspects
	return !p.stopped, nil
}
