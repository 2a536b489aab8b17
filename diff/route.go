package diff

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// route is the way by which what the reference writes reaches the member.
type route struct {
	pair *pair
	lane cdc.Lane
	back *cdc.Lane // by which the member's own transactions reach the reference; nil: they do not
	// ref and member are what the two say of their replication, above and below from whom they replicate.
	ref, member  cdc.Progress
	above, below cdc.Upstream
}

// findRoute finds the lane that brings the table to the member. reason says why none does.
func (p *pair) findRoute(ctx context.Context) (r *route, reason string, err error) {
	confirmed, err := p.ref.confirmed(ctx)
	if err != nil {
		return nil, "", err
	}
	progress, err := p.member.reader.Progress(ctx)
	if err != nil {
		return nil, "", err
	}
	ln, hold := cdc.Route(cdc.OfAuthor(progress.Lanes, confirmed), p.table.Name)
	switch {
	case ln == nil && hold == "":
		return nil, fmt.Sprintf("nothing on %s replicates it from %s", p.member.name, p.ref.name), nil
	case hold == "":
		hold = ln.LeavesOut(p.refTable, slices.Concat(p.c.opt.Exclude(p.refTable.Name), p.lacks))
	}
	if hold != "" {
		return nil, hold, nil
	}
	r = &route{pair: p, lane: *ln, member: progress}
	if r.ref, err = p.ref.reader.Progress(ctx); err != nil {
		return nil, "", err
	}
	both := cdc.Promoted([]cdc.Progress{r.ref, r.member}, r.ref.Self)
	r.ref, r.member = both[0], both[1]
	r.above, r.below = cdc.UpstreamOf(r.ref, both), cdc.UpstreamOf(r.member, both)
	r.back, err = r.findBack(ctx)
	return r, "", err
}

// findBack finds the lane by which the reference follows the member, where both are written to.
func (r *route) findBack(ctx context.Context) (*cdc.Lane, error) {
	if r.lane.Name == cdc.GTIDLane {
		return nil, nil // the names of transactions tell
	}
	confirmed, err := r.pair.member.confirmed(ctx)
	if err != nil || len(confirmed) == 0 {
		return nil, err
	}
	for _, ln := range r.ref.Lanes {
		if _, follows := confirmed[ln.Slot]; follows {
			return &ln, nil
		}
	}
	return nil, nil
}

// mark is what the log of a server has now.
func mark(ctx context.Context, s *side) (cdc.TxSet, error) {
	set, err := s.reader.Written(ctx)
	if err == nil && set.IsZero() {
		err = fmt.Errorf("%s does not tell how far its log is", s.name)
	}
	return set, err
}

// applied asks what of the reference's the member shows. Of a PostgreSQL subscriber the publisher knows it best: the
// subscriber counts a transaction as replayed before others can see it, and reports it after.
func (r *route) applied(ctx context.Context) (cdc.TxSet, error) {
	if r.lane.Name != cdc.GTIDLane && r.lane.Name != cdc.WALLane {
		return confirmedBy(ctx, r.pair.ref, r.lane)
	}
	return r.pair.member.reader.Visible(ctx)
}

// confirmedBy asks the author what a lane has replayed.
func confirmedBy(ctx context.Context, author *side, ln cdc.Lane) (cdc.TxSet, error) {
	confirmed, err := author.confirmed(ctx)
	if err != nil {
		return cdc.TxSet{}, err
	}
	set, known := confirmed[ln.Slot]
	if !known {
		return cdc.TxSet{}, fmt.Errorf("slot %q, by which %s reads, is gone from %s", ln.Slot, ln.Title, author.name)
	}
	return set, nil
}

// errBehind says that a server did not get as far as it had to in time.
var errBehind = errors.New("it is behind")

// await waits until a server has what it must have, at most for so long. have asks; the last answer is returned.
func (r *route) await(ctx context.Context, s *side, want cdc.TxSet, most time.Duration, have func(context.Context) (cdc.TxSet, error)) (cdc.TxSet, error) {
	defer r.pair.c.begin(s, cdc.Table{Name: r.pair.table.Name, Rows: -1}, want.String())()
	deadline := time.Now().Add(most)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		got, err := have(ctx)
		switch {
		case err != nil:
			return got, err
		case got.Covers(want):
			return got, nil
		case !time.Now().Before(deadline):
			return got, errBehind
		}
		if err := sleep(ctx, pause); err != nil {
			return got, err
		}
	}
}

// shortest is how long the reference is given at least to show what is in its log.
const shortest = 2 * time.Second

// catchUp waits until the member has replayed all up to the mark that comes to it.
func (r *route) catchUp(ctx context.Context, m cdc.TxSet) (cdc.TxSet, error) {
	if r.lane.Name == cdc.GTIDLane {
		has := r.member.Applied[cdc.GTIDLane]
		m = m.OfAuthors(func(author string) bool { return r.below.Reaches(r.member, r.ref, author, has) })
	}
	return r.await(ctx, r.pair.member, m.Latest(), r.pair.wait(), r.applied)
}

func (p *pair) wait() time.Duration { return p.c.opt.wait(p.table.Name) }

// shown waits until the reference shows all that the member had: a commit that waits for a synchronous replica is in the
// log, and on the member, before others can read it there; and where both are written to, the member may be ahead. reason
// says what keeps the reference from it.
func (r *route) shown(ctx context.Context) (reason string, err error) {
	if err := r.shownBack(ctx); errors.Is(err, errBehind) {
		return fmt.Sprintf("%s has not replayed what %s has written itself", r.pair.ref.name, r.pair.member.name), nil
	} else if err != nil {
		return "", err
	}
	had, err := r.had(ctx)
	if err != nil {
		return "", err
	}
	got, err := r.await(ctx, r.pair.ref, had, max(r.pair.wait(), shortest), r.pair.ref.reader.Visible)
	if errors.Is(err, errBehind) {
		return fmt.Sprintf("%s does not show yet what %s may have from it already (%v): a commit waits there for a synchronous replica, or a transaction for its turn",
			r.pair.ref.name, r.pair.member.name, had.Without(got)), nil
	}
	return "", err
}

// had is what the member may have of the reference's by now.
func (r *route) had(ctx context.Context) (cdc.TxSet, error) {
	if r.lane.Name != cdc.GTIDLane {
		return mark(ctx, r.pair.ref)
	}
	has, err := r.pair.member.reader.Visible(ctx)
	if err != nil {
		return has, err
	}
	return has.OfAuthors(func(author string) bool {
		return author == r.ref.Self || r.above.Brings(author, r.ref.Applied[cdc.GTIDLane])
	}), nil
}

// shownBack waits until the reference has replayed what a member of PostgreSQL that it follows had written.
func (r *route) shownBack(ctx context.Context) error {
	if r.back == nil {
		return nil
	}
	written, err := mark(ctx, r.pair.member)
	if err != nil {
		return err
	}
	_, err = r.await(ctx, r.pair.ref, written, r.pair.wait(), func(ctx context.Context) (cdc.TxSet, error) {
		return confirmedBy(ctx, r.pair.member, *r.back)
	})
	return err
}

// locate notes where both servers are.
func (p *pair) locate(ctx context.Context, at map[string]string) {
	for _, s := range []*side{p.ref, p.member} {
		written, err := s.reader.Written(ctx)
		if err != nil {
			p.fail(ctx, err)
			return
		}
		at[s.name] = written.String()
	}
}
