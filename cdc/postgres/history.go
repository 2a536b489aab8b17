package postgres

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// A server can be put back to an older state, by a snapshot of its disk or of its machine, and keeps its system identifier
// and its timeline. What our stream has shown since may then never have been, and the log grows again over the positions
// that we know. Two things tell:
//
//   - history: the log on the server's disk, and what a subscription has replayed there, never get shorter.
//   - overlap: where the log was written on beyond what we know, what is sent again must be what was sent before.

// history is what of a server never goes back, as long as it is the same one. The zero value knows nothing.
type history struct {
	mu      sync.Mutex // guards what follows
	life    int        // counts how often we began anew
	seen    cdc.LSN    // the log has reached to here on the server's disk
	yielded cdc.LSN    // the stream was, in this life
	durable cdc.LSN    // what the server may forget; 0: not known yet
	lanes   map[string]cdc.LSN
}

// begin starts a new life: what is known of the log is that it reaches to start.
func (h *history) begin(start cdc.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.life++
	h.seen, h.yielded, h.durable, h.lanes = start, start, start, nil
}

// goOn says that all up to from was yielded, in this process or an earlier one, and is durable.
func (h *history) goOn(from cdc.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen, h.yielded, h.durable = max(h.seen, from), max(h.yielded, from), max(h.durable, from)
}

// yield says that the stream is about to be yielded to p. A server sends only what is on its disk.
func (h *history) yield(p cdc.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen, h.yielded = max(h.seen, p), max(h.yielded, p)
}

// keep notes what is durable. A position that was not yielded in this life is of the one before: to tell the server that it
// may forget that much would be to lose what it has in its place.
func (h *history) keep(p cdc.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p <= h.yielded {
		h.durable = max(h.durable, p)
	}
}

func (h *history) kept() cdc.LSN {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.durable
}

// now returns what is known before a question is asked, for the answer to be held against.
func (h *history) now() (life int, seen cdc.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.life, h.seen
}

// forget starts a new life of a member without a stream.
func (h *history) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.life++
	h.seen, h.lanes = 0, nil
}

// replayed is how far a lane has replayed, and where in the member's own log that was written.
type replayed struct {
	lane          string
	remote, local cdc.LSN
}

// answered holds an answer against what was known before: the end of the log on disk, and what lanes have replayed. What is
// not on disk yet may be lost in a crash.
func (h *history) answered(life int, seen, flushed cdc.LSN, lanes []replayed) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if life != h.life {
		return errLifeEnded
	}
	if flushed < seen {
		return putBack(flushed, seen)
	}
	h.seen = max(h.seen, flushed)
	for _, r := range lanes {
		known := h.lanes[r.lane]
		if r.remote < known {
			return &cdc.GapError{
				Reason: fmt.Sprintf("%s has replayed up to %v, and had up to %v before: the server was put back to an older state", r.lane, r.remote, known),
				Hint:   hintPutBack,
			}
		}
		if r.local <= flushed && r.remote > known {
			if h.lanes == nil {
				h.lanes = make(map[string]cdc.LSN)
			}
			h.lanes[r.lane] = r.remote
		}
	}
	return nil
}

var errLifeEnded = errors.New("its stream began anew while it was asked")

const hintPutBack = "what was written since is read anew; lockstep cannot tell what was lost"

// putBack is the gap of a log that ends before what it has shown.
func putBack(end, seen cdc.LSN) error {
	return &cdc.GapError{
		Reason: fmt.Sprintf("the server's log ends at %v, before %v, which it has shown already: it was put back to an older state", end, seen),
		Hint:   hintPutBack,
	}
}

// mark is a transaction as the stream shows it, by all that identifies it. It is kept beside the position, as text.
type mark struct {
	commit, end cdc.LSN
	xid         uint32 // 0: no transaction was shown yet since the slot was made at end
	time        int64  // of the commit, in microseconds
}

func markOf(b beginMessage, c commitMessage) mark {
	return mark{c.CommitLSN, c.TransactionEndLSN, b.XID, b.CommitTime.UnixMicro()}
}

func (m mark) String() string { return fmt.Sprintf("%v %v %d %d", m.commit, m.end, m.xid, m.time) }

// parseMark returns nil if there is none, or one that this version does not know.
func parseMark(text string) *mark {
	var m mark
	var commit, end string
	if _, err := fmt.Sscanf(text, "%s %s %d %d", &commit, &end, &m.xid, &m.time); err != nil {
		return nil
	}
	var err1, err2 error
	m.commit, err1 = cdc.ParseLSN(commit)
	m.end, err2 = cdc.ParseLSN(end)
	if err1 != nil || err2 != nil {
		return nil
	}
	return &m
}

// overlap checks what is sent again: the last transaction at or before from must be the one that it was.
//
// That is enough. The state that a server is put back to holds our slot too, and at that moment its log reached at least to
// what the slot had confirmed; so all that differs from what we know was written behind that, and all that was is sent.
// If our last transaction was lost, it does not come again. If another one took a place where we know of none, it comes.
type overlap struct {
	from  cdc.LSN
	last  *mark   // before from; nil: not known
	start cdc.LSN // transactions whose commit is here or later are sent
	again mark    // the last that was
	over  bool
}

// ask is where to have the stream begin.
func (o *overlap) ask() cdc.LSN {
	if o.last == nil {
		return o.from
	}
	return min(o.last.commit, o.from)
}

// repeated takes a transaction that ends at or before from.
func (o *overlap) repeated(m mark) error {
	o.again = m
	if o.last == nil || m == *o.last || m.end < o.last.end {
		return nil
	}
	return o.gap(fmt.Sprintf("transaction %d of %v, which it had not", m.xid, m.end))
}

// passed is called when all at or before from was sent.
func (o *overlap) passed() error {
	if o.over {
		return nil
	}
	o.over = true
	if o.last != nil && o.last.xid != 0 && o.last.commit >= o.start && o.again != *o.last {
		return o.gap(fmt.Sprintf("no transaction %d of %v any more, committed at %s", o.last.xid, o.last.end,
			time.UnixMicro(o.last.time).UTC().Format(time.RFC3339Nano)))
	}
	return nil
}

func (o *overlap) gap(what string) error {
	return &cdc.GapError{
		Reason: fmt.Sprintf("the server's log before %v is not what it has shown: it has %s; the server was put back to an older state", o.from, what),
		Hint:   hintPutBack,
	}
}
