package scan

import (
	"context"
	"maps"
	"sync"
	"time"
)

// Urgency says what a scan has to wait for.
type Urgency uint8

// The urgencies. The zero Urgency is the one that waits for everything.
const (
	// Rolling scans have until their goal: they spread over the time that is left, keep to the windows, and wait until
	// the server has cleared what long transactions held.
	Rolling Urgency = iota
	// Urgent scans are waited for: first reads of a table, the keys of a divergence, what somebody asked for. They keep
	// to the highest rate, and wait for replicas, busy servers and our own store. A scan in one view that it keeps open
	// has to be urgent, as it would else wait for what it holds itself.
	Urgent
)

const (
	// spread is the longest wait between two chunks for the sake of a goal. Chunks are small enough that it is not
	// reached, but for tables that can be read whole only.
	spread = 10 * time.Second
	// burst is the time in which the highest rate gives the rows of a chunk. A chunk is read as fast as the server can;
	// whoever else works there notices many short ones less than a few long ones.
	burst = 10 * time.Millisecond
	// least is what a chunk counts for, in rows, if it has fewer: a statement costs something too.
	least = 20
)

// Pacer says when the next chunk of rows of one member may be read, and how many rows it may have. It may be used by any
// goroutine, but by one at a time to read.
type Pacer struct {
	mu       sync.Mutex // guards what follows
	settings Settings
	goals    []Goal
	brake    brake
	free     time.Time // when the next chunk may begin by the highest rate
	due      time.Time // and when by the goals
	pause    Pause
	since    time.Time // when the pause began, or the first of several in a row
	until    time.Time
	waited   map[Reason]time.Duration
}

// NewPacer returns a pacer without goals: it goes as fast as it may.
func NewPacer(s Settings) *Pacer {
	return &Pacer{settings: s, brake: brake{maxLag: s.maxLag()}, waited: map[Reason]time.Duration{}}
}

// Set changes the settings. A pause goes on until it looks again.
func (p *Pacer) Set(s Settings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settings, p.brake.maxLag = s, s.maxLag()
}

// Aim says what rolling scans still have to read, in place of what was said before.
func (p *Pacer) Aim(goals ...Goal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.goals = append([]Goal(nil), goals...)
}

// Await blocks until a chunk may be read. look asks how the load is; it is asked only when nothing else is in the way, and
// Await returns its error: a server that does not tell how it is, is not to be read.
func (p *Pacer) Await(ctx context.Context, u Urgency, look func(context.Context) (Load, error)) error {
	for {
		pause := p.early(time.Now(), u)
		if pause.Reason == Going {
			load, err := look(ctx)
			if err != nil {
				p.stop(time.Now())
				return err
			}
			if pause = p.judge(time.Now(), u, load); pause.Reason == Going {
				return ctx.Err()
			}
		}
		if err := p.sleep(ctx, pause.For); err != nil {
			return err
		}
	}
}

// Most is how many rows the next chunk may have so that the waits between chunks stay short; see [Walk.Next].
func (p *Pacer) Most(u Urgency) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	most := min(p.rate(time.Now(), u)*spread.Seconds(), p.settings.maxRate()*burst.Seconds())
	return min(max(int(most), minChunk), maxChunk)
}

// Read says that a chunk was read, how many rows it had and how long it took.
func (p *Pacer) Read(u Urgency, rows int, took time.Duration) { p.read(time.Now(), u, rows, took) }

func (p *Pacer) read(now time.Time, u Urgency, rows int, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	began, n := now.Add(-took), float64(max(rows, least))
	p.free = later(p.free, began).Add(seconds(n / p.settings.maxRate()))
	if u == Rolling {
		p.due = later(p.due, began).Add(min(seconds(n/p.rate(now, u)), spread))
	}
}

// rate is what scans of that urgency aim at.
func (p *Pacer) rate(now time.Time, u Urgency) float64 {
	if u == Rolling {
		return p.settings.rate(now, p.goals)
	}
	return p.settings.maxRate()
}

// early says how long a scan has to wait for the time alone.
func (p *Pacer) early(now time.Time, u Urgency) Pause {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := p.free
	if u == Rolling {
		if !p.settings.Windows.Open(now) {
			return p.hold(now, p.settings.Windows.closed(now))
		}
		due = later(due, p.due)
	}
	if wait := due.Sub(now); wait > 0 {
		return p.hold(now, Pause{For: wait, Reason: Rate, Detail: "rows are read as slowly as they may be"})
	}
	return Pause{}
}

// judge says how long a scan has to wait for what others do.
func (p *Pacer) judge(now time.Time, u Urgency, l Load) Pause {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hold(now, p.brake.judge(now, u, l))
}

// hold notes a pause. The waits between chunks are no part of a pause for another reason; those follow each other without
// a chunk between them, and count as one.
func (p *Pacer) hold(now time.Time, next Pause) Pause {
	apart := p.pause.Reason == Going || (p.pause.Reason == Rate) != (next.Reason == Rate)
	if apart {
		p.since = now
	}
	p.pause, p.until = next, now.Add(next.For)
	return next
}

// stop ends the pause without a chunk.
func (p *Pacer) stop(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold(now, Pause{})
}

func (p *Pacer) sleep(ctx context.Context, d time.Duration) error {
	began, timer := time.Now(), time.NewTimer(d)
	defer timer.Stop()
	var err error
	select {
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waited[p.pause.Reason] += time.Since(began)
	if err != nil {
		p.pause = Pause{}
	}
	return err
}

// Status is what a pacer does, for people and metrics.
type Status struct {
	Pause Pause     // what a scan waits for; zero: nothing
	Since time.Time // when it began to wait, for this and other reasons without a chunk between; zero if it does not
	Until time.Time // when it looks again
	// Rate is what rolling scans aim at, in rows a second.
	Rate float64
	// Waited is how long scans waited so far, by reason; what goes on is counted when it is over.
	Waited map[Reason]time.Duration
}

// Status tells what the pacer does now.
func (p *Pacer) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{Pause: p.pause, Rate: p.rate(time.Now(), Rolling), Waited: maps.Clone(p.waited)}
	if p.pause.Reason != Going {
		s.Since, s.Until = p.since, p.until
	}
	return s
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
