package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-cdc/lockstep/cdc"
	"github.com/lockstep-cdc/lockstep/digest"
	"github.com/lockstep-cdc/lockstep/fault"
)

// relation is a table or partition as the stream describes it. The description holds for one connection, and until the
// next one of the same relation.
type relation struct {
	relationMessage
	bound   bool // list and binding are set
	list    *watchlist
	binding *binding // nil: not of a table that we were told of
}

func (r *relation) qualified() string { return qualified(r.Namespace, r.Name) }

// binding fits a relation to the shape of the table that it belongs to.
type binding struct {
	*watched
	encoder *digest.Encoder // nil: rows cannot be decoded
	why     error           // nil if the table has no shape yet
	columns []int           // per column of the relation its index in the shape, or -1
	keys    []bool          // per column of the relation: part of the shape's key
}

// bind looks the relation up in the list, once per list.
func (r *relation) bind(list *watchlist, types map[uint32]columnType, h *digest.Hasher) *binding {
	if r.bound && r.list == list {
		return r.binding
	}
	r.bound, r.list, r.binding = true, list, nil
	w := list.tables[r.qualified()]
	if w == nil {
		return nil
	}
	b := &binding{watched: w}
	r.binding = b
	if len(w.epoch.Shape.Columns) == 0 {
		return b
	}
	b.why = fault.Catch(func() (err error) {
		reason := b.fit(&r.relationMessage, func(oid uint32) (columnType, bool) {
			if t, ok := list.types[oid]; ok {
				return t, true
			}
			t, ok := types[oid]
			return t, ok
		})
		if reason != "" {
			return errors.New(reason)
		}
		b.encoder, err = digest.NewEncoder(h, w.epoch.Shape)
		return err
	})
	return b
}

// fit finds the shape's columns in the relation and returns what does not fit.
func (b *binding) fit(r *relationMessage, typeOf func(uint32) (columnType, bool)) string {
	shape := b.epoch.Shape
	b.columns, b.keys = make([]int, len(r.Columns)), make([]bool, len(r.Columns))
	found := 0
	for i, c := range r.Columns {
		b.columns[i] = slices.IndexFunc(shape.Columns, func(want digest.Column) bool { return want.Name == c.Name })
		if b.columns[i] < 0 {
			continue
		}
		found++
		b.keys[i] = slices.Contains(shape.Key, b.columns[i])
		want := shape.Columns[b.columns[i]]
		have, ok := typeOf(c.DataType)
		if !ok {
			return fmt.Sprintf("column %q now has a type that was not there when the table was last looked at", c.Name)
		}
		if !digest.PostgresColumn(c.Name, have.PostgresType).Comparable(want) {
			return fmt.Sprintf("column %q changed from %s to %s", c.Name, was(want), have)
		}
	}
	if found < len(shape.Columns) {
		return b.missing(r)
	}
	return b.fitKey(r)
}

// was names what a column was, as far as the shape tells.
func was(want digest.Column) string {
	if want.Type != "" {
		return want.Type
	}
	return want.Class.String()
}

func (b *binding) missing(r *relationMessage) string {
	for _, want := range b.epoch.Shape.Columns {
		if !slices.ContainsFunc(r.Columns, func(c relationColumn) bool { return c.Name == want.Name }) {
			return fmt.Sprintf("column %q was dropped, renamed, or is not published", want.Name)
		}
	}
	return "a column is there twice"
}

// fitKey checks that old tuples name the row by the shape's key. Under REPLICA IDENTITY FULL all columns are marked, and
// old tuples hold everything.
func (b *binding) fitKey(r *relationMessage) string {
	switch r.ReplicaIdentity {
	case 'f':
		return ""
	case 'n':
		return "its REPLICA IDENTITY is NOTHING"
	}
	var marked []string
	same := true
	for i, c := range r.Columns {
		if c.Key {
			marked = append(marked, c.Name)
		}
		same = same && c.Key == b.keys[i]
	}
	if same {
		return ""
	}
	return fmt.Sprintf("its replica identity is (%s), not the primary key that it had", strings.Join(marked, ", "))
}

// change decodes an Insert, Update or Delete into c. It returns why that cannot be done, never a guess.
func (b *binding) change(kind byte, m *rowMessage, c *cdc.Change, a *arena) (reason string) {
	c.Table, c.Epoch = b.epoch.Table, b.epoch.Number
	var old digest.Key
	if m.OldKind != 0 {
		if reason = b.feedKey(m.Old); reason != "" {
			return reason
		}
		var err error
		if old, err = a.key(b.encoder); err != nil {
			return err.Error()
		}
	}
	switch kind {
	case kindDelete:
		c.Op, c.Key = cdc.Delete, old
		return ""
	case kindInsert:
		c.Op = cdc.Insert
	default:
		c.Op = cdc.Update
	}
	if reason = b.feed(m); reason != "" {
		return reason
	}
	var err error
	if c.Key, err = a.key(b.encoder); err != nil {
		return err.Error()
	}
	if old != nil && c.Key.Compare(old) != 0 {
		c.OldKey = old
	}
	if err := a.row(b.encoder, &c.Row); err != nil {
		return err.Error()
	}
	return ""
}

// feedKey gives the encoder the key columns of an old tuple; in a 'K' tuple nothing else is there.
func (b *binding) feedKey(old []field) string {
	b.encoder.Reset()
	for i, f := range old {
		if !b.keys[i] {
			continue
		}
		if f.kind != fieldText {
			return fmt.Sprintf("the old value of key column %q was not sent", b.epoch.Shape.Columns[b.columns[i]].Name)
		}
		if err := b.encoder.PostgresText(b.columns[i], f.text); err != nil {
			return err.Error()
		}
	}
	return ""
}

// feed gives the encoder the new row. A TOASTed value that the update left alone is taken from the old tuple if that has
// it: one of REPLICA IDENTITY FULL has all of them, one of the key has the key's.
func (b *binding) feed(m *rowMessage) string {
	b.encoder.Reset()
	for i, f := range m.New {
		column := b.columns[i]
		if column < 0 {
			continue
		}
		if f.kind == fieldUnchanged && m.OldKind != 0 && m.Old[i].kind == fieldText {
			f = m.Old[i]
		}
		switch f.kind {
		case fieldNull:
			b.encoder.Null(column)
		case fieldUnchanged:
			b.encoder.Unchanged(column)
		default:
			if err := b.encoder.PostgresText(column, f.text); err != nil {
				return err.Error()
			}
		}
	}
	return ""
}
