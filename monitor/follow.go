package monitor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/fault"
)

const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 15 * time.Second
)

// follow reads a member's stream, from when it can be decoded until it breaks.
func (g *Group) follow(ctx context.Context, f *feed) (next time.Duration, err error) {
	select {
	case <-f.decodable:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	err = g.readStream(ctx, f)
	if e := fault.Of(err); e != nil {
		f.faults.Add(1)
		g.saw(e, "member", f.Name)
		f.broken = f.broken.next(time.Now(), e)
		next = f.broken.wait
	}
	return next, err
}

// isDecodable reports whether the member's tables are known, without which its stream says nothing.
func (f *feed) isDecodable() bool {
	select {
	case <-f.decodable:
		return true
	default:
		return false
	}
}

// undefined is for a member that could not be asked for its tables: as long as nothing is known of them, and nothing else is
// the matter, that is its trouble, which is told when it comes to be another one.
func (g *Group) undefined(f *feed) func(error, time.Duration) {
	const message = "its tables' definitions could not be read"
	whispers, troubles := g.whispers(f, message), g.troubles(f, message+"; lockstep tries again")
	var own *string
	return func(err error, wait time.Duration) {
		now := f.trouble.Load()
		if f.isDecodable() || now != nil && (now != own || *now == err.Error()) {
			whispers(err, wait)
			return
		}
		troubles(err, wait)
		own = f.trouble.Load()
	}
}

// meet asks a member who it is. Nothing else is asked before it has said so, and may be watched as that: see [feed.source].
func (g *Group) meet(ctx context.Context, f *feed) (cdc.Server, error) {
	server, err := f.Source.Server(ctx)
	if err != nil {
		return server, err
	}
	if before := f.met.Swap(&server); before == nil || *before != server {
		f.admitted.Store(false) // to tell it from others takes a while
	}
	if admit := g.opt().Admit; admit != nil {
		err = admit(ctx, f.Member, server)
	}
	f.admitted.Store(err == nil)
	return server, err
}

// errStranger is for a server that has not said who it is, or that may not be watched as that member.
var errStranger = errors.New("it is not known yet to be the member's server")

// source is the member's, to be asked for what is the member's: not before it was admitted as that. By an address that is not the
// member's there may be another member, whose rows are not this one's, and whose slot is not ours to take.
func (f *feed) source() (cdc.Source, error) {
	if !f.admitted.Load() {
		return nil, errStranger
	}
	return f.Source, nil
}

// greet asks a member that is only scanned who it is. What is known of another server says nothing of it.
func (g *Group) greet(ctx context.Context, f *feed) error {
	server, err := g.meet(ctx, f)
	if err != nil {
		return err
	}
	f.trouble.Store(nil)
	return g.do(ctx, func() error {
		known := g.ledger.Server(f.id)
		if other := otherServer(known, server); known != (cdc.Server{}) && other != "" {
			g.log.Warn("the member is read anew", "member", f.Name, "reason", other)
			return g.ledger.Unverify(f.id, cdc.Position{}, server, other)
		}
		g.ledger.Opened(f.id, server)
		return nil
	})
}

// otherServer says what tells two servers apart, of which one is to be the other, or nothing.
func otherServer(known, server cdc.Server) string {
	switch {
	case known.SystemID != server.SystemID || known.Database != server.Database:
		return "it is another server than before (system identifier " + server.SystemID + ", was " + known.SystemID + ")"
	case known.Timeline != server.Timeline:
		return "the server is on another timeline than before: it was promoted or restored"
	}
	return ""
}

// troubles has a failure be why a member cannot be read: what only its operator can mend is an error, the rest mends itself.
func (g *Group) troubles(f *feed, message string) func(error, time.Duration) {
	return func(err error, wait time.Duration) {
		text := err.Error()
		f.trouble.Store(&text)
		if cdc.IsSetup(err) {
			g.log.Error("member cannot be watched", "member", f.Name, "err", text, "retry_in", wait.String())
			return
		}
		g.log.Warn(message, "member", f.Name, "err", text, "retry_in", wait.String())
	}
}

// readStream opens the stream where the ledger is and yields its events until it breaks.
func (g *Group) readStream(ctx context.Context, f *feed) error {
	f.went = 0
	server, err := g.meet(ctx, f)
	if err != nil {
		return err
	}
	var from cdc.Position
	var known cdc.Server
	err = g.do(ctx, func() error {
		from, known = g.ledger.Start(f.id), g.ledger.Server(f.id)
		return nil
	})
	if err != nil {
		return err
	}
	var start cdc.Position
	var gap string
	err = fault.Catch(func() (err error) {
		start, gap, err = prepare(ctx, f.Source, from, known, server)
		return err
	})
	if from.LSN != 0 && (cdc.IsUnlogged(err) || fault.Of(err) != nil) {
		return errors.Join(err, g.openGap(ctx, f, err.Error()))
	}
	if err != nil {
		return err
	}
	if err := g.openSession(ctx, f, start, server, gap); err != nil {
		return err
	}
	f.trouble.Store(nil)
	g.log.Info("change stream opened", "member", f.Name, "position", start.String())
	open, end := context.WithCancelCause(ctx)
	defer end(nil)
	if err := g.do(ctx, func() error { f.end = end; return nil }); err != nil {
		return err
	}
	opened := time.Now()
	err = fault.Catch(func() error {
		return f.Source.Stream(open, start, func(e cdc.Event) error { return g.send(open, f, e) })
	})
	if cause := context.Cause(open); cdc.IsGap(cause) {
		err = cause
	}
	if cdc.IsGap(err) || fault.Of(err) != nil { // read on from there, it would panic again
		return errors.Join(err, g.openGap(ctx, f, err.Error()))
	}
	f.went = time.Since(opened)
	return errors.Join(err, g.do(ctx, func() error { f.shut(); return nil }))
}

// prepare finds where to start. The second result says why there is a hole before it; empty if there is none.
func prepare(ctx context.Context, src cdc.Source, from cdc.Position, known, server cdc.Server) (cdc.Position, string, error) {
	gap := otherServer(known, server)
	if known == (cdc.Server{}) || from.LSN == 0 {
		gap = "not read yet"
	}
	if gap != "" {
		from = cdc.Position{}
	}
	start, err := src.Prepare(ctx, from)
	var hole *cdc.GapError
	if errors.As(err, &hole) {
		gap = hole.Error()
		start, err = src.Prepare(ctx, cdc.Position{})
	}
	return start, gap, err
}

// openSession tells the ledger of the stream that begins.
func (g *Group) openSession(ctx context.Context, f *feed, start cdc.Position, server cdc.Server, gap string) error {
	return g.do(ctx, func() error {
		g.drop(f) // they come again, or others if the log was set back to before them
		if gap == "" {
			g.ledger.Opened(f.id, server)
			return nil
		}
		if g.ledger.Server(f.id) != (cdc.Server{}) {
			g.log.Warn("change stream has a hole; the member is read anew", "member", f.Name, "reason", gap)
		}
		if err := g.ledger.Unverify(f.id, start.Clone(), server, gap); err != nil {
			return err
		}
		return g.commit()
	})
}

// openGap makes the next session begin as if lockstep had never read the member.
func (g *Group) openGap(ctx context.Context, f *feed, reason string) error {
	return g.do(ctx, func() error {
		g.log.Warn("change stream has a hole; the member is read anew", "member", f.Name, "reason", reason)
		f.shut()
		g.drop(f)
		if err := g.ledger.Unverify(f.id, cdc.Position{}, cdc.Server{}, reason); err != nil {
			return err
		}
		return g.commit() // it may be that nothing tells of it later
	})
}

// shut notes that the member's stream is not open: what the member says of itself is proven by nothing. It runs on the
// ledger's goroutine.
func (f *feed) shut() {
	f.end, f.claim = nil, nil
}

// drop forgets the events of the sessions so far that were not applied.
func (g *Group) drop(f *feed) {
	for range f.held {
		<-f.credit
	}
	f.held = nil
	f.session++
	f.claim = nil
}

// send hands an event to the loop; it blocks while too many wait.
func (g *Group) send(ctx context.Context, f *feed, e cdc.Event) error {
	select {
	case f.credit <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case g.events <- arrival{f.id, time.Now(), e}:
		return nil
	case <-ctx.Done():
		<-f.credit
		return ctx.Err()
	}
}

// askProgress asks a member again and again how far it has replayed. While an answer waits for the stream to get there, so
// that answers are not overtaken under load, the member is asked less often, and only whether its log goes on at all: a
// stream whose log was reset never gets there.
func (g *Group) askProgress(f *feed) func(context.Context) error {
	var asked time.Time
	return func(ctx context.Context) error {
		waits := false
		if err := g.do(ctx, func() error { waits = f.claim != nil; return nil }); err != nil {
			return err
		}
		if waits && time.Since(asked) < waitingEvery {
			return nil
		}
		asked = time.Now()
		c, err := g.ask(ctx, f)
		if err != nil && !cdc.IsGap(err) {
			return err
		}
		if err := g.do(ctx, func() error { return g.hold(f, c, err) }); err != nil {
			return g.fail(err)
		}
		return nil
	}
}

// hold keeps what a member said of its progress until its stream has got there, if the stream is still the one that was
// open when it was asked. An answer that the log does not go on from what it has shown, or was said to have, ends the
// stream.
func (g *Group) hold(f *feed, c *claim, gap error) error {
	if !f.ScanOnly && (f.end == nil || f.session != c.session) {
		return nil
	}
	if before := f.claim; gap == nil && before != nil && c.progress.End < before.progress.End {
		gap = endsBefore(c.progress.End, before.progress.End)
	}
	if gap == nil {
		if err := g.ledger.Heard(f.id, c.progress); err != nil {
			return err
		}
	}
	switch {
	case gap != nil:
		if f.end != nil {
			f.end(gap)
		}
	case f.claim == nil:
		f.claim = c
		return g.takeClaim(f)
	}
	return nil
}

func endsBefore(now, before cdc.LSN) error {
	return &cdc.GapError{Reason: fmt.Sprintf("its log ends at %v now, and went to %v before: it was reset, or set back to an earlier state", now, before)}
}

// errShut is for a member whose stream is not open.
var errShut = errors.New("its stream is not open")

// askTimeout bounds one question; a member that does not answer is not heard from, which shows in its state.
const askTimeout = 10 * time.Second

func (g *Group) ask(ctx context.Context, f *feed) (*claim, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c := &claim{}
	var shown cdc.LSN
	var author *feed
	err := g.do(ctx, func() error {
		author = g.feeds[g.ref]
		c.session, shown = f.session, g.ledger.Position(f.id)
		if f.end == nil && !f.ScanOnly {
			return errShut
		}
		return nil
	})
	if err != nil {
		f.retained.Store(nil)
		return c, err
	}
	source, err := f.source()
	if err != nil {
		return c, err
	}
	if f.id != g.ref {
		// The order matters: what the reference knows to be replayed must be in the member's log before the barrier.
		if c.confirmed, err = author.confirmed(ctx); err != nil {
			c.confirmed = nil // the reference may be down; the member's own word is enough
		}
	}
	c.at = time.Now()
	c.progress, err = source.Progress(ctx)
	f.retained.Store(&c.progress.Retained)
	if err != nil {
		return c, err
	}
	if end := c.progress.End; end < shown && !f.ScanOnly {
		return c, endsBefore(end, shown)
	}
	return c, nil
}

// confirmed is what the reader of each of the member's slots has replayed.
func (f *feed) confirmed(ctx context.Context) (map[string]cdc.TxSet, error) {
	source, err := f.source()
	if err != nil {
		return nil, err
	}
	return source.Confirmed(ctx)
}
