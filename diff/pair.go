package diff

import (
	"context"
	"errors"
	"fmt"
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
	note             string // columns that are not compared, for people
	reason           string // why nothing, or not all, can be said; empty: all can
	failed           error  // why it was given up
	unreachable      bool   // one of the two does not answer any more
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

// define makes the pairs of a table, with what keeps them from being compared.
func (c *Comparison) define(name string) []*pair {
	ref := cdc.Definition{Member: c.ref.name, Table: c.ref.tables[name]}
	var others []cdc.Definition
	for _, m := range c.members {
		others = append(others, cdc.Definition{Member: m.name, Table: m.tables[name]})
	}
	excluded := c.opt.Exclude(name)
	shape, problem, problems := cdc.SharedShape(name, ref, others, excluded)
	pairs := make([]*pair, len(c.members))
	for i, m := range c.members {
		p := &pair{
			c: c, ref: c.ref, member: m, refTable: ref.Table, table: others[i].Table,
			epoch:  cdc.Epoch{Table: 1, Number: 1, Shape: shape},
			reason: problems[i], suspects: map[string]*suspect{}, siftAt: siftFirst,
			began: time.Now().UTC(), from: map[string]string{}, to: map[string]string{},
		}
		if problem != "" {
			p.reason = problem
		}
		if p.table.Name == "" {
			p.table.Name = name
		}
		if p.reason == "" {
			p.note = leftOut(shape, []cdc.Definition{ref, others[i]}, excluded)
		}
		pairs[i] = p
	}
	return pairs
}

// leftOut names the columns that are not compared because not all members have them.
func leftOut(shape digest.Shape, sides []cdc.Definition, excluded []string) string {
	var names []string
	for _, d := range sides {
		for _, c := range d.Table.Columns {
			compared := slices.ContainsFunc(shape.Columns, func(s digest.Column) bool { return s.Name == c.Name })
			if !compared && !slices.Contains(excluded, c.Name) && !slices.Contains(names, c.Name) {
				names = append(names, c.Name)
			}
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("not compared, because not on every member: column %s", strings.Join(names, ", "))
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
	keys := make([]digest.Key, 0, len(p.suspects))
	for _, x := range p.suspects {
		keys = append(keys, x.key)
	}
	slices.SortFunc(keys, digest.Key.Compare)
	for batch := range slices.Chunk(keys, keysAtOnce) {
		if err := s.read(ctx, t, p.epoch, cdc.Part{Keys: batch}, take); err != nil {
			return nil, err
		}
	}
	return rows, nil
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
	p.stopped = 2*len(p.suspects) > p.c.opt.MaxSuspects
	return !p.stopped, nil
}
