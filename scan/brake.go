package scan

import (
	"fmt"
	"math"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// Load is what a scan would add to.
type Load struct {
	Server cdc.Pressure // of the server that is scanned
	// ReplicaLag is that of the replica that is the furthest behind, among those that replicate and answer: one that is
	// stopped does not catch up sooner because nothing is scanned. Laggard is its name.
	ReplicaLag time.Duration
	Laggard    string
	// StoreBehind says that our own store does not keep up with the streams.
	StoreBehind bool
}

const (
	// calm is the number of running statements that every server is trusted with: what pt-table-checksum and
	// pt-online-schema-change let Threads_running be before they pause (--max-load).
	calm = 25
	// unusual is how many times as many as usual is too many, where that is more than calm: a big server that always runs
	// 60 statements is not to be left unscanned for that.
	unusual = 2
	// habit is how long it takes until half of what is usual is what was seen since. A scan that waits for a load which
	// turns out to last goes on after some time of this order.
	habit = time.Hour
	// glance is for how long one look at a server counts at most. Nobody looks while no scan runs.
	glance = time.Minute
)

// The lengths of a pause, which doubles while the reason stays. A scan goes on with the first look that finds nothing.
const (
	firstPause = time.Second
	lastPause  = 32 * time.Second
)

// Pause is for how long a scan has to wait before it may ask again. The zero Pause: it may go on.
type Pause struct {
	For    time.Duration
	Reason Reason
	Detail string // for people: replica us-1 is 14s behind, more than 10s
}

// brake decides when a scan has to wait for others.
type brake struct {
	maxLag time.Duration
	length time.Duration // of the last pause; zero: none

	usual  float64 // statements that run
	looked time.Time
}

// judge looks at the load before a chunk.
func (b *brake) judge(now time.Time, u Urgency, l Load) Pause {
	most := max(calm, unusual*b.usual)
	b.watch(now, l.Server.Running)
	p := b.objection(most, u, l)
	if p.Reason == Going {
		b.length = 0
		return p
	}
	b.length = min(max(2*b.length, firstPause), lastPause)
	p.For = b.length
	return p
}

// watch learns how many statements the server usually runs. It begins with none, so that a busy server is watched for a
// while before it is scanned.
func (b *brake) watch(now time.Time, running int) {
	if !b.looked.IsZero() {
		since := min(max(now.Sub(b.looked), 0), glance)
		b.usual += (float64(running) - b.usual) * (1 - math.Exp2(-float64(since)/float64(habit)))
	}
	b.looked = now
}

func (b *brake) objection(most float64, u Urgency, l Load) Pause {
	s := l.Server
	switch {
	case l.StoreBehind:
		return Pause{Reason: StoreBehind, Detail: "lockstep's own store is behind the change streams"}
	case l.ReplicaLag > b.maxLag:
		return Pause{Reason: ReplicaLag, Detail: fmt.Sprintf("replica %s is %s behind, more than %s",
			l.Laggard, l.ReplicaLag.Round(time.Second), b.maxLag)}
	case float64(s.Running) > most:
		return Pause{Reason: ServerLoad, Detail: fmt.Sprintf("the server runs %d statements, more than %d", s.Running, int(most))}
	case u == Rolling && s.ManyHeld > 0 && s.Held >= s.ManyHeld:
		return Pause{Reason: LongTransactions, Detail: held(s)}
	}
	return Pause{}
}

func held(s cdc.Pressure) string {
	text := fmt.Sprintf("the server keeps the old rows of %d transactions, %d or more", s.Held, s.ManyHeld)
	if s.Oldest > 0 {
		text += fmt.Sprintf("; its oldest transaction is open for %s", s.Oldest.Round(time.Second))
	}
	return text
}
