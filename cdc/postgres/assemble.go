package postgres

import (
	"errors"
	"fmt"
	"slices"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/fault"
)

// assembler turns the pgoutput messages of one connection into transactions. It belongs to one goroutine.
type assembler struct {
	hasher  *digest.Hasher
	current func() *watchlist // the list as it is now

	message   message
	relations map[uint32]*relation
	types     map[uint32]columnType // from Type messages: domains over built-in types that the catalog's list lacks

	// Of the transaction at hand, from Begin to Commit.
	open    bool
	list    *watchlist
	begin   beginMessage
	lane    string
	origin  cdc.LSN
	changes []cdc.Change // reused
	touched []cdc.Touched
	arena   arena

	last mark // the transaction that was last committed
}

func newAssembler(h *digest.Hasher, current func() *watchlist) *assembler {
	return &assembler{hasher: h, current: current, relations: map[uint32]*relation{}, types: map[uint32]columnType{}}
}

// inTransaction reports whether a transaction was begun and not yet committed. In between the position stands still.
func (a *assembler) inTransaction() bool { return a.open }

// feed takes one message. At a Commit it returns the event: without a transaction if nothing in it is of interest. An
// error means that the stream does not follow the protocol as we know it.
func (a *assembler) feed(wal []byte) (event cdc.Event, committed bool, err error) {
	m := &a.message
	if err := m.decode(wal); err != nil {
		return event, false, err
	}
	switch m.kind {
	case kindBegin:
		return event, false, a.start()
	case kindRelation:
		a.relations[m.relation.ID] = &relation{relationMessage: m.relation}
		return event, false, nil
	case kindType:
		a.learn(m.dataType)
		return event, false, nil
	}
	if !a.open {
		return event, false, fmt.Errorf("pgoutput: message %q outside of a transaction", m.kind)
	}
	switch m.kind {
	case kindOrigin:
		a.lane, a.origin = string(m.origin.Name), m.origin.CommitLSN
	case kindTruncate:
		err = a.truncate(m.truncate.RelationIDs)
	case kindCommit:
		event, err = a.commit(m.commit)
		return event, err == nil, err
	default:
		err = a.row(m.kind, &m.row)
	}
	return event, false, err
}

func (a *assembler) start() error {
	if a.open {
		return errors.New("pgoutput: a transaction begins inside another")
	}
	a.open, a.list, a.begin = true, a.current(), a.message.begin
	a.lane, a.origin = "", 0
	a.touched, a.arena = nil, arena{}
	clear(a.changes) // let go of the last transaction's memory
	a.changes = a.changes[:0]
	return nil
}

// learn notes what a Type message says of a type that the catalog's list may lack. Only built-in types are safe to take
// from it: it does not tell an enum from a composite.
func (a *assembler) learn(t typeMessage) {
	if t.Namespace != "" && t.Namespace != "pg_catalog" {
		return
	}
	for _, known := range a.current().types {
		if known.Schema == "pg_catalog" && known.Name == t.Name {
			a.types[t.ID] = known
			return
		}
	}
}

func (a *assembler) relation(id uint32) (*relation, error) {
	r := a.relations[id]
	if r == nil {
		return nil, fmt.Errorf("pgoutput: relation %d was not described", id)
	}
	return r, nil
}

func (a *assembler) row(kind byte, m *rowMessage) error {
	r, err := a.relation(m.RelationID)
	if err != nil {
		return err
	}
	if m.OldKind != 0 && len(m.Old) != len(r.Columns) || kind != kindDelete && len(m.New) != len(r.Columns) {
		return fmt.Errorf("pgoutput: %s has %d columns, a row of it another number", r.qualified(), len(r.Columns))
	}
	if m.OldKind != 0 && (m.OldKind == tupleOld) != (r.ReplicaIdentity == 'f') {
		return contradiction("an old row of %s is sent as %q, its replica identity is %q", r.qualified(), m.OldKind, r.ReplicaIdentity)
	}
	b := r.bind(a.list, a.types, a.hasher)
	switch {
	case b == nil:
		// It is in our publication, so it may be a part of a table that was attached since the catalog was read.
		a.touch(0, r.qualified()+" was not known when it changed")
		return nil
	case b.encoder == nil:
		a.put(cdc.Doubt(b.epoch.Table, b.why))
		return nil
	}
	kept := len(a.changes)
	err = fault.Catch(func() error {
		a.changes = append(a.changes, cdc.Change{})
		if reason := b.change(kind, m, &a.changes[kept], &a.arena); reason != "" {
			return errors.New(reason)
		}
		return nil
	})
	if err != nil {
		a.changes = a.changes[:kept]
		a.put(cdc.Doubt(b.epoch.Table, err))
	}
	return nil
}

// touch notes a table once, with the first reason.
func (a *assembler) touch(table cdc.TableID, reason string) {
	a.put(cdc.Touched{Table: table, Reason: reason})
}

func (a *assembler) put(t cdc.Touched) {
	if !slices.ContainsFunc(a.touched, func(have cdc.Touched) bool { return have.Table == t.Table }) {
		a.touched = append(a.touched, t)
	}
}

// truncate takes a Truncate message. It lists what is published of the tables that were truncated: of one with partitions
// the leaves, and the root if that was published too.
func (a *assembler) truncate(ids []uint32) error {
	leaves := map[*watched][]string{}
	var order []*watched
	for _, id := range ids {
		r, err := a.relation(id)
		if err != nil {
			return err
		}
		w := a.list.tables[r.qualified()]
		if w == nil {
			continue
		}
		if _, seen := leaves[w]; !seen {
			order = append(order, w)
		}
		leaves[w] = append(leaves[w], r.qualified())
	}
	for _, w := range order {
		switch {
		case !w.covered(leaves[w]):
			a.touch(w.epoch.Table, fmt.Sprintf("its partition %s was truncated", leaves[w][0]))
		case len(w.epoch.Shape.Columns) == 0:
			a.touch(w.epoch.Table, "")
		default:
			a.changes = append(a.changes, cdc.Change{Table: w.epoch.Table, Op: cdc.Truncate, Epoch: w.epoch.Number})
		}
	}
	return nil
}

// commit hands the transaction over. One that came through an origin is handed over even when it is empty: it proves how
// far the lane has come.
func (a *assembler) commit(m commitMessage) (cdc.Event, error) {
	if m.CommitLSN != a.begin.FinalLSN {
		return cdc.Event{}, contradiction("a transaction that began to commit at %v did at %v", a.begin.FinalLSN, m.CommitLSN)
	}
	if !m.CommitTime.Equal(a.begin.CommitTime) {
		return cdc.Event{}, contradiction("a transaction was committed at %v and at %v", a.begin.CommitTime, m.CommitTime)
	}
	a.open, a.last = false, markOf(a.begin, m)
	event := cdc.Event{Position: m.TransactionEndLSN}
	if len(a.changes) == 0 && len(a.touched) == 0 && a.lane == "" {
		return event, nil
	}
	id := uint64(m.TransactionEndLSN)
	if a.lane != "" {
		id = uint64(a.origin)
	}
	event.Transaction = &cdc.Transaction{
		ID:         cdc.TxID{Seq: id},
		Lane:       a.lane,
		Commit:     m.CommitLSN,
		End:        m.TransactionEndLSN,
		CommitTime: a.begin.CommitTime,
		Changes:    slices.Clone(a.changes),
		Touched:    a.touched,
	}
	return event, nil
}
