package postgres

import (
	"fmt"

	"github.com/lockstep-cdc/lockstep/cdc"
)

// TCP's checksums let one damaged packet in some ten thousands pass, and whoever is on the way can write what he likes:
// only TLS keeps both out. Positions are guarded all the same, for one that jumps makes us pass over all up to it: the
// stream says most of them twice, and where it contradicts itself it ends, to be read again from where we were. Values
// are said once, and are guarded by nothing.

func contradiction(format string, args ...any) error {
	return fmt.Errorf("the stream contradicts itself, as if it was damaged on its way (TLS prevents that): "+format, args...)
}

// placed holds the place of a message, which is that of the record which it is made of, against what the message says
// itself. What describes relations or begins a transaction has none. The server writes it twice
// (https://www.postgresql.org/docs/current/protocol-replication.html, "XLogData").
func (r *receiver) placed(at, again cdc.LSN) error {
	a := r.assembler
	switch {
	case at != again:
		return contradiction("message %q is at %v and at %v", a.message.kind, at, again)
	case a.message.kind == kindCommit && at != a.last.end:
		return contradiction("a transaction ends at %v and at %v", a.last.end, at)
	case at > 0 && a.message.kind != kindCommit && at >= a.begin.FinalLSN:
		return contradiction("message %q at %v is of a transaction that committed at %v", a.message.kind, at, a.begin.FinalLSN)
	}
	return nil
}

// inOrder holds a transaction against the ones before and what was yielded: the log is read in its order.
func (r *receiver) inOrder(m mark) error {
	switch {
	case m.end <= m.commit:
		return contradiction("a transaction that committed at %v ends at %v", m.commit, m.end)
	case m.commit < r.ended:
		return contradiction("a transaction that committed at %v comes after one that ends at %v", m.commit, r.ended)
	case m.end > r.before.from && m.commit < r.passed && r.passed > r.before.from:
		return contradiction("a transaction that committed at %v comes after %v", m.commit, r.passed)
	case m.end > r.before.from && m.commit < r.before.from:
		return r.before.gap(fmt.Sprintf("a transaction there that ends at %v", m.end))
	}
	r.ended = m.end
	return nil
}
