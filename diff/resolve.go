package diff

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
)

const (
	// agreements is how many times in a row a row must differ in the same way while the reference is written to. A row
	// that is written there and back all the time, and is on the member as it ought to be, looks like that in one round
	// with a probability of at most 1/4; two rounds are enough if nothing was written at all during one of them.
	agreements = 10
	// maxRounds is after how many rounds a row that never stood still is given up.
	maxRounds = 40
	// firstPause and lastPause are between two rounds; the pauses grow and are not regular, so that they do not fall in
	// step with an application.
	firstPause, lastPause = 5 * time.Millisecond, 200 * time.Millisecond
)

// resolve judges all suspects.
func (p *pair) resolve(ctx context.Context) error {
	if err := p.sift(ctx); err != nil || len(p.suspects) == 0 {
		return err
	}
	r, reason, err := p.findRoute(ctx)
	if err != nil {
		return err
	}
	if reason != "" {
		p.reason = fmt.Sprintf("%s; keys that differ now: %d", reason, len(p.suspects))
		return nil
	}
	x := rounds{route: r, pair: p}
	if x.before, err = mark(ctx, p.ref); err != nil {
		return err
	}
	if x.ref, err = p.reread(ctx, p.ref, p.refTable); err != nil {
		return err
	}
	for p.rounds < maxRounds && len(p.suspects) > 0 && p.reason == "" {
		p.rounds++
		if err := x.round(ctx); err != nil {
			return err
		}
		if len(p.suspects) > 0 {
			if err := sleep(ctx, jitter(p.rounds)); err != nil {
				return err
			}
		}
	}
	if n := len(p.suspects); n > 0 && p.reason == "" {
		p.reason = fmt.Sprintf("keys that were written again and again while they were read (%d): %s", n, p.someKeys())
	}
	return p.findErrant(ctx, r)
}

func jitter(round int) time.Duration {
	most := min(firstPause<<min(round, 10), lastPause)
	return most/2 + rand.N(most/2)
}

// rounds reads the rows of the suspects again and again.
type rounds struct {
	*route
	pair   *pair
	before cdc.TxSet // what the log had before the reference's rows were read
	ref    map[string]digest.Digest
}

// round reads the suspects on the member and on the reference once more, in the order that the package's comment tells.
func (x *rounds) round(ctx context.Context) error {
	p := x.pair
	contained, err := mark(ctx, p.ref)
	if err != nil {
		return err
	}
	got, err := x.catchUp(ctx, contained)
	if errors.Is(err, errBehind) {
		return x.tooLate(ctx, contained, got)
	}
	if err != nil {
		return err
	}
	member, err := p.reread(ctx, p.member, p.table)
	if err != nil {
		return err
	}
	if p.reason, err = x.shown(ctx); err != nil {
		return err
	}
	next, err := p.reread(ctx, p.ref, p.refTable)
	if err != nil {
		return err
	}
	end, err := mark(ctx, p.ref)
	if err != nil {
		return err
	}
	still := x.before.Equal(end) // nothing was written at all
	for k, s := range p.suspects {
		switch d := member[k]; {
		case d == x.ref[k] || d == next[k]:
			delete(p.suspects, k)
		case x.ref[k] != next[k]:
			s.votes, s.still = 0, 0
		case p.reason == "":
			p.vote(s, next[k], d, still)
		}
	}
	x.before, x.ref = contained, next
	return nil
}

// vote counts a round in which the row stood still on the reference and was another on the member.
func (p *pair) vote(s *suspect, ref, member digest.Digest, still bool) {
	if s.ref != ref || s.mem != member {
		s.votes, s.still = 0, 0
	}
	s.ref, s.mem = ref, member
	s.votes++
	if still {
		s.still++
	}
	if s.votes >= agreements || s.votes >= 2 && s.still > 0 {
		p.confirmed = append(p.confirmed, s)
		delete(p.suspects, string(s.key))
	}
}

// tooLate ends the rounds with a member that did not replay in time what the reference had at the mark. Rows that have
// stood still on the reference since then, and are others on the member, are what it is late with.
func (x *rounds) tooLate(ctx context.Context, m, got cdc.TxSet) error {
	p := x.pair
	behind := fmt.Sprintf("%s of %s has replayed up to %v only, and not %v, after %v", x.lane.Title, p.member.name, got, m.Without(got), p.wait())
	switch {
	case x.lane.Problem != "":
		behind += ": " + x.lane.Problem
	case !x.lane.Enabled:
		behind += ": it is stopped"
	}
	if p.wait() < p.c.opt.Budget(p.table.Name) {
		p.reason = behind + ", which is less than its lag budget"
		return nil
	}
	member, err := p.reread(ctx, p.member, p.table)
	if err != nil {
		return err
	}
	now, err := p.reread(ctx, p.ref, p.refTable)
	if err != nil {
		return err
	}
	p.lateWhy = behind
	for k, s := range p.suspects {
		switch d := member[k]; {
		case d == x.ref[k] || d == now[k]:
			delete(p.suspects, k)
		case x.ref[k] == now[k]:
			s.ref, s.mem = now[k], d
			p.late = append(p.late, s)
			delete(p.suspects, k)
		}
	}
	if len(p.suspects) > 0 {
		p.reason = fmt.Sprintf("%s; keys that were written meanwhile (%d): %s", behind, len(p.suspects), p.someKeys())
	}
	return nil
}

// findErrant looks for transactions that were written on the member and never reached the reference, for those who look
// for the cause.
func (p *pair) findErrant(ctx context.Context, r *route) error {
	if len(p.confirmed) == 0 || r.lane.Name != cdc.GTIDLane {
		return nil
	}
	confirmed, err := p.member.confirmed(ctx)
	if err != nil {
		return err
	}
	has, err := p.member.reader.Visible(ctx)
	if err != nil {
		return err
	}
	reached, err := p.ref.reader.Visible(ctx)
	for server := range confirmed {
		p.errant.AddSet(has.WrittenBy(server).Without(reached))
	}
	return err
}
